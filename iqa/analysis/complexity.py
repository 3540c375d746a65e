"""What a model costs, counted: parameters and multiply-accumulates (MACs, 2 FLOPs each), by several counters.

No counter sees everything, and some count what others do not. So the MACs of each are split by kind of operation and
compared with an estimate from the shapes of the arguments of every convolution and product.
"""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from iqa.model.architecture import describe
from iqa.model.hyperiqa import HyperIQA
from iqa.training.params import TrainParams

Counts = dict[str, int]  # MACs by kind of operation
CONVOLUTION, LINEAR, ATTENTION, TARGET = "convolutions", "linear maps", "attention products", "target network"
PRODUCTS = (CONVOLUTION, LINEAR, ATTENTION, TARGET)  # MACs in the strict sense: a product of two numbers in a sum
BIAS, NORM, ACTIVATION, POOLING = "biases", "normalisations", "activations", "pooling"
ACTIVATION_CALL, POOLING_CALL = "activations, as functions", "pooling, as function"
ELEMENTS, INTERPOLATION, OTHER = "sums and products of elements", "interpolation", "other"
KINDS = (*PRODUCTS, BIAS, NORM, ACTIVATION, ACTIVATION_CALL, POOLING, POOLING_CALL, ELEMENTS, INTERPOLATION, OTHER)
ROOT = "target"  # the part to which operations outside all submodules belong
QUICK = ("estimated", "torch")  # counters that need no further package
OF_MODULES = {"Norm": NORM, "Pool": POOLING, "Attention": ATTENTION, "Upsampl": INTERPOLATION}  # by word in the name
OF_FUNCTIONS = {
    **dict.fromkeys(("linear", "mm", "addmm"), LINEAR),
    **dict.fromkeys(("matmul", "__matmul__", "bmm", "scaled_dot_product_attention"), ATTENTION),
    **dict.fromkeys(("add", "mul"), ELEMENTS),
    **dict.fromkeys(("interpolate", "upsample"), INTERPOLATION),
    "baddbmm": TARGET,
}


def build(params: TrainParams) -> HyperIQA:
    """The untrained model of a training run in evaluation mode; the parameters that the run freezes are frozen."""
    model = HyperIQA(params.architecture()).eval().to(memory_format=torch.channels_last)
    if params.freeze_backbone:
        model.backbone.requires_grad_(False)
    return model


def complexity(model: HyperIQA, height: int, width: int, counted: dict[str, Counts]) -> dict[str, Any]:
    """Parameters, generated weights, and the MACs of one image (`macs_<counter>`).

    Args:
        counted: MACs of the model by counter, as the functions in `COUNTERS` return them.
    """
    described = describe(model, height, width)
    backbone = next(part["parameters"] for part in described["parts"] if part["name"] == "backbone")
    return {
        "height": height,
        "width": width,
        "parameters": described["parameters"],
        "trainable_parameters": trainable(model),
        "backbone_parameters": backbone,
        "head_parameters": described["parameters"] - backbone,
        "generated_weights": described["generated_weights"],
        **{f"macs_{name}": sum(counts.values()) for name, counts in counted.items()},
    }


def trainable(module: nn.Module) -> int:
    """Number of parameters of a module that a training changes."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


# --- counters: MACs of one image by kind


def by_ptflops(model: nn.Module, height: int, width: int) -> Counts:
    """MACs by ptflops (its PyTorch backend): modules by their type, and some functions.

    A module that calls such a function is counted as both. Biases, which ptflops adds to their layers, stand apart.

    Raises:
        ModuleNotFoundError: ptflops is not installed.
        RuntimeError: ptflops cannot count this model.
    """
    from ptflops import get_model_complexity_info
    from ptflops.pytorch_ops import FUNCTIONAL_MAPPING, MODULES_MAPPING, TENSOR_OPS_MAPPING

    counts: Counter[str] = Counter()
    model = copy.deepcopy(model)
    known = [module for module in model.modules() if type(module) in MODULES_MAPPING]
    inner = {part for module in known for part in module.modules() if part is not module}  # not counted by ptflops

    def note(module: nn.Module, output: Tensor, macs: int) -> None:
        kind = _kind_of_module(module)
        bias = output.numel() if kind in PRODUCTS and getattr(module, "bias", None) is not None else 0
        if module not in inner:
            counts.update({kind: macs - bias, BIAS: bias})

    def note_calls(function: Callable, formula: Callable) -> Callable:
        def noted(*args: Any, **kwargs: Any) -> int:
            macs = int(formula(*args, **kwargs))
            bias = args[0].numel() if function.__name__ in ("addmm", "baddbmm") else 0
            counts.update({_kind_of_function(function.__name__): macs - bias, BIAS: bias})
            return macs

        return noted

    functions = {key: note_calls(key, formula) for key, formula in FUNCTIONAL_MAPPING.items()}
    methods = {key: note_calls(key, formula) for key, formula in TENSOR_OPS_MAPPING.items()}
    rules = {kind: _noting(rule, "__flops__", note) for kind, rule in MODULES_MAPPING.items()}
    options = {"as_strings": False, "print_per_layer_stat": False, "backend": "pytorch", "custom_modules_hooks": rules}
    with patch.dict(FUNCTIONAL_MAPPING, functions), patch.dict(TENSOR_OPS_MAPPING, methods):
        macs, _ = get_model_complexity_info(model, (3, height, width), **options)
    if macs is None:
        raise RuntimeError("ptflops could not count this model; its message is above")
    return _with_rest(counts, int(macs))


def by_thop(model: nn.Module, height: int, width: int) -> Counts:
    """MACs by thop, which counts modules by their type: what is a function in `forward` is not seen.

    Raises:
        ModuleNotFoundError: thop is not installed.
    """
    from thop import profile
    from thop.profile import register_hooks

    counts: Counter[str] = Counter()

    def note(module: nn.Module, _output: Tensor, macs: int) -> None:
        counts[_kind_of_module(module)] += macs

    rules = {
        kind: _noting(rule, "total_ops", note) for kind, rule in register_hooks.items() if kind is not nn.Sequential
    }
    macs, _ = profile(copy.deepcopy(model), (_image(model, height, width),), custom_ops=rules, verbose=False)
    return _with_rest(counts, int(macs))


def _noting(rule: Callable, total: str, note: Callable[[nn.Module, Tensor, int], None]) -> Callable:
    """A rule by which a package counts a module, which also notes what it adds to the module's attribute `total`."""

    def noted(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        before = float(getattr(module, total))
        rule(module, inputs, output)
        note(module, output, int(float(getattr(module, total)) - before))

    return noted


def _with_rest(counts: Counter, total: int) -> Counts:
    """The counts, and as `other` what they lack of the total, so that they add up to it."""
    counts[OTHER] += total - sum(counts.values())
    return {kind: int(macs) for kind, macs in counts.items() if macs}


def _kind_of_module(module: nn.Module) -> str:
    if isinstance(module, nn.modules.conv._ConvNd):
        return CONVOLUTION
    if isinstance(module, nn.Linear):
        return LINEAR
    default = ACTIVATION if type(module).__module__ == "torch.nn.modules.activation" else OTHER
    return next((kind for word, kind in OF_MODULES.items() if word in type(module).__name__), default)


def _kind_of_function(name: str) -> str:
    default = CONVOLUTION if name.startswith("conv") else POOLING_CALL if "pool" in name else ACTIVATION_CALL
    return OF_FUNCTIONS.get(name, default)


def _convolution(y: Tensor, _x: Tensor, weight: Tensor, *_: Any) -> int:
    return y.numel() * weight[0].numel()


def _product(y: Tensor, x: Tensor, *_: Any) -> int:
    return y.numel() * x.shape[-1]


def _attention(y: Tensor, queries: Tensor, keys: Tensor, *_: Any) -> int:
    return (queries.numel() + y.numel()) * keys.shape[-2]


FORMULAS: dict[str, Callable[..., int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("linear", "matmul", "__matmul__", "mm", "bmm"), _product),
    **dict.fromkeys(("addmm", "baddbmm"), lambda y, _bias, x, *_: _product(y, x)),
    "scaled_dot_product_attention": _attention,
}


class _Calls(TorchFunctionMode):
    """Adds up the MACs of calls by the submodule of `model` that is running, and by kind."""

    def __init__(self, model: nn.Module, running: ModuleTracker) -> None:
        super().__init__()
        self.running = running
        self.names = {f"{type(model).__name__}.{name}": name for name, _ in model.named_children()}
        self.counts: dict[str, Counter[str]] = {}

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        if name in FORMULAS:
            part = next((part for full, part in self.names.items() if full in self.running.parents), ROOT)
            kind = _kind_of_function(name)
            kind = TARGET if kind == ATTENTION and part == ROOT else kind
            self.counts.setdefault(part, Counter())[kind] += FORMULAS[name](result, *args)
        return result


def estimate_parts(model: nn.Module, height: int, width: int) -> dict[str, Counts]:
    """MACs by part, from the shapes of the arguments of each convolution, linear map and matrix product.

    Formulas, for a result y: convolution |y| C_in / groups k^2; linear map |y| C_in; matrix product of (n, k) and
    (k, m) n k m; attention of n queries and m keys of width d, per head, 2 n m d (both its products). The calls are
    seen in Python, before PyTorch chooses its kernels.
    """
    with ModuleTracker() as running, _Calls(model, running) as calls, torch.inference_mode():
        model(_image(model, height, width))
    return {part: dict(counts) for part, counts in calls.counts.items()}


def torch_parts(model: nn.Module, height: int, width: int) -> dict[str, Counts]:
    """MACs by part, by PyTorch's own counter: every convolution and matrix product that is executed, nothing else."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(_image(model, height, width))
    flops = counter.get_flop_counts()
    outside = Counter(flops.get("Global", {}))
    counts: dict[str, Counts] = {}
    for name, _ in model.named_children():
        inside = Counter(flops.get(f"{type(model).__name__}.{name}", {}))
        outside.subtract(inside)
        counts[name] = _by_kind(inside, ATTENTION)
    return {**counts, ROOT: _by_kind(outside, TARGET)}


def _by_kind(flops: Counter, batched: str) -> Counts:
    """MACs by kind of FLOPs by operator; `batched` is the kind of products of batches of matrices."""
    names = {"convolution": CONVOLUTION, "_convolution": CONVOLUTION, "addmm": LINEAR, "mm": LINEAR}
    counts: Counter[str] = Counter()
    for operator, value in flops.items():
        counts[names.get(operator.__name__, batched)] += value // 2
    return dict(counts)


def _image(model: nn.Module, height: int, width: int) -> Tensor:
    return torch.zeros(1, 3, height, width, device=next(model.parameters()).device)


def _summed(parts: Callable[..., dict[str, Counts]]) -> Callable[[nn.Module, int, int], Counts]:
    """A counter over all parts."""
    return lambda *case: dict(sum(map(Counter, parts(*case).values()), Counter()))


COUNTERS: dict[str, Callable[[nn.Module, int, int], Counts]] = {
    "estimated": _summed(estimate_parts),
    "torch": _summed(torch_parts),
    "ptflops": by_ptflops,
    "thop": by_thop,
}


def macs_torch(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by PyTorch's own counter."""
    return sum(COUNTERS["torch"](model, height, width).values())
