"""HyperIQA: a hyper network generates, for each image, the weights of the small network that scores it.

Su, Yan, Zhu, Zhang, Ge, Sun, Zhang: Blindly Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper
Network, CVPR 2020. Names of the parts follow the paper; widths are parameters. For controls see `iqa.model.heads`.
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from iqa.model.backbone import Backbone
from iqa.model.fusion import FUSIONS
from iqa.model.heads import HEADS, Layer, target_network
from iqa.model.params import ModelParams
from iqa.model.pooling import means, pool
from iqa.study.registry import Registry

# What the target network reads. Each is registered with its `title`, the `suffix` of a model's name, `words` for the
# table of parts, `path` and `formula` (TeX) for the report, and labels for the diagram: `each` (what is done to each
# level) and `joined` (what is then done to all). There, {levels} are the levels with values of their own, {values}
# these values, {channels} the channels that are read, {size} the number of values that come out.
TARGET_INPUTS = Registry("target input", suffix="", joined="")


@TARGET_INPUTS.add(
    "lda",
    title="local distortion aware modules",
    words="{values} values of {levels}",
    path="has a local distortion aware (LDA) module for each map: it reduces the channels, pools over space and "
    "projects linearly. The results are concatenated",
    formula=r"v_x = [\mathrm{LDA}_1(F_1), \mathrm{LDA}_2(F_2), \mathrm{LDA}_3(F_3), \mathrm{LDA}_4(F_4)]",
    each="LDA\n{values}",
)
class LocalDistortionAware(nn.Module):
    """LDA: the features of local distortions of all levels as one vector (Su et al., Section 3.3).

    Levels 1..3: 1x1 convolution without bias, average pooling to a grid, linear map to `lda_features` values.
    Level 4: average pooling, linear map to the rest of `target_widths[0]` values.
    """

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__()
        reduced, grids, features = params.lda_channels, params.lda_grids, params.lda_features
        size = params.target_widths[0]
        if len(reduced) != 3 or len(grids) != 4:
            raise ValueError(f"lda_channels needs 3 values and lda_grids 4, not {reduced} and {grids}")
        if size <= 3 * features:
            raise ValueError(f"target_widths[0] = {size} leaves nothing to the deepest level: 3 x {features} are taken")
        self.grids = grids
        self.reduce = nn.ModuleList(nn.Conv2d(c, r, 1, bias=False) for c, r in zip(channels, reduced, strict=False))
        self.reduce.append(nn.Identity())
        widths = [*reduced, channels[-1]]
        self.features = [features, features, features, size - 3 * features]
        self.project = nn.ModuleList(
            nn.Linear(w * g * g, s) for w, g, s in zip(widths, grids, self.features, strict=True)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, target_widths[0]) of the maps (B, C_l, H_l, W_l)."""
        parts = []
        for level, reduce, grid, project in zip(maps, self.reduce, self.grids, self.project, strict=True):
            pooled = reduce(pool(level, grid))  # (B, r, grid, grid); the order does not matter, but this is quicker
            parts.append(project(pooled.flatten(1)))
        return torch.cat(parts, dim=1)


@TARGET_INPUTS.add(
    "pooled",
    title="pooled levels",
    suffix=", pooled target input",
    words="means of all levels, a linear map {channels} \N{RIGHTWARDS ARROW} {size}",
    path=r"takes the mean of each map over space; the means $\bar F_l$ are concatenated and projected linearly",
    formula=r"v_x = A\, [\bar F_1, \bar F_2, \bar F_3, \bar F_4] + c",
    each="mean\n{channels}",
    joined="linear\n{channels} \N{RIGHTWARDS ARROW} {size}",
)
class PooledLevels(nn.Module):
    """All levels pooled globally, concatenated and mapped linearly to the input of the target network."""

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__()
        self.features = [None] * len(channels)  # no level gives values of its own
        self.project = nn.Linear(sum(channels), params.target_widths[0])

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, target_widths[0]) of the maps (B, C_l, H_l, W_l)."""
        return self.project(means(maps))


@TARGET_INPUTS.add(
    "means",
    title="means of the levels",
    suffix=", means as target input",
    words="means of all levels, {channels} values",
    path=r"takes the mean of each map over space; the means $\bar F_l$ are concatenated",
    formula=r"v_x = [\bar F_1, \bar F_2, \bar F_3, \bar F_4]",
    each="mean\n{channels}",
)
class Means(nn.Module):
    """All levels pooled globally and concatenated, as they are: `target_widths[0]` is the sum of their channels."""

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__()
        if params.target_widths[0] != sum(channels):
            raise ValueError(
                f"target_widths[0] is {params.target_widths[0]}; for target_input 'means' it must be {sum(channels)}, "
                f"the channels of all levels ({' + '.join(map(str, channels))})"
            )
        self.features = channels

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, target_widths[0]) of the maps (B, C_l, H_l, W_l)."""
        return means(maps)


class StandardisedMeans(Means):
    """The same, each with zero mean and unit deviation over the training images: what the linear head reads."""

    words = "means of all levels, {channels} values, each standardised"

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__(channels, params)
        self.register_buffer("running_mean", torch.zeros(sum(channels)))
        self.register_buffer("running_var", torch.ones(sum(channels)))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, target_widths[0]) of the maps (B, C_l, H_l, W_l)."""
        values = super().forward(maps)
        of_batch = self.training and len(values) > 1  # one image has no deviation
        return batch_norm(values, self.running_mean, self.running_var, training=of_batch)


class HyperIQA(nn.Module):
    """The whole model: pixels in, one quality score per image out.

    Args:
        params: widths and parts; the defaults are the paper's.
        pretrained, weights: of the backbone, see `Backbone`.

    >>> from iqa.model.params import ModelParams
    >>> model = HyperIQA(ModelParams()).eval()
    >>> model(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)).shape
    torch.Size([2])
    """

    def __init__(self, params: ModelParams, pretrained: bool = False, weights: str | Path | None = None):
        super().__init__()
        self.backbone = Backbone(params, pretrained, weights)
        channels = self.backbone.channels
        self.head = HEADS[params.head]
        if not self.head.hidden:
            params = params.model_copy(update={"target_input": Means.name, "target_widths": [sum(channels)]})
        self.params = params
        self.fusion = self.semantic = self.hyper = self.target = None
        if self.head.content:
            self.fusion = FUSIONS[params.fusion](channels, params)
            self.semantic = nn.Sequential()
            for inside, out in pairwise([self.fusion.channels, *params.semantic_widths, params.semantic_channels]):
                self.semantic.extend([nn.Conv2d(inside, out, 1), nn.ReLU(inplace=True)])
            self.semantic.append(nn.Dropout(params.semantic_dropout))
            self.hyper = self.head(params)
        else:
            self.target = self.head(params)
        read = TARGET_INPUTS[params.target_input] if self.head.hidden else StandardisedMeans
        self.local = read(channels, params)
        self.register_buffer("mean", torch.tensor(params.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(params.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (B,), 0 worst and 1 best as trained, of pixels (B, 3, H, W), uint8 or float on 0..1.

        Any H, W from the training crop upwards: where the maps are larger, pooling windows grow with them.
        """
        return self.assess(*self.generate(pixels))

    def generate(self, pixels: Tensor) -> tuple[list[Tensor], list[Layer]]:
        """The backbone's maps (B, C_l, H_l, W_l), finest first, and the layers of each image's target network."""
        maps = self.backbone(self.normalise(pixels))
        return maps, self.hyper(self.semantic(self.fusion(maps))) if self.hyper else self.target.repeat(pixels.shape[0])

    def assess(self, maps: list[Tensor], layers: list[Layer]) -> Tensor:
        """Scores (B,) of what `generate` gives."""
        params = self.params
        drop_layers = params.dropout_layers if self.training else 0
        return target_network(self.local(maps), layers, params.dropout, drop_layers) / params.output_scale

    def normalise(self, pixels: Tensor) -> Tensor:
        """Zero mean and unit deviation per channel, as the backbone expects."""
        image = pixels / 255 if pixels.dtype == torch.uint8 else pixels
        return (image - self.mean).div_(self.std)


@dataclass(frozen=True)
class Inside:
    """What a batch of B patches gave."""

    scores: Tensor  # (B,), float32, 0 worst and 1 best
    maps: list[Tensor]  # of the backbone, finest first, (B, C_l, H_l, W_l)
    local: Tensor  # (B, target_widths[0]), what the target network reads
    layers: list[Layer]  # of the target network; the same for each image where they are learned
    scale_weights: Tensor | None  # (B, 4), finest first, adding up to 1; None where the fusion does not weight scales

    @property
    def generated(self) -> Tensor:
        """(B, n): all weights and biases of each image's target network, layer by layer."""
        return torch.cat([part.flatten(1) for layer in self.layers for part in layer], dim=1)


@torch.inference_mode()
def look_inside(model: HyperIQA, pixels: Tensor) -> Inside:
    """The scores of `model(pixels)` in evaluation mode, and what led to them; pixels on any device.

    >>> from iqa.model.params import ModelParams
    >>> inside = look_inside(HyperIQA(ModelParams()), torch.zeros(2, 3, 224, 224, dtype=torch.uint8))
    >>> inside.generated.shape
    torch.Size([2, 33545])
    """
    training = model.training
    model.eval()
    maps, layers = model.generate(pixels.to(model.mean.device))
    scores = model.assess(maps, layers).float()
    weigh = getattr(model.fusion, "scale_weights", None)
    model.train(training)
    return Inside(scores, maps, model.local(maps), layers, weigh(maps) if weigh else None)
