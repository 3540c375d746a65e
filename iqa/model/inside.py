"""What a model makes on its way to a score: feature maps, generated weights, attention over the scales."""

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
        scale_weights: (B, 4), how much each scale counts, finest first, adding up to 1; None where the fusion does not
            weigh the scales.
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
    """The scores of `model(pixels)` and what led to them; the model in evaluation mode.

    Args:
        pixels: (B, 3, H, W), uint8 or float on 0..1, on any device.

    >>> from iqa.model.params import ModelParams
    >>> inside = look_inside(HyperIQA(ModelParams()), torch.zeros(2, 3, 224, 224, dtype=torch.uint8))
    >>> inside.generated.shape
    torch.Size([2, 33545])
    """
    noted: dict[str, list] = {}
    hooks = [
        getattr(model, part).register_forward_hook(lambda _, __, output, part=part: noted.update({part: output}))
        for part in ("backbone", "hyper")
    ]
    training = model.training
    try:
        scores = model.eval()(pixels.to(model.mean.device)).float()
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    weigh = getattr(model.fusion, "scale_weights", None)
    weights = weigh(noted["backbone"]) if weigh else None
    return Inside(scores, noted["backbone"], noted["hyper"], weights)
