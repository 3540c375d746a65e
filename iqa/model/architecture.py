"""The architecture of a model as it is built, in plain values: for tables, diagrams and costs."""

from typing import Any

import torch
from torch import nn

from iqa.model.backbone import STRIDES
from iqa.model.hyperiqa import HyperIQA

PARTS = ("backbone", "fusion", "semantic", "hyper", "local", "target")  # in the order of the data flow
# what `describe` copies of the entries that a model's parts were registered with
WORDS = {
    "fusion": ("reads", "words", "each", "pyramid", "weigh"),
    "local": ("words", "path", "formula", "each", "joined"),
}


@torch.no_grad()
def describe(model: HyperIQA, height: int, width: int) -> dict[str, Any]:
    """The architecture as it is built: widths, maps and parameters, measured on one zero image of the given size.

    Returns:
        name (of the model in the literature), backbone, head, fusion (None without a content path), target_input, input
            ([3, H, W]), parameters.
        levels: for each map, finest first: `stride`, `channels`, `height`, `width`, `fused` (whether the fusion
            reads it) and `local` (how many values it alone gives to the target network, or None).
        parts: for backbone, fusion, semantic, hyper, local and target: `name`, `title`, `output` (shape without the
            batch) and `parameters`; for fusion and local also the `WORDS` that they were registered with. Fusion,
            semantic and hyper are parts of the content path.
        semantic_widths: channels from the fused map to the semantic map; none without a content path.
        target_widths: from the target network's input to its score.
        generated_weights: weights and biases that the hyper network makes for each image.
    """
    params, training = model.params, model.training
    model.eval()
    maps = model.backbone(model.normalise(torch.zeros(1, 3, height, width, device=model.mean.device)))
    titles = {"backbone": params.backbone, "local": model.local.title, "target": model.head.target}
    outputs = {"backbone": maps[-1].shape[1:], "local": model.local(maps).shape[1:], "target": []}
    fused_levels, semantic_widths, generated, title = (), [], 0, model.head.title
    if model.hyper:
        fused = model.fusion(maps)
        semantic = model.semantic(fused)
        generated = sum(weight.numel() + bias.numel() for weight, bias in model.hyper(semantic))
        titles |= {"fusion": f"{params.fusion} fusion", "semantic": "semantic features", "hyper": model.head.title}
        outputs |= {"fusion": fused.shape[1:], "semantic": semantic.shape[1:], "hyper": [generated]}
        fused_levels, title = model.fusion.levels, model.fusion.title.format(name=params.fusion)
        semantic_widths = [model.fusion.channels, *params.semantic_widths, params.semantic_channels]
    model.train(training)
    levels = [
        {"stride": stride, **dict(zip(("channels", "height", "width"), level.shape[1:], strict=True))}
        | {"fused": number in fused_levels, "local": model.local.features[number]}
        for number, (stride, level) in enumerate(zip(STRIDES, maps, strict=True))
    ]
    parts = []
    for name in (name for name in PARTS if name in titles):
        part = getattr(model, name) or nn.Identity()  # a generated target network has no parameters of its own
        words = {key: getattr(part, key) for key in WORDS.get(name, ())}
        about = {"name": name, "title": titles[name], "output": list(outputs[name]), "parameters": _count(part)}
        parts.append(about | words)
    return {
        "name": title + (model.local.suffix if model.head.hidden else ""),
        "backbone": params.backbone,
        "head": params.head,
        "fusion": params.fusion if model.fusion else None,
        "target_input": params.target_input,
        "input": [3, height, width],
        "levels": levels,
        "parts": parts,
        "parameters": _count(model),
        "semantic_widths": semantic_widths,
        "target_widths": [*params.target_widths, 1],
        "generated_weights": generated,
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
