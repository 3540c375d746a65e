"""Cost of a model, against counts by hand."""

import sys
from itertools import pairwise

import pytest
import tiny
import torch
from notebook_section import run_section
from torch import nn
from torch.nn import functional

from iqa.analysis import complexity
from iqa.analysis.complexity import ATTENTION, BIAS, CONVOLUTION, LINEAR, NORM, TARGET
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import ModelParams

COUNTERS = ("estimated", "torch", "ptflops", "thop")
SWIN = tiny.demo(
    backbone="swin_tiny_patch4_window7_224",
    backbone_args={"embed_dim": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
)


def count(model, height, width, names=COUNTERS):
    """MACs by counter and kind."""
    return {name: complexity.COUNTERS[name](model, height, width) for name in names}


def counters(counted):
    """The table of kinds as the cells of `04_complexity` make it."""
    return run_section("04_complexity.ipynb", "By kind of operation", counted={"run": counted})["counters"]


def parts_of(model, height, width):
    """The table of parts as the cells of `04_complexity` make it."""
    names = run_section("04_complexity.ipynb", "Part by part", models={"run": model}, size=(height, width))
    return names["parts"].set_index("part")


def macs_ptflops(model, height, width):
    return sum(complexity.by_ptflops(model, height, width).values())


@pytest.fixture(scope="module")
def demo() -> HyperIQA:
    return complexity.build(tiny.demo())


@pytest.fixture(scope="module")
def counted(demo):
    return count(demo, 96, 96)


class Wrapped(nn.Module):
    """A model of one operation."""

    def __init__(self, layer=None, function=None):
        super().__init__()
        self.layer = layer or nn.Identity()
        self.function = function or (lambda x: x)
        self.unused = nn.Parameter(torch.zeros(1))  # tells the counters a device

    def forward(self, pixels):
        return self.function(self.layer(pixels))


def seen(model: nn.Module, height: int = 8, width: int = 16) -> dict[str, dict[str, int]]:
    """MACs by counter and kind, without kinds of which there are none."""
    found = count(model, height, width)
    return {name: {kind: macs for kind, macs in counts.items() if macs} for name, counts in found.items()}


def test_every_counter_agrees_on_a_convolution_whose_bias_ptflops_adds():
    macs, biases = 3 * 5 * 9 * 8 * 16, 5 * 8 * 16
    found = seen(Wrapped(nn.Conv2d(3, 5, 3, padding=1)))
    assert found.pop("ptflops") == {CONVOLUTION: macs, BIAS: biases}
    assert found == {key: {CONVOLUTION: macs} for key in ("estimated", "torch", "thop")}


def test_groups_and_strides_leave_less_to_multiply():
    found = seen(Wrapped(nn.Conv2d(3, 6, 3, padding=1, stride=2, groups=3, bias=False)))
    assert found == {key: {CONVOLUTION: 6 * 4 * 8 * 1 * 9} for key in COUNTERS}


def test_every_counter_agrees_on_a_linear_map():
    found = seen(Wrapped(nn.Linear(16, 7)))
    assert found.pop("ptflops") == {LINEAR: 3 * 8 * 16 * 7, BIAS: 3 * 8 * 7}
    assert found == {key: {LINEAR: 3 * 8 * 16 * 7} for key in ("estimated", "torch", "thop")}


class Attention(nn.Module):
    """Two heads of attention over the rows of an image, inside a part as in a backbone."""

    def __init__(self, functional_call: bool):
        super().__init__()
        self.functional_call = functional_call

    def forward(self, x):
        x = x.mean(dim=1, keepdim=True).expand(-1, 2, -1, -1)  # (B, heads, n, d)
        if self.functional_call:
            return functional.scaled_dot_product_attention(x, x, x)
        return (x @ x.transpose(2, 3)).softmax(dim=-1) @ x


@pytest.mark.parametrize("functional_call", [True, False])
def test_products_of_attention_are_missed_by_counters_of_modules(functional_call):
    found = seen(Wrapped(Attention(functional_call)))
    macs = 2 * 2 * 8 * 8 * 16  # both products of two heads: 8 queries and keys of width 16
    assert found["estimated"] == found["torch"] == {ATTENTION: macs}
    assert ATTENTION not in found["ptflops"] and ATTENTION not in found["thop"]


def test_a_target_network_is_missed_by_thop_alone():
    def target(pixels):
        x = pixels[:, 0]  # (B, 8, 16)
        return torch.baddbmm(torch.zeros(1, 8, 8), x, x.transpose(1, 2))

    found = seen(Wrapped(function=target))
    assert found["estimated"] == found["torch"] == {TARGET: 8 * 8 * 16}
    assert found["ptflops"] == {TARGET: 8 * 8 * 16, BIAS: 8 * 8}
    assert found["thop"] == {}


def test_normalisations_and_activations_are_what_ptflops_and_thop_add():
    norm, relu = seen(Wrapped(nn.BatchNorm2d(3))), seen(Wrapped(nn.ReLU()))
    values = 3 * 8 * 16
    assert norm == {"estimated": {}, "torch": {}, "ptflops": {NORM: 2 * values}, "thop": {NORM: 4 * values}}
    twice = {complexity.ACTIVATION: values, complexity.ACTIVATION_CALL: values}  # the module and what it calls
    assert relu == {"estimated": {}, "torch": {}, "ptflops": twice, "thop": {}}


def test_the_kinds_of_each_counter_add_up_to_what_it_says_itself(demo, counted):
    from ptflops import get_model_complexity_info
    from thop import profile

    table = counters(counted).set_index("kind")
    assert table["macs_ptflops"].drop("total").sum() == table.loc["total", "macs_ptflops"]
    size = {"as_strings": False, "print_per_layer_stat": False, "backend": "pytorch"}
    assert (
        table.loc["total", "macs_ptflops"]
        == get_model_complexity_info(complexity.build(tiny.demo()), (3, 96, 96), **size)[0]
    )
    told = profile(complexity.build(tiny.demo()), (torch.zeros(1, 3, 96, 96),), verbose=False)[0]
    assert table["macs_thop"].drop("total").sum() == table.loc["total", "macs_thop"] == told
    assert complexity.OTHER not in table.index


def test_counting_leaves_the_model_and_ptflops_as_they_were(demo):
    from ptflops.pytorch_ops import FUNCTIONAL_MAPPING, TENSOR_OPS_MAPPING

    before = dict(FUNCTIONAL_MAPPING), dict(TENSOR_OPS_MAPPING), list(demo.state_dict()), torch.baddbmm
    assert macs_ptflops(demo, 64, 64) == macs_ptflops(demo, 64, 64)
    complexity.by_thop(demo, 64, 64)
    assert before == (FUNCTIONAL_MAPPING, TENSOR_OPS_MAPPING, list(demo.state_dict()), torch.baddbmm)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in demo.modules())


def test_the_table_says_which_counters_miss_which_kind(counted):
    table = counters(counted).set_index("kind")
    assert table["missed_by"].to_dict().items() >= {CONVOLUTION: "", LINEAR: "", TARGET: "thop", NORM: "torch"}.items()
    assert (
        table.loc[TARGET, "macs_estimated"] == 64 * 32 + 32 * 16 + 16 * 8 + 8 * 4 + 4 == table.loc[TARGET, "macs_torch"]
    )


def test_a_transformers_estimate_agrees_with_what_is_executed():
    found = count(complexity.build(SWIN), 224, 224)
    assert found["estimated"] == found["torch"]
    table = counters(found).set_index("kind")
    windows = [56 * 56, 28 * 28, 14 * 14, 7 * 7]
    products = sum(2 * places * 49 * 12 * 2**level for level, places in enumerate(windows))  # windows of 7x7
    assert table.loc[ATTENTION, "macs_estimated"] == products
    assert table.loc[ATTENTION, "missed_by"] == "ptflops, thop" and table.loc[TARGET, "missed_by"] == "thop"


def test_parts_add_up_and_generated_weights_are_counted_apart(demo, counted):
    found = complexity.complexity(demo, 96, 96, counted)
    assert found["backbone_parameters"] + found["head_parameters"] == found["parameters"]
    assert found["generated_weights"] == 64 * 32 + 32 + 32 * 16 + 16 + 16 * 8 + 8 + 8 * 4 + 4 + 4 + 1
    parts = parts_of(demo, 96, 96)
    assert parts["parameters"].sum() == parts["trainable_parameters"].sum() == found["parameters"]
    assert parts["macs_torch"].sum() == found["macs_torch"] and parts["macs_torch"].equals(parts["macs_estimated"])
    semantic = (240 * 64 + 64 * 48) * 4 * 4  # 1x1 convolutions on a 4x4 grid
    assert parts.loc["semantic", "macs_torch"] == semantic and parts.loc["target", "parameters"] == 0


def test_a_frozen_backbone_is_not_trained():
    model = complexity.build(tiny.demo(freeze_backbone=True))
    found = complexity.complexity(model, 64, 64, {})
    assert found["trainable_parameters"] == found["head_parameters"] < found["parameters"]


def test_twice_the_pixels_cost_twice_the_convolutions_of_the_backbone(demo):
    small, large = (parts_of(demo, 64, width)["macs_torch"] for width in (64, 128))
    assert large["backbone"] == 2 * small["backbone"] and large["hyper"] == small["hyper"]


def test_quick_counts_need_neither_ptflops_nor_thop(demo, counted, monkeypatch):
    for name in ("ptflops", "thop"):
        monkeypatch.setitem(sys.modules, name, None)
    quick = count(demo, 96, 96, complexity.QUICK)
    assert quick == {name: counted[name] for name in ("estimated", "torch")}
    assert "macs_thop" not in complexity.complexity(demo, 96, 96, quick)
    with pytest.raises(ModuleNotFoundError):
        count(demo, 96, 96)


@pytest.mark.slow
def test_hyperiqa_with_resnet50_costs_what_is_known_of_it():
    model = HyperIQA(ModelParams()).eval()
    # the published count convolves whole maps in the LDA modules; here they are pooled first, with the same result
    levels = ((16, 256, 56, 8), (32, 512, 28, 4), (64, 1024, 14, 2))
    saved = sum(out * inside * (side**2 - grid**2) for out, inside, side, grid in levels)
    assert (macs_ptflops(model, 224, 224) + saved) / 1e9 == pytest.approx(4.34, abs=0.01)
    assert (complexity.macs_torch(model, 224, 224) + saved) / 1e9 == pytest.approx(4.29, abs=0.01)  # no normalisations


@pytest.mark.parametrize("head", ["static", "linear"])
def test_a_head_without_a_hyper_network_is_counted_with_its_weights_as_parameters(head):
    model = complexity.build(tiny.demo(head=head))
    widths = [64, 32, 16, 8, 4, 1] if head == "static" else [240, 1]
    parts, found = parts_of(model, 96, 96), complexity.complexity(model, 96, 96, {})
    assert found["generated_weights"] == 0 and parts["parameters"].sum() == found["parameters"]
    assert parts.loc["target", "parameters"] == sum(a * b + b for a, b in pairwise(widths))
    assert parts.loc["target", "macs_torch"] == sum(a * b for a, b in pairwise(widths))
    assert parts["macs_torch"].equals(parts["macs_estimated"])
