"""Published HyperIQA checkpoints: four layouts to read, the original one also to write.

Dropout does not affect a score, and no file holds its rates: those that are part of a design are set (0.5 where the
scales are weighted; 0.5 after the first layer of MS-HyperIQA's target network). The Swin project's rates in the heads
and in the backbone were command-line options that differed between its runs, and stay 0.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from iqa.data.crops import random, uniform
from iqa.data.sizes import Size
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import ModelParams
from iqa.model.tensors import CheckpointError, State, choose, fill, load

Names = dict[str, str]  # start of our name -> start of the file's; {} stands for a number, {1} for that number plus 1

# as `torchvision.transforms.Resize((512, 384))`
SQUEEZED = Size(512, 384, keep_aspect=False, filter="bilinear")
SWIN_BUFFERS = (".attn_mask", ".attn.relative_position_index")
SWIN_SIZES = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base"}  # width of the patches, blocks of stage 3


@dataclass(frozen=True)
class Layout:
    """How one release names its tensors, what its model is, and how it scores."""

    title: str  # the model's name for people
    marks: tuple[str, ...]  # starts of names that are in no layout further down
    names: Names  # of the tensors; the first start that fits counts
    high: float = 100.0  # the best score on the release's own scale, which begins at 0
    size: Size = SQUEEZED  # to which its authors resized images before they cut patches
    crop: int = 224  # height and width of their patches
    crops: str = random.name  # which 25 patches they score of an image
    params: dict[str, Any] = field(default_factory=dict)  # what differs from `ModelParams()`

    def theirs(self, name: str) -> str:
        """The file's name of one of our tensors."""
        for ours, theirs in self.names.items():
            if part := re.match(re.escape(ours).replace(r"\{\}", r"(\d+)") + r"(?=\.)", name):
                numbered = re.sub(r"{(-?\d)}", lambda shift, part=part: str(int(part[1]) + int(shift[1])), theirs)
                return numbered + name[part.end() :]
        raise KeyError(name)


ORIGINAL = {
    "backbone.body": "res",
    "semantic": "conv1",
    "local.reduce.{}": "res.lda{1}_pool.0",
    "local.project.{}": "res.lda{1}_fc",
    "hyper.weights.{}": "fc{1}w_conv",
    "hyper.biases.{}": "fc{1}b_fc",
    "hyper.last_weight": "fc5w_fc",
    "hyper.last_bias": "fc5b_fc",
}
SWIN = {
    "backbone.body": "swin.backbone",
    "fusion.attend": "multiscale_attention.attention_net",
    "local.reduce.{}": "swin.lda{1}_pool.0",
    "local.project.{}": "swin.lda{1}_fc",
}
PYRAMID = {
    "fusion.lateral.{}": "fpn.lateral_conv{2}",
    "fusion.smooth.{}": "fpn.smooth_conv{2}",
    "fusion.attention.{}.channel": "attention_p{2}.channel_attention.fc",
    "fusion.attention.{}.spatial": "attention_p{2}.spatial_attention.conv",
    "semantic": "fusion_conv",
}
IQA_PYTORCH = {
    "backbone.body": "base_model",
    "semantic": "conv1",
    "local.reduce.{}": "lda_modules.{0}.0",
    "local.project.3": "lda_modules.3.2",
    "local.project.{}": "lda_modules.{0}.3",
    "hyper.weights.{}": "fc_w_modules.{0}",
    "hyper.biases.{}": "fc_b_modules.{0}.2",
    "hyper.last_weight": "fc_w_modules.4.2",
    "hyper.last_bias": "fc_b_modules.4.2",
}
LAYOUTS = {
    "iqa_pytorch": Layout(
        title="HyperIQA (IQA-PyTorch)",
        marks=("base_model.", "lda_modules.", "fc_w_modules.", "fc_b_modules."),
        names=IQA_PYTORCH,
        high=1.0,
        size=Size(filter="bilinear", least=225),  # what is no larger than a crop is enlarged to a pixel more
        crops=uniform.name,
    ),
    "swin": Layout(
        title="HyperIQA with Swin",
        marks=("swin.", "multiscale_attention."),
        names=ORIGINAL | SWIN,
        params={"backbone_args": {"strict_img_size": False}, "semantic_widths": [512, 256]},
    ),
    "ms_hyperiqa": Layout(
        title="MS-HyperIQA",
        marks=("fpn.", "attention_p", "fusion_conv."),
        names=ORIGINAL | PYRAMID,
        params={"fusion": "fpn_cbam", "semantic_widths": [256], "dropout": 0.5, "dropout_layers": 1},
    ),
    "hyperiqa": Layout(title="HyperIQA", marks=("res.",), names=ORIGINAL),
}
# parameters that the original layout has no place for, and that change nothing in its models
FREE = {"semantic_dropout", "dropout", "dropout_layers", "drop_path", "output_scale"}
FREE |= {"fpn_channels", "cbam", "cbam_reduction", "attention_width", "attention_dropout"}  # of other fusions


def read(file: str | Path) -> tuple[HyperIQA, Layout]:
    """The model of a published checkpoint file, in evaluation mode, and its layout.

    Layouts: HyperIQA (SSL92/hyperIQA), the same in IQA-PyTorch, HyperIQA with Swin tiny, small or base (fusion last,
    concat or attention), MS-HyperIQA. Layout and options follow from names and shapes. Of a file that holds more than
    a model, the dictionary that fits a layout is taken (`iqa.model.tensors.choose`); names of older timm versions are
    known. The model takes RGB and normalises it with ImageNet's mean and deviation.

    Raises:
        CheckpointError: no such file, not a file of tensors, a file that would run code when read, an unknown layout,
            or tensors that do not fit (`iqa.model.tensors.fill`), listed as the file names them.
    """
    file = Path(file)
    state = choose(load(file), _layout_of, file)
    key = _layout_of(state)
    if key is None:
        known = "; ".join(f"{layout.title}: {', '.join(layout.marks)}" for layout in LAYOUTS.values())
        some = ", ".join(list(state)[:10])
        raise CheckpointError(file, f"unknown layout of {len(state)} tensors ({some:.80}, ...); known: {known}")
    layout = LAYOUTS[key]
    if key == "swin":
        state = {name: value for name, value in state.items() if not name.endswith(SWIN_BUFFERS)}
        layout = replace(layout, names=_swin_stages(state) | layout.names)
        size, fusion = _swin_options(state, layout, file)
        params = layout.params | {"backbone": f"swin_{size}_patch4_window7_224", "fusion": fusion}
        layout = replace(layout, title=f"{layout.title}-{size.title()}, {fusion} fusion", params=params)
    model = HyperIQA(ModelParams(output_scale=layout.high, **layout.params))
    fill(model, state, file, layout.theirs)
    return model.eval(), layout


def _layout_of(state: State) -> str | None:
    return next((key for key, layout in LAYOUTS.items() if any(name.startswith(layout.marks) for name in state)), None)


def write_original(model: HyperIQA, file: str | Path) -> None:
    """Write a HyperIQA with ResNet-50 in the layout of SSL92/hyperIQA, for code that reads that.

    Scores of that layout are 0..100, so what generates the last layer's weight and bias (`fc5w_fc`, `fc5b_fc`) is
    multiplied by 100 / `output_scale`. Whether the model takes RGB images is not checked. A scale that was fitted after
    training (`iqa.model.predictor.Scale`) is not in the file.

    Raises:
        CheckpointError: the model is another one; the message lists every parameter that does not fit.
    """
    file, values, wanted = Path(file), model.params.model_dump(), ModelParams().model_dump()
    values["backbone"] = values["backbone"].split(".")[0]  # without the name of timm's weights
    differing = [key for key in wanted if key not in FREE and values[key] != wanted[key]]
    if differing:
        faults = ", ".join(f"{key} {values[key]!r} (not {wanted[key]!r})" for key in differing)
        raise CheckpointError(file, f"the original layout has no place for this model: {faults}")
    layout, state = LAYOUTS["hyperiqa"], {}
    for name, value in model.state_dict().items():
        scale = layout.high / model.params.output_scale if name.startswith("hyper.last_") else 1
        state[layout.theirs(name)] = value.cpu() if scale == 1 else value.cpu() * scale
    torch.save(state, file)


def _swin_stages(state: State) -> Names:
    """The file's names of the stages: older timm wrote `layers.0`, and put the downsampling at the end of a stage."""
    stages = "swin.backbone.layers"
    stages += "." if any(name.startswith(f"{stages}.") for name in state) else "_"
    first = -1 if any(name.startswith(f"{stages}0.downsample.") for name in state) else 0
    downsample = {"backbone.body.layers_{}.downsample": f"{stages}{{{first}}}.downsample"}
    return downsample | {"backbone.body.layers_{}": stages + "{0}"}


def _swin_options(state: State, layout: Layout, file: Path) -> tuple[str, str]:
    """Size and fusion of a model of the Swin project; `fill` lists the tensors that then do not fit."""
    patches, third = (layout.theirs(f"backbone.body.{part}.") for part in ("patch_embed", "layers_2.blocks"))
    width = next((value.shape[0] for name, value in state.items() if name.startswith(patches) and value.ndim), 0)
    depth = len({name.removeprefix(third).split(".")[0] for name in state if name.startswith(third)})
    size = SWIN_SIZES.get((width, depth))
    if size is None:
        shape = f"{patches}* {width} wide, {depth} blocks in {third}*"
        raise CheckpointError(file, f"unknown size of Swin: {shape}; known (width, blocks): {SWIN_SIZES}")
    if any(name.startswith(layout.names["fusion.attend"]) for name in state):
        return size, "attention"
    last = "conv1.0.weight" in state and state["conv1.0.weight"].shape[1:2] == (8 * width,)  # stage 4
    return size, "last" if last else "concat"
