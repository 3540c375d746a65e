"""Whether the input of a training is the one that its backbone's weights were trained on."""

from functools import cache
from typing import Any

from iqa.training.params import TrainParams


@cache
def data_config(backbone: str) -> dict[str, Any]:
    """How images are prepared for timm's weights of a backbone: `input_size`, `mean`, `std`, `interpolation`, ...

    Empty where timm has no weights of it, or does not know it.
    """
    import timm

    config = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return timm.data.resolve_data_config(pretrained_cfg=config.to_dict()) if config and config.has_weights else {}


def mismatches(params: TrainParams) -> list[str]:
    """What of the input differs from that of timm's weights of the backbone, in a sentence; nothing from scratch."""
    config = data_config(params.backbone) if params.pretrained or params.weights else {}
    if not config or (list(config["mean"]), list(config["std"])) == (params.mean, params.std):
        return []
    otherwise = ", unless the file of weights was trained otherwise" if params.weights else ""
    return [
        f"The input of {params.backbone} has mean {params.mean} and standard deviation {params.std}; timm's weights of "
        f"it have {list(config['mean'])} and {list(config['std'])}. Set `mean` and `std` so{otherwise}."
    ]
