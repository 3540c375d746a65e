"""Which runs are due, and why."""

import json
from pathlib import Path

from iqa.analysis.params import AblationParams, CrossDatasetParams
from iqa.app.run import notebook
from iqa.data.params import DataPrepParams
from iqa.report.params import ClaimsParams, ReportParams
from iqa.study import param_files, paths
from iqa.study.code import digest, file_hash, notebook_code, words
from iqa.study.params import Params
from iqa.study.results import FIGURE_FORMATS, RECORD, finished
from iqa.training.params import TrainParams

TEMPLATE_KINDS = (".csv", ".j2", ".lua", ".css", ".typ", ".bib")
OUTPUTS = {
    "data_prep": ["audit.json", "checks.csv", "database.csv", "mos_histogram.*", "samples.*"],
    "train": [
        *("metrics.json", "history.csv", "predictions.csv", "architecture.json", "loss.json"),
        *("curves.*", "scatter.*", "architecture.*", "before_after.*", "architecture_before.json"),
    ],
    "ablation": ["ablation.csv", "dynamics.csv", "ablation.*", "compare_trainings.*", "scatter_pairs.*"],
    "complexity": [
        *("complexity.csv", "counters.csv", "parts.csv", "latency.csv", "memory.csv", "overview.csv"),
        *("latency.*", "throughput.*", "tradeoff.*"),
    ],
    "cross_dataset": ["cross.csv", "breakdown.csv", "predictions.csv", "eval_results.json", "scatter.*"],
    "analysis": [
        *("analysis.json", "models.csv", "points.csv", "variance.csv", "separation.csv", "bands.csv", "attention.csv"),
        *("errors.csv", "cases.csv", "ceiling.csv", "predictions.csv", "weight_space.*", "attention.*", "errors.*"),
        *("worst.*", "best.*", "quality_maps.*", "feature_maps.*"),
    ],
    "claims": ["claims.csv"],
    "report": ["published.csv"],
}


NOT_HERE = "not here"


def outputs(params: Params) -> list[Path]:
    """Every file that a run promises, its record last."""
    folder = paths.run_folder(params.study, params.step, params.run)
    names = ["params.json"]
    for name in OUTPUTS[params.step]:
        stem, _, kind = name.partition(".")
        names += [f"{stem}.{figure}" for figure in FIGURE_FORMATS] if kind == "*" else [name]
    files = [folder / name for name in names]
    if isinstance(params, CrossDatasetParams) and len(params.models) > 1:
        files += [folder / f"{name}.{figure}" for name in ("heatmap", "compare") for figure in FIGURE_FORMATS]
    if isinstance(params, AblationParams) and params.parameter:
        files += [folder / f"sensitivity.{figure}" for figure in FIGURE_FORMATS]
    if isinstance(params, ReportParams):
        files += [paths.REPORT / params.study / name for name in ("report.html", "report.pdf")]
        files.append(paths.RESULTS / params.study / "summary.json")
    return [*files, folder / RECORD]


def state(params: Params) -> dict[str, str]:
    """What decides whether a run is up to date: hashes of values, code, data, and of the results that it reads.

    Nothing in it depends on where or when something was made, so results of several machines can lie side by side.
    `NOT_HERE` stands for files and databases that this machine lacks.
    """
    values = params.model_dump()
    found = {"values": digest(values), "code": digest(notebook_code(notebook(params.step), words(values)))}
    found |= {f"{step}/{run}": _made(params.study, step, run) for step, run in params.needs()}
    if isinstance(params, DataPrepParams):
        from iqa.data.pixels import PIXELS, pixel_code
        from iqa.data.prepare import fingerprint

        found["data"] = digest(fingerprint(params), *map(pixel_code, PIXELS))
    if isinstance(params, TrainParams) and params.weights:
        found["weights"] = _hash_of(params.weights)
    if isinstance(params, CrossDatasetParams):
        found |= {f"checkpoint {file}": _hash_of(file) for file in params.checkpoints()}
    if isinstance(params, AblationParams):
        found["published"] = file_hash(paths.REPORT / "published.csv")
    if isinstance(params, ClaimsParams):
        files = [paths.REPORT / "claims.csv", paths.REPORT / "published.csv"]
        found["claims"] = digest(*map(file_hash, files + param_files.all_files(params.models, "train")))
    if isinstance(params, ReportParams):
        files = sorted(file for file in paths.REPORT.iterdir() if file.suffix in TEMPLATE_KINDS)
        found["template"] = digest(*map(file_hash, files))
    return found


def _made(study: str, step: str, run: str) -> str:
    """The contents of a run's results, as a hash; of a database, which every machine prepares for itself, its data."""
    record = paths.run_folder(study, step, run) / RECORD
    if not record.is_file():
        here = step != "data_prep" or not absent_databases([param_files.load(study, step, run)])
        return "not made" if here else NOT_HERE
    return made_from(record).get("data", "not made") if step == "data_prep" else file_hash(record)


def _hash_of(file: str) -> str:
    path = paths.resolve(file)
    return file_hash(path) if path.is_file() else NOT_HERE


def absent_databases(found: list[Params]) -> dict[str, str]:
    """Databases that are neither on this machine nor among the results: why, and the remedy, by name."""
    from iqa.data.prepare import absent

    return {
        params.run: reason
        for params in found
        if isinstance(params, DataPrepParams)
        and not finished(params.study, params.step, params.run)
        and (reason := absent(params)) is not None
    }


def is_fresh(params: Params, record: Path) -> bool:
    """Whether nothing lies there that was made from other values, code or data than those of now."""
    made_from = made_from(record)
    if made_from is None:
        return True
    if isinstance(params, DataPrepParams):
        from iqa.data.prepare import absent

        if absent(params) is not None:  # results that were brought here without the images
            return True
    return agree(state(params), made_from)


def agree(now: dict[str, str], before: dict[str, str]) -> bool:
    """Whether two states are one, as far as this machine can tell."""
    return now.keys() == before.keys() and all(now[key] in (before[key], NOT_HERE) for key in now)


def made_from(record: Path) -> dict[str, str] | None:
    """The state that a finished run was made from: empty if the pipeline did not make it, None if it is not there."""
    return json.loads(record.read_text(encoding="utf-8")).get("state", {}) if record.is_file() else None
