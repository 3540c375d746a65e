"""What a model makes on its way to a score is what its score is made from."""

import doctest

import pytest
import tiny
import torch

from iqa.model import hyperiqa
from iqa.model.fusion import FUSIONS
from iqa.model.heads import target_network
from iqa.model.hyperiqa import HyperIQA, look_inside

PIXELS = torch.randint(0, 256, (3, 3, 72, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=FUSIONS)
def model(request):
    torch.manual_seed(0)
    return HyperIQA(tiny.PARAMS.architecture().model_copy(update={"fusion": request.param})).eval()


def test_the_examples_in_the_docstrings_hold():
    assert doctest.testmod(hyperiqa).failed == 0


def test_the_scores_are_those_of_the_model_and_follow_from_the_generated_network(model):
    found = look_inside(model, PIXELS)
    with torch.no_grad():
        assert torch.equal(found.scores, model(PIXELS))
        assert torch.allclose(target_network(model.local(found.maps), found.layers), found.scores, atol=1e-6)
    assert found.generated.shape == (3, sum(part[0].numel() for layer in found.layers for part in layer))


def test_only_attention_fusion_weighs_the_scales_and_its_weights_add_up_to_one(model):
    weights = look_inside(model, PIXELS).scale_weights
    if model.params.fusion == "attention":
        assert weights.shape == (3, 4)
        assert torch.allclose(weights.sum(dim=1), torch.ones(3))
    else:
        assert weights is None


def test_a_model_that_was_training_goes_on_training(model):
    look_inside(model.train(), PIXELS)
    assert model.training
