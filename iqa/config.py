"""Typed parameters of each step, and the parameter files that set them.

A study is a folder of `params/`. A run is one file, `params/<study>/<step>/<run>.yaml`, that lists only what
differs from the defaults; what all runs of a step share stands in `params/<study>/<step>.yaml`. The defaults
are the fields below, and the parameters cell of each notebook repeats them (a test compares the two). A training file
`<name>.yaml` with `seeds: [1, 2]` is an experiment: it stands for the runs `<name>_s1` and `<name>_s2`. A file with
`like: <other>` starts from the values of the file `<other>.yaml` beside it.
"""

import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from iqa import paths
from iqa.study.registry import one_of, registered

YAML_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


class ParameterError(ValueError):
    """A parameter file or a notebook's parameters cell that cannot be used; the message names file and key."""


def _yaml_1_2_number(value: Any) -> Any:
    """`1e-4` is a number in YAML 1.2; the bare `papermill` command reads YAML 1.1, where it is a string."""
    return float(value) if isinstance(value, str) and YAML_NUMBER.fullmatch(value) else value


def loss_terms(text: str) -> dict[str, float]:
    """Weights of the terms of a loss such as `l1`, `l1 + 0.5*plcc`; see `iqa.losses`.

    Raises:
        ValueError: an unknown term, one that comes twice, or a text of another form.
    """
    weights: dict[str, float] = {}
    known = registered("iqa.losses")
    for part in text.split("+"):
        found = re.fullmatch(r"\s*(?:([0-9.]+(?:[eE]-?\d+)?)\s*\*?\s*)?([a-z][a-z0-9_]*)\s*", part)
        if not found or found[2] not in known or found[2] in weights:
            raise ValueError(f"a loss is a sum such as 'l1 + 0.5*plcc' of different terms of {', '.join(known)}")
        weights[found[2]] = float(found[1] or 1)
    return weights


def _loss(text: str) -> str:
    loss_terms(text)
    return text


def _run_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ValueError("a name is made of letters, digits, '_', '-' and '.', and starts with a letter or digit")
    return name


Number = Annotated[float, BeforeValidator(_yaml_1_2_number)]
Name = Annotated[str, AfterValidator(_run_name)]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]
Rate = Annotated[Number, Field(ge=0)]
Triple = Annotated[list[Number], Field(min_length=3, max_length=3)]
Fusion = Annotated[str, AfterValidator(one_of("iqa.model.fusion"))]
TargetInput = Annotated[str, AfterValidator(one_of("iqa.model.hyperiqa"))]
Input = Literal["rgb", "mscn"]
Crops = Annotated[str, AfterValidator(one_of("iqa.data.crops"))]
Precision = Literal["32-true", "bf16-mixed"]


class Checked(BaseModel):
    """Typed values. Unknown keys and wrong types are errors; `step` names what they are of in messages."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    step: ClassVar[str]

    @classmethod
    def build(cls, values: dict[str, Any], source: str) -> Self:
        """Typed values from plain ones; `source` is named in the error message."""
        try:
            return cls(**values)
        except pydantic.ValidationError as error:
            lines = [_explain(cls, problem) for problem in error.errors()]
            raise ParameterError(f"{source}: " + "; ".join(lines)) from None


class Params(Checked):
    """Parameters that every step has."""

    study: Name = "demo"
    run: Name = "scratch"

    @classmethod
    def collect(cls, namespace: dict[str, Any]) -> Self:
        """Typed parameters from the variables of a notebook (`globals()`).

        Raises:
            ParameterError: a parameter is missing from the namespace, or has a wrong type or value.
        """
        missing = [key for key in cls.model_fields if key not in namespace]
        if missing:
            raise ParameterError(f"the parameters cell of the {cls.step} notebook lacks {', '.join(missing)}")
        return cls.build({key: namespace[key] for key in cls.model_fields}, f"parameters cell of {cls.step}")

    def needs(self) -> list[tuple[str, str]]:
        """Runs `(step, run)` of the same study whose results this run reads."""
        return []


def _explain(cls: Any, problem: dict) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "(the whole file)"
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'; the keys of {cls.step} are: {', '.join(cls.model_fields)}"
    return f"key '{key}': {problem['msg']}, not {problem['input']!r}"


class FigureParams(Params):
    """Parameters of a step that draws figures."""

    dpi: Positive = 150


class DataPrepParams(FigureParams):
    """`01_data_prep`: read, audit and cache one database. The run's name is the database's name in the study."""

    step: ClassVar[str] = "data_prep"

    # which database, and where its files are
    reader: Annotated[str, AfterValidator(one_of("iqa.data.readers"))] = "synthetic"
    folder: str | None = None
    images: str | None = None
    # one's own images: readers csv and metas
    labels: str | None = None
    train_list: str | None = None
    val_list: str | None = None
    test_list: str | None = None
    low: Number | None = None
    high: Number | None = None
    higher_is_better: bool | None = None
    # synthetic databases
    part: Literal["main", "distortions", "photos"] = "main"
    scale: Annotated[Number, Field(gt=0, le=1)] = 1.0
    # split
    split: Literal["official", "seeded", "all_test"] | None = None
    split_file: str | None = None
    seed: int = 0
    repeat: Positive = 1
    train_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    val_fraction: Fraction = 0.1
    # pixels
    height: Positive | None = None
    width: Positive | None = None
    keep_aspect: bool = True
    inputs: Annotated[list[Input], Field(min_length=1)] = ["mscn"]
    workers: Positive | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError("set both 'height' and 'width', or neither")
        if self.split is not None and self.split_file is not None:
            raise ValueError("set 'split' or 'split_file', not both")
        return self


class ModelParams(Checked):
    """Hyper-parameters of one model; the defaults are those of HyperIQA (Su et al., CVPR 2020) with ResNet-50."""

    step: ClassVar[str] = "a model"

    backbone: str = "resnet50"  # any timm model with maps at strides 4, 8, 16, 32
    backbone_args: dict[str, Any] = {}  # passed on to timm.create_model
    mean: Triple = [0.485, 0.456, 0.406]  # of the input's channels on 0..1 (here: ImageNet)
    std: Triple = [0.229, 0.224, 0.225]
    fusion: Fusion = "last"  # which maps feed the hyper network, and how
    fpn_channels: Positive = 256  # width of the feature pyramid (fusion fpn_cbam)
    attention_width: Positive = 256  # hidden layer that weighs the scales (fusion attention)
    attention_dropout: Fraction = 0.5  # after it
    target_input: TargetInput = "lda"  # what the target network reads
    lda_channels: list[Positive] = [16, 32, 64]  # 1x1 convolutions of the first three levels
    lda_features: Positive = 16  # values that each of the first three levels gives to the target network's input
    lda_grids: list[Positive] = [8, 4, 2, 1]  # pooled height and width per level; 7x7 windows at 224x224
    semantic_widths: list[Positive] = [1024, 512]  # hidden 1x1 convolutions before the hyper network
    semantic_channels: Positive = 112
    semantic_grid: Positive = 7  # height and width of the map that the hyper network reads
    target_widths: list[Positive] = [224, 112, 56, 28, 14]  # input and hidden layers of the target network
    semantic_dropout: Fraction = 0.0  # before the hyper network
    dropout: Fraction = 0.0  # after the first hidden layers of the target network
    dropout_layers: Annotated[int, Field(ge=0)] = 3  # how many of them
    drop_path: Fraction = 0.0  # stochastic depth of the backbone, by timm
    output_scale: Annotated[Number, Field(gt=0)] = 1.0  # what the target network gives for the best quality


# the options of `iqa.model.scoring.score`, and the parameter of a training that sets each
SCORING = {"input": "input", "crops": "test_crops", "patches": "test_patches", "crop": "crop"}
SCORING |= {key: key for key in ("batch_size", "seed", "precision")}


class TrainParams(ModelParams, FigureParams):
    """`02_train`: one training run. The defaults are the demo study's."""

    step: ClassVar[str] = "train"

    # data
    database: Name = "demo"
    monitor_databases: list[Name] = []
    input: Input = "mscn"
    crop: Positive = 96
    train_patches: Positive = 1
    color_jitter: Fraction = 0.0
    test_crops: Crops = "whole"
    test_patches: Positive = 1
    # model: small enough to train from scratch on two CPU cores
    backbone: str = "resnet10t"
    backbone_args: dict[str, Any] = {"stem_width": 8, "channels": [16, 32, 64, 128], "zero_init_last": False}
    mean: Triple = [0.5, 0.5, 0.5]
    std: Triple = [0.16, 0.16, 0.16]
    fusion: Fusion = "concat"
    lda_channels: list[Positive] = [8, 16, 16]
    lda_grids: list[Positive] = [4, 3, 2, 1]
    semantic_widths: list[Positive] = [64]
    semantic_channels: Positive = 48
    semantic_grid: Positive = 4
    target_widths: list[Positive] = [64, 32, 16, 8, 4]
    pretrained: bool = False
    weights: str | None = None
    # loss
    loss: Annotated[str, AfterValidator(_loss)] = "l1"
    rank_weight: Rate = 0.3
    rank_margin: Rate = 0.1
    # optimisation
    epochs: Positive = 16
    batch_size: Positive = 32
    lr: Rate = 2.0e-3
    lr_ratio: Annotated[Number, Field(gt=0)] = 1.0
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: Rate = 0.02
    schedule: Literal["constant", "step", "cosine", "cosine_restarts", "one_cycle"] = "one_cycle"
    schedule_epochs: Positive = 6
    final_lr: Annotated[Number, Field(ge=0, le=1)] = 0.0
    clip: Rate = 1.0
    accumulate: Positive = 1
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False
    hypernet_epochs: Positive | None = None
    patience: Positive | None = None
    select_on: Literal["val_srcc", "val_plcc", "val_loss", "test_srcc", "test_plcc"] = "val_srcc"
    save_all_epochs: bool = False
    # machine
    seed: int = 1
    deterministic: bool = True
    precision: Precision = "32-true"
    compile: bool = False
    channels_last: bool = True
    fused: bool = True
    device: str = "auto"
    devices: Positive = 1
    nodes: Positive = 1
    strategy: Literal["ddp", "ddp_find_unused_parameters_true"] = "ddp"
    threads: Positive = 1
    workers: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.color_jitter and self.input != "rgb":
            raise ValueError(
                f"'color_jitter' changes colours, which input '{self.input}' does not have; use input: rgb"
            )
        if self.batch_size % self.processes():
            shared = f"'devices' ({self.devices}) on each of 'nodes' ({self.nodes})"
            raise ValueError(f"'batch_size' ({self.batch_size}) is shared by {shared}: not a multiple")
        return self

    def processes(self) -> int:
        """How many processes share each batch: `devices` on each of `nodes`."""
        return self.devices * self.nodes

    def needs(self) -> list[tuple[str, str]]:
        return [("data_prep", name) for name in self.databases()]

    def databases(self) -> list[str]:
        """The database to train on, then the monitored ones."""
        return list(dict.fromkeys([self.database, *self.monitor_databases]))

    @property
    def selects_on_test(self) -> bool:
        """Whether the best epoch is chosen on the test images, which makes its test figures too good."""
        return self.select_on.startswith("test_")

    def terms(self) -> dict[str, float]:
        """Weights of the terms of the training loss, the ranking loss among them if it counts."""
        weights = loss_terms(self.loss)
        if self.rank_weight:
            weights["ranking"] = weights.get("ranking", 0.0) + self.rank_weight
        return weights

    def architecture(self) -> ModelParams:
        """The part of the parameters that describes the model."""
        return ModelParams(**{key: getattr(self, key) for key in ModelParams.model_fields})

    def scoring(self) -> dict[str, Any]:
        """How the images of the test split are scored: the options of `iqa.model.scoring.score`."""
        return {option: getattr(self, key) for option, key in SCORING.items()}


class AblationParams(FigureParams):
    """`03_ablation`: compare training runs by the parameters in which they differ from a reference run."""

    step: ClassVar[str] = "ablation"

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

    def train_runs(self) -> list[str]:
        """The compared runs, those of the reference first; an experiment among `runs` stands for its runs."""
        known = experiments(self.study)
        named = [self.reference, *self.runs] if self.runs else [self.reference, *known]
        return list(dict.fromkeys(run for name in named for run in known.get(name, [name])))


class ComplexityParams(FigureParams):
    """`04_complexity`: parameters, multiply-accumulates (MACs), time and memory of the models of training runs."""

    step: ClassVar[str] = "complexity"

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
        return [*runs, *(("data_prep", name) for name in self.databases)]

    def checkpoints(self) -> list[str]:
        """Those of the models that are files: what has a folder or the suffix of a checkpoint in its name."""
        return [model for model in self.models if "/" in model or model.endswith((".pt", ".pth", ".pkl"))]


class AnalysisParams(FigureParams):
    """`06_analysis`: generated weights, attention, maps and errors of trained models on a test split."""

    step: ClassVar[str] = "analysis"

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


class ReportParams(Params):
    """`07_report`: regenerate the tables and render the report of a study."""

    step: ClassVar[str] = "report"

    title: str = "HyperIQA and its successors on the embedded demo study"
    main: Name = "main_s1"
    cross: Name = "main"
    ablation: Name = "main"
    complexity: Name = "main"
    analysis: Name = "main"

    def needs(self) -> list[tuple[str, str]]:
        return [(step, run) for step in STEPS if step != self.step for run in run_names(self.study, step)]


STEPS: dict[str, type[Params]] = {
    cls.step: cls
    for cls in (
        *(DataPrepParams, TrainParams, AblationParams, ComplexityParams),
        *(CrossDatasetParams, AnalysisParams, ReportParams),
    )
}


class Resources(Checked):
    """What a run asks of a cluster, besides cores (its `threads` and `workers`) and `nodes`. It decides no result."""

    step: ClassVar[str] = "resources"

    gpus: Annotated[int, Field(ge=0)] = 0  # on each node
    memory_gb: Annotated[Number, Field(gt=0)] = 8.0  # on each node
    minutes: Positive = 240


def resources(study: str) -> dict[tuple[str, str], Resources]:
    """What each run `(step, run)` of a study asks of a cluster: `params/<study>/resources.yaml`, else the defaults.

    The keys of the file are steps, experiments (`train/<name>`, for all their seeds) and runs (`train/<name>_s1`), each
    with some fields of `Resources`; what is said of fewer runs wins. A change of it makes nothing anew.

    Raises:
        ParameterError: an unknown step, run or field, or a wrong type.
    """
    file = paths.PARAMS / study / "resources.yaml"
    written = read_yaml(file) if file.is_file() else {}
    steps = {step: [(step, run) for run in run_names(study, step)] for step in STEPS}
    named = {f"train/{name}": [("train", run) for run in runs] for name, runs in experiments(study).items()}
    groups = steps | named | {f"{step}/{run}": [(step, run)] for runs in steps.values() for step, run in runs}
    if unknown := written.keys() - groups.keys():
        raise ParameterError(f"{paths.shown(file)}: unknown key '{min(unknown)}'; the keys are: {', '.join(groups)}")
    asked: dict[tuple[str, str], dict[str, Any]] = {run: {} for runs in steps.values() for run in runs}
    for key, runs in groups.items():  # from steps to single runs
        values = written.get(key) or {}
        if not isinstance(values, dict):
            raise ParameterError(f"{paths.shown(file)}: key '{key}': expected lines of 'key: value', not {values!r}")
        Resources.build(values, f"{paths.shown(file)}: key '{key}'")
        for run in runs:
            asked[run] |= values
    return {run: Resources(**values) for run, values in asked.items()}


def read_yaml(path: Path) -> dict[str, Any]:
    """A parameter file as plain values, read as YAML 1.2 (`1e-4` is a number, `on` is a string)."""
    try:
        values = _parsed(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise ParameterError(f"{paths.shown(path)}: not valid YAML: {error}") from None
    if not isinstance(values or {}, dict):
        raise ParameterError(f"{paths.shown(path)}: expected lines of 'key: value', found {type(values).__name__}")
    return deepcopy(values or {})


@cache
def _parsed(text: str) -> Any:
    """What a YAML text says; the files of a study are asked for over and over."""
    return YAML(typ="safe", pure=True).load(text)


def run_names(study: str, step: str) -> list[str]:
    """Names of the runs that `params/<study>/<step>/` defines, sorted by file and seed."""
    return list(_runs(study, step))


def experiments(study: str) -> dict[str, list[str]]:
    """Runs of each training experiment (a parameter file), by the experiment's name."""
    found: dict[str, list[str]] = {}
    for run, (file, _) in _runs(study, "train").items():
        found.setdefault(file.stem, []).append(run)
    return found


def experiment_of(study: str) -> dict[str, str]:
    """The experiment of each training run, by the run's name."""
    return {run: name for name, runs in experiments(study).items() for run in runs}


def _runs(study: str, step: str) -> dict[str, tuple[Path, int | None]]:
    """File and seed of each run of a step; the seed is None where the file does not list several."""
    found: dict[str, tuple[Path, int | None]] = {}
    for file in sorted((paths.PARAMS / study / step).glob("*.yaml")):
        seeds = _seeds(file) if step == "train" else None
        runs = {file.stem: (file, None)} if seeds is None else {f"{file.stem}_s{s}": (file, s) for s in seeds}
        for run in runs.keys() & found.keys():
            raise ParameterError(f"{paths.shown(file)} and {paths.shown(found[run][0])} both stand for the run '{run}'")
        found |= runs
    return found


def _seeds(file: Path) -> list[int] | None:
    """The seeds that a training file lists, or None."""
    if not re.search(r"^seeds\b", file.read_text(encoding="utf-8"), re.MULTILINE):  # far quicker than to read YAML
        return None
    values = read_yaml(file)
    seeds = values.get("seeds")
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise ParameterError(f"{paths.shown(file)}: key 'seeds': a list of different whole numbers, not {seeds!r}")
    if "seed" in values:
        raise ParameterError(f"{paths.shown(file)}: set 'seed' or 'seeds', not both")
    return seeds


def params_file(study: str, step: str, run: str) -> Path:
    """The parameter file of a run, or where it would be."""
    return _runs(study, step).get(run, (paths.PARAMS / study / step / f"{run}.yaml", None))[0]


def load(study: str, step: str, run: str, overrides: dict[str, Any] | None = None) -> Params:
    """Typed parameters of one run: defaults, then `<step>.yaml`, then the run's file, then `overrides`.

    Raises:
        ParameterError: no such file, an unknown key or a wrong type, with the file and the key.
    """
    cls = STEPS[step]
    known = _runs(study, step)
    if run not in known:
        file = paths.PARAMS / study / step / f"{run}.yaml"
        lacking = "is a file of several runs" if file.is_file() else "does not exist"
        names = ", ".join(known) or "none"
        raise ParameterError(f"{paths.shown(file)} {lacking}; the {step} runs of study '{study}' are: {names}")
    file, seed = known[run]
    values: dict[str, Any] = {}
    for source in sources(file):
        own = read_yaml(source)
        for key in ("study", "run"):
            if key in own:
                raise ParameterError(f"{paths.shown(source)}: key '{key}' follows from the file's place; remove it")
        own = {key: value for key, value in own.items() if key not in ("like", "seeds")}
        values |= own
        cls.build({**values, "study": study, "run": run}, paths.shown(source))
    if seed is not None:
        values["seed"] = seed
    return cls.build({**values, "study": study, "run": run, **(overrides or {})}, f"{paths.shown(file)} (overrides)")


def all_files(study: str, step: str) -> list[Path]:
    """The parameter files of a step, that of what its runs share last."""
    folder = paths.PARAMS / study / step
    shared = folder.with_suffix(".yaml")
    return [*sorted(folder.glob("*.yaml")), *([shared] if shared.is_file() else [])]


def sources(file: Path) -> list[Path]:
    """The parameter files that make up a run's values, a later one overriding earlier ones; the run's own is last.

    Raises:
        ParameterError: `like` names no file beside it, or files are like each other in a circle.
    """
    found = [file]
    while (like := read_yaml(found[0]).get("like")) is not None:
        other = file.with_name(f"{like}.yaml")
        if not other.is_file() or other in found:
            problem = "is like itself in the end" if other in found else "does not exist"
            raise ParameterError(f"{paths.shown(found[0])}: key 'like': {paths.shown(other)} {problem}")
        found.insert(0, other)
    shared = file.parent.with_suffix(".yaml")
    return [shared, *found] if shared.is_file() else found


def locate(name: str | Path) -> list[tuple[str, str, str]]:
    """`(study, step, run)` of each run that is meant.

    Args:
        name: `<study>/<step>/<run>`, the same with the name of an experiment for all its runs, or the path of a
            parameter file `params/<study>/<step>/<run>.yaml`.

    Raises:
        ParameterError: there is no such run.
    """
    path = Path(name)
    by_path = path.suffix == ".yaml" or path.is_absolute()
    path = path.resolve() if by_path else paths.PARAMS / f"{name}.yaml"
    parts = path.relative_to(paths.PARAMS).parts if path.is_relative_to(paths.PARAMS) else ()
    if len(parts) != 3 or path.suffix != ".yaml" or parts[1] not in STEPS:
        raise ParameterError(
            f"{name}: a run is named <study>/<step>/<run>, or by its file params/<study>/<step>/<run>.yaml; "
            f"<step> is one of {', '.join(STEPS)}"
        )
    study, step, _ = parts
    known = _runs(study, step)
    found = [run for run, (file, _) in known.items() if run == path.stem or file == path]
    if not found:
        names = ", ".join(known) or "none"
        raise ParameterError(f"{paths.shown(path)} does not exist; the {step} runs of study '{study}' are: {names}")
    return [(study, step, run) for run in found]
