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
