"""Write a model as an ONNX file that other programs can run, and keep it only if it scores as PyTorch does.

The graph takes `pixels`, uint8 RGB (batch, 3, height, width), as files and cameras give them (or, for a model of that
kind, their MSCN image, see `iqa.data.pixels.mscn`). It gives `score` (batch,), as `Predictor.__call__` does: on the
scale and in the direction of the database that the model was trained on. It contains the division by 255, the
normalisation and, where the loss did not see the scale, the line that maps scores to it. The file's metadata hold what
else a user must know, see `metadata`.
"""

import copy
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from timm.layers import Conv2dSame
from torch import Tensor, nn

from iqa import __version__
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, Scale
from iqa.study import paths

OPSET = 20  # the first with GELU (ConvNeXt, Swin)
TOLERANCE = 1e-4  # largest difference from PyTorch's score, on 0..1
BATCHES = (1, 3)
LARGEST = 2**31  # bytes of one ONNX file


class ExportError(ValueError):
    """A model that cannot be exported, or whose ONNX file does not score as PyTorch does."""


def export(
    predictor: Predictor, file: str | Path, height: int | None = None, width: int | None = None
) -> dict[str, Any]:
    """Write a model as one ONNX file without external data, and check it with onnxruntime.

    The batch size is free. So are height and width, from the crop upwards, unless they are given. Networks whose maps
    have their channels last (timm's window transformers, such as Swin) always have a fixed size, by default the crop's:
    PyTorch takes many minutes to follow their windows through unknown sizes.

    Returns:
        `file` (path for printing), `bytes` (its size), `opset`, `inputs` (the shape of each input, with names for free
        axes), `dynamic` (whether height and width are free), and `checks`: `batch`, `height`, `width` and `difference`
        (largest, on 0..1) of each comparison with PyTorch.

    Raises:
        ExportError: the file cannot be written, PyTorch cannot export the network, or onnxruntime gives a score that
            differs by more than 1e-4 of the scale's range; an earlier file stays as it was.
    """
    file = Path(file)
    if not file.parent.is_dir() or file.is_dir():
        raise ExportError(f"{paths.shown(file)} cannot be written: it is a folder, or its folder does not exist")
    if (height is None) != (width is None):
        raise ExportError("give both height and width, or neither")
    network = copy.deepcopy(predictor.network).cpu().to(memory_format=torch.contiguous_format)
    if sum(tensor.nbytes for tensor in network.state_dict().values()) >= LARGEST:
        raise ExportError(f"{predictor.name} is too large: one ONNX file holds 2 GB of weights")
    dynamic = height is None and not network.backbone.channels_last
    height, width = height or predictor.crop, width or predictor.crop
    sizes = [(height, width)]
    if dynamic:
        sizes += [(height + 32, width + 75), (3 * height // 2, 2 * width)]

    scorer = _Scorer(network, predictor.scale).eval()
    program = _program(scorer, sizes[-1], dynamic, predictor.name)
    program.model.metadata_props.update(metadata(predictor))
    program.model.producer_name, program.model.producer_version = "iqa", __version__
    partial = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        program.save(partial, external_data=False)
        checks = _check(partial, scorer, sizes, predictor.name)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    axes = ["batch", 3, *(("height", "width") if dynamic else (height, width))]
    about = {"file": paths.shown(file), "bytes": file.stat().st_size, "opset": OPSET, "inputs": {"pixels": axes}}
    return about | {"dynamic": dynamic, "checks": checks}


def metadata(predictor: Predictor) -> dict[str, str]:
    """What a user of the file must know; values other than text are JSON.

    name: of the model. input: `rgb` or `mscn`, the kind of pixels. pixels, score: input and output in words.
    crop: side in pixels of the crops of the training. size: to which images were brought before that.
    database, score_low, score_high, higher_is_better: the scale of the scores. synthetic: whether no person has rated
    the images of the training. mean, std: with which the graph normalises pixels on 0..1.
    """
    scale, params = predictor.scale, predictor.network.params
    kind = {"rgb": "RGB", "mscn": "MSCN image of RGB pixels (see iqa.data.pixels.mscn)"}[predictor.input]
    values = {
        "name": predictor.name,
        "input": predictor.input,
        "pixels": f"{kind}, uint8, (batch, 3, height, width), not normalised: the graph does that",
        "score": f"(batch,), {scale}",
        "crop": predictor.crop,
        "size": vars(predictor.size),
        "database": scale.of,
        "score_low": scale.low,
        "score_high": scale.high,
        "higher_is_better": scale.higher_is_better,
        "synthetic": predictor.synthetic,
        "mean": params.mean,
        "std": params.std,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


class _Scorer(nn.Module):
    """A network whose scores are on a scale."""

    def __init__(self, network: HyperIQA, scale: Scale):
        super().__init__()
        self.network = network
        self.scale = scale

    def forward(self, pixels: Tensor) -> Tensor:
        """Scores (B,) of pixels (B, 3, H, W), uint8."""
        return self.scale.denormalise(self.network(pixels))


class _OnnxSame(nn.Module):
    """TensorFlow's 'same' padding by ONNX's own convolution, for export alone.

    timm computes the padding from the map's size, which PyTorch takes many minutes to follow through unknown sizes.
    """

    def __init__(self, conv: Conv2dSame):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, ceil(H / stride), ceil(W / stride)) of (B, in, H, W)."""
        conv = self.conv
        size = [(length + stride - 1) // stride for length, stride in zip(x.shape[2:], conv.stride, strict=True)]
        return torch.onnx.ops.symbolic(
            "Conv",
            [x, conv.weight] if conv.bias is None else [x, conv.weight, conv.bias],
            {"auto_pad": "SAME_UPPER", "strides": conv.stride, "group": conv.groups},
            dtype=x.dtype,
            shape=[x.shape[0], conv.out_channels, *size],
        )


def _program(scorer: _Scorer, size: tuple[int, int], dynamic: bool, name: str) -> torch.onnx.ONNXProgram:
    """The ONNX graph, traced at a size, without the files and lines that PyTorch notes at each node."""
    scorer = copy.deepcopy(scorer)
    for key, module in list(scorer.named_modules()):
        if type(module) is Conv2dSame and module.dilation == (1, 1):  # what onnxruntime supports
            scorer.set_submodule(key, _OnnxSame(module))
    free = {0: "batch", 2: "height", 3: "width"} if dynamic else {0: "batch"}
    shapes = ({axis: torch.export.Dim.DYNAMIC for axis in free},)
    names = {"input_names": ["pixels"], "output_names": ["score"], "dynamic_shapes": (free,)}
    try:
        graph = torch.export.export(scorer, (_images(2, *size),), dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(graph, **names, opset_version=OPSET, dynamo=True, verbose=False)
    except Exception as error:  # whatever a network raises
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        remedy = "; give a height and a width" if dynamic else ""
        raise ExportError(f"{name}: PyTorch cannot export this network: {reason}{remedy}") from error
    ClearMetadataAndDocStringPass()(program.model)
    return program


@torch.inference_mode()
def _check(file: Path, scorer: _Scorer, sizes: list[tuple[int, int]], name: str) -> list[dict[str, Any]]:
    """Differences between the file's scores by onnxruntime and PyTorch's, on 0..1, for all sizes and batch sizes.

    Raises:
        ExportError: one is above the tolerance, or onnxruntime fails.
    """
    import onnxruntime  # here, as it starts a thread at once, which a copy of the process would lack

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    checks = []
    for (height, width), batch in product(sizes, BATCHES):
        pixels = _images(batch, height, width)
        case = f"{name}: {batch} x 3 x {height} x {width} pixels"
        try:
            (scores,) = session.run(["score"], {"pixels": pixels.numpy()})
        except Exception as error:  # onnxruntime's exceptions have no other class in common
            raise ExportError(f"{case} cannot be scored by onnxruntime ({error}); nothing is written") from error
        expected = scorer(pixels).numpy()
        if scores.shape != expected.shape:
            raise ExportError(f"{case} give scores of shape {scores.shape} in onnxruntime; nothing is written")
        difference = float(np.abs(scores - expected).max()) / (scorer.scale.high - scorer.scale.low)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{case} get other scores from onnxruntime than from PyTorch: by up to {difference:.1e} on 0..1, "
                f"where {TOLERANCE:.0e} is allowed; nothing is written"
            )
        checks.append({"batch": batch, "height": height, "width": width, "difference": difference})
    return checks


def _images(batch: int, height: int, width: int) -> Tensor:
    """Noise (B, 3, H, W), uint8, stronger from image to image: images that differ in quality."""
    noise = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    strength = torch.linspace(20, 60, batch)[:, None, None, None]
    return (128 + strength * noise).clip(0, 255).to(torch.uint8)
