"""Training losses of predicted scores, as pure functions of a batch, and their weighted sum.

All take predictions and targets of shape (B,) on the normalised scale (0..1, 1 is best), B >= 1, and return a scalar
>= 0 that is differentiable in the predictions; other shapes raise ValueError. They compute in at least float32, also
under mixed precision.

A loss is registered with what the report says of it: `title` and `formula` (TeX), and where it needs them `source` (a
citation), `where` (TeX that explains symbols), `note` (a sentence) and `options`: the further parameters of the
training that it takes, in this order, with the words for each. `sees_scale` is false for a loss that is the same for
predictions which are all shifted: it leaves them without zero and unit.
"""

from typing import Any

import torch
from torch import Tensor

from iqa.study.registry import Registry

LOSSES = Registry("loss", source="", where="", note="", options={}, sees_scale=True)
PAIRS = r"P = \{(i,j) : q_i > q_j\},\ N = |P|"
TINY = 1e-8  # keeps roots away from 0, where their slope is infinite
FLAT = 1e-6  # added to sums of squares, so that nearly constant predictions do not get a gradient without bounds


@LOSSES.add("l1", title="mean absolute error", formula=r"\frac{1}{B} \sum_{i=1}^{B} |\hat q_i - q_i|")
def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error `mean_i |p_i - t_i|`, in units of the scores. The loss of HyperIQA (Su et al. 2020).

    >>> l1(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor(1.)
    """
    prediction, target = _batch(prediction, target)
    return (prediction - target).abs().mean()


@LOSSES.add("l2", title="mean squared error", formula=r"\frac{1}{B} \sum_{i=1}^{B} (\hat q_i - q_i)^2")
def l2(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error `mean_i (p_i - t_i)^2`, in squared units of the scores.

    >>> l2(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 1.0]))
    tensor(2.5000)
    """
    prediction, target = _batch(prediction, target)
    return (prediction - target).square().mean()


@LOSSES.add(
    "ranking",
    title="pairwise ranking term",
    formula=r"\frac{1}{N} \sum_{(i,j) \in P} \max(0, m - \hat q_i + \hat q_j)",
    source="[@liu2017rankiqa]",
    where=PAIRS,
    note="Pairs of equal quality are masked: "
    "the ranking term only asks that the better image of a pair gets the higher score.",
    options={"rank_margin": "the margin $m$", "rank_gap": "the difference of quality above which pairs count"},
    sees_scale=False,
)
def ranking(prediction: Tensor, target: Tensor, margin: float, gap: float = 0.0) -> Tensor:
    """Pairwise ranking hinge: the mean of `max(0, margin - sign(t_i - t_j) (p_i - p_j))` over ordered pairs.

    Only pairs whose targets differ by more than `gap` count; a batch without one has loss 0 with gradient 0. The loss
    is 0 once every such pair is in the right order by at least `margin`. Both are >= 0, in units of the scores
    (ValueError if the margin is negative).

    Source: Liu, van de Weijer & Bagdanov, "RankIQA: learning from rankings for no-reference image quality assessment",
    ICCV 2017, section 3, taken over the pairs of a batch.

    >>> ranking(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 2.0]), margin=0.1)
    tensor(0.6000)
    """
    if margin < 0:
        raise ValueError(f"the margin of the ranking loss must not be negative, got {margin}")
    ordered_gap, counted = _pairs(prediction, target, gap)
    return (torch.relu(margin - ordered_gap) * counted).sum() / counted.sum().clamp(min=1)


@LOSSES.add(
    "ranking_all",
    title="pairwise ranking term over all pairs",
    formula=r"\frac{1}{B^2} \sum_{i,j} \max(0, m - \mathrm{sign}(q_i - q_j) (\hat q_i - \hat q_j))",
    note="Pairs of equal quality, and each image with itself, add the margin.",
    options={"rank_margin": "the margin $m$"},
    sees_scale=False,
)
def ranking_all(prediction: Tensor, target: Tensor, margin: float) -> Tensor:
    """`ranking` as document S002 prints it: the mean over all B^2 pairs, of which equal ones add the margin.

    Its gradient is that of `ranking` times the share of pairs with different targets.

    >>> ranking_all(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 2.0]), margin=0.1)
    tensor(0.3500)
    """
    ordered_gap, _ = _pairs(prediction, target)
    return torch.relu(margin - ordered_gap).mean()


@LOSSES.add(
    "rank",
    title="pairwise rank loss",
    formula=r"\frac{1}{2N} \sum_{i,j:\, q_i \neq q_j} "
    r"\max(0, |\hat q_i - \hat q_j| - \mathrm{sign}(\hat q_i - \hat q_j) (q_i - q_j))",
    where=PAIRS,
    note="Of a pair in the right order it asks that its scores lie no farther apart than its qualities.",
    sees_scale=False,
)
def rank(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over ordered pairs of `max(0, |p_i - p_j| - sign(p_i - p_j) (t_i - t_j))`, in units of the scores.

    Only pairs with different targets count; a batch without one has loss 0 with gradient 0. A pair in the wrong order
    costs the sum of both differences, one in the right order what its predictions differ too much. Constant
    predictions cost nothing, so the loss needs another beside it.

    Source: the loss `rank` in the repository cny123222/Perceptual-IQA-CS3324 (`smart_solver.py`); the rank loss of
    other projects has predictions and targets the other way round.

    >>> rank(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 2.0]))
    tensor(1.5000)
    """
    prediction, target = _batch(prediction, target)
    apart, wanted = prediction[:, None] - prediction[None, :], target[:, None] - target[None, :]
    counted = (wanted != 0).to(apart.dtype)
    return (torch.relu(apart.abs() - torch.sign(apart) * wanted) * counted).sum() / counted.sum().clamp(min=1)


@LOSSES.add(
    "plcc",
    title="distance of Pearson's correlation from one",
    formula=r"\frac{1 - \mathrm{PLCC}(\hat q, q)}{2}",
    source="[@li2020norminnorm]",
    sees_scale=False,
)
def plcc(prediction: Tensor, target: Tensor) -> Tensor:
    """`(1 - r) / 2` with Pearson's correlation r of the batch, in [0, 1]; no unit.

    Neither offset nor scale of the predictions matters, up to 1e-6 that is added to their sum of squares. Where
    predictions or targets are constant the loss is 1/2; its gradient is 0 if the targets are.

    Source: Li, Jiang & Jiang, "Norm-in-norm loss with faster convergence and better performance for image quality
    assessment", ACM Multimedia 2020.

    >>> plcc(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([5.0, 3.0, 1.0]))
    tensor(1.0000)
    """
    prediction, target = _batch(prediction, target)
    a, b = prediction - prediction.mean(), target - target.mean()
    lengths = ((a.square().sum() + FLAT) * (b.square().sum() + FLAT)).sqrt()
    return (1 - (a * b).sum() / lengths) / 2


@LOSSES.add(
    "fidelity",
    title="fidelity loss of pairs",
    formula=r"\frac{1}{N} \sum_{(i,j) \in P} "
    r"\left(1 - \sqrt{\Phi\left(\frac{\hat q_i - \hat q_j}{s \sqrt{2}}\right)}\right)",
    source="[@tsai2007frank]",
    where=PAIRS,
    note=r"$\Phi$ is the normal distribution function, and $s$ is a tenth of the scale.",
    sees_scale=False,
)
def fidelity(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over ordered pairs of `1 - sqrt(P Q) - sqrt((1 - P)(1 - Q))`, in [0, 1]; no unit.

    `Q` is 1 if t_i > t_j, else 0. `P = Phi((p_i - p_j) / (sqrt(2) s))` is the probability that i is judged the better
    one when scores have normal noise of standard deviation s (Thurstone, case V), here a tenth of the scale. Only pairs
    with different targets count; a batch without one has loss 0 with gradient 0.

    Source: Tsai et al., "FRank: a ranking method with fidelity loss", SIGIR 2007; for image quality Zhang, Ma, Zhai &
    Yang, "Uncertainty-aware blind image quality assessment in the laboratory and wild", IEEE TIP 2021.

    >>> fidelity(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0])) < 1e-3
    tensor(True)
    """
    ordered_gap, counted = _pairs(prediction, target)
    right = torch.special.ndtr(ordered_gap / (2**0.5 * 0.1))
    return ((1 - (right + TINY).sqrt()).clamp(min=0) * counted).sum() / counted.sum().clamp(min=1)


def total(prediction: Tensor, target: Tensor, weights: dict[str, float], options: dict[str, Any]) -> dict[str, Tensor]:
    """Terms of the training loss, unweighted, and their weighted sum `total`.

    Args:
        weights: of the terms, above 0, by name in `LOSSES`; see `TrainParams.terms`.
        options: parameters of the training, of which a term takes those that it was registered with.

    Raises:
        ValueError: there is no term, an unknown one, or one without a weight above 0.
    """
    if not weights:
        raise ValueError(f"a training loss needs a term; known are: {', '.join(LOSSES)}")
    for name, weight in weights.items():
        if not weight > 0:
            raise ValueError(f"the weight of the loss '{name}' must be above 0, not {weight:g}")
    chosen = {name: LOSSES[name] for name in weights}
    terms = {name: loss(prediction, target, *(options[key] for key in loss.options)) for name, loss in chosen.items()}
    return terms | {"total": torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()}


def sees_scale(weights: dict[str, float]) -> bool:
    """Whether a training loss asks for values on the scale of the MOS, not only for their order or trend."""
    return any(LOSSES[name].sees_scale for name in weights)


def describe(weights: dict[str, float], options: dict[str, Any]) -> dict[str, Any]:
    """What the report says of a training loss (`loss.json`): its `terms`, with their words; arguments as of `total`."""
    terms = []
    for name, weight in weights.items():
        loss = LOSSES[name]
        words = {key: getattr(loss, key) for key in ("title", "formula", "source", "where", "note")}
        taken = [{"words": text, "value": options[key]} for key, text in loss.options.items()]
        terms.append({"name": name, "weight": weight, **words, "options": taken})
    return {"terms": terms}


def _pairs(prediction: Tensor, target: Tensor, gap: float = 0.0) -> tuple[Tensor, Tensor]:
    """Of all ordered pairs (B, B): by how much the better image's prediction is higher, and 1 if the targets differ.

    Targets differ if they lie more than `gap` apart.
    """
    prediction, target = _batch(prediction, target)
    apart = target[:, None] - target[None, :]
    differ = (apart.abs() > gap).to(apart.dtype)
    return torch.sign(apart) * (prediction[:, None] - prediction[None, :]), differ


def _batch(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both inputs in one floating type of at least 32 bits, after the check of their shapes."""
    if prediction.ndim != 1 or prediction.shape != target.shape or len(prediction) == 0:
        raise ValueError(
            "prediction and target must be vectors of one length (B,), B >= 1, "
            f"not {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype), target.to(dtype)
