"""Pooling of feature maps: averages over a grid, and over all of a map."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d


def pool(x: Tensor, grid: int) -> Tensor:
    """(B, C, grid, grid): the means over the cells of a grid that covers a map (B, C, H, W) from edge to edge.

    Cell i of n along an axis of length L covers floor(i L / n) up to ceil((i + 1) L / n), so that a multiple of
    `grid` gives plain pooling windows (56x56 to 8x8: windows of 7x7 without overlap).
    """
    height, width = x.shape[2:]
    # ONNX has no adaptive pooling for sizes that are known only later, and on a GPU its gradient would not repeat
    if torch.compiler.is_exporting() or (x.is_cuda and (height % grid or width % grid)):
        return _cells(height, grid, x) @ x @ _cells(width, grid, x).T
    if height % grid == width % grid == 0:
        return avg_pool2d(x, (height // grid, width // grid))
    return adaptive_avg_pool2d(x, grid)


def _cells(length: int, grid: int, like: Tensor) -> Tensor:
    """(grid, length): row i holds the weights with which cell i averages an axis; `like` gives type and device."""
    cell = torch.arange(grid, device=like.device)[:, None]
    place = torch.arange(length, device=like.device)
    start, end = cell * length // grid, ((cell + 1) * length + grid - 1) // grid
    inside = ((place >= start) & (place < end)).to(like.dtype)
    return inside / inside.sum(dim=1, keepdim=True)


def means(maps: list[Tensor]) -> Tensor:
    """(B, C_1 + ... + C_4): the means over space of the maps (B, C_l, H_l, W_l), concatenated."""
    return torch.cat([level.mean(dim=(2, 3)) for level in maps], dim=1)
