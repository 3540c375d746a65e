"""Where the weights of the target network come from: a hyper network, for each image, or learning, once for all.

A head without a `content` path has neither a fusion nor semantic features (`iqa.model.params.UNREAD`). One that is not
`hidden` is a single linear layer on the means of all maps. A head is registered with its words: `title` (of a model
without a fusion), `target` (the target network in the table of parts), `words` and `formula` (TeX) for the report.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from iqa.model.params import ModelParams
from iqa.study.registry import Registry

Layer = tuple[Tensor, Tensor]  # weight (B, out, in) and bias (B, out, 1) of one layer of each image's target network

HEADS = Registry("head", target="target network")
SIGMOID_GAIN = 4.0  # a sigmoid divides differences by at least 4, see `StaticNetwork`


@HEADS.add(
    "hyper",
    title="hyper network",
    words="a hyper network generates the weights of the target network for each image",
    formula=r"\hat q(x) = T(v_x;\, H(S(x)))",
)
class HyperNetwork(nn.Module):
    """Weights and biases of the target network from a semantic map (Su et al., Section 3.2, Fig. 3).

    The weights of the hidden layers are 3x3 convolutions of the map, read row by row as matrices; the last
    layer's weights and all biases are linear maps of the map's mean. Where weights do not fill the map evenly, the
    convolution gives a few values more, which are left out.
    """

    content, hidden = True, True

    def __init__(self, params: ModelParams):
        super().__init__()
        channels, widths = params.semantic_channels, params.target_widths
        self.grid = grid = params.semantic_grid
        self.shapes = list(zip(widths[1:], widths[:-1], strict=True))  # (out, in) of each hidden layer
        self.weights = nn.ModuleList(
            nn.Conv2d(channels, -(-out * inside // grid**2), 3, padding=1) for out, inside in self.shapes
        )
        self.biases = nn.ModuleList(nn.Linear(channels, out) for out, _ in self.shapes)
        self.last_weight = nn.Linear(channels, widths[-1])
        self.last_bias = nn.Linear(channels, 1)
        for layer in (*self.weights, *self.biases, self.last_weight, self.last_bias):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, semantic: Tensor) -> list[Layer]:
        """Layers ((B, out, in), (B, out, 1)), the last with out = 1, of the semantic map (B, C, grid, grid).

        A map (B, C, 1, 1) stands for one that is the same at every place of the grid.
        """
        batch = semantic.shape[0]
        pooled = semantic.mean(dim=(2, 3))  # (B, C)
        semantic = semantic.expand(-1, -1, self.grid, self.grid)
        layers = [
            (weight(semantic).flatten(1)[:, : out * inside].reshape(batch, out, inside), bias(pooled).unsqueeze(2))
            for weight, bias, (out, inside) in zip(self.weights, self.biases, self.shapes, strict=True)
        ]
        return [*layers, (self.last_weight(pooled).unsqueeze(1), self.last_bias(pooled).unsqueeze(2))]


@HEADS.add(
    "static",
    title="Static target network",
    words="the same target network on the same input, with learned weights that are the same for every image",
    formula=r"\hat q(x) = T(v_x;\, \theta)",
)
class StaticNetwork(nn.Module):
    """Learned weights and biases of the target network: what is left of HyperIQA without its content path.

    Weights begin with Glorot's deviation (AISTATS 2010), times 4 before a sigmoid, whose slope is a quarter at most,
    and biases where inputs of a half are in the middle of a sigmoid: else all images begin with nearly equal scores.
    Scores begin around the middle of the scale.
    """

    content, hidden = False, True

    def __init__(self, params: ModelParams):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*widths) for widths in pairwise([*params.target_widths, 1]))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight, 1.0 if layer is self.layers[-1] else SIGMOID_GAIN)
            layer.bias.data = layer.weight.data.sum(dim=1) / -2
        nn.init.zeros_(self.layers[0].bias)
        self.layers[-1].bias.data += params.output_scale / 2

    def repeat(self, images: int) -> list[Layer]:
        """The same layers ((B, out, in), (B, out, 1)) for each of B images; the last has out = 1."""
        size = images, -1, -1
        return [(layer.weight.expand(size), layer.bias[:, None].expand(size)) for layer in self.layers]


@HEADS.add(
    "linear",
    title="Linear map of the levels",
    target="linear map",
    words="one linear map of the means of all maps, each standardised, without a target network",
    formula=r"\hat q(x) = w^\top [\bar F_1, \bar F_2, \bar F_3, \bar F_4] + b",
)
class LinearMap(StaticNetwork):
    """One learned linear layer on the standardised means of all maps: the simplest head.

    Scores begin near the middle of the scale; larger weights on hundreds of means would put them far off.
    """

    hidden = False

    def __init__(self, params: ModelParams):
        super().__init__(params)
        nn.init.normal_(self.layers[0].weight, std=0.1 / params.target_widths[0] ** 0.5)


def target_network(local: Tensor, layers: list[Layer], drop: float = 0.0, drop_layers: int = 0) -> Tensor:
    """Scores (B,) of local features (B, in) by each image's own network: sigmoid layers, then a linear one.

    Su et al., Eq. 3-4. `drop` is the rate of dropout after each of the first `drop_layers` hidden layers.
    """
    x = local.unsqueeze(2)  # (B, in, 1)
    *hidden, (last_weight, last_bias) = layers
    for number, (weight, bias) in enumerate(hidden):
        x = torch.sigmoid(torch.baddbmm(bias, weight, x))  # (B, out, 1)
        if number < drop_layers:
            x = dropout(x, drop)
    return torch.baddbmm(last_bias, last_weight, x).flatten()  # (B,)
