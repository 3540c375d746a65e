"""What a model makes on its way to a score: feature maps, generated weights, weights of the scales."""

from dataclasses import dataclass

import torch
from torch import Tensor

from iqa.model.hyperiqa import HyperIQA, Layer


@dataclass(frozen=True)
class Inside:
    """What a batch of B patches gave.

    Args:
        scores: (B,), float32, 0 worst and 1 best.
        maps: of the backbone, finest first, (B, C_l, H_l, W_l).
        layers: of the generated target network, (B, out, in) and (B, out, 1) each.
        scale_weights: (B, 4), positive, finest first, adding up to 1; None where the fusion does not weight the scales.
    """

    scores: Tensor
    maps: list[Tensor]
    layers: list[Layer]
    scale_weights: Tensor | None

    @property
    def generated(self) -> Tensor:
        """(B, n): all generated weights and biases of each image's target network, layer by layer."""
        return torch.cat([part.flatten(1) for layer in self.layers for part in layer], dim=1)


@torch.inference_mode()
def look_inside(model: HyperIQA, pixels: Tensor) -> Inside:
    """The scores of `model(pixels)` in evaluation mode, and what led to them.

    Args:
        pixels: (B, 3, H, W), uint8 or float on 0..1, on any device.

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
    return Inside(scores, maps, layers, weigh(maps) if weigh else None)
