"""Hyper-parameters of a model."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from iqa.data.crops import CROPS
from iqa.study import types
from iqa.study.params import Checked
from iqa.study.registry import one_of

SET_ELSEWHERE = {  # arguments of timm.create_model, and what sets each
    "model_name": "`backbone`",
    "drop_path_rate": "`drop_path`",
    "pretrained": "`pretrained`",
    "checkpoint_path": "`weights`",
    "pretrained_cfg": "`weights`",
    "pretrained_cfg_overlay": "`weights`",
    "cache_dir": "timm, whose cache is shared",
    "features_only": "the model, which reads four maps",
    "in_chans": "the model, which reads three channels",
}


def _of_the_network(arguments: dict[str, Any]) -> dict[str, Any]:
    for key in sorted(arguments.keys() & SET_ELSEWHERE.keys()):
        raise ValueError(f"remove '{key}', which is set by {SET_ELSEWHERE[key]}")
    return arguments


BackboneArgs = Annotated[dict[str, types.Plain], Field(max_length=types.MOST), AfterValidator(_of_the_network)]
Head = Annotated[str, AfterValidator(one_of("iqa.model.heads"))]
Fusion = Annotated[str, AfterValidator(one_of("iqa.model.fusion"))]
TargetInput = Annotated[str, AfterValidator(one_of("iqa.model.hyperiqa"))]


class ModelParams(Checked):
    """Hyper-parameters of one model; the defaults are those of HyperIQA (Su et al., CVPR 2020) with ResNet-50."""

    step: ClassVar[str] = "a model"

    backbone: types.Text = "resnet50"  # any timm model with maps at strides 4, 8, 16, 32
    backbone_args: BackboneArgs = {}  # passed on to timm.create_model
    mean: types.Triple = [0.485, 0.456, 0.406]  # of the input's channels on 0..1 (here: ImageNet)
    std: types.Deviations = [0.229, 0.224, 0.225]
    head: Head = "hyper"  # where the target network's weights come from; others ignore what is in `UNREAD`
    fusion: Fusion = "last"  # which maps feed the hyper network, and how
    fpn_channels: types.Size = 256  # width of the feature pyramid (fusion fpn_cbam)
    cbam: bool = True  # attention at each level of the feature pyramid (fusion fpn_cbam)
    cbam_reduction: types.Size = 16  # by how much its channel attention narrows the channels
    attention_width: types.Size = 256  # hidden layer that weighs the scales (fusion attention)
    attention_dropout: types.Fraction = 0.5  # after it
    target_input: TargetInput = "lda"  # what the target network reads
    lda_channels: types.ThreeSizes = [16, 32, 64]  # 1x1 convolutions of the first three levels
    lda_features: types.Size = 16  # values that each of the first three levels gives to the target network's input
    lda_grids: types.FourGrids = [8, 4, 2, 1]  # pooled height and width per level; 7x7 windows at 224x224
    semantic_widths: types.Hidden = [1024, 512]  # hidden 1x1 convolutions before the hyper network
    semantic_channels: types.Size = 112
    semantic_grid: types.Grid = 7  # height and width of the map that the hyper network reads
    target_widths: types.Sizes = [224, 112, 56, 28, 14]  # input and hidden layers of the target network
    semantic_dropout: types.Fraction = 0.0  # before the hyper network
    dropout: types.Fraction = 0.0  # after the first hidden layers of the target network
    dropout_layers: types.Natural = 3  # how many of them
    drop_path: types.Fraction = 0.0  # stochastic depth of the backbone, by timm
    output_scale: types.Factor = 1.0  # what the target network gives for the best quality

    @property
    def unread(self) -> frozenset[str]:
        """Parameters that change nothing, as the head has no part that reads them (`UNREAD`)."""
        return UNREAD.get(self.head, frozenset())

    @property
    def fusion_or_head(self) -> str:
        """Where the target network's weights come from, in a word or two: the fusion, or a head without one."""
        return f"none ({self.head} head)" if "fusion" in self.unread else self.fusion


# By head, the parameters of a training that change nothing with it. A study's files may set them for its other
# experiments; they count neither as a difference between experiments nor for what a training is made from.
CONTENT_PATH = {"fusion", "fpn_channels", "cbam", "cbam_reduction", "attention_width", "attention_dropout"}
CONTENT_PATH |= {"semantic_widths", "semantic_channels", "semantic_grid", "semantic_dropout", "hypernet_epochs"}
TARGET_NETWORK = {"target_input", "lda_channels", "lda_features", "lda_grids", "lda_group", "target_widths"}
TARGET_NETWORK |= {"dropout", "dropout_layers"}
UNREAD = {"static": frozenset(CONTENT_PATH), "linear": frozenset(CONTENT_PATH | TARGET_NETWORK)}

# the options of `iqa.model.scoring.score`, and the parameter of a training that sets each
SCORING = {"input": "input", "crops": "test_crops", "patches": "test_patches", "crop": "crop"}
SCORING |= {key: key for key in ("batch_size", "seed", "precision")}
PATCHES = 25  # of an image, where other crops than a model's own are asked for without their number


class RuleError(ValueError):
    """A choice of crops that cannot be followed."""


def change_rule(options: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A model's options (`iqa.model.predictor.Predictor.options`) with some of them replaced; None replaces nothing.

    Other crops than the model's own are `PATCHES` where `patches` is not given.

    Raises:
        RuleError: `patches` or `stride` is given for crops that do not take it.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    crops = given.get("crops", options["crops"])
    for key in {"patches", "stride"} & given.keys():
        if key not in CROPS[crops].options:
            takes = ", ".join(name for name, mode in CROPS.items() if key in mode.options)
            raise RuleError(f"'{key}' ({given[key]}) has no meaning for crops '{crops}'; it belongs to {takes}")
    own = {} if crops == options["crops"] else {"patches": PATCHES}
    return options | own | given


def describe_rule(crops: str, patches: int, **_: Any) -> str:
    """What is scored of an image, in words, from a model's options: `grid of 9 crops`."""
    return CROPS[crops].title.format(patches=patches)
