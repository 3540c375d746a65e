"""Training losses of predicted scores, as pure functions of a batch, and their weighted sum.

All take predictions and targets of shape (B,) on the normalised scale and return a scalar that is differentiable
in the predictions. They are computed in at least float32, also under mixed precision.
"""

import torch
from torch import Tensor


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error `mean_i |p_i - t_i|`, >= 0.

    >>> l1(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 1.0]))
    tensor(1.)
    """
    prediction, target = _batch(prediction, target)
    return (prediction - target).abs().mean()


def ranking(prediction: Tensor, target: Tensor, margin: float) -> Tensor:
    """Pairwise ranking hinge: the mean of `max(0, margin - sign(t_i - t_j) (p_i - p_j))` over ordered pairs, >= 0.

    Only pairs with different targets count; a batch without one (equal targets, a batch of one) has loss 0 with
    gradient 0. The loss is 0 once every such pair is in the right order by at least `margin` (>= 0, in units of
    the scores).

    Source: the margin ranking loss of Liu, van de Weijer & Bagdanov, "RankIQA: learning from rankings for
    no-reference image quality assessment", ICCV 2017, section 3, taken over the pairs of a batch.

    >>> ranking(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 2.0]), margin=0.1)
    tensor(0.6000)
    """
    if margin < 0:
        raise ValueError(f"the margin of the ranking loss must not be negative, got {margin}")
    prediction, target = _batch(prediction, target)
    predicted_gap = prediction[:, None] - prediction[None, :]  # (B, B)
    order = torch.sign(target[:, None] - target[None, :])  # (B, B): -1, 0 where the targets are equal, 1
    hinge = torch.relu(margin - order * predicted_gap) * order.abs()
    return hinge.sum() / order.abs().sum().clamp(min=1)


LOSSES = {"l1": l1}


def total(prediction: Tensor, target: Tensor, loss: str, rank_weight: float, rank_margin: float) -> dict[str, Tensor]:
    """Terms of the training loss: `loss` (a key of `LOSSES`), 'ranking' unweighted, and 'total' to minimise.

    `total = LOSSES[loss](p, t) + rank_weight * ranking(p, t, rank_margin)`
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss '{loss}'; the losses are: {', '.join(LOSSES)}")
    terms = {loss: LOSSES[loss](prediction, target), "ranking": ranking(prediction, target, rank_margin)}
    return terms | {"total": terms[loss] + rank_weight * terms["ranking"]}


def _batch(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both inputs in one floating type of at least 32 bits, after the check of their shapes."""
    if prediction.ndim != 1 or prediction.shape != target.shape or len(prediction) == 0:
        raise ValueError(
            "prediction and target must be vectors of one length (B,), B >= 1, "
            f"not {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype), target.to(dtype)
