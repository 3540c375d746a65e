"""A timm network as a source of four feature maps at strides 4, 8, 16 and 32."""

import logging
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from iqa.model.params import ModelParams
from iqa.study import paths

STRIDES = (4, 8, 16, 32)

# timm warns of a classifier's weights, which a feature extractor does not have; whether others fit is checked here
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)


class Backbone(nn.Module):
    """Four feature maps of any timm network that has levels at strides 4, 8, 16 and 32.

    Args:
        params: of the model: `backbone`, `backbone_args` and `drop_path` (at 0 it is not passed on to the network, as
            some have no stochastic depth).
        pretrained: load timm's published weights (timm downloads them unless they are in its cache).
        weights: local file with the weights of the whole timm network instead, classifier included.

    Raises:
        ValueError: the network does not exist or lacks one of the four levels.
        RuntimeError: the weights cannot be loaded or do not fit; none is ever left at random values.
    """

    def __init__(self, params: ModelParams, pretrained: bool = False, weights: str | Path | None = None):
        super().__init__()
        name, arguments = params.backbone, params.backbone_args
        if not timm.is_model(name):
            near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:8]) or "see timm.list_models()"
            raise ValueError(f"backbone '{name}' is not a timm model; near it: {near}")
        arguments = arguments | ({"drop_path_rate": params.drop_path} if params.drop_path else {})
        source = _pretrained(name, arguments, weights) if weights else {"pretrained": pretrained}
        try:
            self.body = timm.create_model(name, features_only=True, **arguments, **source)
        except Exception as error:
            if pretrained or weights:
                raise RuntimeError(f"the weights of backbone '{name}' cannot be loaded: {error}") from error
            raise
        strides, channels = self.body.feature_info.reduction(), self.body.feature_info.channels()
        levels = {stride: level for level, stride in enumerate(strides)}
        if not set(STRIDES) <= set(levels):
            raise ValueError(f"backbone '{name}' has levels at strides {strides}; strides {list(STRIDES)} are needed")
        self.levels = [levels[stride] for stride in STRIDES]
        self.channels = [channels[level] for level in self.levels]
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"  # timm's transformers

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C_l, H / s_l, W / s_l) of a normalised image (B, 3, H, W), l = 1..4, finest first."""
        maps = self.body(image)
        return [maps[level].permute(0, 3, 1, 2) if self.channels_last else maps[level] for level in self.levels]


def _pretrained(name: str, arguments: dict[str, Any], weights: str | Path) -> dict[str, Any]:
    """timm's arguments that load a local weights file; the file must fit the whole network."""
    file = paths.resolve(weights)
    if not file.is_file():
        raise RuntimeError(f"weights: {paths.shown(file)} does not exist; set `weights` to a file, or use `pretrained`")
    state = torch.load(file, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    try:
        timm.create_model(name, **arguments).load_state_dict(state)
    except RuntimeError as error:
        raise RuntimeError(f"weights: {paths.shown(file)} does not fit backbone '{name}': {error}") from None
    return {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": state}}
