"""What a model costs, counted: parameters and multiply-accumulates (MACs, 2 FLOPs each), by several counters.

No counter sees everything, and each counts things of its own. So each one's MACs are taken apart by the kind of
operation, and stand beside an estimate from the shapes of the arguments of every convolution and product. Time and
memory are measured in `iqa.analysis.speed`.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from iqa.model.hyperiqa import HyperIQA, describe
from iqa.training.params import TrainParams

Counts = dict[str, int]  # MACs by kind of operation
CONVOLUTION, LINEAR, ATTENTION, TARGET = "convolutions", "linear maps", "attention products", "target network"
PRODUCTS = (CONVOLUTION, LINEAR, ATTENTION, TARGET)  # what a MAC is: a product of two numbers, added to a sum
BIAS, NORM, ACTIVATION, POOLING = "biases", "normalisations", "activations", "pooling"
ACTIVATION_CALL, POOLING_CALL = "activations, as functions", "pooling, as function"
ELEMENTS, INTERPOLATION, OTHER = "sums and products of elements", "interpolation", "other"
KINDS = (
    *(*PRODUCTS, BIAS, NORM, ACTIVATION, ACTIVATION_CALL, POOLING, POOLING_CALL),
    *(ELEMENTS, INTERPOLATION, OTHER),
)
ROOT = "target"  # the part to which what the model does outside its modules belongs
QUICK = ("estimated", "torch")  # counters that need no further package


def build(params: TrainParams) -> HyperIQA:
    """The model of a training run, not trained, as it is scored with; what the run freezes is frozen."""
    model = HyperIQA(params.architecture()).eval().to(memory_format=torch.channels_last)
    if params.freeze_backbone:
        model.backbone.requires_grad_(False)
    return model


def count(model: nn.Module, height: int, width: int, counters: Iterable[str] | None = None) -> dict[str, Counts]:
    """MACs of one image by kind of operation, as each counter sees them.

    Args:
        counters: names in `COUNTERS`; all by default.
    """
    return {name: COUNTERS[name](model, height, width) for name in counters or COUNTERS}


def complexity(model: HyperIQA, height: int, width: int, counted: dict[str, Counts] | None = None) -> dict[str, Any]:
    """Parameters, generated weights, and the MACs of one image (`macs_<counter>`).

    Args:
        counted: as `count` returns it, where it is there already.
    """
    counted = count(model, height, width) if counted is None else counted
    described = describe(model, height, width)
    backbone = next(part["parameters"] for part in described["parts"] if part["name"] == "backbone")
    return {
        "height": height,
        "width": width,
        "parameters": described["parameters"],
        "trainable_parameters": _trainable(model),
        "backbone_parameters": backbone,
        "head_parameters": described["parameters"] - backbone,
        "generated_weights": described["generated_weights"],
        **{f"macs_{name}": sum(counts.values()) for name, counts in counted.items()},
    }


def counters(counted: dict[str, Counts]) -> pd.DataFrame:
    """The kinds of operations and how many MACs each counter sees in each, and their sums.

    Args:
        counted: as `count` returns it.

    Returns:
        One row per kind that anyone counts, and one of kind `total`: `kind`, `macs_<counter>`, and `missed_by`: the
        counters that see fewer products than there are by their shapes, or nothing of what others count.
    """
    kinds = [kind for kind in KINDS if any(counts.get(kind) for counts in counted.values())]
    rows = []
    for kind in kinds:
        seen = {name: counts.get(kind, 0) for name, counts in counted.items()}
        wanted = seen.get("estimated", 0) if kind in PRODUCTS else 1
        missed = [name for name, macs in seen.items() if name != "estimated" and macs < wanted]
        rows.append({"kind": kind, **{f"macs_{name}": macs for name, macs in seen.items()}})
        rows[-1]["missed_by"] = ", ".join(missed)
    totals = {f"macs_{name}": sum(counts.values()) for name, counts in counted.items()}
    return pd.DataFrame([*rows, {"kind": "total", **totals, "missed_by": ""}])


def parts(model: HyperIQA, height: int, width: int) -> pd.DataFrame:
    """The parts in the order of the data flow: `part`, `title`, `parameters`, `trainable_parameters`,
    `macs_estimated`, `macs_torch`.

    The target network has no parameters: the hyper network generates its weights.
    """
    found = {"estimated": _estimated(model, height, width), "torch": _torch(model, height, width)}
    rows = []
    for part in describe(model, height, width)["parts"]:
        name = part["name"]
        macs = {f"macs_{counter}": sum(counts.get(name, {}).values()) for counter, counts in found.items()}
        trainable = _trainable(getattr(model, name)) if part["parameters"] else 0
        about = {"part": name, "title": part["title"], "parameters": part["parameters"]}
        rows.append(about | {"trainable_parameters": trainable} | macs)
    return pd.DataFrame(rows)


def _trainable(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


# --- counters


def estimate(model: nn.Module, height: int, width: int) -> Counts:
    """MACs by kind from the shapes of the arguments of each convolution, linear map and matrix product.

    Formulas, for a result y: convolution |y| C_in / groups k^2; linear map |y| C_in; matrix product of (n, k) and
    (k, m) n k m; attention of n queries and m keys of width d, per head, 2 n m d (both its products). The calls are
    seen in Python, before PyTorch chooses its kernels.
    """
    return _all_parts(_estimated(model, height, width))


def by_torch(model: nn.Module, height: int, width: int) -> Counts:
    """MACs by kind by PyTorch's own counter: every convolution and matrix product that is executed, no other."""
    return _all_parts(_torch(model, height, width))


def macs_torch(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by PyTorch's own counter."""
    return sum(by_torch(model, height, width).values())


def macs_ptflops(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by ptflops."""
    return sum(by_ptflops(model, height, width).values())


def macs_thop(model: nn.Module, height: int, width: int) -> int:
    """MACs of one image by thop."""
    return sum(by_thop(model, height, width).values())


def by_ptflops(model: nn.Module, height: int, width: int) -> Counts:
    """MACs by kind by ptflops (its PyTorch backend): modules by their type, and some functions.

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
    inside = {part for module in known for part in module.modules() if part is not module}  # left out by ptflops

    def noting(hook: Callable) -> Callable:
        def noted(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            before = module.__flops__
            hook(module, inputs, output)
            kind = _kind_of_module(module)
            bias = output.numel() if kind in PRODUCTS and getattr(module, "bias", None) is not None else 0
            if module not in inside:
                counts.update({kind: module.__flops__ - before - bias, BIAS: bias})

        return noted

    def noting_call(function: Callable, formula: Callable) -> Callable:
        kind = _kind_of_function(function.__name__)

        def noted(*args: Any, **kwargs: Any) -> int:
            macs = int(formula(*args, **kwargs))
            bias = args[0].numel() if function.__name__ in ("addmm", "baddbmm") else 0
            counts.update({kind: macs - bias, BIAS: bias})
            return macs

        return noted

    with _replaced(FUNCTIONAL_MAPPING, noting_call), _replaced(TENSOR_OPS_MAPPING, noting_call):
        macs, _ = get_model_complexity_info(
            model,
            (3, height, width),
            as_strings=False,
            print_per_layer_stat=False,
            backend="pytorch",
            custom_modules_hooks={kind: noting(hook) for kind, hook in MODULES_MAPPING.items()},
        )
    if macs is None:
        raise RuntimeError("ptflops could not count this model; its message is above")
    return _with_rest(counts, int(macs))


def by_thop(model: nn.Module, height: int, width: int) -> Counts:
    """MACs by kind by thop, which counts modules by their type: what is a function in `forward` is not seen.

    Raises:
        ModuleNotFoundError: thop is not installed.
    """
    from thop import profile
    from thop.profile import register_hooks

    counts: Counter[str] = Counter()

    def noting(hook: Callable) -> Callable:
        def noted(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            before = module.total_ops.item()
            hook(module, inputs, output)
            counts[_kind_of_module(module)] += int(module.total_ops.item() - before)

        return noted

    rules = {kind: noting(hook) for kind, hook in register_hooks.items() if kind is not nn.Sequential}
    macs, _ = profile(copy.deepcopy(model), (_image(model, height, width),), custom_ops=rules, verbose=False)
    return _with_rest(counts, int(macs))


COUNTERS: dict[str, Callable[[nn.Module, int, int], Counts]] = {
    "estimated": estimate,
    "torch": by_torch,
    "ptflops": by_ptflops,
    "thop": by_thop,
}


class _Calls(TorchFunctionMode):
    """Adds up the MACs of calls by `part`, which hooks set, and kind."""

    def __init__(self) -> None:
        super().__init__()
        self.part = ROOT
        self.counts: dict[str, Counter[str]] = {}

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "")
        if name in FORMULAS:
            kind = _kind_of_function(name)
            kind = TARGET if kind == ATTENTION and self.part == ROOT else kind
            self.counts.setdefault(self.part, Counter())[kind] += FORMULAS[name](result, *args)
        return result


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


def _estimated(model: nn.Module, height: int, width: int) -> dict[str, Counts]:
    """MACs from shapes, by part and kind."""
    calls = _Calls()

    def enter(name: str) -> Callable:
        return lambda *_: setattr(calls, "part", name)

    hooks = [child.register_forward_pre_hook(enter(name)) for name, child in model.named_children()]
    hooks += [child.register_forward_hook(enter(ROOT)) for child in model.children()]
    try:
        with calls, torch.inference_mode():
            model(_image(model, height, width))
    finally:
        for hook in hooks:
            hook.remove()
    return {part: dict(counts) for part, counts in calls.counts.items()}


def _torch(model: nn.Module, height: int, width: int) -> dict[str, Counts]:
    """MACs by PyTorch's counter, by part and kind."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(_image(model, height, width))
    flops = counter.get_flop_counts()
    own = Counter(flops.get("Global", {}))
    found: dict[str, Counts] = {}
    for name, _ in model.named_children():
        inside = Counter(flops.get(f"{type(model).__name__}.{name}", {}))
        own.subtract(inside)
        found[name] = _by_kind(inside, ATTENTION)
    return {**found, ROOT: _by_kind(own, TARGET)}


def _by_kind(flops: Counter, batched: str) -> Counts:
    """MACs by kind of FLOPs by operator; `batched` is the kind of products of batches of matrices."""
    names = {"convolution": CONVOLUTION, "_convolution": CONVOLUTION, "addmm": LINEAR, "mm": LINEAR}
    counts: Counter[str] = Counter()
    for operator, value in flops.items():
        counts[names.get(operator.__name__, batched)] += value // 2
    return dict(counts)


def _all_parts(found: dict[str, Counts]) -> Counts:
    return dict(sum((Counter(counts) for counts in found.values()), Counter()))


def _kind_of_module(module: nn.Module) -> str:
    name = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        return CONVOLUTION
    if isinstance(module, nn.Linear):
        return LINEAR
    for part, kind in (("Norm", NORM), ("Pool", POOLING), ("Attention", ATTENTION), ("Upsampl", INTERPOLATION)):
        if part in name:
            return kind
    return ACTIVATION if type(module).__module__ == "torch.nn.modules.activation" else OTHER


def _kind_of_function(name: str) -> str:
    if name.startswith("conv"):
        return CONVOLUTION
    if "pool" in name:
        return POOLING_CALL
    kinds = {
        **dict.fromkeys(("linear", "mm", "addmm"), LINEAR),
        **dict.fromkeys(("matmul", "__matmul__", "bmm", "scaled_dot_product_attention"), ATTENTION),
        **dict.fromkeys(("add", "mul"), ELEMENTS),
        **dict.fromkeys(("interpolate", "upsample"), INTERPOLATION),
        "baddbmm": TARGET,
    }
    return kinds.get(name, ACTIVATION_CALL)


def _with_rest(counts: Counter, total: int) -> Counts:
    """The counts, and what they lack of the total, so that they add up to it."""
    counts[OTHER] += total - sum(counts.values())
    return {kind: int(macs) for kind, macs in counts.items() if macs}


@contextmanager
def _replaced(mapping: dict, replace: Callable) -> Iterator[None]:
    """A mapping whose values are replaced by `replace(key, value)` for a while."""
    saved = dict(mapping)
    mapping.update({key: replace(key, value) for key, value in saved.items()})
    try:
        yield
    finally:
        mapping.update(saved)


def _image(model: nn.Module, height: int, width: int) -> Tensor:
    return torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
