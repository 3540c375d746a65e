"""Run notebooks with parameter files: one run by itself, or the whole graph of a study through Snakemake."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from iqa import config, paths, source
from iqa.config import ParameterError, Params
from iqa.data import DataError
from iqa.results import FIGURE_FORMATS, RECORD, clear, finished, write_json
from iqa.source import digest, file_hash

TEMPLATE_KINDS = (".csv", ".j2", ".lua", ".css", ".typ", ".bib")
OUTPUTS = {
    "data_prep": ["audit.json", "checks.csv", "database.csv", "mos_histogram.*", "samples.*"],
    "train": [
        *("metrics.json", "history.csv", "predictions.csv", "architecture.json"),
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
    "report": ["claims.csv", "published.csv"],
}


class RunFailed(RuntimeError):
    """A notebook or the graph stopped with an error; the message says where to read more."""


def notebook(step: str) -> Path:
    """The numbered notebook of a step."""
    found = sorted(paths.NOTEBOOKS.glob(f"[0-9][0-9]_{step}.ipynb"))
    if len(found) != 1:
        raise ParameterError(f"expected one notebook notebooks/NN_{step}.ipynb, found {len(found)}")
    return found[0]


def outputs(params: Params) -> list[Path]:
    """Every file that a run promises, its record last."""
    folder = paths.run_folder(params.study, params.step, params.run)
    names = ["params.json"]
    for name in OUTPUTS[params.step]:
        stem, _, kind = name.partition(".")
        names += [f"{stem}.{figure}" for figure in FIGURE_FORMATS] if kind == "*" else [name]
    files = [folder / name for name in names]
    if isinstance(params, config.CrossDatasetParams) and len(params.models) > 1:
        files += [folder / f"{name}.{figure}" for name in ("heatmap", "compare") for figure in FIGURE_FORMATS]
    if isinstance(params, config.AblationParams) and params.parameter:
        files += [folder / f"sensitivity.{figure}" for figure in FIGURE_FORMATS]
    if isinstance(params, config.ReportParams):
        files += [paths.REPORT / params.study / name for name in ("report.html", "report.pdf")]
        files.append(paths.RESULTS / params.study / "summary.json")
    return [*files, folder / RECORD]


def state(params: Params) -> dict[str, str]:
    """What decides whether a run is up to date, besides the runs that it needs: hashes of values, code and data."""
    found = {"values": digest(params.model_dump()), "code": source.notebook_hash(notebook(params.step))}
    if isinstance(params, config.DataPrepParams):
        from iqa.data.databases import fingerprint

        found["data"] = fingerprint(params)
    if isinstance(params, config.TrainParams) and params.weights:
        found["weights"] = _hash_of(params.weights)
    if isinstance(params, config.CrossDatasetParams):
        found["checkpoints"] = digest(*map(_hash_of, params.checkpoints()))
        found["absent"] = ", ".join(
            _absent([config.load(params.study, "data_prep", name) for name in params.databases])
        )
    if isinstance(params, config.AblationParams):
        found["published"] = file_hash(paths.REPORT / "published.csv")
        found["runs"] = ", ".join(params.train_runs())
    if isinstance(params, config.ReportParams):
        files = sorted(file for file in paths.REPORT.iterdir() if file.suffix in TEMPLATE_KINDS)
        found["template"] = digest(*map(file_hash, files))
        found["claims"] = digest(*(file_hash(file) for file in config.all_files("koniq10k", "train")))
    return found


def _hash_of(file: str) -> str:
    path = paths.resolve(file)
    return file_hash(path) if path.is_file() else "missing"


def _absent(found: list[Params]) -> dict[str, str]:
    """Databases that are neither on this machine nor among the results: why, and the remedy, by name."""
    from iqa.data.databases import absent

    return {
        params.run: reason
        for params in found
        if isinstance(params, config.DataPrepParams)
        and not finished(params.study, params.step, params.run)
        and (reason := absent(params)) is not None
    }


@dataclass(frozen=True)
class Job:
    """One run as the graph sees it; paths are relative to the study's results folder.

    `fresh` is False where results lie that were made from other values, code or data than those of now.
    """

    step: str
    run: str
    inputs: list[str]
    outputs: list[str]
    logs: list[str]
    fresh: bool
    threads: int
    command: str


def jobs(study: str, train: bool = True) -> list[Job]:
    """Every run of a study, in the order of the steps, without the preparation of databases that are not there.

    Args:
        train: False leaves all trainings out, and the data of those that are finished as they are; tables show the
            others as not run.

    Raises:
        ParameterError: the study does not exist, a parameter file is wrong, or a run needs one that is not there.
        DataError: a training needs a database that is not there; says where it can be had.
    """
    found = list(_all_params(study))
    missing = _absent(found)
    if train:
        _check_training_data(found, missing)
    untrained = set() if train else set(_untrained(found))
    # to prepare a database anew would remove the trainings that were made from it
    kept = set() if train else {name for params in _trained(found) for name in params.databases()}
    names = {(params.step, params.run) for params in found}
    home = paths.RESULTS / study

    def relative(files: list[Path]) -> list[str]:
        return [Path(os.path.relpath(file, home)).as_posix() for file in files]

    graph = []
    for params in found:
        file = paths.shown(config.params_file(study, params.step, params.run))
        for step, run in params.needs():
            if (step, run) not in names:
                known = ", ".join(config.run_names(study, step)) or "none"
                raise ParameterError(
                    f"{file} needs the {step} run '{run}', which params/{study}/{step}/ lacks ({known})"
                )
        if params.step == "data_prep" and params.run in kept | missing.keys():
            continue
        if params.step == "train" and not train:
            continue
        folder = paths.run_folder(study, params.step, params.run)
        left_out = {("data_prep", name) for name in missing} | {("train", name) for name in untrained}
        needs = [need for need in params.needs() if need not in left_out]
        graph.append(
            Job(
                step=params.step,
                run=params.run,
                inputs=relative([paths.run_folder(study, *need) / RECORD for need in needs]),
                outputs=relative(outputs(params)),
                logs=relative([folder / "log.txt", folder / "notebook.ipynb"]),
                fresh=_fresh(params, folder / RECORD),
                threads=getattr(params, "threads", 1),
                command=f'"{sys.executable}" -m iqa.cli run {study}/{params.step}/{params.run}',
            )
        )
    return graph


def _trained(found: list[Params]) -> list[config.TrainParams]:
    """Training runs that are finished."""
    trainings = [params for params in found if isinstance(params, config.TrainParams)]
    return [params for params in trainings if finished(params.study, params.step, params.run)]


def _untrained(found: list[Params]) -> list[str]:
    """Names of the training runs that are not finished."""
    done = {params.run for params in _trained(found)}
    return [params.run for params in found if params.step == "train" and params.run not in done]


def _check_training_data(found: list[Params], missing: dict[str, str]) -> None:
    """Refuse at once what would fail after hours of other work."""
    needed: dict[str, list[str]] = {}
    for params in found:
        if isinstance(params, config.TrainParams) and not finished(params.study, params.step, params.run):
            for name in missing.keys() & set(params.databases()):
                needed.setdefault(name, []).append(params.run)
    if needed:
        lines = [
            f"  {name} (to train {', '.join(runs[:3])}{', ...' * (len(runs) > 3)}): {missing[name]}"
            for name, runs in needed.items()
        ]
        others = [f"  {name}: {reason}" for name, reason in missing.items() if name not in needed]
        optional = ["and these would be reported as not available:", *others] if others else []
        raise DataError("\n".join(["databases that this study trains on are not here:", *lines, *optional]))


def _fresh(params: Params, record: Path) -> bool:
    """Whether nothing lies there that was made from other values, code or data than those of now."""
    made_from = _made_from(record)
    if made_from is None:
        return True
    if isinstance(params, config.DataPrepParams):
        from iqa.data.databases import absent

        if absent(params) is not None:  # results that were brought here without the images
            return True
    return made_from == state(params)


def _made_from(record: Path) -> dict[str, str] | None:
    """The state that a finished run was made from: empty if the pipeline did not make it, None if it is not there."""
    return json.loads(record.read_text(encoding="utf-8")).get("state", {}) if record.is_file() else None


def _all_params(study: str) -> Iterator[Params]:
    if not (paths.PARAMS / study).is_dir():
        known = ", ".join(sorted(folder.name for folder in paths.PARAMS.iterdir() if folder.is_dir()))
        raise ParameterError(f"params/{study} does not exist; the studies are: {known}")
    for step in config.STEPS:
        for run in config.run_names(study, step):
            yield config.load(study, step, run)


def report(study: str, cores: int | None = None, extra: list[str] | None = None, train: bool = True) -> None:
    """Bring every run of a study and its report up to date: what changed, and nothing else.

    Args:
        cores: how many cores the runs share; all by default.
        train: False trains nothing; what was not trained is reported as not run.
        extra: further arguments for Snakemake, such as `--dry-run`.

    Raises:
        RunFailed: a run failed; those that do not depend on it were finished first.
    """
    stale = [f"{job.step}_{job.run}" for job in jobs(study, train) if not job.fresh]
    if not train and (left := _untrained(list(_all_params(study)))):
        print(f"{len(left)} training runs are not finished, and are reported so: {', '.join(left)}", file=sys.stderr)
    for name, reason in _absent(list(_all_params(study))).items():
        print(f"database '{name}' is not available here, and is reported so. {reason}", file=sys.stderr)
    home = paths.RESULTS / study
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile")),
        *("--directory", str(home), "--cores", str(cores or os.cpu_count() or 1)),
        *("--rerun-triggers", "input", "mtime", "--rerun-incomplete", "--keep-going", "--nolock"),
        *(["--forcerun", *stale] if stale else []),
        *("--quiet", "rules", "host", "--config", f"study={study}", f"train={train}", *(extra or [])),
    ]
    with _only_one(home):
        if subprocess.run(command, check=False).returncode:
            raise RunFailed(f"the report of study '{study}' was not made; the runs that failed are named above")


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Keeps a second pipeline out of a study's results; unlike Snakemake's own lock, a killed one leaves no lock."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFailed(f"another pipeline is at work in {paths.shown(home)}; wait until it is done") from None
        yield


def run(study: str, step: str, name: str, overrides: dict[str, Any] | None = None) -> Path:
    """Execute the notebook of a step with the parameters of one run, and return the run's folder.

    The executed notebook (`notebook.ipynb`) and everything that it prints (`log.txt`) are written while it runs,
    and are there also when it fails. Whatever was made from this run's earlier results is removed.

    Raises:
        ParameterError: a parameter file is wrong.
        RunFailed: a cell of the notebook raised an error.
    """
    params = config.load(study, step, name, overrides)
    folder = paths.run_folder(study, step, name)
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    for dependent in _dependents(study, step, name):
        for output in outputs(dependent):
            output.unlink(missing_ok=True)

    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    threads = str(getattr(params, "threads", 1))
    made_from = state(params)
    os.environ |= {"IQA_BATCH": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    started = time.perf_counter()
    with (folder / "log.txt").open("w", encoding="utf-8", buffering=1) as file_log:
        log = Tee(file_log, f"{step}/{name}")
        log.write(f"{notebook(step).name} with {paths.shown(config.params_file(study, step, name))}\n")
        try:
            papermill.execute_notebook(
                notebook(step),
                folder / "notebook.ipynb",
                parameters=params.model_dump(),  # all of them: the parameters cell may have been played with
                kernel_name="python3",
                cwd=paths.ROOT,
                progress_bar=False,
                stdout_file=log,
                stderr_file=log,
                start_timeout=300,
                extra_arguments=["--log-level=CRITICAL"],
            )
        except (PapermillExecutionError, DeadKernelError) as error:
            (folder / RECORD).unlink(missing_ok=True)
            reason = "the kernel died; was there too little memory?"
            if isinstance(error, PapermillExecutionError):
                reason = f"{error.ename}: {error.evalue}"
            log.write(f"failed: {reason}\n")
            place = f"{paths.shown(folder / 'notebook.ipynb')} (log.txt beside it)"
            raise RunFailed(f"{step}/{name}: {reason}\nread more in {place}") from None
        record = folder / RECORD
        known = json.loads(record.read_text(encoding="utf-8"))
        write_json(record, known | {"state": made_from})
        log.write(f"finished in {time.perf_counter() - started:.0f} s\n")
    return folder


def refresh(study: str, step: str, name: str) -> None:
    """Execute the notebook behind a table if its results are not those of now; nothing is trained for it.

    Comparisons and complexity are made anew after a change or when more runs are finished; trainings and evaluations
    only on request.
    """
    if step not in ("ablation", "complexity"):
        return
    params = config.load(study, step, name)
    record = paths.run_folder(study, step, name) / RECORD
    needed = [paths.run_folder(study, *need) / RECORD for need in params.needs()]
    if _made_from(record) == state(params):
        made = record.stat().st_mtime
        if all(file.stat().st_mtime <= made for file in needed if file.is_file()):
            return
    run(study, step, name)


def _dependents(study: str, step: str, run: str) -> list[Params]:
    """Runs that were made from a run's results, directly or not."""
    changed, found = {(step, run)}, []
    for params in _all_params(study):  # steps come in an order in which a run needs only earlier steps
        if changed & set(params.needs()):
            changed.add((params.step, params.run))
            found.append(params)
    return found


class Tee:
    """Writes a run's output to its log and, each line with the run's name, to the terminal."""

    def __init__(self, log: IO[str], name: str):
        self.log = log
        self.name = name

    def write(self, text: str) -> None:
        self.log.write(text)
        for line in text.splitlines():
            if line.strip():
                print(f"[{self.name}] {line}", file=sys.stderr, flush=True)

    def flush(self) -> None:
        self.log.flush()
