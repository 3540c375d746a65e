"""The results folder: what a run writes, and what is refused."""

import json
import subprocess

import matplotlib.figure
import pandas as pd
import pytest

from iqa.analysis.params import AblationParams
from iqa.study import paths, results
from iqa.study.code import file_hash
from iqa.study.results import ResultsError, RunFolder


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    return RunFolder(AblationParams(run="one", seed=3))


def test_a_record_tells_where_results_come_from(out):
    out.save_table("numbers", pd.DataFrame({"a": [1 / 3]}))
    record = out.finish(data={"demo": "abc"})
    assert record["seed"] == 3 and record["data"] == {"demo": "abc"} and record["params"]["run"] == "one"
    assert record["outputs"]["numbers.csv"] == file_hash(out.path / "numbers.csv")
    assert record["versions"]["torch"] and record["hardware"]["cores"] >= 1 and record["machine"]
    assert record["commit"] is None or len(record["commit"]) == 40
    assert json.loads((out.path / "record.json").read_text()) == record


def test_tables_keep_every_digit(out):
    out.save_table("numbers", pd.DataFrame({"a": [1 / 3]}))
    out.finish()
    assert results.read_table("demo", "ablation", "one", "numbers")["a"][0] == 1 / 3


def test_a_figure_is_written_in_three_formats_with_the_same_bytes_each_time(out):
    def draw():
        figure = matplotlib.figure.Figure(figsize=(2, 2))
        figure.subplots().plot([1, 2], [3, 4])
        out.save_figure("line", figure)
        return {file.name: file.read_bytes() for file in out.path.glob("line.*")}

    first = draw()
    assert set(first) == {"line.png", "line.svg", "line.pdf"}
    assert draw() == first


def test_what_is_not_a_number_is_not_written(out):
    with pytest.raises(ValueError):
        out.save_json("metrics", {"srcc": float("nan")})
    assert not (out.path / "metrics.json").exists()


def test_an_unfinished_run_cannot_be_read(out):
    out.save_json("metrics", {"srcc": 1.0})
    with pytest.raises(ResultsError, match=r"no finished run; make it with: iqa run demo/ablation/one"):
        results.read_json("demo", "ablation", "one", "metrics")


def test_a_file_that_a_finished_run_lacks_is_named(out):
    out.finish()
    with pytest.raises(ResultsError, match=r"metrics\.json is missing"):
        results.read_json("demo", "ablation", "one", "metrics")


def test_opening_a_run_again_takes_its_record_away(out):
    out.finish()
    RunFolder(AblationParams(run="one"))
    assert not (out.path / "record.json").exists()


def test_clearing_keeps_the_state_of_a_training_alone(out):
    for name in ("best.pt", "last.ckpt", "fit.json", "metrics.json", "notebook.ipynb"):
        (out.path / name).write_text("x")
    results.clear(out.path)
    assert {file.name for file in out.path.iterdir()} == {"best.pt", "last.ckpt", "fit.json"}


def test_files_that_git_does_not_know_make_a_checkout_dirty_where_they_can_decide_a_result(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert results.commit("trial") == {"commit": None, "dirty": None}
    (tmp_path / "iqa").mkdir()
    (tmp_path / "iqa" / "known.py").touch()
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        git(*arguments)
    places = {"notes.txt": False, "params/other/a.yaml": False, "iqa/__pycache__/x.pyc": False}
    places |= {"params/trial/train/a.yaml": True, "params/trial/train.yaml": True, "iqa/new.py": True}
    places |= {"notebooks/99_new.ipynb": True, "iqa/known.py": True}
    for place, dirty in places.items():
        file = tmp_path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1")
        assert results.commit("trial")["dirty"] is dirty, place
        assert len(results.commit("trial")["commit"]) == 40
        file.unlink()
        git("checkout", "--", ".")
