"""Databases that are not on this machine: told at once where they are needed, left out and named where they are not."""

import json

import pytest
import tiny
import yaml

from iqa.analysis.params import CrossDatasetParams
from iqa.app import graph
from iqa.app.stale import State
from iqa.data import DataError, prepare
from iqa.study import param_files, paths
from iqa.study.results import RECORD
from iqa.training.params import TrainParams


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty project root, with the studies' real parameter files and one of its own, `toy`."""
    real = paths.PARAMS
    for name in ("ROOT", "RESULTS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "koniq10k").symlink_to(real / "koniq10k")
    files = {
        "data_prep/demo": "scale: 0.1",
        "data_prep/far": "reader: livec\nsplit: all_test",
        "train/main_s1": "seed: 1",
        "cross_dataset/main": "models: [main_s1]\ndatabases: [demo, far]",
        "report/report": "title: Toy",
    }
    for step in ("data_prep", "train"):
        file = tmp_path / "params" / "toy" / f"{step}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(tiny.NEEDED[step]))
    for run, text in files.items():
        file = tmp_path / "params" / "toy" / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return tmp_path


def test_a_study_whose_training_data_is_missing_says_at_once_what_to_get(elsewhere):
    with pytest.raises(DataError) as caught:
        graph.jobs("koniq10k")
    message = str(caught.value)
    assert "KonIQ-10k" in message and "University of Konstanz" in message
    assert "params/koniq10k/data_prep/koniq10k.yaml" in message
    needed, optional = message.split("reported as not available")
    assert "spaq" in optional and "spaq" not in needed


def test_a_database_that_only_serves_to_test_is_left_out_and_the_others_run(elsewhere):
    jobs = {(job.step, job.run): job for job in graph.jobs("toy")}
    assert ("data_prep", "far") not in jobs
    marks = jobs["cross_dataset", "main"].inputs
    assert [mark.split("/made/")[1] for mark in marks] == ["train/main_s1", "data_prep/demo"]
    assert not any("far" in file for file in jobs["report", "report"].inputs)


def test_a_training_on_a_database_that_is_not_here_is_left_out_unless_it_is_the_main_one(elsewhere):
    folder = elsewhere / "params" / "toy"
    (folder / "data_prep" / "far.yaml").write_text("reader: livec\nrepeats: 1..3\n")
    (folder / "cross_dataset" / "main.yaml").write_text("models: [main_s1]\ndatabases: [far_r1]\n")
    (folder / "train" / "other.yaml").write_text("database: far\n")
    jobs = {(job.step, job.run): job for job in graph.jobs("toy")}
    assert ("train", "main_s1") in jobs and not {run for step, run in jobs if "far" in run or "other" in run}
    (folder / "report" / "report.yaml").write_text("main: other_r1\n")
    with pytest.raises(
        DataError, match=r"not here:\n  far \(to train other_r1, other_r2, other_r3\): .*LIVE-itW"
    ) as caught:
        graph.jobs("toy")
    assert str(caught.value).count("LIVE-itW") == 1


def test_without_data_and_training_only_what_needs_neither_is_made(elsewhere):
    jobs = graph.jobs("koniq10k", train=False)
    assert {(job.step, job.run) for job in jobs} == {("complexity", "main"), ("claims", "main"), ("report", "report")}
    assert all(job.due for job in jobs)
    assert [len(job.inputs) for job in jobs] == [0, 1, 2]


TRAINED = {"data_prep/demo", "train/main_s1"}
CROSS, ABLATION, ANALYSIS = "cross_dataset/main", "ablation/main", "analysis/main"


@pytest.mark.parametrize(
    ("finished", "values", "made"),
    [
        (set(), {}, set()),
        (TRAINED, {}, {CROSS, ABLATION, ANALYSIS}),
        (TRAINED, {CROSS: "models: [main_s1]\ndatabases: [far]"}, {ABLATION, ANALYSIS}),
        (TRAINED, {CROSS: "models: [other_s1]\ndatabases: [demo]"}, {ABLATION, ANALYSIS}),
        (
            TRAINED,
            {CROSS: "models: [other_s1, main_s1]\ndatabases: [demo]", ANALYSIS: "model: other_s1"},
            {CROSS, ABLATION},
        ),
        (TRAINED, {ANALYSIS: "database: far"}, {CROSS, ABLATION}),
        (set(), {CROSS: "models: [published.pth]\ndatabases: [demo]"}, {CROSS}),
    ],
)
def test_what_has_nothing_to_compute_is_left_out(elsewhere, finished, values, made):
    texts = {
        "train/other_s1": "seed: 2",
        CROSS: "models: [main_s1]\ndatabases: [demo, far]",
        ABLATION: "reference: main_s1",
    }
    texts |= {ANALYSIS: "model: main_s1"} | values
    (elsewhere / "params" / "toy" / "analysis.yaml").write_text(yaml.safe_dump(tiny.NEEDED["analysis"]))
    for run, text in texts.items():
        file = elsewhere / "params" / "toy" / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        of_analysis = "\nreference: main_s1\nattention:" if run == ANALYSIS else ""
        file.write_text(f"{text}{of_analysis}\n")
    for name in finished:
        folder = paths.RESULTS / "toy" / name
        folder.mkdir(parents=True)
        (folder / RECORD).write_text("{}")
    jobs = {f"{job.step}/{job.run}": job for job in graph.jobs("toy", train=False)}
    assert {name for name in jobs if not name.startswith(("data_prep", "report"))} == made
    assert len(jobs["report/report"].inputs) == len(jobs) - 1


def write_record(params, **reads_and_files):
    """The record of a finished run that wrote nothing, made from what is here or as told."""
    made_from = State("toy").identity(params)
    made_from = made_from | {part: made_from[part] | values for part, values in reads_and_files.items()}
    folder = paths.run_folder("toy", params.step, params.run)
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"identity": made_from, "outputs": {}}))


def reasons(params):
    return [str(reason) for reason in State("toy").reasons(params)]


def test_the_evaluation_is_made_anew_when_the_database_arrives(elsewhere, monkeypatch):
    params = param_files.load(CrossDatasetParams, "toy", "main")
    write_record(params)
    assert reasons(params) == []
    (elsewhere / "root" / "data" / "LIVE-itW").mkdir(parents=True)
    fingerprint = prepare.fingerprint
    monkeypatch.setattr(prepare, "fingerprint", lambda of: "arrived" if of.run == "far" else fingerprint(of))
    assert reasons(params) == ["reads data_prep/far: its contents differ"]


def test_what_is_not_trained_makes_no_result_out_of_date(elsewhere):
    write_record(param_files.load(CrossDatasetParams, "toy", "main"))
    state = State("toy", train=False)
    assert state.out_of_date_needs(state.params["report", "report"]) == {}


def test_results_that_were_brought_here_count_without_their_images(elsewhere):
    folder = paths.run_folder("toy", "data_prep", "far")
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"data": {"far": "of another machine"}, "outputs": {}}))
    jobs = {(job.step, job.run): job for job in graph.jobs("toy")}
    assert not jobs["data_prep", "far"].due
    assert jobs["data_prep", "far"].mark in jobs["cross_dataset", "main"].inputs


def test_a_training_that_was_brought_here_counts_without_its_database_and_its_weights(elsewhere):
    file = elsewhere / "params" / "toy" / "train" / "main_s1.yaml"
    file.write_text("database: far\nweights: weights.pth\n")
    params = param_files.load(TrainParams, "toy", "main_s1")
    theirs = "of another machine"
    write_record(params, reads={"data_prep/far": theirs}, files={"weights.pth": theirs})
    assert [job.due for job in graph.jobs("toy") if job.step == "train"] == [False]
    (elsewhere / "root").mkdir(exist_ok=True)
    (elsewhere / "root" / "weights.pth").write_bytes(b"others")
    assert reasons(params) == ["file weights.pth: its contents differ"]


def test_opening_says_why_a_database_is_not_there(elsewhere):
    opened, missing = prepare.open_available("toy", ["far"])
    assert opened == {}
    reason = missing["far"]["reason"]
    assert "data/LIVE-itW" in reason and "University of Texas" in reason
    assert missing["far"]["title"] == "LIVE In the Wild"
