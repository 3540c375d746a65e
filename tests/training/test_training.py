"""Fitting: what decides it, what it leaves behind, and how it goes on."""

import dataclasses
import errno
import inspect
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from distributed_fit import fit_together
from killed_fit import kill_fit
from torch.utils._python_dispatch import TorchDispatchMode

from iqa.data import cache
from iqa.data.cache import contents_hash, pixel_code
from iqa.data.crops import jitter_factors
from iqa.model.fusion import FUSIONS
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import load_model
from iqa.model.scoring import predict
from iqa.study import code, paths
from iqa.study.disk import DiskError
from iqa.study.identity import differences
from iqa.training.batches import EpochOrder, Patches, train_loader
from iqa.training.fit import Fit, best_epoch, fit
from iqa.training.identity import ROOTS, find_earlier, fit_identity
from iqa.training.losses import LOSSES
from iqa.training.params import TrainParams
from iqa.training.train import take_share, train


@pytest.fixture(scope="module")
def data():
    return tiny.database()


@pytest.fixture(scope="module")
def fitted(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    return folder, train(tiny.PARAMS, data, folder)


@pytest.fixture(scope="module")
def resumed_whole(data, tmp_path_factory):
    """An unbroken fit that depends on more than its weights."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(tiny.PARAMS.model_copy(update=tiny.RESUMED), data, folder)


def epochs_trained(monkeypatch) -> list[int]:
    seen = []
    original = Fit.on_train_epoch_end

    def note(self):
        seen.append(self.current_epoch + 1)
        original(self)

    monkeypatch.setattr(Fit, "on_train_epoch_end", note)
    return seen


def weights(folder):
    return torch.load(folder / "best.pt", weights_only=True)["state_dict"]


def test_images_that_are_smaller_than_the_crop_are_named_before_a_training_begins(tmp_path):
    data = tiny.database(sizes=((72, 96), (72, 96), (40, 96)))
    with pytest.raises(
        ValueError, match=r"'tiny': images .* the crop of 64: 2\.png \(40x96\); 5\.png \(40x96\); .* in all"
    ):
        train(tiny.PARAMS, data, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_fit_leaves_history_best_model_and_last_state(fitted):
    folder, history = fitted
    assert list(history["epoch"]) == [1, 2, 3]
    assert np.isfinite(history.to_numpy(dtype=float)).all()
    pd.testing.assert_frame_equal(pd.read_csv(folder / "history.csv"), history, check_exact=False)
    assert {"best.pt", "last.ckpt", "fit.json", "history.csv"} <= {file.name for file in folder.iterdir()}


def test_the_history_so_far_is_told_after_each_epoch_and_what_that_raises_ends_the_fit(data, fitted, tmp_path):
    told = []

    def stop_after_two(history):
        told.append(list(history["epoch"]))
        if len(history) == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        train(tiny.PARAMS, data, tmp_path, after_epoch=stop_after_two)
    assert told == [[1], [1, 2]]
    history = train(tiny.PARAMS, data, tmp_path, after_epoch=lambda history: told.append(list(history["epoch"])))
    assert told[-1] == [1, 2, 3]
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), fitted[1].drop(columns="seconds"), check_exact=True)


def test_the_best_epoch_is_the_one_that_was_kept(fitted):
    folder, history = fitted
    saved = torch.load(folder / "best.pt", weights_only=True)
    assert saved["history_row"]["epoch"] == best_epoch(history, "val_srcc")


@pytest.mark.parametrize(("column", "expected"), [("val_srcc", 2), ("val_loss", 3)])
def test_the_first_of_equally_good_epochs_is_the_best(column, expected):
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "val_srcc": [0.1, 0.5, 0.5, 0.2], "val_loss": [3.0, 2.0, 1.0, 1.0]})
    assert best_epoch(history, column) == expected


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data, fitted, tmp_path):
    folder, history = fitted
    (tmp_path / "again").mkdir()
    (tmp_path / "other").mkdir()
    again = train(tiny.PARAMS, data, tmp_path / "again")
    train(tiny.PARAMS.model_copy(update={"seed": 2}), data, tmp_path / "other")
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), history.drop(columns="seconds"), check_exact=True)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(folder).values(), weights(tmp_path / "again").values(), strict=True)
    )
    assert not all(
        torch.equal(a, b) for a, b in zip(weights(folder).values(), weights(tmp_path / "other").values(), strict=True)
    )


@pytest.mark.slow
def test_loader_workers_change_nothing(data, fitted, tmp_path):
    history = train(tiny.PARAMS.model_copy(update={"workers": 2}), data, tmp_path)
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), fitted[1].drop(columns="seconds"), check_exact=True)


@pytest.mark.parametrize("change", [{"channels_last": False}, {"fused": False}])
def test_how_memory_is_laid_out_and_weights_are_updated_changes_no_more_than_rounding(data, fitted, tmp_path, change):
    history = train(tiny.PARAMS.model_copy(update=change), data, tmp_path)
    assert np.allclose(history["train_loss"], fitted[1]["train_loss"], atol=1e-3)
    assert history.columns.equals(fitted[1].columns)


@pytest.mark.slow
def test_a_compiled_training_follows_the_plain_one_and_its_model_loads_as_any_other(data, tmp_path, monkeypatch):
    # the graphs are those of any compiled training; making kernels of them would take minutes on a CPU
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    made = {}
    for compiled in (False, True):
        params = tiny.PARAMS.model_copy(update={"compile": compiled, "epochs": 1})
        made[compiled] = train(params, data, tmp_path / str(compiled))
    assert np.allclose(made[True]["train_loss"], made[False]["train_loss"], atol=1e-3)
    folders = [tmp_path / str(compiled) for compiled in made]
    assert weights(folders[0]).keys() == weights(folders[1]).keys()
    states = [torch.load(folder / "last.ckpt", weights_only=False)["state_dict"] for folder in folders]
    assert states[0].keys() == states[1].keys()


def test_the_average_of_the_weights_is_the_model(data, fitted, tmp_path):
    """timm's average, of weights after each step of the optimiser, is what is validated and saved."""
    for name in ("none", "some"):
        (tmp_path / name).mkdir()
    train(tiny.PARAMS.model_copy(update={"ema": 1e-9}), data, tmp_path / "none")  # forgets all but the last weights
    same = weights(fitted[0])
    assert all(torch.equal(value, same[name]) for name, value in weights(tmp_path / "none").items())
    history = train(tiny.PARAMS.model_copy(update={"ema": 0.9}), data, tmp_path / "some")
    assert history["train_loss"].tolist() == fitted[1]["train_loss"].tolist()
    assert history["val_loss"].tolist() != fitted[1]["val_loss"].tolist()
    saved, last = weights(tmp_path / "some"), torch.load(tmp_path / "some" / "last.ckpt", weights_only=True)
    name = "hyper.last_weight.weight"
    assert saved[name].shape == last["state_dict"][f"average.module.{name}"].shape
    assert not torch.equal(saved[name], last["state_dict"][f"model.{name}"])


def test_a_stopped_fit_goes_on_with_its_average(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"ema": 0.9, "select_on": "val_loss"})
    for name in ("stopped", "unbroken"):
        (tmp_path / name).mkdir()

    def stop(history):
        if len(history) == 1:
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError, match="power failure"):
        train(params, data, tmp_path / "stopped", after_epoch=stop)
    train(params, data, tmp_path / "stopped")
    train(params, data, tmp_path / "unbroken")
    unbroken = weights(tmp_path / "unbroken")
    assert all(torch.equal(value, unbroken[name]) for name, value in weights(tmp_path / "stopped").items())


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_half_precision_without_a_gpu_is_refused_rather_than_replaced(data, tmp_path):
    with pytest.raises(ValueError, match="precision 'fp16-mixed' needs a GPU; set 'bf16-mixed' or '32-true'"):
        train(tiny.PARAMS.model_copy(update={"precision": "fp16-mixed"}), data, tmp_path)


def test_an_optimiser_that_is_reset_forgets_its_moments_with_each_epoch(data, tmp_path, monkeypatch):
    steps = []
    original = Fit.on_train_epoch_start

    def note(self):
        original(self)
        steps.append(len(self.trainer.optimizers[0].state))

    monkeypatch.setattr(Fit, "on_train_epoch_start", note)
    for reset in (False, True):
        (tmp_path / str(reset)).mkdir()
        train(tiny.PARAMS.model_copy(update={"epochs": 2, "reset_optimizer": reset}), data, tmp_path / str(reset))
    assert steps[0] == steps[2] == steps[3] == 0 < steps[1]


def test_a_fit_that_was_stopped_goes_on_to_the_same_end(data, fitted, tmp_path, monkeypatch):
    params = tiny.PARAMS.model_copy(update={"dropout": 0.3})
    (tmp_path / "whole").mkdir()
    (tmp_path / "broken").mkdir()
    whole = train(params, data, tmp_path / "whole")

    original = Fit.on_train_epoch_start

    def stop(self):
        if self.current_epoch == 2:
            raise RuntimeError("power failure")
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "on_train_epoch_start", stop)
        with pytest.raises(RuntimeError, match="power failure"):
            train(params, data, tmp_path / "broken")
    seen = epochs_trained(monkeypatch)
    resumed = train(params, data, tmp_path / "broken")
    assert seen == [3]
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)
    pairs = zip(weights(tmp_path / "whole").values(), weights(tmp_path / "broken").values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["training_step", "on_save_checkpoint", "_write"])
def test_a_killed_fit_goes_on_to_the_numbers_of_an_unbroken_one(data, resumed_whole, tmp_path, place):
    folder, whole = resumed_whole
    kill_fit(tmp_path, 1, place)
    resumed = train(tiny.PARAMS.model_copy(update=tiny.RESUMED), data, tmp_path)
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)
    pairs = zip(weights(folder).values(), weights(tmp_path).values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    log = (tmp_path / "train.log").read_text()
    assert "going on from last.ckpt" in log and "epoch   3/3" in log
    assert len(list((tmp_path / "epochs").iterdir())) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "databases"), [(1, "one"), (2, "one"), (1, "several")], ids=["one_machine", "two_nodes", "two_databases"]
)
def test_two_processes_reach_the_metrics_of_one(data, tmp_path, nodes, databases):
    (tmp_path / "two").mkdir()
    others = [tiny.other()] * (databases == "several")
    alone = train(tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED), data, tmp_path / "one", others=others)
    assert fit_together(tmp_path / "two", nodes, databases) == [0] * nodes
    together = pd.read_csv(tmp_path / "two" / "history.csv")
    assert list(together.columns) == list(alone.columns)
    np.testing.assert_allclose(together.drop(columns="seconds"), alone.drop(columns="seconds"), rtol=1e-3, atol=1e-4)


def test_a_finished_fit_is_not_repeated_unless_something_changed(data, tmp_path, monkeypatch):
    params = tiny.PARAMS.model_copy(update={"epochs": 1})
    train(params, data, tmp_path)
    seen = epochs_trained(monkeypatch)
    first = train(params, data, tmp_path)
    assert seen == [] and len(first) == 1
    train(params.model_copy(update={"rank_weight": 0.0}), data, tmp_path)
    assert seen == [1]


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_fit_is_taken_over_from_the_results_that_its_run_replaces_and_they_stay_as_they_are(
    data, tmp_path, monkeypatch
):
    results, work = tmp_path / "main_s1", tmp_path / "main_s1.unfinished"
    results.mkdir()
    work.mkdir()
    params = tiny.PARAMS.model_copy(update={"epochs": 1, "save_all_epochs": True})
    train(params, data, results)
    before = contents(results)
    seen = epochs_trained(monkeypatch)
    history = train(params, data, work)
    assert seen == [] and len(history) == 1 and (work / "best.pt").samefile(results / "best.pt")
    assert contents(work) == before

    train(params.model_copy(update={"dpi": 10}), data, work)  # writes the parameters into the model
    assert seen == [] and contents(results) == before != contents(work)
    train(params.model_copy(update={"seed": 7}), data, work)
    assert seen == [1] and contents(results) == before
    assert "training anew: parameter seed: 1 -> 7" in (work / "train.log").read_text()
    train(params, data, work)
    assert seen == [1] and contents(work) == before  # of the two, the one that fits


def test_a_fit_that_was_stopped_is_gone_on_with_in_another_folder(data, tmp_path, monkeypatch):
    results, work = tmp_path / "main_s1", tmp_path / "main_s1.unfinished"
    results.mkdir()
    work.mkdir()
    stop_after_an_epoch(tiny.PARAMS, data, results)
    before = contents(results)
    seen = epochs_trained(monkeypatch)
    train(tiny.PARAMS, data, work)
    assert seen == [2, 3] and contents(results) == before


def stop_after_an_epoch(params, data, folder):
    def stop(history):
        if len(history) == 2:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        train(params, data, folder, after_epoch=stop)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def folder_instead(file):
    file.unlink()
    file.mkdir()


DAMAGES = {
    "cut": cut,
    "empty": lambda file: file.write_bytes(b""),
    "zeroed": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "flipped": flip,
    "text": lambda file: file.write_bytes(b"\xff\xfe text"),
    "list": lambda file: file.write_text("[1]"),
    "folder": folder_instead,
    "missing": lambda file: file.unlink(),
}


ALL_EPOCHS = tiny.PARAMS.model_copy(update={"save_all_epochs": True})


@pytest.fixture(scope="module")
def fits(data, tmp_path_factory):
    """A stopped fit and a finished one, which keep the models of all epochs."""
    made = {"stopped": tmp_path_factory.mktemp("stopped"), "finished": tmp_path_factory.mktemp("finished")}
    stop_after_an_epoch(ALL_EPOCHS, data, made["stopped"])
    train(ALL_EPOCHS, data, made["finished"])
    return made


@pytest.fixture
def copied(fits, tmp_path):
    """Copies one of them, to be damaged; gives its folder."""
    return lambda which: Path(shutil.copytree(fits[which], tmp_path / which))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["last.ckpt", "best.pt"])
def test_a_stopped_fit_whose_state_is_damaged_begins_anew_and_says_why(data, copied, name, damage):
    folder = copied("stopped")
    assert not find_earlier(folder, fit_identity(ALL_EPOCHS, tiny_data(data))).reasons
    DAMAGES[damage](folder / name)
    earlier = find_earlier(folder, fit_identity(ALL_EPOCHS, tiny_data(data)))
    what = "is missing" if damage == "missing" else "is damaged, or of another training"
    assert [str(reason) for reason in earlier.reasons] == [f"{folder / name} {what}"]


def tiny_data(data):
    return {data.name: contents_hash(data.fingerprint, tiny.PARAMS.input)}


@pytest.mark.parametrize("name", ["last.ckpt", "best.pt"])
def test_a_state_of_another_training_is_not_gone_on_with(data, fitted, tmp_path, monkeypatch, name):
    stop_after_an_epoch(tiny.PARAMS, data, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    stop_after_an_epoch(tiny.PARAMS.model_copy(update={"seed": 9}), data, other)
    shutil.copy(other / name, tmp_path / name)
    seen = epochs_trained(monkeypatch)
    history = train(tiny.PARAMS, data, tmp_path)
    assert seen == [1, 2, 3]
    assert (
        f"training anew: {tmp_path / name} is damaged, or of another training" in (tmp_path / "train.log").read_text()
    )
    pd.testing.assert_frame_equal(history.drop(columns="seconds"), fitted[1].drop(columns="seconds"), check_exact=True)


STATES = ["", "{", "[]", "null", "3", "{}", '{"identity": 3}', '{"identity": {"values": 3}}', '{"history": 3}']
STATES += ['{"identity": {}, "history": [], "model": "x"}', '{"history": [{"epoch": 1}]}', b"\xff\xfe", bytes(50), None]


@pytest.mark.parametrize("content", STATES)
def test_a_damaged_account_of_a_fit_is_not_used(data, fitted, tmp_path, capsys, content):
    file = tmp_path / "fit.json"
    shutil.copy(fitted[0] / "best.pt", tmp_path)
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    earlier = find_earlier(tmp_path, fit_identity(tiny.PARAMS, tiny_data(data)))
    assert earlier.reasons and not earlier.finished
    assert not earlier.state or "not known" in str(earlier.reasons[0])
    assert content == "{}" or earlier.state or f"{file} is damaged; it is not used" in capsys.readouterr().out


def test_a_number_that_was_changed_in_the_account_of_a_fit_is_noticed(data, copied, capsys):
    file = copied("finished") / "fit.json"
    loss = str(json.loads(file.read_text())["history"][0]["train_loss"])
    file.write_text(file.read_text().replace(loss, "0.25"))
    assert find_earlier(file.parent, fit_identity(ALL_EPOCHS, tiny_data(data))).state == {}
    assert "fit.json is damaged; it is not used" in capsys.readouterr().out


@pytest.mark.parametrize("which", ["finished", "stopped"])
@pytest.mark.parametrize("damage", ["flipped", "missing", "folder"])
def test_a_damaged_model_of_an_epoch_is_made_anew(data, copied, damage, which):
    file = copied(which) / "epochs/epoch_001.pt"
    DAMAGES[damage](file)
    (reason,) = find_earlier(file.parents[1], fit_identity(ALL_EPOCHS, tiny_data(data))).reasons
    assert str(file) in reason.text


@pytest.mark.parametrize("damage", ["cut", "flipped", "folder"])
def test_a_finished_fit_stands_without_its_damaged_checkpoint(data, copied, monkeypatch, capsys, damage):
    file = copied("finished") / "last.ckpt"
    DAMAGES[damage](file)
    seen = epochs_trained(monkeypatch)
    train(ALL_EPOCHS, data, file.parent)
    assert seen == [] and not file.exists()
    assert "last.ckpt is damaged; it is left out, as the training is finished" in capsys.readouterr().out


def test_a_folder_full_of_damage_is_trained_in_all_the_same(data, tmp_path):
    for name in ("fit.json", "last.ckpt", "best.pt", "train.log", "history.csv"):
        (tmp_path / name).mkdir()
    (tmp_path / "epochs").write_text("x")
    params = tiny.PARAMS.model_copy(update={"epochs": 1})
    assert len(train(params, data, tmp_path)) == 1
    assert json.loads((tmp_path / "fit.json").read_text())["history"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(data, tmp_path, monkeypatch):
    saves = []

    def fill_up(content, stream):
        saves.append(stream.name)
        if len(saves) == 4:  # the checkpoint of the second epoch
            stream.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        original(content, stream)

    original = torch.save
    params = tiny.PARAMS
    with monkeypatch.context() as patch, pytest.raises(DiskError, match="the disk is full"):
        patch.setattr(torch, "save", fill_up)
        patch.setattr("iqa.training.fit.best_epoch", lambda history, _: len(history))
        train(params, data, tmp_path)
    assert not [file for file in tmp_path.iterdir() if file.suffix == ".part"]
    seen = epochs_trained(monkeypatch)
    train(params, data, tmp_path)
    assert seen == [2, 3]


def test_other_weights_in_the_same_file_are_another_fit(data, tmp_path):
    file = tmp_path / "weights.pth"
    params = tiny.PARAMS.model_copy(update={"weights": str(file)})
    identities = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        identities.append(fit_identity(params, {}))
    reasons = differences(*identities, TrainParams.defaults())
    assert list(map(str, reasons)) == [f"file {file}: its contents differ"]


def test_a_fit_depends_on_the_code_that_makes_the_input_it_reads_and_no_other(data, monkeypatch):
    before = {kind: contents_hash(data.fingerprint, kind) for kind in ("rgb", "mscn")}
    monkeypatch.setattr(cache, "pixel_code", lambda kind: "new" if kind == "mscn" else pixel_code(kind))
    now = {kind: contents_hash(data.fingerprint, kind) for kind in before}
    assert now["rgb"] == before["rgb"] and now["mscn"] != before["mscn"]
    first, second = (fit_identity(tiny.PARAMS, {"tiny": found["mscn"]}) for found in (before, now))
    reasons = differences(first, second, TrainParams.defaults())
    assert list(map(str, reasons)) == ["reads data_prep/tiny: its contents differ"]


def test_what_a_fit_runs_is_among_the_definitions_that_identify_it(data, tmp_path):
    run = set()
    package = code.open_package(code.PACKAGE)

    def is_silent(file):
        return package.is_silent(".".join(Path(file).relative_to(paths.ROOT).with_suffix("").parts))

    def note(frame, event, _):
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname.split(".")[0]
        if event == "call" and file.startswith(str(code.PACKAGE)) and not is_silent(file):
            key = f"{Path(file).relative_to(paths.ROOT).as_posix()}: {name}"
            if key not in run and not any("pydantic" in outer.filename for outer in inspect.stack(0)):
                run.add(key)  # all but the checks of parameters, whose values are compared themselves

    sys.setprofile(note)
    try:
        fit(tiny.PARAMS, data, tmp_path, {})
    finally:
        sys.setprofile(None)
    assert len(run) > 30
    assert run <= set(code.definitions(*ROOTS, names=code.words([tiny.PARAMS.terms(), tiny.PARAMS])))


def test_a_database_without_validation_images_cannot_be_trained_on(tmp_path):
    data = tiny.database()
    data.table.loc[data.table["split"] == "val", "split"] = "test"
    with pytest.raises(ValueError, match="'tiny' has no images in split 'val'"):
        train(tiny.PARAMS, data, tmp_path)


def test_a_broken_loss_stops_with_its_epoch_batch_and_images(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"lr": 1e30, "clip": 0.0, "schedule": "constant"})
    with pytest.raises(FloatingPointError, match=r"epoch 1, batch \d+ \(l1 .*: \d+\.png, .*lower `lr`"):
        train(params, data, tmp_path)
    assert "history" not in json.loads((tmp_path / "fit.json").read_text())


def test_on_a_gpu_a_broken_loss_is_found_later_and_told_alike(data, tmp_path, monkeypatch):
    params = tiny.PARAMS.model_copy(update={"lr": 1e30, "clip": 0.0, "schedule": "constant"})
    told = []
    for number, wait in enumerate((False, True)):
        if wait:  # until the end of the epoch
            monkeypatch.setattr(Fit, "training_step", unchecked(Fit.training_step))
        with pytest.raises(FloatingPointError) as error:
            train(params, data, tmp_path / str(number))
        told.append(str(error.value))
    assert told[0] == told[1]


class Waits(TorchDispatchMode):
    """Refuses what a GPU would have to be waited for: numbers that Python reads, positions of elements."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
        return function(*args, **(kwargs or {}))


def unchecked(step):
    """A training step as on a GPU: without the look at the loss."""

    def wrapped(self, batch, index):
        with patch.object(Fit, "_check_finite"):
            return step(self, batch, index)

    return wrapped


@pytest.mark.parametrize(
    "change",
    [
        {"loss": " + ".join(LOSSES)},
        *({"fusion": name} for name in FUSIONS),
        *({"head": name} for name in ("static", "linear")),
        {"precision": "bf16-mixed", "accumulate": 2},
    ],
    ids=str,
)
def test_no_training_step_waits_for_the_device(data, tmp_path, monkeypatch, change):
    steps = []
    step = unchecked(Fit.training_step)

    def watched(self, batch, index):
        with Waits():
            loss = step(self, batch, index)
            loss.backward(retain_graph=True)
        self.zero_grad()
        steps.append(index)
        return loss

    monkeypatch.setattr(Fit, "training_step", watched)
    train(TrainParams(**tiny.PARAMS.model_dump() | {"epochs": 1} | change), data, tmp_path)
    assert steps


def test_memory_that_ends_tells_the_remedy_and_keeps_the_epochs(data, fitted, tmp_path, monkeypatch):
    step = Fit.training_step

    def ends(self, batch, index):
        if self.current_epoch == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return step(self, batch, index)

    with monkeypatch.context() as patched, pytest.raises(MemoryError, match=r"epoch 2.*`batch_size: \d+` with `accumu"):
        patched.setattr(Fit, "training_step", ends)
        train(tiny.PARAMS, data, tmp_path)
    assert len(torch.load(tmp_path / "last.ckpt", weights_only=False)["history"]) == 1
    columns = ["train_loss", "val_srcc"]
    pd.testing.assert_frame_equal(train(tiny.PARAMS, data, tmp_path)[columns], fitted[1][columns])


def test_frozen_normalisations_keep_their_statistics(data, tmp_path):
    train(tiny.PARAMS.model_copy(update={"epochs": 1, "freeze_batch_norm": True}), data, tmp_path)
    means = [value for name, value in weights(tmp_path).items() if name.endswith("running_mean")]
    assert means and all(torch.equal(value, torch.zeros_like(value)) for value in means)


def test_a_frozen_backbone_stays_as_it_was_and_the_heads_learn(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"epochs": 1, "freeze_backbone": True})
    history = train(params, data, tmp_path)
    torch.manual_seed(params.seed)
    first = HyperIQA(params.architecture()).state_dict()
    same = {name.split(".")[0]: True for name in first}
    for name, value in weights(tmp_path).items():
        same[name.split(".")[0]] &= torch.equal(value, first[name])
    assert same["backbone"] and not same["hyper"] and not same["local"]
    assert history["lr_backbone"].tolist() == [0.0]


def test_a_hyper_network_that_stops_learning_stays_as_it_was_after_that_epoch(data, tmp_path):
    update = {"hypernet_epochs": 1, "save_all_epochs": True, "schedule": "constant", "weight_decay": 0.1}
    train(tiny.PARAMS.model_copy(update=update), data, tmp_path)
    first, second, third = (
        torch.load(tmp_path / "epochs" / f"epoch_{epoch:03}.pt", weights_only=True)["state_dict"] for epoch in (1, 2, 3)
    )
    for name in first:
        frozen = name.split(".")[0] in ("fusion", "semantic", "hyper")
        if frozen or name == "local.reduce.0.weight":
            assert torch.equal(first[name], second[name]) == torch.equal(second[name], third[name]) == frozen, name


def test_a_choice_on_the_test_split_scores_it_after_each_epoch(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"select_on": "test_srcc", "patience": 3})
    history = train(params, data, tmp_path)
    saved = torch.load(tmp_path / "best.pt", weights_only=True)
    assert saved["history_row"]["test_srcc"] == history["test_srcc"].max()
    assert "test_srcc" not in train(tiny.PARAMS.model_copy(update={"epochs": 1}), data, tmp_path)


def test_monitored_databases_are_in_the_history_and_choose_nothing(data, fitted, tmp_path):
    other = tiny.database(24)
    other.table["split"] = "test"
    params = tiny.PARAMS.model_copy(update={"monitor_databases": ["other"]})
    history = train(params, data, tmp_path, {"other": other})
    assert {"other_srcc", "other_plcc"} <= set(history)
    expected = fitted[1].drop(columns="seconds")
    pd.testing.assert_frame_equal(history[expected.columns], expected, check_exact=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_shares_of_the_training_images_are_whole_contents_and_lie_inside_each_other(seed):
    data = tiny.database(80)
    data.table["reference"] = [str(number // 2) for number in range(80)]
    taken = {}
    for share in (0.125, 0.25, 0.5):
        part = take_share(data, tiny.PARAMS.model_copy(update={"train_share": share, "seed": seed}))
        taken[share] = set(part.indices("train"))
        assert len(taken[share]) == share * len(data.indices("train")) // 2 * 2
        assert {index ^ 1 for index in taken[share]} == taken[share]
        assert all((part.indices(split) == data.indices(split)).all() for split in ("val", "test"))
    assert taken[0.125] < taken[0.25] < taken[0.5] < set(data.indices("train"))
    other = take_share(data, tiny.PARAMS.model_copy(update={"train_share": 0.5, "seed": 3 - seed}))
    assert set(other.indices("train")) != taken[0.5]


def test_a_share_of_the_training_images_is_another_fit_and_the_whole_is_the_same_as_before(data, fitted, tmp_path):
    assert take_share(data, tiny.PARAMS) is data
    half = tiny.PARAMS.model_copy(update={"train_share": 0.5, "epochs": 1})
    train(half, data, tmp_path)
    assert "(10 in train, 10 in val)" in (tmp_path / "train.log").read_text()
    whole = fit_identity(tiny.PARAMS, {})["code"]
    assert fit_identity(half, {})["code"].keys() - whole.keys() >= {"iqa/training/train.py: take_share"}


def test_the_own_test_images_can_be_monitored_without_being_chosen_by(data, fitted, tmp_path):
    params = tiny.PARAMS.model_copy(update={"monitor_databases": ["tiny"], "database": "tiny", "epochs": 1})
    history = train(params, data, tmp_path, {"tiny": data})
    model = load_model(tmp_path, "cpu")
    predicted = predict(model.network, data, data.indices("test"), **model.options)
    assert history["tiny_srcc"].iloc[0] == pytest.approx(predicted["prediction"].corr(predicted["mos"], "spearman"))


def test_the_log_has_a_line_for_each_epoch_with_terms_and_rates(fitted):
    lines = (fitted[0] / "train.log").read_text().splitlines()
    assert len(lines) == 4 and "seed 1" in lines[0]
    assert all(word in lines[1] for word in ("epoch   1/3", "l1 ", "ranking ", "val_srcc", "lr "))


def test_the_loss_is_the_weighted_sum_of_the_terms_in_the_history(fitted):
    history = fitted[1]
    expected = history["train_loss_l1"] + tiny.PARAMS.rank_weight * history["train_loss_ranking"]
    np.testing.assert_allclose(history["train_loss"], expected, rtol=1e-5)


def test_colour_jitter_changes_patches_by_seed_and_epoch_alone(data):
    data = dataclasses.replace(data, stores={"rgb": data.stores["mscn"]})
    plain = tiny.PARAMS.model_copy(update={"input": "rgb"})
    jittered = plain.model_copy(update={"color_jitter": 0.3})
    items = [(0, 1, 0), (0, 2, 0), (1, 1, 0)]
    before, after, again = (Patches(data, params).__getitems__(items)[0] for params in (plain, jittered, jittered))
    assert torch.equal(after, again) and not torch.equal(before, after)
    alone = Patches(data, jittered).__getitems__(items[1:2])[0]
    assert torch.equal(alone[0], after[1])
    factors = jitter_factors(seed=1, epoch=0, image=3, patches=2000, strength=0.3)
    assert 0.7 <= factors.min() < 0.71 and 1.29 < factors.max() <= 1.3


@pytest.mark.parametrize("batch", [8, 6])
def test_processes_share_the_batches_that_one_would_see(batch):
    images = np.arange(25)
    whole = list(EpochOrder(images, 1, seed=1))
    shares = [list(EpochOrder(images, 1, 1, (rank, 2), batch)) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == len(EpochOrder(images, 1, 1, (0, 2), batch)) == 13
    for start in range(0, 24, batch):
        together = [item for share in shares for item in share[start // 2 : (start + batch) // 2]]
        assert set(together) == set(whole[start : start + batch])


def test_patience_ends_a_fit_early(data, tmp_path):
    params = tiny.PARAMS.model_copy(update={"epochs": 12, "patience": 1, "lr": 0.0, "schedule": "constant"})
    assert len(train(params, data, tmp_path)) < 12


def test_every_patch_comes_once_per_epoch_in_an_order_of_its_own():
    order = EpochOrder(np.array([3, 5, 9]), patches=2, seed=1)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert sorted(first) == [(0, i, p) for i in (3, 5, 9) for p in (0, 1)]
    assert sorted(item[1:] for item in second) == sorted(item[1:] for item in first)
    assert [item[1:] for item in second] != [item[1:] for item in first]


def test_a_patch_does_not_depend_on_its_batch(data):
    patches = Patches(data, tiny.PARAMS)
    items = [(0, 1, 0), (0, 2, 0), (1, 1, 0)]
    together, targets, images = patches.__getitems__(items)
    alone = [patches.__getitems__([item]) for item in items]
    assert together.shape == (3, 3, 64, 64) and together.dtype == torch.uint8
    assert torch.equal(together, torch.cat([pixels for pixels, _, _ in alone]))
    assert torch.equal(targets, torch.cat([target for _, target, _ in alone]))
    assert images.tolist() == [1, 2, 1]
    assert not torch.equal(together[0], together[2])


def test_batches_hold_the_training_split_alone(data):
    targets = torch.cat([target for _, target, _ in train_loader(data, tiny.PARAMS)])
    expected = data.normalise(data.table["mos"].to_numpy()[data.indices("train")])
    assert np.allclose(np.sort(targets.numpy()), np.sort(expected))


def test_it_learns_and_predicts_on_the_databases_own_scale(tmp_path):
    low_is_good = tiny.database(80, low=1.0, high=5.0, up=False)
    params = tiny.PARAMS.model_copy(update={"epochs": 15, "lr": 5e-3})
    train(params, low_is_good, tmp_path)
    model = load_model(tmp_path / "best.pt")
    predictions = predict(model.network, low_is_good, low_is_good.indices("test"), **model.options)
    assert predictions["prediction"].corr(predictions["mos"], method="spearman") > 0.8
    assert abs(predictions["prediction"].mean() - predictions["mos"].mean()) < 1.5
