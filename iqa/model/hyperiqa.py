"""HyperIQA: a hyper network generates, for each image, the weights of the small network that scores it.

Su, Yan, Zhu, Zhang, Ge, Sun, Zhang: Blindly Assess Image Quality in the Wild Guided by a Self-Adaptive Hyper
Network, CVPR 2020. Names of the parts follow the paper; widths are parameters.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, dropout

from iqa.config import ModelParams
from iqa.model.backbone import Backbone
from iqa.model.fusion import FUSIONS

Layer = tuple[Tensor, Tensor]  # weight (B, out, in) and bias (B, out, 1) of one generated layer


class LocalDistortionAware(nn.Module):
    """LDA: what each level says of local distortions, as one vector, the input of the target network.

    Levels 1..3: 1x1 convolution without bias, average pooling to a grid, linear map to `features` values.
    Level 4: average pooling, linear map to the rest of `size` values (Su et al., Section 3.3).
    """

    def __init__(self, channels: list[int], reduced: list[int], grids: list[int], features: int, size: int):
        super().__init__()
        if len(reduced) != 3 or len(grids) != 4:
            raise ValueError(f"lda_channels needs 3 values and lda_grids 4, not {reduced} and {grids}")
        if size <= 3 * features:
            raise ValueError(f"target_widths[0] = {size} leaves nothing to the deepest level: 3 x {features} are taken")
        self.grids = grids
        self.reduce = nn.ModuleList(nn.Conv2d(c, r, 1, bias=False) for c, r in zip(channels, reduced, strict=False))
        self.reduce.append(nn.Identity())
        widths = [*reduced, channels[-1]]
        sizes = [features, features, features, size - 3 * features]
        self.project = nn.ModuleList(nn.Linear(w * g * g, s) for w, g, s in zip(widths, grids, sizes, strict=True))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, size) of the maps (B, C_l, H_l, W_l)."""
        parts = []
        for level, reduce, grid, project in zip(maps, self.reduce, self.grids, self.project, strict=True):
            pooled = adaptive_avg_pool2d(reduce(level), grid)  # (B, r, grid, grid)
            parts.append(project(pooled.flatten(1)))
        return torch.cat(parts, dim=1)


class HyperNetwork(nn.Module):
    """Weights and biases of the target network from a semantic map (Su et al., Section 3.2, Fig. 3).

    The weights of the hidden layers are 3x3 convolutions of the map, read row by row as matrices; the last
    layer's weights and all biases are linear maps of the pooled vector.
    """

    def __init__(self, channels: int, grid: int, widths: list[int]):
        super().__init__()
        self.shapes = list(zip(widths[1:], widths[:-1], strict=True))  # (out, in) of each hidden layer
        for out, inside in self.shapes:
            if out * inside % grid**2:
                raise ValueError(f"target_widths: {inside} x {out} weights do not fill a {grid} x {grid} map evenly")
        self.weights = nn.ModuleList(
            nn.Conv2d(channels, out * inside // grid**2, 3, padding=1) for out, inside in self.shapes
        )
        self.biases = nn.ModuleList(nn.Linear(channels, out) for out, _ in self.shapes)
        self.last_weight = nn.Linear(channels, widths[-1])
        self.last_bias = nn.Linear(channels, 1)
        for layer in (*self.weights, *self.biases, self.last_weight, self.last_bias):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, semantic: Tensor) -> list[Layer]:
        """Layers ((B, out, in), (B, out, 1)), the last with out = 1, of the semantic map (B, C, grid, grid)."""
        batch = semantic.shape[0]
        pooled = semantic.mean(dim=(2, 3))  # (B, C)
        layers = [
            (weight(semantic).reshape(batch, out, inside), bias(pooled).unsqueeze(2))
            for weight, bias, (out, inside) in zip(self.weights, self.biases, self.shapes, strict=True)
        ]
        return [*layers, (self.last_weight(pooled).unsqueeze(1), self.last_bias(pooled).unsqueeze(2))]


def target_network(local: Tensor, layers: list[Layer], drop: float = 0.0, training: bool = False) -> Tensor:
    """Scores (B,) of local features (B, in) by each image's own network: sigmoid layers, then a linear one.

    Eq. 3-4 of Su et al.; a batched matrix product per layer. `drop` is the dropout after each hidden layer.
    """
    x = local.unsqueeze(2)  # (B, in, 1)
    *hidden, (last_weight, last_bias) = layers
    for weight, bias in hidden:
        x = torch.sigmoid(torch.baddbmm(bias, weight, x))  # (B, out, 1)
        x = dropout(x, drop, training)
    return torch.baddbmm(last_bias, last_weight, x).flatten()  # (B,)


class HyperIQA(nn.Module):
    """The whole model: pixels in, one quality score per image out.

    Args:
        params: widths and parts; the defaults are the paper's.
        pretrained: load timm's published weights of the backbone.
        weights: a local file with weights of the backbone instead.

    Example:
        >>> model = HyperIQA(ModelParams()).eval()
        >>> scores = model(torch.zeros(2, 3, 224, 224, dtype=torch.uint8))  # (2,)
    """

    def __init__(self, params: ModelParams, pretrained: bool = False, weights: str | Path | None = None):
        super().__init__()
        self.params = params
        self.backbone = Backbone(params.backbone, params.backbone_args, params.drop_path, pretrained, weights)
        channels, grid = self.backbone.channels, params.semantic_grid
        self.fusion = FUSIONS[params.fusion](channels, grid)
        widths = [self.fusion.channels, *params.semantic_widths, params.semantic_channels]
        self.semantic = nn.Sequential()
        for inside, out in pairwise(widths):
            self.semantic.extend([nn.Conv2d(inside, out, 1), nn.ReLU(inplace=True)])
        self.semantic.append(nn.Dropout(params.dropout))
        self.hyper = HyperNetwork(params.semantic_channels, grid, params.target_widths)
        self.lda = LocalDistortionAware(
            channels, params.lda_channels, params.lda_grids, params.lda_features, params.target_widths[0]
        )
        self.register_buffer("mean", torch.tensor(params.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(params.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (B,), higher is better, trained on 0..1, of pixels (B, 3, H, W), uint8 or float on 0..1.

        Any H, W from the training crop upwards: where the maps are larger, pooling windows grow with them.
        """
        maps = self.backbone(self.normalise(pixels))
        semantic = self.semantic(self.fusion(maps))
        layers = self.hyper(semantic)
        local = self.lda(maps)
        return target_network(local, layers, self.params.dropout, self.training)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Zero mean and unit deviation per channel, as the backbone expects."""
        image = pixels / 255 if pixels.dtype == torch.uint8 else pixels
        return (image - self.mean) / self.std


@torch.no_grad()
def describe(model: HyperIQA, height: int, width: int) -> dict[str, Any]:
    """Shapes and parameters of each part, measured on one zero image of the given size.

    Returns:
        `name`, `backbone`, `fusion`, `input` (3, H, W), `maps` (shape of each level), `parts` (name, title,
        output shape without the batch, parameters), `parameters`, `target_widths`, `generated_weights`.
    """
    shapes: dict[str, Any] = {}

    def note(name: str):
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes[name] = [list(t.shape[1:]) for t in output] if isinstance(output, list) else list(output.shape[1:])

        return hook

    parts = ("backbone", "fusion", "semantic", "lda")
    hooks = [getattr(model, name).register_forward_hook(note(name)) for name in parts]
    layers: list[Layer] = []
    hooks.append(model.hyper.register_forward_hook(lambda _m, _i, output: layers.extend(output)))
    training = model.training
    device = model.mean.device
    model.eval()(torch.zeros(1, 3, height, width, device=device))
    model.train(training)
    for hook in hooks:
        hook.remove()

    params = model.params
    generated = sum(weight.numel() + bias.numel() for weight, bias in layers)
    rows = [
        ("backbone", params.backbone, shapes["backbone"]),
        ("fusion", f"{params.fusion} fusion", shapes["fusion"]),
        ("semantic", "semantic features", shapes["semantic"]),
        ("hyper", "hyper network", [generated]),
        ("lda", "local distortion aware modules", shapes["lda"]),
        ("target", "target network", []),
    ]
    return {
        "name": "HyperIQA" if params.fusion == "last" else f"HyperIQA with {params.fusion} fusion",
        "backbone": params.backbone,
        "fusion": params.fusion,
        "input": [3, height, width],
        "maps": shapes["backbone"],
        "parts": [
            {"name": name, "title": title, "output": output, "parameters": _count(getattr(model, name, None))}
            for name, title, output in rows
        ],
        "parameters": _count(model),
        "target_widths": params.target_widths,
        "generated_weights": generated,
    }


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0
