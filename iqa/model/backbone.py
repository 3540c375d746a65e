"""A timm network as a source of four feature maps at strides 4, 8, 16 and 32."""

import logging
import re
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from iqa.model.params import ModelParams
from iqa.model.tensors import CheckpointError, State, fill, load
from iqa.study import paths

STRIDES = (4, 8, 16, 32)

# timm warns of a classifier's weights, which a feature extractor does not have; whether others fit is checked here
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)


class BackboneError(ValueError):
    """A backbone that cannot be built or run; the message names it and says what to do."""


class Backbone(nn.Module):
    """Four feature maps of any timm network that has levels at strides 4, 8, 16 and 32.

    Args:
        params: of the model: `backbone`, `backbone_args` and `drop_path` (at 0 it is not passed on to the network, as
            some have no stochastic depth).
        pretrained: load timm's published weights (timm downloads them unless they are in its cache).
        weights: local file with the weights of the whole timm network instead, classifier included.

    Raises:
        BackboneError: the network does not exist, cannot be built so, lacks one of the four levels, or its published
            weights cannot be loaded.
        CheckpointError: the file of weights cannot be read or does not fit; nothing is ever left at random values.
    """

    def __init__(self, params: ModelParams, pretrained: bool = False, weights: str | Path | None = None):
        super().__init__()
        self.name = params.backbone
        if not timm.is_model(self.name):
            near = ", ".join(timm.list_models(f"*{self.name.split('_')[0]}*")[:8]) or "see timm.list_models()"
            raise BackboneError(f"backbone '{self.name:.80}' is not a timm model; near it: {near}")
        arguments = params.backbone_args | ({"drop_path_rate": params.drop_path} if params.drop_path else {})
        source = {"pretrained": pretrained}
        if weights:
            source = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": self._read(arguments, weights)}}
        self.body = self._build(features_only=True, **arguments, **source)
        strides, channels = self.body.feature_info.reduction(), self.body.feature_info.channels()
        levels = {stride: level for level, stride in enumerate(strides)}
        if not set(STRIDES) <= set(levels):
            has = f"has levels at strides {strides}; strides {list(STRIDES)} are needed"
            raise BackboneError(f"backbone '{self.name}' {has}")
        self.levels = [levels[stride] for stride in STRIDES]
        self.channels = [channels[level] for level in self.levels]
        self.channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"  # timm's transformers

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C_l, H / s_l, W / s_l) of a normalised image (B, 3, H, W), l = 1..4, finest first.

        Raises:
            BackboneError: the network takes no images of this size.
        """
        try:
            maps = self.body(image)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if re.search("allocate memory|CUDA|cuDNN", str(error)):  # the machine's fault, not the size's
                raise
            height, width = image.shape[2:]
            remedy = "set another size, or `strict_img_size: false` in backbone_args where it has a fixed one, as Swin"
            raise BackboneError(
                f"backbone '{self.name}' fails on images of {height}x{width} (height x width): {_line(error)}; {remedy}"
            ) from error
        return [maps[level].permute(0, 3, 1, 2) if self.channels_last else maps[level] for level in self.levels]

    def _read(self, arguments: dict[str, Any], weights: str | Path) -> State:
        """The tensors of a local weights file, which must fit the whole network."""
        file = paths.resolve(weights)
        if not file.is_file():
            raise CheckpointError(file, "`weights` is no file; set it to one, or use `pretrained`")
        content, network = load(file), self._build(**arguments)
        try:
            return fill(network, content, file)
        except CheckpointError as error:
            raise CheckpointError(file, f"does not fit backbone '{self.name}': {error.reason}") from None

    def _build(self, **arguments: Any) -> nn.Module:
        try:
            return timm.create_model(self.name, **arguments)
        except Exception as error:  # whatever a network's code or a download meets
            if arguments.get("pretrained"):
                remedy = "they are downloaded once, over the internet; or set `weights` to a local file"
                text = f"the weights of backbone '{self.name}' cannot be loaded: {_line(error)}; {remedy}"
            else:
                text = f"backbone '{self.name}' cannot be built: {_line(error)}; correct 'backbone_args'"
            raise BackboneError(text) from error


def _line(error: Exception) -> str:
    """What an error says, in at most 200 characters of one line."""
    return f"{' '.join(str(error).split()) or type(error).__name__:.200}"
