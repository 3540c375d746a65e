"""A training saves its state within long epochs, goes on from there to the same bits, and tells how far it is."""

import re

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from distributed_fit import fit_together
from killed_fit import kill_fit

from iqa.study import progress
from iqa.training import batches, fit
from iqa.training.train import train

LONG = tiny.PARAMS.model_copy(update={"train_patches": 4, "dropout": 0.3, "rank_weight": 0.3})  # 10 batches an epoch
KINDS = {
    "jitter, averaged weights": {"color_jitter": 0.2, "ema": 0.9, "drop_path": 0.2},
    "collected gradients": {"accumulate": 3, "ema": 0.9, "schedule": "cosine", "warmup_epochs": 0.5},
    "frozen statistics": {"freeze_batch_norm": True, "reset_optimizer": True, "hypernet_epochs": 1},
    "frozen backbone": {"freeze_backbone": True, "select_on": "test_srcc", "save_all_epochs": True, "patience": 9},
    "workers": {"workers": 2, "precision": "bf16-mixed", "fused": False},
    "several databases": {"with_databases": ["small"], "mix": "equal", "loss": "l1 + plcc"},
}
QUICK = {"collected gradients", "frozen backbone"}  # whose test is always run


class Stopped(Exception):
    """The power failed."""


@pytest.fixture(scope="module")
def data():
    return tiny.database()


def state(folder) -> dict:
    return torch.load(folder / "last.ckpt", weights_only=True)


def same(one, other) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def stop_before(monkeypatch, epoch, batch) -> None:
    step = fit.Fit.training_step

    def stopping(self, pixels, index):
        if (self.current_epoch, index) == (epoch, batch):
            raise Stopped
        return step(self, pixels, index)

    monkeypatch.setattr(fit.Fit, "training_step", stopping)


def assert_equal(folder, history, whole, at_once) -> None:
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), at_once.drop(columns="seconds"), check_exact=True)
    models = (torch.load(each / "best.pt", weights_only=True)["state_dict"] for each in (folder, whole))
    assert same(*models)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step"):
        assert same(state(folder)[part], state(whole)[part]), part


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_a_training_that_was_stopped_thrice_at_random_batches_equals_an_unbroken_one(data, tmp_path, monkeypatch, kind):
    params = LONG.model_copy(update={"train_patches": 2} | KINDS[kind])  # 5 batches an epoch
    others = [tiny.other()] * len(params.with_databases)
    folder, whole = tmp_path / "stopped", tmp_path / "whole"
    folder.mkdir()
    whole.mkdir()
    at_once = train(params, data, whole, others=others)
    monkeypatch.setattr(fit, "SAVE_EVERY", 0.0)
    random = np.random.default_rng(len(kind))
    for place in sorted(random.choice(15, 3, replace=False)):
        with monkeypatch.context() as patch:
            stop_before(patch, *divmod(int(place), 5))
            with pytest.raises(Stopped):
                train(params, data, folder, others=others)
    assert_equal(folder, train(params, data, folder, others=others), whole, at_once)
    assert "training anew" not in (folder / "train.log").read_text()
    assert "epoch_so_far" not in state(folder)


def test_batches_that_are_done_are_not_read_again(data, tmp_path, monkeypatch):
    monkeypatch.setattr(fit, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        stop_before(patch, 0, 7)
        with pytest.raises(Stopped):
            train(LONG, data, tmp_path)
    assert not (tmp_path / "best.pt").exists()
    read = []
    patch_of = batches.Patches._patch
    monkeypatch.setattr(batches.Patches, "_patch", lambda self, *item: read.append(item) or patch_of(self, *item))
    stop_before(monkeypatch, 1, 0)
    with pytest.raises(Stopped):
        train(LONG, data, tmp_path)
    order = list(batches.train_loader(data, LONG).sampler)
    assert read[:24] == order[56:] and {epoch for epoch, *_ in read[24:]} == {1}
    assert "epoch 1: 56 of 80 patches are done" in (tmp_path / "train.log").read_text()


@pytest.mark.slow
def test_a_killed_process_goes_on_within_its_epoch(data, tmp_path):
    """Killed without a farewell, as by a power failure."""
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    folder.mkdir()
    whole.mkdir()
    at_once = train(tiny.PARAMS.model_copy(update=tiny.RESUMED), data, whole)
    for epoch, batch in ((0, 2), (1, 1)):
        kill_fit(folder, epoch, "training_step", batch)
    log = (folder / "train.log").read_text()
    assert "epoch 1: 16 of 20 patches are done" in log
    assert_equal(folder, train(tiny.PARAMS.model_copy(update=tiny.RESUMED), data, folder), whole, at_once)


@pytest.mark.slow
def test_two_processes_go_on_within_an_epoch(data, tmp_path, monkeypatch):
    params = tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED | {"devices": 2})
    kills = [(1, 1)]  # epoch and batch

    def launch(params, folder, log):
        kill = kills.pop() if kills else None
        assert fit_together(folder, 1, kill=kill) == [1 if kill else 0]

    monkeypatch.setattr("iqa.training.train.launch", launch)
    (tmp_path / "killed").mkdir()
    with pytest.raises(KeyError, match="history"):
        train(params, data, tmp_path / "killed")
    histories = []
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir(exist_ok=True)
        histories.append(train(params, data, tmp_path / name).drop(columns="seconds"))
    assert "epoch 2: 8 of 20 patches are done" in (tmp_path / "killed" / "train.log").read_text()
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    for part in ("state_dict", "optimizer_states"):
        assert same(*(state(tmp_path / name)[part] for name in ("killed", "whole")))


def test_a_pipeline_is_told_how_far_an_epoch_is(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IQA_BATCH", "1")
    train(tiny.PARAMS, data, tmp_path)
    assert "patches/s" not in capsys.readouterr().out  # it takes seconds
    monkeypatch.setattr(progress, "EVERY", 0.0)
    train(LONG, data, tmp_path)
    log, told = (tmp_path / "train.log").read_text(), capsys.readouterr().out
    line = r"epoch 2/3: 24 of 80 patches, [\d.,]+ patches/s, \d+ s left, \d+ s of all 3 epochs"
    assert re.search(line, log) and re.search(line, told)
    assert re.search(r"scoring 'tiny' \(val\): \d+ of \d+ batches", told)


WORK = {
    "no epochs": ({"total": 4_000}, 1_500, "1,500 of 4,000 images, 25 images/s, 2 min left"),
    "epochs": ({"total": 80, "epochs": 4}, 30, "10 of 20 images, 0.5 images/s, 20 s left, 2 min of all 4 epochs"),
    "some before": ({"total": 400_000, "initial": 1_000}, 2_500, "2,500 of 400,000 images, 25 images/s, 4.4 h left"),
    "the end": ({"total": 20, "epochs": 2}, 20, "10 of 10 images, 0.333 images/s, 0 s left, 0 s of all 2 epochs"),
    "nothing yet": ({"total": 3, "unit": "batch"}, 0, "0 of 3 batches"),
}


@pytest.mark.parametrize("case", WORK)
def test_a_line_says_what_is_done_and_how_long_the_rest_takes(monkeypatch, case):
    options, done, line = WORK[case]
    bar = progress.Lines(tell=print, **{"desc": "scoring", "unit": "image"} | options)
    bar.n, bar.start_t = done, bar._time() - 60
    monkeypatch.setattr(bar, "_time", lambda: bar.start_t + 60)
    assert bar.sentence().startswith(f"scoring: {line}")


@pytest.mark.parametrize("every", [0.0, 30.0])
def test_work_of_seconds_is_not_told_to_a_pipeline(monkeypatch, capsys, every):
    monkeypatch.setenv("IQA_BATCH", "1")
    monkeypatch.setattr(progress, "EVERY", every)
    assert list(progress.bar(range(3), total=3, desc="reading", unit="file")) == [0, 1, 2]
    assert ("reading: 2 of 3 files" in capsys.readouterr().out) == (every == 0)
