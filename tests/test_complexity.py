"""Cost of a model, against counts by hand."""

import pytest
import torch
from torch import nn

from iqa.complexity import complexity, latency, macs_ptflops, macs_thop, macs_torch
from iqa.config import ModelParams, TrainParams
from iqa.model import HyperIQA


class OneConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1, bias=False)

    def forward(self, pixels):
        return self.conv(pixels)


@pytest.mark.parametrize("count", [macs_torch, macs_ptflops, macs_thop])
def test_every_counter_agrees_on_a_convolution(count):
    assert count(OneConvolution(), 8, 16) == 3 * 5 * 9 * 8 * 16


def test_parts_add_up_and_generated_weights_are_counted_apart():
    params = TrainParams()
    found = complexity(HyperIQA(params.architecture()).eval(), 96, 96)
    assert found["backbone_parameters"] + found["head_parameters"] == found["parameters"]
    assert found["generated_weights"] == 64 * 32 + 32 + 32 * 16 + 16 + 16 * 8 + 8 + 8 * 4 + 4 + 4 + 1


class OneProduct(nn.Module):
    """A product of two computed matrices, as in the target network: no module holds its weights."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels):
        matrix = pixels[:, 0] * self.scale  # (B, H, W)
        return torch.bmm(matrix, matrix.transpose(1, 2))


def test_thop_does_not_see_products_that_no_module_holds():
    assert macs_torch(OneProduct(), 8, 16) == 8 * 8 * 16
    assert macs_thop(OneProduct(), 8, 16) == 0


@pytest.mark.slow
def test_hyperiqa_with_resnet50_costs_what_is_known_of_it():
    model = HyperIQA(ModelParams()).eval()
    # the published count convolves whole maps in the LDA modules; here they are pooled first, with the same result
    levels = ((16, 256, 56, 8), (32, 512, 28, 4), (64, 1024, 14, 2))
    saved = sum(out * inside * (side**2 - grid**2) for out, inside, side, grid in levels)
    assert (macs_ptflops(model, 224, 224) + saved) / 1e9 == pytest.approx(4.34, abs=0.01)
    assert (macs_torch(model, 224, 224) + saved) / 1e9 == pytest.approx(4.29, abs=0.01)  # without normalisations


def test_latency_describes_its_own_sample(device):
    model = HyperIQA(TrainParams().architecture()).eval().to(device)
    found = latency(model, 64, 64, batch_size=2, warmup=1, repeats=5)
    assert 0 < found["min_ms"] <= found["median_ms"] <= found["p95_ms"] <= found["max_ms"]
    assert found["images_per_second"] == pytest.approx(2000 / found["mean_ms"])
