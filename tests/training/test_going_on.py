"""Trainings that go on: from the weights of a trained model, and with more epochs than they had."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
import yaml
from reference_models import blank

from iqa.app.rehearsal import shrink
from iqa.app.run import run
from iqa.app.stale import State
from iqa.data.sizes import Size
from iqa.model.params import ModelParams
from iqa.model.predictor import load_model
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.study.results import ResultsError
from iqa.training.params import TrainParams
from iqa.training.start import StartError, load_start
from iqa.training.train import train

pytestmark = pytest.mark.slow

OPEN = {"constant": {}, "step": {"schedule_epochs": 2}, "milestones": {"milestones": [1, 2]}, "cosine_restarts": {}}
SMALL = "backbone_args: {stem_width: 4, channels: [8, 8, 8, 8], zero_init_last: false}\n"


@pytest.fixture(scope="module")
def data():
    return tiny.database()


@pytest.fixture(scope="module")
def source(data, tmp_path_factory):
    """The model of a training on 0..100 where higher is better."""
    folder = tmp_path_factory.mktemp("source")
    train(tiny.PARAMS.model_copy(update={"epochs": 1}), data, folder)
    return folder / "best.pt"


def weights(folder):
    return torch.load(folder / "best.pt", weights_only=True)["state_dict"]


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def copy(params: TrainParams, **changes) -> TrainParams:
    return params.model_copy(update=changes)


@pytest.mark.parametrize(
    "schedule", ["step", *(pytest.param(name, marks=pytest.mark.slow) for name in OPEN if name != "step")]
)
def test_a_training_that_is_extended_equals_one_that_was_that_long_at_once(data, tmp_path, schedule):
    results, work, whole = tmp_path / "main_s1", tmp_path / "main_s1.unfinished", tmp_path / "whole"
    for folder in (results, work, whole):
        folder.mkdir()
    update = {"schedule": schedule, "warmup_epochs": 0.5, "ema": 0.9, "dropout": 0.3, "patience": 9}
    short = copy(tiny.PARAMS, epochs=1, select_on="val_loss", **update | OPEN[schedule])
    long = copy(short, epochs=3)
    train(short, data, results)
    before = {file.name: file.read_bytes() for file in results.iterdir()}
    extended, at_once = train(long, data, work), train(long, data, whole)
    pd.testing.assert_frame_equal(extended.drop(columns="seconds"), at_once.drop(columns="seconds"), check_exact=True)
    assert same(weights(work), weights(whole))
    one, other = (torch.load(folder / "last.ckpt", weights_only=True) for folder in (work, whole))
    assert same(one["state_dict"], other["state_dict"])
    assert str(one["optimizer_states"]) == str(other["optimizer_states"])
    assert torch.load(work / "best.pt", weights_only=True)["params"]["epochs"] == 3
    log = (work / "train.log").read_text()
    assert "going on from last.ckpt to 3 epochs" in log and log.count("epoch   1/") == 1
    assert {file.name: file.read_bytes() for file in results.iterdir()} == before
    assert len(train(long, data, work)) == 3 and (work / "train.log").read_text() == log


def test_an_extension_that_is_stopped_goes_on(data, tmp_path):
    folders = tmp_path / "part", tmp_path / "whole"
    for folder in folders:
        folder.mkdir()
    short = copy(tiny.PARAMS, epochs=1, schedule="constant")
    train(short, data, folders[0])

    def stop(history):
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        train(copy(short, epochs=3), data, folders[0], after_epoch=stop)
    part, whole = (train(copy(short, epochs=3), data, folder) for folder in folders)
    pd.testing.assert_frame_equal(part.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)
    assert (folders[0] / "train.log").read_text().count("epoch   1/") == 1


def test_a_training_that_patience_ended_is_not_extended(data, tmp_path):
    params = copy(tiny.PARAMS, epochs=4, patience=1, lr=0.0, schedule="constant", freeze_batch_norm=True)
    history = train(params, data, tmp_path)
    for epochs in (2, 9):  # patience ends it with its last epoch, and before
        folder = tmp_path / str(epochs)
        folder.mkdir()
        train(copy(params, epochs=epochs), data, folder)
        assert len(train(copy(params, epochs=10), data, folder)) == len(history) == 2
        assert "going on" not in (folder / "train.log").read_text()


ANEW = {
    "one_cycle": ({}, {}, "schedule 'one_cycle' spans all epochs: to go on from this model, use `start_from`"),
    "cosine": ({"schedule": "cosine"}, {}, "schedule 'cosine' spans all epochs"),
    "another key": ({"schedule": "constant"}, {"lr": 1e-3}, "training anew: parameter lr: 0.002 -> 0.001"),
    "no last.ckpt": ({"schedule": "constant"}, {}, "last.ckpt is missing"),
}


@pytest.mark.parametrize("case", ANEW)
def test_what_cannot_be_extended_is_trained_anew_and_the_log_says_why(data, tmp_path, case):
    base, changes, why = ANEW[case]
    params = copy(tiny.PARAMS, epochs=1, **base)
    train(params, data, tmp_path)
    if case == "no last.ckpt":
        (tmp_path / "last.ckpt").unlink()
    history = train(copy(params, epochs=2, **changes), data, tmp_path)
    log = (tmp_path / "train.log").read_text()
    assert why in log and "epoch   1/2" in log and len(history) == 2


def test_a_training_starts_from_the_weights_of_a_model_on_the_scale_of_its_own_database(source, tmp_path):
    data = tiny.database(24, low=1.0, high=5.0, up=False)
    params = copy(tiny.PARAMS, start_from=str(source), epochs=1)
    train(copy(params, lr=0.0, weight_decay=0.0, freeze_batch_norm=True), data, tmp_path)
    assert same(weights(tmp_path), weights(source.parent))
    before, after = load_model(source), load_model(tmp_path)
    assert before.scale.of == after.scale.of == "Tiny" and (after.scale.low, after.scale.high) == (1.0, 5.0)
    image = np.random.default_rng(0).integers(0, 256, (72, 96, 3), np.uint8)
    assert after.score(image) == pytest.approx(5 - 4 * before.score(image) / 100, abs=1e-5)
    assert "starting from" in (tmp_path / "train.log").read_text()

    train(copy(params, freeze_backbone=True), data, tmp_path)
    same_parts = {name: torch.equal(value, weights(source.parent)[name]) for name, value in weights(tmp_path).items()}
    assert all(equal for name, equal in same_parts.items() if name.startswith("backbone."))
    assert not same_parts["hyper.last_weight.weight"]


def test_a_training_that_starts_from_a_model_and_is_stopped_goes_on_without_it(data, source, tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(source.read_bytes())
    params = copy(tiny.PARAMS, start_from=str(file))
    folders = tmp_path / "stopped", tmp_path / "whole"
    for folder in folders:
        folder.mkdir()

    def stop(history):
        if len(history) == 2:
            raise KeyError("enough")

    whole = train(params, data, folders[1])
    with pytest.raises(KeyError, match="enough"):
        train(params, data, folders[0], after_epoch=stop)
    file.unlink()
    resumed = train(params, data, folders[0])
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True)


def test_another_model_in_the_same_file_is_another_training(data, source, tmp_path):
    file, folder = tmp_path / "model.pt", tmp_path / "fit"
    folder.mkdir()
    saved = torch.load(source, weights_only=True)
    params = copy(tiny.PARAMS, start_from=str(file), epochs=1)
    for bias in (0.0, 0.1):
        saved["state_dict"]["hyper.last_bias.bias"] += bias
        torch.save(saved, file)
        train(params, data, folder)
    assert f"training anew: file {file}: its contents differ" in (folder / "train.log").read_text()


def test_a_training_starts_from_a_published_checkpoint_once_its_parameters_are_those(data, tmp_path):
    torch.save(blank("hyperiqa"), tmp_path / "published.pkl")
    params = tiny.demo(start_from=str(tmp_path / "published.pkl"), device="cpu", input="rgb")
    with pytest.raises(
        StartError, match=r"set as it has them: backbone: 'resnet50' \(not 'resnet10t'\), backbone_args"
    ):
        load_start(params, [data])
    theirs = ModelParams(backbone="resnet50.tv_in1k", output_scale=100).model_dump()
    data = replace(data, size=Size(512, 384, keep_aspect=False, filter="bilinear"))
    assert not load_start(copy(params, **theirs), [data])["hyper.last_bias.bias"].any()


REFUSED = {
    "architecture": ({"fusion": "last"}, {}, StartError, r"set as it has them: fusion: 'concat' \(not 'last'\)"),
    "input": ({"input": "rgb"}, {}, StartError, r"input: 'mscn' \(not 'rgb'\)"),
    "size": ({}, {"size": Size(60, 80)}, StartError, r"'tiny' is not stored as .* data_prep: height: 72 \(not 60\)"),
    "colours": ({}, {"size": Size(72, 96, colours="srgb")}, StartError, r"colours: 'stored' \(not 'srgb'\)"),
    "uncalibrated": ({}, {}, StartError, "is uncalibrated: its scores do not rise"),
    "no file": ({"start_from": "none.pt"}, {}, Exception, "none.pt"),
    "no run": ({"start_from": "smoke/main_s1"}, {}, ResultsError, "make it with: iqa run smoke/train/main_s1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_a_training_cannot_start_from_is_refused_before_it_begins(source, tmp_path, monkeypatch, case):
    changes, database, error, match = REFUSED[case]
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    saved = torch.load(source, weights_only=True)
    saved["database"]["size"] |= {"height": 72, "width": 96}
    if case == "uncalibrated":
        saved["calibration"] = {"uncalibrated": "its scores do not rise"}
    torch.save(saved, tmp_path / "model.pt")
    pixels = tiny.database().stores["mscn"]
    data = replace(tiny.database(), **{"stores": {"mscn": pixels, "rgb": pixels}, "size": Size(72, 96)} | database)
    folder = tmp_path / "fit"
    folder.mkdir()
    with pytest.raises(error, match=match):
        train(copy(tiny.PARAMS, **{"start_from": str(tmp_path / "model.pt")} | changes), data, folder)
    assert not list(folder.iterdir())


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Writes the files of the trainings of a study `two`, beside a study `one` whose run `main` has a small network."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for name in ("one", "two"):
        for step in ("train", "data_prep"):
            (paths.PARAMS / name / step).mkdir(parents=True)
            (paths.PARAMS / name / f"{step}.yaml").write_text(yaml.safe_dump(tiny.NEEDED[step]))
        (paths.PARAMS / name / "data_prep" / "demo.yaml").write_text("{}")
    (paths.PARAMS / "one" / "train" / "main.yaml").write_text(f"{SMALL}dropout: 0.2\ncrop: 64\nseeds: [1]\n")

    def write(**files: str):
        for name, text in files.items():
            (paths.PARAMS / "two" / "train" / f"{name}.yaml").write_text(text)

    return write


def load(name: str) -> TrainParams:
    return param_files.load(TrainParams, "two", name)


def test_a_run_takes_the_architecture_and_preparation_of_the_run_that_it_starts_from(study):
    study(tuned="start_from: one/main_s1\ndropout: 0.5\nlr: 1.0e-4\n", again="start_from: tuned\n")
    other, tuned, again = param_files.load(TrainParams, "one", "main_s1"), load("tuned"), load("again")
    assert tuned.architecture() == copy(other, dropout=0.5).architecture()
    assert tuned.crop == 64 and tuned.lr == 1e-4 and tuned.epochs == tiny.demo().epochs
    assert again.architecture() == tuned.architecture()
    assert again.needs() == [("train", "tuned"), ("data_prep", "demo")] and tuned.needs() == [("data_prep", "demo")]
    assert tuned.files()[0].endswith("results/one/train/main_s1/best.pt")


FILES = {
    "another architecture": (
        "start_from: one/main_s1\nfusion: last\n",
        "one/main_s1 has fusion: 'concat', and this run",
    ),
    "no such run": ("start_from: one/none\n", "params/one/train/none.yaml does not exist; the train runs .*main_s1"),
    "an experiment": ("start_from: one/main\n", "main.yaml is a file of several runs; .* main_s1"),
    "itself": ("start_from: tuned\n", "two/tuned starts from itself in the end"),
    "two kinds of weights": ("start_from: one/main_s1\nweights: a.pth\n", "'start_from' brings all weights of a model"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_contradicts_the_run_that_it_starts_from_is_refused(study, case):
    text, match = FILES[case]
    study(tuned=text)
    with pytest.raises(ParameterError, match=rf"tuned\.yaml.*: .*{match}"):
        load("tuned")


def test_a_run_is_made_after_the_one_that_it_starts_from_and_again_when_that_changed(study):
    study(a="start_from: b\nschedule: constant\n", b=SMALL)
    state = State("two")
    assert list(state.params) == [("data_prep", "demo"), ("train", "b"), ("train", "a")]
    model = paths.run_folder("two", "train", "b") / "best.pt"
    for name in ("b", "a"):
        folder = paths.run_folder("two", "train", name)
        folder.mkdir(parents=True)
        (folder / "best.pt").write_bytes(b"weights")
    for name in ("b", "a"):
        tiny.finish(paths.run_folder("two", "train", name), identity=state.identity(state.params["train", name]))
    assert [place for place in State("two").due if place[0] == "train"] == []
    model.write_bytes(b"other weights")
    tiny.finish(model.parent)
    why = State("two").due["train", "a"]
    assert [str(reason) for reason in why] == [f"file {paths.shown(model)}: its contents differ"]
    study(a="start_from: b\nschedule: constant\nepochs: 20\n")
    model.write_bytes(b"weights")
    tiny.finish(model.parent)
    why = State("two").due["train", "a"]
    assert [str(reason) for reason in why] == ["parameter epochs: 16 -> 20; it goes on from last.ckpt"]


def test_a_run_whose_source_is_not_trained_is_refused_with_the_command_that_trains_it(study):
    study(tuned="start_from: one/main_s1\n")
    with pytest.raises(ResultsError, match="holds no finished run; make it with: iqa run one/train/main_s1"):
        run("two", "train", "tuned")
    assert not paths.RESULTS.exists()


def test_a_rehearsal_starts_from_runs_of_its_own_study_alone(study, tmp_path):
    study(tuned="start_from: one/main_s1\n", again="start_from: tuned\n")
    runs = [load(name) for name in ("tuned", "again")]
    assert [shrink(run, tmp_path, runs)["start_from"] for run in runs] == [None, "tuned"]
