"""Learning rates over the epochs, against values worked out by hand and PyTorch's own schedulers."""

import doctest
import warnings

import pytest
import tiny
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts

from iqa.model.hyperiqa import HyperIQA
from iqa.training import schedules
from iqa.training.schedules import factor, optimizer, rates, scheduler


@pytest.fixture(scope="module")
def model():
    return HyperIQA(tiny.PARAMS.architecture())


def followed(model, params, steps):
    """Rates of the backbone before each of the steps."""
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*")
    stepped = optimizer(model, params)
    plan = scheduler(stepped, params, steps)
    seen = []
    for _ in range(steps):
        seen.append(rates(stepped)["lr_backbone"])
        plan.step()
    return seen


def test_the_examples_in_the_docstrings_are_right():
    assert doctest.testmod(schedules).failed == 0


def test_the_step_schedule_divides_all_rates_by_ten_every_n_epochs(model):
    params = tiny.PARAMS.model_copy(
        update={"schedule": "step", "schedule_epochs": 2, "epochs": 5, "lr": 1.0, "lr_ratio": 3.0}
    )
    expected = [1.0] * 4 + [0.1] * 4 + [0.01] * 2
    assert followed(model, params, 10) == pytest.approx(expected)
    stepped = optimizer(model, params)
    plan = scheduler(stepped, params, 10)
    for _ in range(4):
        plan.step()
    assert rates(stepped) == {"lr_backbone": pytest.approx(0.1), "lr_heads": pytest.approx(0.3)}


@pytest.mark.parametrize("final", [0.0, 0.01])
def test_the_cosine_is_pytorchs(model, final):
    params = tiny.PARAMS.model_copy(update={"schedule": "cosine", "final_lr": final, "epochs": 4, "lr": 1.0})
    weight = torch.nn.Parameter(torch.zeros(1))
    stepped = torch.optim.SGD([weight], lr=1.0)
    plan = CosineAnnealingLR(stepped, 12, eta_min=final)
    expected = []
    for _ in range(12):
        expected.append(stepped.param_groups[0]["lr"])
        stepped.step()
        plan.step()
    assert followed(model, params, 12) == pytest.approx(expected)


def test_restarts_are_pytorchs():
    stepped = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    plan = CosineAnnealingWarmRestarts(stepped, T_0=3, eta_min=0.1)
    for epoch in (0, 0.5, 1, 2.9, 3, 4.2, 6, 8.5):
        plan.step(epoch)
        assert factor("cosine_restarts", epoch, 9, 3, 0.1) == pytest.approx(stepped.param_groups[0]["lr"])


def test_a_cosine_never_rises(model):
    params = tiny.PARAMS.model_copy(update={"schedule": "cosine", "final_lr": 1.0, "lr": 5e-7})
    assert followed(model, params, 9) == pytest.approx([5e-7] * 9)


def test_a_constant_rate_stays_and_one_cycle_rises_and_falls(model):
    constant = tiny.PARAMS.model_copy(update={"schedule": "constant", "lr": 0.5})
    assert followed(model, constant, 6) == [0.5] * 6
    rising = followed(model, tiny.PARAMS.model_copy(update={"schedule": "one_cycle", "lr": 1.0, "epochs": 10}), 40)
    top = rising.index(max(rising))
    assert rising[0] == pytest.approx(1 / 25) and max(rising) == pytest.approx(1.0) and 4 <= top <= 6
    assert rising[:top] == sorted(rising[:top]) and rising[top:] == sorted(rising[top:], reverse=True)


def both(model, changes, steps):
    """Rates of backbone and heads before each of the steps, with base rates 1 and 10."""
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*before.*")
    params = tiny.PARAMS.model_copy(update={"lr": 1.0, "lr_ratio": 10.0} | changes)
    stepped = optimizer(model, params)
    plan = scheduler(stepped, params, steps)
    seen = []
    for _ in range(steps):
        seen.append(tuple(round(rate, 9) for rate in rates(stepped).values()))
        plan.step()
    return seen


def test_milestones_divide_the_rates_by_ten(model):
    changes = {"schedule": "milestones", "milestones": [1, 3], "epochs": 4}
    assert both(model, changes, 4) == [(1, 10), (0.1, 1), (0.1, 1), (0.01, 0.1)]


def test_the_ratio_of_the_heads_ends_and_their_schedule_can_be_their_own(model):
    """The published solver: heads at a tenth every 6 epochs, here 2, the backbone's rate constant, ratio 1 at last."""
    changes = {"schedule": "step", "schedule_epochs": 2, "schedule_group": "heads", "lr_ratio_epochs": 3, "epochs": 5}
    assert both(model, changes, 5) == [(1, 10), (1, 10), (1, 1), (1, 0.1), (1, 0.01)]


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "cosine_restarts"])
def test_any_schedule_can_follow_on_a_warm_up(model, schedule):
    changes = {"schedule": schedule, "epochs": 4, "schedule_epochs": 2}
    without, with_it = both(model, changes, 16), both(model, changes | {"warmup_epochs": 1.0}, 16)
    assert with_it[4:] == without[4:]
    assert [rate for rate, _ in with_it[:4]] == pytest.approx(
        [rate * part / 5 for (rate, _), part in zip(without, (1, 2, 3, 4), strict=False)]
    )


def test_a_cosine_ends_at_one_rate_for_both_groups_if_it_is_named(model):
    """`eta_min` of PyTorch, by epochs, as in the published solvers."""
    changes = {"schedule": "cosine", "schedule_interval": "epoch", "min_lr": 0.5, "epochs": 3}
    stepped = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 10.0)], lr=1.0
    )
    plan, expected = CosineAnnealingLR(stepped, 3, eta_min=0.5), []
    for _ in range(3):
        expected += [[group["lr"] for group in stepped.param_groups]] * 2
        stepped.step()
        plan.step()
    for rates_here, rates_there in zip(both(model, changes, 6), expected, strict=True):
        assert rates_here == pytest.approx(tuple(rates_there))


def test_what_the_target_network_reads_belongs_to_the_group_that_is_named(model):
    for group in ("heads", "backbone"):
        stepped = optimizer(model, tiny.PARAMS.model_copy(update={"lda_group": group}))
        ids = {id(parameter) for part in stepped.param_groups if part["name"] == group for parameter in part["params"]}
        assert all(id(parameter) in ids for parameter in model.local.parameters())


def test_all_parameters_decay_if_they_are_told_to(model):
    stepped = optimizer(model, tiny.PARAMS.model_copy(update={"decay_all": True, "weight_decay": 0.1}))
    assert [(group["name"], group["weight_decay"]) for group in stepped.param_groups] == [
        ("backbone", 0.1),
        ("heads", 0.1),
    ]


def test_every_parameter_is_in_one_group_and_small_ones_do_not_decay(model):
    stepped = optimizer(model, tiny.PARAMS.model_copy(update={"weight_decay": 0.1}))
    grouped = [parameter for group in stepped.param_groups for parameter in group["params"]]
    assert len(grouped) == len(set(map(id, grouped))) == len(list(model.parameters()))
    assert {group["weight_decay"] for group in stepped.param_groups} == {0.0, 0.1}
    for group in stepped.param_groups:
        assert all((parameter.ndim > 1) == (group["weight_decay"] > 0) for parameter in group["params"])


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_optimizer_is_the_one_that_was_named(model, name, kind):
    assert type(optimizer(model, tiny.PARAMS.model_copy(update={"optimizer": name}))) is kind
