"""Which feature maps feed the hyper network, and how they become one map.

A fusion is made from the widths of the four levels, finest first, and the model's parameters. `levels` are those that
it reads (0 is the finest), `channels` is the width of its output (B, channels, grid, grid). A fusion that weights the
levels has a method `scale_weights`.

It is registered with its words: `title` (of a model with it), `reads` (maps, in the report), `words` (in the table of
parts), and labels for the diagram: `each` (what is done to each level), `pyramid` (what is done before, where coarser
levels are then added to finer ones), `weigh` (what gives a level its weight). There, {levels} are the levels that are
read, {grid} is the output's height and width, {channels} its width per level.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from iqa.model.params import ModelParams
from iqa.model.pooling import pool
from iqa.study.registry import Registry

DEFAULTS = {"title": "HyperIQA with {name} fusion", "reads": "the four maps", "each": "pool\n{grid}"}
FUSIONS = Registry("fusion", **DEFAULTS, pyramid="", weigh="")
ALL = (0, 1, 2, 3)


@FUSIONS.add("last", title="HyperIQA", reads="the coarsest map", words="{levels}, pooled to {grid}")
class Last(nn.Module):
    """The deepest map alone, pooled to the grid: HyperIQA (Su et al., CVPR 2020, Section 3.2)."""

    levels = (3,)

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__()
        self.grid = params.semantic_grid
        self.channels = channels[-1]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_4, grid, grid) of the maps (B, C_l, H_l, W_l)."""
        return pool(maps[-1], self.grid)


@FUSIONS.add(
    "pooled_last",
    title="HyperIQA with its last map pooled",
    reads="the coarsest map",
    words="mean of {levels}",
    each="mean\n{grid}",
)
class PooledLast(Last):
    """The deepest map pooled globally; the same at every place of the grid (S004, first proposal)."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_4, 1, 1) of the maps (B, C_l, H_l, W_l)."""
        return maps[-1].mean(dim=(2, 3), keepdim=True)


@FUSIONS.add("concat", words="{levels}, pooled to {grid}, concatenated")
class Concat(nn.Module):
    """All maps pooled to the grid and concatenated along the channels."""

    levels = ALL

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__()
        self.grid = params.semantic_grid
        self.channels = sum(channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_1 + ... + C_4, grid, grid) of the maps (B, C_l, H_l, W_l)."""
        return torch.cat([pool(each, self.grid) for each in maps], dim=1)


@FUSIONS.add(
    "attention",
    words="{levels}, pooled to {grid}, each times its weight (mean of level 4, two linear maps, softmax), concatenated",
    weigh="mean\nMLP\nsoftmax",
)
class Attention(Concat):
    """`Concat` of maps that are weighted for each image, by what its deepest map shows.

    The weights are the softmax over the scales of a two-layer perceptron of the globally pooled deepest map: four
    positive numbers that add up to 1.
    """

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__(channels, params)
        width = params.attention_width
        self.attend = nn.Sequential(
            nn.Linear(channels[-1], width),
            nn.ReLU(inplace=True),
            nn.Dropout(params.attention_dropout),
            nn.Linear(width, len(channels)),
        )

    def scale_weights(self, maps: list[Tensor]) -> Tensor:
        """(B, 4): the weight of each scale, finest first."""
        return self.attend(maps[-1].mean(dim=(2, 3))).softmax(dim=1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_1 + ... + C_4, grid, grid) of the maps (B, C_l, H_l, W_l)."""
        weights = self.scale_weights(maps).unbind(dim=1)
        pairs = zip(maps, weights, strict=True)
        return torch.cat([pool(level, self.grid) * weight[:, None, None, None] for level, weight in pairs], dim=1)


@FUSIONS.add(
    "pooled",
    title="HyperIQA with the super semantic vector",
    words="means of {levels}, concatenated",
    each="mean\n{grid}",
)
class Pooled(Concat):
    """The 'super semantic vector': all maps pooled globally and concatenated; the same at every place of the grid."""

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_1 + ... + C_4, 1, 1) of the maps (B, C_l, H_l, W_l)."""
        return torch.cat([level.mean(dim=(2, 3), keepdim=True) for level in maps], dim=1)


@FUSIONS.add(
    "fpn_cbam",
    title="MS-HyperIQA",
    reads="the three coarser maps",
    words="feature pyramid of {levels} ({channels} channels each), CBAM, pooled to {grid}, concatenated",
    pyramid="1\N{MULTIPLICATION SIGN}1",
    each="3\N{MULTIPLICATION SIGN}3\nCBAM\npool {grid}",
)
class FpnCbam(nn.Module):
    """MS-HyperIQA: a feature pyramid over the three deeper levels, attention at each, pooled and concatenated.

    Feature pyramid (Lin et al., CVPR 2017): 1x1 lateral convolutions, the coarser level enlarged (bilinear) and
    added, 3x3 convolutions. Each level then passes a CBAM (Woo et al., ECCV 2018), unless `cbam` is false.
    """

    levels = (1, 2, 3)

    def __init__(self, channels: list[int], params: ModelParams):
        super().__init__()
        width = params.fpn_channels
        self.grid = params.semantic_grid
        self.channels = width * len(self.levels)
        self.lateral = nn.ModuleList(nn.Conv2d(channels[level], width, 1) for level in self.levels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.levels)
        attend = partial(Cbam, width, params.cbam_reduction) if params.cbam else nn.Identity
        self.attention = nn.ModuleList(attend() for _ in self.levels)
        if not params.cbam:
            self.words, self.each = self.words.replace("CBAM, ", ""), self.each.replace("CBAM\n", "")
        for layer in (*self.lateral, *self.smooth):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, 3 * fpn_channels, grid, grid) of the maps (B, C_l, H_l, W_l)."""
        pyramid: list[Tensor] = []  # coarsest first
        for level, lateral in zip(reversed(self.levels), reversed(self.lateral), strict=True):
            x = lateral(maps[level])
            if pyramid:
                x = x + interpolate(pyramid[-1], size=x.shape[2:], mode="bilinear", align_corners=False)
            pyramid.append(x)
        parts = [
            pool(attention(smooth(x)), self.grid)
            for x, smooth, attention in zip(reversed(pyramid), self.smooth, self.attention, strict=True)
        ]
        return torch.cat(parts, dim=1)


class Cbam(nn.Module):
    """Convolutional block attention (Woo et al., ECCV 2018): first which channels count, then which places.

    Channels: a perceptron of the mean and of the maximum over all places, added, then a sigmoid. Places: a
    convolution of the mean and the maximum over the channels, then a sigmoid.
    """

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        hidden = max(1, channels // reduction)
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(inplace=True), nn.Linear(hidden, channels, bias=False)
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        channel = self.channel(x.mean(dim=(2, 3))) + self.channel(x.amax(dim=(2, 3)))  # (B, C)
        x = x * torch.sigmoid(channel)[:, :, None, None]
        place = self.spatial(torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1))
        return x * torch.sigmoid(place)  # (B, 1, H, W)
