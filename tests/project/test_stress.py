"""The parts of the stress suite work; the suite itself runs with `make stress`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from iqa.app.steps import STEPS
from iqa.study import param_files, paths
from stress import __main__ as suite
from stress import bad_files, inputs, kills, power, project, scores, soak
from stress.project import Outcome

SLEEPER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
SLEEPER += "print('ready', flush=True); time.sleep(60)"
REPORT = {"status": 0, "ended": "", "peak": 600, "out": "", "err": ""}


def test_the_table_counts_what_was_tried_and_what_survived():
    outcomes = [Outcome("kills", "train", "one", ""), Outcome("kills", "train", "two", "lost")]
    assert suite.table(outcomes).to_dict("records") == [{"group": "kills", "kind": "train", "tried": 2, "survived": 1}]
    assert "kills, train: two\n  lost" in suite.markdown(outcomes) and "one" not in suite.markdown(outcomes)


def test_the_study_of_a_copy_has_a_run_of_every_step(tmp_path, monkeypatch):
    project.make(tmp_path)
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    assert list(project.runs()) == list(STEPS)
    assert project.runs()["train"] == ["main_s1", "last_s1"] == param_files.run_names("stress", "train")[::-1]
    assert len(list((tmp_path / "data" / "tiny").glob("*.png"))) == 40


@pytest.mark.parametrize(
    ("name", "one", "two", "equal"),
    [
        ("a.json", {"seconds": 1, "srcc": 0.5}, {"seconds": 2, "srcc": 0.5}, True),
        ("a.json", {"seconds": 1, "srcc": 0.5}, {"seconds": 1, "srcc": 0.6}, False),
        ("a.csv", "loss,seconds\n0.5,1\n", "loss,seconds\n0.5,2\n", True),
        ("a.csv", "loss,seconds\n0.5,1\n", "loss,seconds\n0.50,1\n", False),
        ("a.pt", {"w": torch.ones(2), "row": {"seconds": 1}}, {"w": torch.ones(2), "row": {"seconds": 2}}, True),
        ("a.pt", {"w": torch.ones(2)}, {"w": torch.ones(2) + 1e-7}, False),
        ("a.svg", "<svg/>", "<svg />", False),
    ],
)
def test_results_are_compared_to_the_bit_but_for_times(tmp_path, name, one, two, equal):
    files = [tmp_path / folder / name for folder in "ab"]
    for file, content in zip(files, (one, two), strict=True):
        file.parent.mkdir()
        if name.endswith(".pt"):
            torch.save(content, file)
        else:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
    assert project.same(*files) is equal


def test_a_record_whose_output_has_changed_is_broken(tmp_path):
    folder = tmp_path / "results" / project.STUDY / "train" / "a"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"outputs": {"a.csv": "0" * 64}}))
    assert project.broken_records(tmp_path) == [f"results/{project.STUDY}/train/a/a.csv is not what its record says"]


@pytest.mark.parametrize("how", power.DAMAGES)
def test_every_damage_changes_a_file(tmp_path, how):
    file = tmp_path / "state"
    file.write_bytes(b"twelve bytes")
    power.damage(file, how, np.random.default_rng(0))
    assert file.is_dir() if how == "a folder" else file.read_bytes() != b"twelve bytes"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"status": 1, "err": "iqa: inputs/bad.pt: is damaged"}, ""),
        ({"status": 0}, "status 0, expected error"),
        ({"status": 1, "err": "iqa: it is damaged"}, "lacks bad.pt"),
        ({"status": 1, "err": "Traceback (most recent call last):\nKeyError: 1"}, "traceback: KeyError: 1"),
        ({"status": None, "ended": "time"}, "ended after"),
        ({"status": 1, "err": "iqa: bad.pt\n1\n2\n3"}, "4 lines"),
        ({"status": 1, "err": f"iqa: bad.pt {'x' * 700}"}, "characters"),
    ],
)
def test_an_answer_is_judged_by_status_words_and_length(answer, fault):
    case = inputs.Case("model files", "empty", list, "error", ("bad.pt",))
    judged = inputs.judge(case, REPORT | answer)
    assert fault in judged and bool(judged) == bool(fault)


def test_every_case_has_a_known_expectation_and_a_name_of_its_own():
    cases = list(inputs.cases())
    assert len({(case.kind, case.name) for case in cases}) == len(cases) > 500
    assert {case.expected for case in cases} == set(inputs.STATUS)


@pytest.mark.parametrize("name", bad_files.IMAGES)
def test_a_bad_image_can_be_made(tmp_path, name):
    bad_files.IMAGES[name][0](tmp_path / name)
    assert os.path.lexists(tmp_path / name)


def test_memory_that_grows_is_told_from_memory_that_wavers():
    wavers = 500 + np.random.default_rng(0).normal(0, 1, 100)
    assert abs(soak.grown(list(wavers))) < 2
    assert soak.grown(list(wavers + np.arange(100))) == pytest.approx(69, abs=2)


def test_scored_images_are_the_same_each_time(tmp_path):
    first, again = (scores.make_images(tmp_path / name) for name in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]


@pytest.mark.parametrize("way", kills.WAYS)
def test_a_process_is_killed_in_every_way_and_its_children_are_found(tmp_path, monkeypatch, way):
    def start(folder, *arguments, **more):
        with (tmp_path / "printed.txt").open("w") as file:
            command = [sys.executable, "-c", SLEEPER]
            return subprocess.Popen(command, stdout=file, start_new_session=True, env=dict(os.environ) | more)

    monkeypatch.setattr(project, "start", start)
    run = kills.Watched(tmp_path, kills.NEW, f"test-{os.getpid()}-{way.replace(' ', '-')}")
    monkeypatch.setattr(kills, "PATIENCE", 1)
    run.wait_until(lambda run: "ready" in run.printed)
    fault = kills.kill(run, way, np.random.default_rng(0))
    assert fault == ("it did not end" if way.endswith("child") else "")
    goes_on = way.endswith(("alone", "parent", "child"))
    assert bool(project.end(run.token, patience=0 if goes_on else 20)) is goes_on
    assert not project.alive(run.token)
