"""Parameters of `02_train`."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from iqa.data.params import Crops, Input
from iqa.model.params import SCORING, Fusion, ModelParams, describe_rule
from iqa.study import paths, types
from iqa.study.params import FigureParams
from iqa.study.registry import registered

# groups of parameters, by the first of each
GROUPS = {"database": "data", "backbone": "model", "loss": "loss", "epochs": "optimisation", "seed": "machine"}
HEAVIEST = 1e6  # weight of a term of a loss
REGULARISING = {"semantic_dropout", "dropout", "dropout_layers", "attention_dropout", "drop_path"}  # change no weight


def loss_terms(text: str) -> dict[str, float]:
    """Weights of the terms of a loss such as `l1` or `l1 + 0.5*plcc`, by name in `iqa.training.losses.LOSSES`.

    Raises:
        ValueError: an unknown term, one that comes twice, a weight out of range, or a text of another form.
    """
    weights: dict[str, float] = {}
    known = registered("iqa.training.losses")
    for part in text.split("+"):
        term = re.fullmatch(r"\s*(?:((?:\d+\.?\d*|\.\d+)(?:[eE]-?\d+)?)\s*\*?\s*)?([a-z][a-z0-9_]*)\s*", part)
        if not term or term[2] not in known or term[2] in weights:
            raise ValueError(f"a loss is a sum such as 'l1 + 0.5*plcc' of different terms of {', '.join(known)}")
        weights[term[2]] = float(term[1] or 1)
        if not 0 < weights[term[2]] <= HEAVIEST:
            raise ValueError(f"the weight of the loss '{term[2]}' must be above 0 and at most {HEAVIEST:g}")
    return weights


def source_run(start_from: Any, study: str) -> tuple[str, str] | None:
    """Study and run that `start_from` names: `<study>/<run>`, or `<run>` of this study; None for a file."""
    other, slash, run = start_from.rpartition("/") if isinstance(start_from, str) else ("", "", "")
    named = types.NAME.fullmatch(run) and not run.endswith((".pt", ".pth", ".pkl", ".ckpt", ".safetensors"))
    if not named or (slash and not (types.NAME.fullmatch(other) and (paths.PARAMS / other).is_dir())):
        return None
    return other or study, run


def is_open(schedule: str) -> bool:
    """Whether the rates of an epoch do not depend on how many follow, so that a training can be made longer."""
    return schedule not in ("cosine", "one_cycle")


class TrainParams(ModelParams, FigureParams):
    """`02_train`: one training run. What has no default is of each study's own: a database, a backbone, its rate."""

    step: ClassVar[str] = "train"
    packages: ClassVar[tuple[str, ...]] = ("torch", "timm", "lightning", "numpy")
    not_deciding: ClassVar[tuple[str, ...]] = ("study", "run", "workers")
    taken: ClassVar[tuple[str, ...]] = (*ModelParams.model_fields, "input", "crop")
    free: ClassVar[frozenset[str]] = frozenset({*REGULARISING, "crop"})

    # data
    database: types.Name
    with_databases: types.Names = []
    mix: Literal["proportional", "equal"] = "proportional"
    monitor_databases: types.Names = []
    input: Input = "rgb"
    crop: types.Size = 224
    train_share: Annotated[types.Number, Field(gt=0, le=1)] = 1.0
    train_patches: types.Positive = 1
    color_jitter: types.Fraction = 0.0
    test_crops: Crops = "grid"
    test_patches: types.Positive = 6
    val_crops: Crops | None = None
    val_patches: types.Positive | None = None
    # model: what is not here has the defaults of `ModelParams`
    backbone: types.Text
    fusion: Fusion = "concat"
    pretrained: bool = False
    weights: types.FileName | None = None
    start_from: types.FileName | None = None
    # loss
    loss: Annotated[types.Text, AfterValidator(lambda text: loss_terms(text) and text)] = "l1"
    rank_weight: types.Rate = 0.3
    rank_margin: types.Rate = 0.1
    rank_gap: types.Rate = 0.0
    # optimisation
    epochs: types.Positive = 16
    batch_size: types.Size = 32
    lr: types.Rate
    lr_ratio: types.Factor = 1.0
    lr_ratio_epochs: types.Positive | None = None
    lda_group: Literal["heads", "backbone"] = "heads"
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: types.Rate = 0.02
    decay_all: bool = False
    reset_optimizer: bool = False
    schedule: Literal["constant", "step", "milestones", "cosine", "cosine_restarts", "one_cycle"] = "one_cycle"
    schedule_group: Literal["all", "heads"] = "all"
    schedule_interval: Literal["step", "epoch"] = "step"
    schedule_epochs: types.Positive = 6
    milestones: Annotated[list[types.Positive], Field(max_length=100)] = []
    warmup_epochs: types.Rate = 0.0
    final_lr: Annotated[types.Number, Field(ge=0, le=1)] = 0.0
    min_lr: types.Rate | None = None
    clip: types.Rate = 1.0
    accumulate: types.Positive = 1
    ema: types.Fraction = 0.0
    freeze_backbone: bool = False
    freeze_batch_norm: bool = False
    hypernet_epochs: types.Positive | None = None
    patience: types.Positive | None = None
    select_on: Literal["val_srcc", "val_plcc", "val_loss", "test_srcc", "test_plcc"] = "val_srcc"
    save_all_epochs: bool = False
    # machine
    seed: types.Seed = 1
    deterministic: bool = True
    precision: types.Precision = "32-true"
    compile: bool = False
    channels_last: bool = True
    fused: bool = True
    device: types.Device = "auto"
    devices: types.Parallel = 1
    nodes: types.Parallel = 1
    strategy: Literal["ddp", "ddp_find_unused_parameters_true"] = "ddp"
    threads: types.Parallel = 1
    workers: types.Natural = 0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.color_jitter and self.input != "rgb":
            raise ValueError(
                f"'color_jitter' changes colours, which input '{self.input}' does not have; use input: rgb"
            )
        if (self.schedule == "milestones") != bool(self.milestones):
            raise ValueError("'milestones' lists the epochs after which schedule 'milestones' divides the rates by 10")
        if self.schedule == "one_cycle" and self.warmup_epochs:
            raise ValueError("schedule 'one_cycle' warms up by itself; set 'warmup_epochs: 0'")
        if self.start_from and (self.pretrained or self.weights):
            raise ValueError("'start_from' brings all weights of a model; set 'pretrained: false' and 'weights: null'")
        if self.input != "rgb" and (self.pretrained or self.weights):
            raise ValueError(
                f"weights that were trained on photographs do not fit input '{self.input}'; use input: rgb"
            )
        if self.batch_size % self.processes():
            shared = f"'devices' ({self.devices}) on each of 'nodes' ({self.nodes})"
            raise ValueError(f"'batch_size' ({self.batch_size}) is shared by {shared}: not a multiple")
        joined = [self.database, *self.with_databases]
        if len(set(joined)) < len(joined):
            raise ValueError(f"'with_databases' lists others than 'database' ({self.database}), each once")
        if self.with_databases and (taken := self.terms().keys() & set(joined)):
            raise ValueError(f"'with_databases': '{taken.pop()}' names a column of the history; rename the database")
        if taken := {"train", "val", "test"} & set(self.monitor_databases):
            raise ValueError(f"'monitor_databases': '{taken.pop()}' names a column of the history; rename the database")
        return self

    def by_group(self) -> dict[str, dict[str, Any]]:
        """The values that decide a training, but for its seed, by the groups in which they stand above."""
        groups: dict[str, dict[str, Any]] = {group: {} for group in GROUPS.values()}
        group, left_out, here = "", {*self.not_deciding, *self.unread, "seed"}, TrainParams.__annotations__
        for key in here:
            group = GROUPS.get(key, group)
            if key in TrainParams.model_fields and key not in left_out:
                groups[group][key] = getattr(self, key)
        inherited = (key for key in ModelParams.model_fields if key not in {*here, *left_out})
        groups["model"] |= {key: getattr(self, key) for key in inherited}
        return groups

    def processes(self) -> int:
        """Number of processes that share each batch: `devices` on each of `nodes`."""
        return self.devices * self.nodes

    @classmethod
    def source(cls, values: dict[str, Any], study: str) -> tuple[str, str] | None:
        return source_run(values.get("start_from"), study)

    def needs(self) -> list[tuple[str, str]]:
        source = source_run(self.start_from, self.study)
        own = [("train", source[1])] if source and source[0] == self.study else []
        return [*own, *(("data_prep", name) for name in self.databases())]

    def files(self) -> list[str]:
        source = source_run(self.start_from, self.study)
        model = paths.shown(paths.run_folder(source[0], "train", source[1]) / "best.pt") if source else self.start_from
        return [file for file in (self.weights, model) if file]

    def words(self) -> frozenset[str]:
        return super().words() | self.terms().keys()

    def deciding(self) -> dict[str, Any]:
        return {key: value for key, value in super().deciding().items() if key not in self.unread}

    def databases(self) -> list[str]:
        """The databases to train on, then the monitored ones."""
        return list(dict.fromkeys([self.database, *self.with_databases, *self.monitor_databases]))

    @property
    def selects_on_test(self) -> bool:
        """Whether the best epoch is chosen on the test images, which makes its test metrics too good."""
        return self.select_on.startswith("test_")

    def terms(self) -> dict[str, float]:
        """Weights of the terms of the training loss, among them the ranking loss unless its weight is 0."""
        weights = loss_terms(self.loss)
        if self.rank_weight:
            weights["ranking"] = weights.get("ranking", 0.0) + self.rank_weight
        return weights

    def architecture(self) -> ModelParams:
        """The parameters of the model."""
        return ModelParams(**{key: getattr(self, key) for key in ModelParams.model_fields})

    def scoring(self) -> dict[str, Any]:
        """The rule by which images are scored, wherever the model scores any: options of `iqa.model.scoring.score`."""
        return {option: getattr(self, key) for option, key in SCORING.items()}

    def validation(self) -> dict[str, Any]:
        """How validation images are scored after each epoch: by the same rule but for `val_crops` and `val_patches`."""
        cheaper = {"crops": self.val_crops, "patches": self.val_patches}
        return self.scoring() | {option: value for option, value in cheaper.items() if value is not None}

    def rules(self) -> dict[str, str]:
        """What is scored of an image (`rule`) and of a validation image (`validation_rule`), in words."""
        return {"rule": describe_rule(**self.scoring()), "validation_rule": describe_rule(**self.validation())}
