"""Parameters of `03_ablation` to `06_analysis`."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from iqa.data.params import Crops
from iqa.study.param_files import experiments, load
from iqa.study.params import FigureParams, Name, Number, Positive, Precision
from iqa.study.registry import registered
from iqa.training.params import TrainParams


class AblationParams(FigureParams):
    """`03_ablation`: compare training runs by the parameters in which they differ from a reference run."""

    step: ClassVar[str] = "ablation"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    title: str = "All trainings of the study"
    reference: Name = "main"
    runs: list[Name] = []
    parameter: str | None = None
    resamples: Positive = 2000
    confidence: Annotated[Number, Field(gt=0, lt=1)] = 0.95
    seed: int = 0

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.parameter is not None and self.parameter not in TrainParams.model_fields:
            raise ValueError(f"key 'parameter': training has no parameter '{self.parameter}'")
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

    runs: Annotated[list[Name], Field(min_length=1)] = ["main_s1"]
    height: Positive = 224
    width: Positive = 224
    # how time and memory are measured
    devices: Annotated[list[str], Field(min_length=1)] = ["all"]
    precisions: Annotated[list[Precision], Field(min_length=1)] = ["32-true", "bf16-mixed"]
    compiled: Annotated[list[bool], Field(min_length=1)] = [False]
    batch_sizes: Annotated[list[Positive], Field(min_length=1)] = [1, 2, 4, 8]
    until_full: bool = False
    seconds: Annotated[Number, Field(gt=0)] = 2.0
    memory_gb: Annotated[Number, Field(gt=0)] | None = None
    memory_batch: Positive = 8
    warmup: Positive = 3
    repeats: Positive = 20
    threads: Positive = 1

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.batch_sizes != sorted(set(self.batch_sizes)):
            raise ValueError(f"'batch_sizes' must rise, not {self.batch_sizes}")
        return self

    def needs(self) -> list[tuple[str, str]]:
        return [("train", run) for run in self.runs]


class CrossDatasetParams(FigureParams):
    """`05_cross_dataset`: score whole databases with the models of training runs, or with published checkpoints."""

    step: ClassVar[str] = "cross_dataset"
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "numpy", "scipy")

    models: Annotated[list[str], Field(min_length=1)] = ["main_s1"]
    databases: Annotated[list[Name], Field(min_length=1)] = ["demo_distortions", "demo_photos"]
    test_crops: Crops | None = "whole"
    test_patches: Positive | None = 1
    batch_size: Positive = 32
    resamples: Positive = 1000
    seed: int = 0
    device: str = "auto"
    threads: Positive = 1

    def needs(self) -> list[tuple[str, str]]:
        files = self.checkpoints()
        runs = [("train", model) for model in self.models if model not in files]
        databases = [*self.databases, *(self.trained_on(model) for _, model in runs)]
        return [*runs, *(("data_prep", name) for name in dict.fromkeys(databases))]

    def trained_on(self, model: str) -> str:
        """The database of a training run."""
        return load(TrainParams, self.study, model).database

    def files(self) -> list[str]:
        return self.checkpoints()

    def words(self) -> frozenset[str]:
        any_fusion = registered("iqa.model.fusion") if self.checkpoints() else ()  # a file may have any
        return super().words().union(any_fusion)

    def checkpoints(self) -> list[str]:
        """Those of the models that are files: what has a folder or the suffix of a checkpoint in its name."""
        return [model for model in self.models if "/" in model or model.endswith((".pt", ".pth", ".pkl"))]


class AnalysisParams(FigureParams):
    """`06_analysis`: generated weights, attention, maps and errors of trained models on a test split."""

    step: ClassVar[str] = "analysis"
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "numpy", "scipy", "scikit-learn")

    database: Name = "demo"
    model: Name = "main_s1"
    reference: Name = "last_s1"
    attention: Name | None = "attention_s1"
    components: Annotated[int, Field(ge=2)] = 10
    bands: Annotated[int, Field(ge=2)] = 5
    cases: Positive = 8
    images: list[str] = []
    ratings: Positive | None = None
    resamples: Positive = 2000
    confidence: Annotated[Number, Field(gt=0, lt=1)] = 0.95
    seed: int = 0
    device: str = "auto"
    threads: Positive = 1

    def needs(self) -> list[tuple[str, str]]:
        return [*(("train", run) for run in self.train_runs()), ("data_prep", self.database)]

    def train_runs(self) -> list[str]:
        """The models that are looked into, the report's first, each once."""
        named = [self.model, self.reference, self.attention]
        return list(dict.fromkeys(run for run in named if run is not None))
