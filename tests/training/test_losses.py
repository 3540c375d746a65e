import doctest

import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from iqa.training import losses
from iqa.training.losses import fidelity, l1, l2, plcc, rank, ranking, ranking_all, total
from iqa.training.params import TrainParams


def batch(size: int = 7, seed: int = 0, dtype=torch.float64, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Random predictions that require a gradient, and targets of which two are equal."""
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(size, generator=generator, dtype=dtype).to(device).requires_grad_()
    target = torch.randn(size, generator=generator, dtype=dtype)
    target[-1] = target[0]
    return prediction, target.to(device)


def ranking_pair_by_pair(prediction: list[float], target: list[float], margin: float) -> float:
    """The definition, one ordered pair at a time."""
    terms = [
        max(0.0, margin - np.sign(target[i] - target[j]) * (prediction[i] - prediction[j]))
        for i in range(len(target))
        for j in range(len(target))
        if target[i] != target[j]
    ]
    return sum(terms) / len(terms)


MARGIN = {"rank_margin": 0.1, "rank_gap": 0.0}
LOSSES = {
    "l1": l1,
    "l2": l2,
    "plcc": plcc,
    "fidelity": fidelity,
    "ranking": lambda prediction, target: ranking(prediction, target, 0.3),
    "ranking_all": lambda prediction, target: ranking_all(prediction, target, 0.3),
    "rank": rank,
    "total": lambda prediction, target: total(prediction, target, {"l1": 1, "plcc": 0.2, "ranking": 0.5}, MARGIN)[
        "total"
    ],
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


def test_the_examples_in_the_docstrings_are_right():
    assert doctest.testmod(losses).failed == 0


def test_l1_is_the_mean_absolute_error():
    prediction, target = batch()
    expected = np.abs(prediction.detach().numpy() - target.numpy()).mean()
    assert l1(prediction, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", [0.0, 0.1, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_ranking_agrees_with_its_definition_pair_by_pair(margin, seed):
    prediction, target = batch(seed=seed)
    expected = ranking_pair_by_pair(prediction.tolist(), target.tolist(), margin)
    assert ranking(prediction, target, margin).item() == pytest.approx(expected)


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0])
def test_a_gap_leaves_out_the_pairs_of_similar_quality(gap):
    prediction, target = batch()
    pairs = [(p - q, t - u) for p, t in zip(prediction, target, strict=True)
             for q, u in zip(prediction, target, strict=True) if abs(t - u) > gap]  # fmt: skip
    expected = sum(max(0.0, 0.5 - np.sign(u.item()) * p.item()) for p, u in pairs) / len(pairs)
    assert ranking(prediction, target, 0.5, gap).item() == pytest.approx(expected)
    assert ranking(prediction, target, 0.5, 100.0).item() == 0


def test_the_mean_over_all_pairs_counts_ties_with_the_margin():
    """Five images of which two tie, as the documents S002 and S004 define the term: other values for one batch."""
    prediction, target = batch(5)
    count = sum(a != b for a in target.tolist() for b in target.tolist())
    masked, whole = ranking(prediction, target, 0.1).item(), ranking_all(prediction, target, 0.1).item()
    assert count == 18 and whole == pytest.approx((18 * masked + 7 * 0.1) / 25) and whole != pytest.approx(masked)


def test_rank_agrees_with_its_definition_pair_by_pair():
    prediction, target = batch()
    predicted, wanted = prediction.tolist(), target.tolist()
    terms = [
        max(0.0, abs(p - q) - (1 if p >= q else -1) * (t - u))
        for p, t in zip(predicted, wanted, strict=True)
        for q, u in zip(predicted, wanted, strict=True)
        if t != u
    ]
    assert rank(prediction, target).item() == pytest.approx(sum(terms) / len(terms))
    assert rank(target, target).item() == 0 and rank(target / 2, target).item() == 0 and rank(2 * target, target) > 0


def test_ranking_values_worked_out_by_hand():
    target = torch.tensor([1.0, 2.0, 3.0])
    # in order by more than the margin: nothing to pay
    assert ranking(torch.tensor([0.0, 0.5, 1.0]), target, 0.1).item() == 0
    # reversed by 1, 1 and 2: each pair pays its gap and the margin
    assert ranking(torch.tensor([2.0, 1.0, 0.0]), target, 0.1).item() == pytest.approx((1.1 + 1.1 + 2.1) / 3)
    # equal predictions pay the margin
    assert ranking(torch.zeros(3), target, 0.1).item() == pytest.approx(0.1)
    # the pair of equal targets does not count
    assert ranking(torch.tensor([5.0, 0.0, 6.0]), torch.tensor([1.0, 1.0, 2.0]), 2.0).item() == pytest.approx(0.5)


def test_l2_plcc_and_fidelity_agree_with_numpy_and_scipy():
    prediction, target = batch(size=40)
    p, t = prediction.detach().numpy(), target.numpy()
    assert l2(prediction, target).item() == pytest.approx(np.mean((p - t) ** 2))
    assert plcc(prediction, target).item() == pytest.approx((1 - np.corrcoef(p, t)[0, 1]) / 2, rel=1e-6)
    pairs = [(i, j) for i in range(len(t)) for j in range(len(t)) if t[i] != t[j]]
    wins = stats.norm.cdf([(p[i] - p[j]) / np.sqrt(2) / 0.1 for i, j in pairs])
    truth = np.array([float(t[i] > t[j]) for i, j in pairs])
    expected = np.mean(1 - np.sqrt(wins * truth) - np.sqrt((1 - wins) * (1 - truth)))
    assert fidelity(prediction, target).item() == pytest.approx(expected, rel=1e-3)


def test_values_of_plcc_and_fidelity_worked_out_by_hand():
    rising = torch.tensor([1.0, 2.0, 3.0])
    assert plcc(10 * rising - 4, rising).item() == pytest.approx(0, abs=1e-6)
    assert plcc(-rising, rising).item() == pytest.approx(1, abs=1e-6)
    # equal predictions: either image is the better one with probability 1/2
    assert fidelity(torch.zeros(2), torch.tensor([1.0, 2.0])).item() == pytest.approx(1 - np.sqrt(0.5))
    assert fidelity(torch.tensor([5.0, 0.0]), torch.tensor([1.0, 2.0])).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("loss", [plcc, fidelity])
@pytest.mark.parametrize("target", [[0.5], [0.5, 0.5, 0.5]])
def test_without_different_targets_nothing_is_pulled(loss, target):
    prediction = torch.arange(float(len(target)), requires_grad=True)
    loss(prediction, torch.tensor(target)).backward()
    assert torch.equal(prediction.grad, torch.zeros(len(target)))


@pytest.mark.parametrize("loss", [plcc, fidelity])
def test_equal_predictions_are_pulled_in_the_right_direction_and_not_without_bounds(loss):
    prediction = torch.full((3,), 0.4, requires_grad=True)
    loss(prediction, torch.tensor([0.2, 0.5, 0.8])).backward()
    assert prediction.grad[0] > 0 > prediction.grad[2]
    assert prediction.grad.abs().max() < 1000


def test_losses_of_perfect_predictions_are_zero():
    _, target = batch()
    assert l1(target, target).item() == l2(target, target).item() == 0
    assert plcc(target, target).item() == pytest.approx(0, abs=1e-6)
    assert ranking(target, target, 0.0).item() == 0


def test_losses_agree_with_finite_differences(loss):
    prediction, target = batch()
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction)


def test_losses_do_not_depend_on_the_order_of_the_images(loss):
    prediction, target = batch()
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(1))
    assert loss(prediction[order], target[order]).item() == pytest.approx(loss(prediction, target).item())


def test_losses_are_the_same_when_scores_and_targets_are_negated(loss):
    prediction, target = batch()
    assert loss(-prediction, -target).item() == pytest.approx(loss(prediction, target).item())


def test_ranking_ignores_a_shift_of_the_predictions_and_monotone_maps_of_the_targets():
    prediction, target = batch()
    value = ranking(prediction, target, 0.3).item()
    assert ranking(prediction + 10, target, 0.3).item() == pytest.approx(value)
    assert ranking(prediction, target.exp(), 0.3).item() == pytest.approx(value)


@pytest.mark.parametrize("target", [[0.5], [0.5, 0.5, 0.5]])
def test_ranking_without_a_pair_to_rank_is_zero_with_zero_gradient(target):
    prediction = torch.arange(float(len(target)), requires_grad=True)
    value = ranking(prediction, torch.tensor(target), 0.1)
    value.backward()
    assert value.item() == 0
    assert torch.equal(prediction.grad, torch.zeros(len(target)))


def test_the_gradient_of_ranking_pulls_a_reversed_pair_apart_in_the_right_direction():
    prediction = torch.tensor([1.0, 0.0], requires_grad=True)
    ranking(prediction, torch.tensor([0.0, 1.0]), 0.1).backward()
    assert prediction.grad.tolist() == [1.0, -1.0]


def test_a_batch_of_one_can_be_trained_on():
    prediction = torch.tensor([0.2], requires_grad=True)
    terms = total(prediction, torch.tensor([0.5]), {"l1": 1, "ranking": 0.3, "plcc": 1, "fidelity": 1}, MARGIN)
    terms["total"].backward()
    assert terms["total"].item() == pytest.approx(0.3 + 0.5)  # PLCC: nothing correlates
    assert prediction.grad.item() == -1


def test_the_total_is_the_weighted_sum_of_its_terms():
    prediction, target = batch()
    terms = total(prediction, target, {"l1": 1.0, "ranking": 0.3, "l2": 2.0}, MARGIN)
    assert list(terms) == ["l1", "ranking", "l2", "total"]
    assert torch.equal(terms["l1"], l1(prediction, target))
    assert torch.equal(terms["ranking"], ranking(prediction, target, 0.1))
    assert terms["total"].item() == pytest.approx(
        (terms["l1"] + 0.3 * terms["ranking"] + 2 * l2(prediction, target)).item()
    )


def test_a_sum_of_one_term_has_its_value_and_gradient():
    prediction, target = batch()
    value = total(prediction, target, {"l1": 1.0}, {})["total"]
    (gradient,) = torch.autograd.grad(value, prediction)
    (expected,) = torch.autograd.grad(l1(prediction, target), prediction)
    assert value.item() == l1(prediction, target).item()
    assert torch.equal(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_finite_and_computed_in_at_least_32_bits(loss, dtype, device):
    prediction, target = batch(size=400, dtype=torch.float32, device=device)
    prediction, target = prediction.detach().to(dtype).requires_grad_(), target.to(dtype)
    value = loss(prediction, target)
    value.backward()
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    assert prediction.grad.isfinite().all()
    assert value.item() == pytest.approx(loss(prediction.double(), target.double()).item(), rel=1e-5)


def test_a_prediction_that_is_not_a_number_is_not_hidden(loss):
    prediction, target = batch()
    prediction = prediction.detach()
    prediction[2] = float("nan")
    assert loss(prediction, target).isnan()


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((3, 1), (3, 1)), ((3, 1), (3,)), ((), ()), ((0,), (0,))])
def test_wrong_shapes_are_refused(loss, shapes):
    prediction, target = shapes
    with pytest.raises(ValueError, match="vectors of one length"):
        loss(torch.zeros(prediction), torch.zeros(target))


def test_an_unknown_loss_and_a_negative_margin_are_refused():
    with pytest.raises(ValueError, match="unknown loss 'l3'; known are: l1, l2, ranking"):
        total(*batch(), {"l1": 1, "l3": 1}, {})
    with pytest.raises(ValueError, match="a training loss needs a term"):
        total(*batch(), {}, {})
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        ranking(*batch(), -1)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_is_not_above_0_is_refused(weight):
    with pytest.raises(ValueError, match="the weight of the loss 'l1' must be above 0"):
        total(*batch(), {"l1": weight, "l2": 1.0}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "must be above 0") for text in ("0*l1", "0.0*l1 + plcc", "l1 + 0*plcc", "1e-999*l1", "1e999*l1")),
        *((text, "a loss is a sum such as") for text in ("-1*l1", "1.2.3*l1", "l1 - plcc", "l1 +", "l1 + l1")),
    ],
)
def test_a_loss_with_such_a_weight_is_no_parameter(text, message):
    with pytest.raises(ValueError, match=message):
        tiny.demo(loss=text)


@pytest.mark.parametrize("std", [[0.1, 0.1, 0.0], [0.1, -0.1, 0.1]])
def test_a_deviation_that_is_not_above_0_is_no_parameter(std):
    with pytest.raises(ValueError, match="std"):
        tiny.demo(std=std)


def test_a_loss_is_described_with_the_words_weights_and_options_of_its_terms():
    l1_term, term = losses.describe({"l1": 1.0, "ranking": 0.3}, MARGIN | {"lr": 1.0})["terms"]
    assert (l1_term["title"], l1_term["options"], l1_term["where"]) == ("mean absolute error", [], "")
    assert (term["name"], term["weight"], term["source"]) == ("ranking", 0.3, "[@liu2017rankiqa]")
    assert term["options"][0] == {"words": "the margin $m$", "value": 0.1} and "m" in term["formula"]
    assert term["options"][1]["value"] == 0.0


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_has_words_for_the_report_and_takes_parameters_that_a_training_has(name):
    loss = losses.LOSSES[name]
    assert loss.name == name and loss.title and loss.formula
    assert loss.options.keys() <= TrainParams.model_fields.keys()
