"""Parameters of `03_ablation` to `06_analysis`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from iqa.data.params import Crops
from iqa.study import types
from iqa.study.echo import quoted
from iqa.study.param_files import experiments, load
from iqa.study.params import FigureParams
from iqa.study.registry import one_of, registered
from iqa.training.params import TrainParams


class AblationParams(FigureParams):
    """`03_ablation`: compare training runs by the parameters in which they differ from a reference run."""

    step: ClassVar[str] = "ablation"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    title: types.Text = "All trainings of the study"
    reference: types.Name = "main"
    runs: types.Names = []
    parameter: str | None = None
    resamples: types.Positive = 2000
    confidence: types.Share = 0.95
    margin: types.Share | None = 0.01
    seed: types.Seed = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.parameter is not None and self.parameter not in TrainParams.model_fields:
            raise ValueError(f"key 'parameter': training has no parameter {quoted(self.parameter)}")
        return self

    def needs(self) -> list[tuple[str, str]]:
        return [("train", run) for run in self.train_runs()]

    def files(self) -> list[str]:
        return ["report/published.csv"]

    def train_runs(self) -> list[str]:
        """The compared runs, those of the reference first; an experiment among `runs` stands for its runs."""
        known = experiments(self.study)
        named = [self.reference, *self.runs] if self.runs else [self.reference, *known]
        return list(dict.fromkeys(run for name in named for run in known.get(name, [name])))


class ComplexityParams(FigureParams):
    """`04_complexity`: parameters, multiply-accumulates (MACs), time and memory of the models of training runs."""

    step: ClassVar[str] = "complexity"
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "ptflops", "thop")

    runs: Annotated[types.Names, Field(min_length=1)] = ["main_s1"]
    height: types.Size = 224
    width: types.Size = 224
    # how time and memory are measured
    devices: Annotated[list[types.DeviceOrAll], Field(min_length=1, max_length=types.MOST)] = ["all"]
    precisions: Annotated[list[types.Precision], Field(min_length=1, max_length=3)] = ["32-true", "bf16-mixed"]
    compiled: Annotated[list[bool], Field(min_length=1, max_length=2)] = [False]
    batch_sizes: types.Sizes = [1, 2, 4, 8]
    until_full: bool = False
    seconds: Annotated[types.Number, Field(gt=0, le=3600)] = 2.0
    memory_gb: types.Factor | None = None
    memory_batch: types.Size = 8
    warmup: types.Positive = 3
    repeats: types.Positive = 20
    threads: types.Parallel = 1

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.batch_sizes != sorted(set(self.batch_sizes)):
            raise ValueError(f"'batch_sizes' must rise, not {quoted(self.batch_sizes)}")
        return self

    def needs(self) -> list[tuple[str, str]]:
        return [("train", run) for run in self.runs]


Baseline = Annotated[str, AfterValidator(one_of("iqa.analysis.baselines"))]


class CrossDatasetParams(FigureParams):
    """`05_cross_dataset`: score whole databases with the models of training runs, or with published checkpoints."""

    step: ClassVar[str] = "cross_dataset"
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "numpy", "scipy", "scikit-learn")

    models: Annotated[list[types.FileName], Field(min_length=1, max_length=1000)] = ["main"]
    databases: Annotated[types.Names, Field(min_length=1)]
    preparation: Literal["model", "database"] = "model"
    test_crops: Crops | None = None
    test_patches: types.Positive | None = None
    batch_size: types.Size = 32
    baselines: Annotated[list[Baseline], Field(max_length=types.MOST)] = ["nss_svr", "ridge"]
    resamples: types.Positive = 1000
    seed: types.Seed = 0
    device: types.Device = "auto"
    threads: types.Parallel = 1

    def needs(self) -> list[tuple[str, str]]:
        runs = list(dict.fromkeys(run for runs in self.train_runs().values() for run in runs))
        databases = dict.fromkeys([*self.databases, *map(self.trained_on, runs)])
        return [*(("train", run) for run in runs), *(("data_prep", name) for name in databases)]

    def train_runs(self) -> dict[str, list[str]]:
        """The training runs that each model stands for, unless it is a file: those of an experiment, or itself."""
        known, files = experiments(self.study), self.checkpoints()
        return {model: known.get(model, [model]) for model in self.models if model not in files}

    def trained_on(self, model: str) -> str:
        """The database of a training run."""
        return self.training(model).database

    def training(self, model: str) -> TrainParams:
        """The parameters of a training run."""
        return load(TrainParams, self.study, model)

    def files(self) -> list[str]:
        return self.checkpoints()

    def words(self) -> frozenset[str]:
        parts = ("iqa.model.fusion", "iqa.model.heads", "iqa.model.hyperiqa") if self.checkpoints() else ()
        return super().words().union(*map(registered, parts))  # a file may have any of them

    def checkpoints(self) -> list[str]:
        """Those of the models that are files: what has a folder or the suffix of a checkpoint in its name."""
        return [model for model in self.models if "/" in model or model.endswith((".pt", ".pth", ".pkl"))]


class AnalysisParams(FigureParams):
    """`06_analysis`: generated weights, attention, maps and errors of trained models on a test split."""

    step: ClassVar[str] = "analysis"
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "numpy", "scipy", "scikit-learn")

    database: types.Name
    model: types.Name = "main_s1"
    reference: types.Name | None = None
    attention: types.Name | None = None
    components: Annotated[int, Field(ge=2, le=1000)] = 10
    bands: Annotated[int, Field(ge=2, le=types.MOST)] = 5
    cases: Annotated[int, Field(gt=0, le=types.MOST)] = 8
    images: Annotated[list[types.FileName], Field(max_length=types.MOST)] = []
    ratings: types.Positive | None = None
    draws: Annotated[int, Field(gt=0, le=1000)] = 5
    resamples: types.Positive = 2000
    confidence: types.Share = 0.95
    seed: types.Seed = 0
    device: types.Device = "auto"
    threads: types.Parallel = 1

    def needs(self) -> list[tuple[str, str]]:
        return [*(("train", run) for run in self.train_runs()), ("data_prep", self.database)]

    def train_runs(self) -> list[str]:
        """The models that are looked into, the report's first, each once."""
        named = [self.model, self.reference, self.attention]
        return list(dict.fromkeys(run for run in named if run is not None))
