"""A study that a test makes up, file by file, without running anything."""

import json
from typing import Any

import numpy as np
import pandas as pd
import tiny

from iqa.analysis import evaluation, published
from iqa.analysis.params import AblationParams, AnalysisParams, ComplexityParams, CrossDatasetParams
from iqa.metrics import coefficients
from iqa.metrics.verdicts import HOLDS
from iqa.study import param_files, paths
from iqa.training.params import TrainParams

ABLATION = {"seeds": 3, "delta": -0.02, "delta_low": -0.03, "delta_high": -0.01, "delta_plcc": -0.02}
ABLATION |= {"verdict": "worse", "margin": 0.01}  # of a row, unless a test says otherwise


class Study:
    """A study that is written file by file."""

    def __init__(self, name: str):
        self.name = name

    def database(self, name: str, reader: str) -> None:
        self.params("data_prep", name, f"reader: {reader}\n")

    def train(self, experiment: str, database: str, seeds=(1, 2), history=None, params="", **metrics) -> None:
        """Finished runs of an experiment, all with the same metrics and, if it is given, the same history."""
        needed = "".join(f"{line}\n" for line in ("backbone: resnet10t", "lr: 2e-3") if line.split()[0] not in params)
        self.params("train", experiment, f"database: {database}\nseeds: {list(seeds)}\n{needed}{params}")
        base = {"database": database, "srcc": 0.9, "srcc_low": 0.89, "srcc_high": 0.91, "plcc": 0.9, "best_epoch": 5}
        for seed in seeds:
            kept = param_files.load(TrainParams, self.name, f"{experiment}_s{seed}").model_dump()
            tables = {} if history is None else {"history": history}
            self.finish("train", f"{experiment}_s{seed}", metrics=base | metrics, params=kept, **tables)

    def ablation(self, reference: str, *rows: dict) -> None:
        """A table of one reference run and other groups."""
        self.params("ablation", "table", f"reference: {reference}\n")
        first = ABLATION | {"group": reference, "differs": "", "runs": f"{reference}_s1", "verdict": "reference"}
        table = pd.DataFrame([first, *(ABLATION | row for row in rows)])
        self.finish("ablation", "table", ablation=table)

    def params(self, step: str, run: str, text: str) -> None:
        file = paths.PARAMS / self.name / step / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def finish(self, step: str, run: str, **contents) -> None:
        """Results of a run: tables as CSV, the others as JSON."""
        folder = paths.run_folder(self.name, step, run)
        folder.mkdir(parents=True, exist_ok=True)
        record = {"hardware": {"cpu": "A processor"}} | contents.pop("record", {})
        for name, content in contents.items():
            if isinstance(content, pd.DataFrame):
                content.to_csv(folder / f"{name}.csv", index=False)
            else:
                (folder / f"{name}.json").write_text(json.dumps(content))
        tiny.finish(folder, **record)


SIZE = 150  # images of a made test split
QUALITIES = {"_published": 0.5, "hyperiqa": 0.4, "ms_": 0.36, "resnet": 0.38, "tiny": 0.32, "small": 0.28, "base": 0.25}


def complete(name: str) -> None:
    """Results of every run of a study with real parameter files, written with the columns of the real steps.

    Comparisons are computed by the cells of `03_ablation` itself, but for its figures. No model is trained or timed.
    """
    study = Study(name)
    mos, shared = np.random.default_rng(0).uniform(0, 100, (2, SIZE))  # all models err alike on one image
    for number, run in enumerate(param_files.run_names(name, "train")):
        _train(study, run, mos, shared - 50, np.random.default_rng(number))
    for run in param_files.run_names(name, "ablation"):
        study.finish("ablation", run, ablation=_ablation(param_files.load(AblationParams, name, run)))
    for run in param_files.run_names(name, "cross_dataset"):
        study.finish("cross_dataset", run, cross=_cross(name, run))
    for run in param_files.run_names(name, "complexity"):
        models = param_files.load(ComplexityParams, name, run).runs
        counted = [{"run": model} | _of(name, model, "backbone", "fusion") for model in models]
        timed = {"device": "cuda", "hardware": "A GPU", "precision": "32-true", "compiled": False, "batch_size": 1}
        timed |= {"mean_ms": 9.0, "std_ms": 1.0, "images_per_second": 111.0}
        latency = pd.DataFrame([{"run": model} | timed for model in models])
        study.finish("complexity", run, complexity=pd.DataFrame(counted), latency=latency)
    for run in param_files.run_names(name, "analysis"):
        study.finish("analysis", run, **_analysis(param_files.load(AnalysisParams, name, run)))


def _of(study: str, run: str, *keys: str) -> dict[str, Any]:
    params = param_files.load(TrainParams, study, run).model_dump()
    return {key: params[key] for key in keys}


def _train(study: Study, run: str, mos: np.ndarray, shared: np.ndarray, generator: np.random.Generator) -> None:
    """A training whose predictions are the qualities with an error that depends on its experiment, and on its seed."""
    params = param_files.load(TrainParams, study.name, run)
    error = next((size for part, size in QUALITIES.items() if part in run), 0.3)
    predicted = mos + error * shared + generator.normal(0, 1, SIZE)
    images = [f"{number}.jpg" for number in range(SIZE)]
    predictions = pd.DataFrame({"image": images, "mos": mos, "reference": images, "prediction": predicted})
    epochs = min(params.epochs, params.patience + 4 if params.patience else params.epochs)
    rise = 0.9 - 0.1 * np.abs(np.arange(epochs) - 3) / epochs + generator.normal(0, 0.002, epochs)
    history = pd.DataFrame({"epoch": range(1, epochs + 1), "train_loss": 1 - rise, "val_loss": 1 - rise})
    history = history.assign(val_srcc=rise, val_plcc=rise)
    if params.selects_on_test:
        history = history.assign(test_srcc=rise[::-1] - 0.01, test_plcc=rise[::-1] - 0.01)
    metrics = {"database": params.database, "val_srcc": rise.max(), "best_epoch": int(rise.argmax()) + 1}
    for column, measure in (("srcc", coefficients.srcc), ("plcc", coefficients.plcc)):
        value = float(measure(predicted, mos))
        metrics |= {column: value, f"{column}_low": value - 0.01, f"{column}_high": value + 0.01}
    tables = {"history": history, "predictions": predictions}
    study.finish("train", run, metrics=metrics, params=params.model_dump(), **tables, record={"data": {}})


def _ablation(params: AblationParams) -> pd.DataFrame:
    """The table that the cells of `03_ablation` make, without those that draw."""
    variables = params.model_dump() | {"resamples": 100}
    for cell in json.loads((paths.NOTEBOOKS / "03_ablation.ipynb").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        left_out = ("figure(", "show.", "dynamics", ".finish(")
        given = "parameters" in cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and not given and not any(text in source for text in left_out):
            exec(source.replace("%matplotlib inline", ""), variables)
    return variables["table"]


def _cross(study: str, name: str) -> pd.DataFrame:
    params = param_files.load(CrossDatasetParams, study, name)
    titles = {name: published.title(study, name) for name in params.databases}
    rows = []
    for model, (run, *others) in params.train_runs().items():
        trained_on = published.title(study, _of(study, run, "database")["database"])
        srcc = 0.8 + 0.001 * (params.test_crops == "random")
        about = {"model": model, "trained_on": trained_on, "available": True, "n": 900, "seeds": 1 + len(others)}
        about |= {"srcc": srcc, "srcc_low": srcc - 0.01, "srcc_high": srcc + 0.01, "plcc": srcc}
        rows += [about | {"database": name, "title": title} for name, title in titles.items()]
    return pd.DataFrame(rows).reindex(columns=evaluation.COLUMNS)


def _analysis(params: AnalysisParams) -> dict[str, Any]:
    """Silhouettes of each model, and the test of what is said of attention where one is looked into."""
    ends = {"value": 0.2, "low": 0.1, "high": 0.3, "verdict": HOLDS}
    models = params.train_runs()
    separation = pd.DataFrame([{"model": model, "of": "quality", "measure": "silhouette"} | ends for model in models])
    parts = ("deep weight against quality", "the claim as a whole")
    tests = [{"model": model, "part": part, "stated": "rises"} | ends for model in [params.attention] for part in parts]
    attention = pd.DataFrame(tests if params.attention else [], columns=["model", "part", "stated", *ends])
    return {"analysis": {"database": params.database}, "separation": separation, "attention": attention}
