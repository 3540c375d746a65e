"""Training on a GPU: the same bits again, every precision, no waiting within a step, and memory that ends."""

import numpy as np
import pytest
import tiny
import torch

from iqa.training.fit import Fit
from iqa.training.params import TrainParams
from iqa.training.train import train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def params(**changes) -> TrainParams:
    return TrainParams(**tiny.PARAMS.model_dump() | {"device": "cuda", "deterministic": True} | changes)


@pytest.fixture(scope="module")
def data():
    return tiny.database()


@pytest.fixture(scope="module")
def on_cpu(data, tmp_path_factory):
    return train(tiny.PARAMS, data, tmp_path_factory.mktemp("cpu"))


def test_the_same_seed_gives_the_same_bits(data, tmp_path):
    first, second = (train(params(epochs=1), data, tmp_path / name) for name in "ab")
    assert first.drop(columns="seconds").equals(second.drop(columns="seconds"))
    weights = [torch.load(tmp_path / name / "best.pt")["state_dict"] for name in "ab"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 0.01),
        ({"precision": "bf16-mixed"}, 0.1),
        ({"precision": "fp16-mixed"}, 0.1),
        ({"precision": "bf16-mixed", "compile": True}, 0.1),
        ({"precision": "bf16-mixed", "accumulate": 2, "batch_size": 4, "fused": False}, 1.0),
    ],
    ids=str,
)
def test_each_way_of_computing_follows_the_cpu(data, on_cpu, tmp_path, changes, tolerance):
    history = train(params(**changes), data, tmp_path)
    assert np.allclose(history["train_loss"], on_cpu["train_loss"], atol=tolerance)
    assert np.isfinite(history.to_numpy(dtype=float)).all()


@pytest.mark.parametrize("changes", [{}, {"precision": "bf16-mixed"}, {"loss": "l1 + plcc", "ema": 0.9}], ids=str)
def test_no_step_waits_for_the_gpu(data, tmp_path, monkeypatch, changes):
    step, ended, steps = Fit.training_step, Fit.on_train_batch_end, []

    def watched(self, batch, index):
        if self.current_epoch:  # the first epoch prepares cuDNN and cuBLAS
            torch.cuda.set_sync_debug_mode("error")
        return step(self, batch, index)

    def unwatched(self, *arguments):
        ended(self, *arguments)
        steps.append(torch.cuda.get_sync_debug_mode())
        torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setenv("IQA_BATCH", "1")  # no live bar, which reads the loss
    monkeypatch.setattr(Fit, "training_step", watched)
    monkeypatch.setattr(Fit, "on_train_batch_end", unwatched)
    try:
        train(params(**changes), data, tmp_path)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert max(steps) == 2  # 2: an error where something waits


def test_memory_that_ends_tells_the_remedy(data, tmp_path):
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(MemoryError, match=r"cuda ended in epoch 1.*`batch_size: 4` with `accumulate: 2`"):
            train(params(), data, tmp_path)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
