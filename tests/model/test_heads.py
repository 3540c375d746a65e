"""Heads: the target network's weights are generated for each image, or learned once for all."""

from itertools import pairwise

import pytest
import tiny
import torch
from torch import nn

from iqa.model.architecture import describe
from iqa.model.heads import HEADS
from iqa.model.hyperiqa import TARGET_INPUTS, HyperIQA, look_inside
from iqa.model.params import UNREAD
from iqa.model.pooling import means
from iqa.training import schedules
from iqa.training.fit import fit
from iqa.training.identity import fit_identity

PIXELS = torch.randint(0, 256, (3, 3, 96, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CHANNELS = 240  # of the demo's four maps
OTHERS = {  # another value of each parameter that some head does not read
    **{"fusion": "attention", "fpn_channels": 32, "cbam": False, "cbam_reduction": 4, "attention_width": 8},
    **{"attention_dropout": 0.1, "semantic_widths": [8], "semantic_channels": 8, "semantic_grid": 2},
    **{"semantic_dropout": 0.2, "hypernet_epochs": 1, "target_input": "pooled", "lda_channels": [4, 4, 4]},
    **{"lda_features": 8, "lda_grids": [2, 2, 2, 1], "lda_group": "backbone", "target_widths": [64, 8]},
    **{"dropout": 0.3, "dropout_layers": 1},
}


def build(**changes):
    torch.manual_seed(0)
    return HyperIQA(tiny.demo(**changes).architecture()).eval()


def test_all_heads_but_the_papers_say_what_they_do_not_read():
    assert list(HEADS) == ["hyper", *UNREAD]
    assert OTHERS.keys() == frozenset.union(*UNREAD.values())


@pytest.mark.parametrize("target_input", TARGET_INPUTS)
def test_a_static_head_is_a_plain_network_on_the_same_input(target_input):
    first = CHANNELS if target_input == "means" else 64
    model = build(head="static", target_input=target_input, target_widths=[first, 16, 8])
    one, two, last = model.target.layers
    plain = nn.Sequential(one, nn.Sigmoid(), two, nn.Sigmoid(), last)
    with torch.no_grad():
        local = model.local(model.backbone(model.normalise(PIXELS)))
        assert local.shape == (3, first)
        assert torch.allclose(model(PIXELS), plain(local).flatten(), atol=1e-6)


def test_a_linear_head_is_one_linear_map_of_the_standardised_means_of_all_maps():
    model = build(head="linear").train()
    (layer,) = model.target.layers
    with torch.no_grad():
        pooled = means(model.backbone(model.normalise(PIXELS)))
        standardised = (pooled - pooled.mean(0)) / (pooled.var(0, correction=0) + 1e-5).sqrt()
        assert torch.allclose(model(PIXELS), layer(standardised).flatten(), atol=1e-4)
    assert torch.allclose(model.local.running_mean, pooled.mean(0) / 10)  # of which a batch moves a tenth
    model(PIXELS[:1])  # a batch of one image has no deviation, and is standardised as in evaluation
    assert torch.allclose(model.local.running_mean, pooled.mean(0) / 10)
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "target", "local"}


@pytest.mark.parametrize("head", ["static", "linear"])
def test_scores_begin_around_the_middle_of_the_scale(head):
    scores = [build(head=head)(PIXELS).detach() for _ in range(5)]
    assert abs(torch.cat(scores).mean() - 0.5) < 0.3


@pytest.mark.parametrize("head", HEADS)
def test_only_a_hyper_network_gives_images_weights_of_their_own(head):
    found = look_inside(build(head=head), PIXELS)
    assert (found.generated[0] == found.generated[1]).all() == (head != "hyper")
    assert found.scores.unique().numel() == 3 and found.scale_weights is None


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_of_a_head_learns_and_belongs_to_a_group(head):
    model = build(head=head).train()
    model(PIXELS).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    groups = schedules.optimizer(model, tiny.demo(lr_ratio=3.0)).param_groups
    rates = {id(parameter): group["lr"] / 2e-3 for group in groups for parameter in group["params"]}
    own = model.hyper if head == "hyper" else model.target
    assert len(rates) == len(list(model.parameters())) and {rates[id(each)] for each in own.parameters()} == {3.0}
    biases = {id(each) for each in own.parameters() if each.ndim == 1}
    assert biases <= {id(each) for group in groups if not group["weight_decay"] for each in group["params"]}


def test_dropout_acts_on_a_static_target_network_while_it_learns():
    model = build(head="static", dropout=0.5).train()
    assert not torch.equal(model(PIXELS), model(PIXELS)) and torch.equal(model.eval()(PIXELS), model(PIXELS))


def test_a_static_head_begins_with_different_scores_of_images_that_lie_near_the_scale():
    scores = look_inside(build(head="static"), PIXELS).scores
    assert scores.std() > 1e-2 and scores.abs().max() < 1


@pytest.mark.parametrize(("head", "key"), [(head, key) for head in UNREAD for key in sorted(UNREAD[head])])
def test_what_a_head_does_not_read_changes_nothing_and_does_not_count(head, key):
    plain, other = tiny.demo(head=head), tiny.demo(head=head, **{key: OTHERS[key]})
    with torch.no_grad():
        assert torch.equal(build(head=head)(PIXELS), build(head=head, **{key: OTHERS[key]})(PIXELS))
    assert fit_identity(plain, {}) == fit_identity(other, {}) and plain.deciding() == other.deciding()
    assert plain.by_group() == other.by_group() and key not in str(plain.by_group().values())


@pytest.mark.parametrize("key", sorted({"fusion", "target_widths", "hypernet_epochs"}))
def test_what_a_hyper_network_reads_counts(key):
    plain, other = tiny.demo(), tiny.demo(**{key: OTHERS[key]})
    assert fit_identity(plain, {})["values"] != fit_identity(other, {})["values"]
    assert plain.by_group() != other.by_group()


@pytest.mark.parametrize(
    ("head", "parts", "name", "widths"),
    [
        ("static", ["backbone", "local", "target"], "Static target network", [64, 32, 16, 8, 4, 1]),
        ("linear", ["backbone", "local", "target"], "Linear map of the levels", [CHANNELS, 1]),
    ],
)
def test_the_description_of_a_head_without_content_path(head, parts, name, widths):
    model = build(head=head)
    found = describe(model, 96, 96)
    assert [part["name"] for part in found["parts"]] == parts and found["name"] == name
    assert found["head"] == head and found["fusion"] is None and found["target_widths"] == widths
    assert found["generated_weights"] == 0 and not any(level["fused"] for level in found["levels"])
    learned = sum(a * b + b for a, b in pairwise(widths))
    assert found["parts"][-1]["parameters"] == learned
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]


@pytest.mark.parametrize("head", UNREAD)
def test_a_head_without_hyper_network_is_fitted_and_read_again(head, tmp_path):
    params = tiny.PARAMS.model_copy(update={"head": head, "epochs": 2, "hypernet_epochs": 1})
    history = fit(params, tiny.database(), tmp_path, {})
    assert history[1]["train_loss"] != history[0]["train_loss"]
    state = torch.load(tmp_path / "best.pt", weights_only=True)["state_dict"]
    assert any(name.startswith("target.") for name in state) and not any("hyper" in name for name in state)
