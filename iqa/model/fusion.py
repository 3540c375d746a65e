"""Which feature maps feed the hyper network, and how they become one map."""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d


class Last(nn.Module):
    """The deepest map alone, pooled to the grid: HyperIQA (Su et al., CVPR 2020, Section 3.2)."""

    def __init__(self, channels: list[int], grid: int):
        super().__init__()
        self.grid = grid
        self.channels = channels[-1]

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_4, grid, grid) of the maps (B, C_l, H_l, W_l)."""
        return adaptive_avg_pool2d(maps[-1], self.grid)


class Concat(nn.Module):
    """All maps pooled to the grid and concatenated along the channels."""

    def __init__(self, channels: list[int], grid: int):
        super().__init__()
        self.grid = grid
        self.channels = sum(channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """(B, C_1 + ... + C_4, grid, grid) of the maps (B, C_l, H_l, W_l)."""
        return torch.cat([adaptive_avg_pool2d(each, self.grid) for each in maps], dim=1)


FUSIONS: dict[str, type[nn.Module]] = {"last": Last, "concat": Concat}
