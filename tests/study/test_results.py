"""The results folder: what a run writes, and what is refused."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import pandas as pd
import pytest

from iqa.analysis.params import AblationParams
from iqa.study import disk, paths, results
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
    written = json.loads((out.path / "record.json").read_text())
    assert written.pop("check") and written == record


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


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_earlier_results_stay_until_the_run_is_finished(out):
    out.save_text("note.txt", "old")
    out.finish()
    before = contents(out.place)
    again = RunFolder(AblationParams(run="one"))
    again.save_text("other.txt", "new")
    assert contents(again.place) == before and again.path.name == "one.unfinished"
    record = again.finish()
    assert set(record["outputs"]) == {"other.txt", "params.json"} and again.path == again.place
    assert set(contents(again.place)) == {"other.txt", "params.json", "record.json"}
    assert {path.name for path in again.place.parent.iterdir()} == {"one", ".one.lock"}


def stage_pages(name, files):
    """A run that has written files elsewhere, and is not finished; the contents of all are their `name`."""
    run = RunFolder(AblationParams(run="one"))
    run.save_text("note.txt", name)
    for file in files:
        run.staged(file).parent.mkdir(parents=True, exist_ok=True)
        run.staged(file).write_text(name)
    return run


def test_files_elsewhere_change_with_the_results_and_those_of_before_are_removed(out, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "REPORT", tmp_path / "report")
    page, table = tmp_path / "report/demo/page.html", tmp_path / "report/demo/tables/main.csv"
    for name, files in (("old", [page, table]), ("new", [page])):
        run = stage_pages(name, files)
        if name == "new":
            assert page.read_text() == table.read_text() == "old"
        record = run.finish(elsewhere=files)
    assert page.read_text() == "new" and not table.exists()
    assert "../../../report/demo/page.html" in record["outputs"]
    assert set(contents(run.place)) == {"note.txt", "params.json", "record.json"}


class Killed(BaseException):
    """What ends a process at once."""


def kill_at(patch, moment):
    """Let the process be killed at a change of names, the first of which is number 0."""
    changes = []

    def killed_there(original):
        def change(*arguments, **named):
            if len(changes) == moment:
                raise Killed
            changes.append(original)
            return original(*arguments, **named)

        return change

    for name in ("rename", "replace", "unlink", "rmdir"):
        patch.setattr(Path, name, killed_there(getattr(Path, name)))


def test_whatever_the_moment_of_a_kill_the_next_report_finds_whole_results(tmp_path, monkeypatch):
    moment, killed = 0, True
    while killed:
        monkeypatch.setattr(paths, "RESULTS", tmp_path / str(moment) / "results")
        monkeypatch.setattr(paths, "REPORT", tmp_path / str(moment) / "report")
        pages = [paths.REPORT / "demo" / name for name in ("page.html", "tables/main.csv", "tables/gone.csv")]
        stage_pages("old", pages).finish(elsewhere=pages)
        place, killed = paths.run_folder("demo", "ablation", "one"), False
        with monkeypatch.context() as patch:
            kill_at(patch, moment)
            try:
                stage_pages("new", pages[:2]).finish(elsewhere=pages[:2])
            except Killed:
                killed = True
        while results._held:  # locks end with the process
            results._held.popitem()[1][0].close()
        results.recover(place)
        (note,) = {file.read_text() for file in (place / "note.txt", *pages[:2])}
        assert set(contents(place)) == {"note.txt", "params.json", "record.json"}
        assert pages[2].exists() == (note == "old") and not (place.parent / ".one.before").exists()
        moment += 1
    assert note == "new" and moment > 10


def test_a_working_folder_keeps_the_state_of_a_training_and_nothing_else(out):
    (out.path / "epochs").mkdir()
    (out.path / "epochs" / "epoch_001.pt").write_text("x")
    for name in ("elsewhere", "last.ckpt"):
        (out.path / name).mkdir()
    for name in ("best.pt", "fit.json", "metrics.json", "notebook.ipynb", "record.json", ".half.part"):
        (out.path / name).write_text("x")
    assert results.open_work(out.place) == out.path
    assert set(contents(out.path)) == {"best.pt", "fit.json", "epochs/epoch_001.pt"}
    assert not (out.path / "last.ckpt").exists()


def test_two_processes_do_not_make_one_run(out, monkeypatch):
    program = (
        "import sys; from pathlib import Path; from iqa.study import paths; from iqa.study.results import RunFolder\n"
        "from iqa.analysis.params import AblationParams\n"
        "paths.RESULTS = Path(sys.argv[1])\n"
        "RunFolder(AblationParams(run='one'))"
    )
    command = [sys.executable, "-c", program, str(paths.RESULTS)]
    before = contents(out.path)
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "demo/ablation/one: another process makes this run" in refused.stderr
    assert contents(out.path) == before
    shared = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "IQA_BATCH": "1"})
    assert shared.returncode == 0, shared.stderr  # one that `iqa run` starts shares its lock
    out.finish()
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0


DAMAGED = ["", "{", "[]", "null", "3", '{"outputs": 3}', '{"outputs": {}, "identity": []}', b"\xff\xfe", b"\0" * 100]


@pytest.mark.parametrize("content", [*DAMAGED, '{"outputs": {}, "identity": {"code": 3}}', None])
def test_a_damaged_record_is_named_with_the_remedy(out, content):
    out.finish()
    file = out.place / "record.json"
    if content is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    what = "holds no finished run" if content is None else r"record\.json is damaged"
    with pytest.raises(ResultsError, match=rf"ablation/one.*{what}.*iqa run demo/ablation/one"):
        results.read_json("demo", "ablation", "one", "params")
    assert results.parse_record(file) is None


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Quota")])
def test_a_full_disk_is_told_and_leaves_the_file_of_before(tmp_path, error):
    file = tmp_path / "model.pt"
    disk.write_whole(file, "old", durable=True)

    def fill_up(stream):
        try:
            stream.write(b"half")
            raise error
        finally:
            raise RuntimeError("unexpected pos 704 vs 598")  # as PyTorch does

    with pytest.raises(disk.DiskError, match=f"{tmp_path}: the disk is full .*free some space; earlier results are"):
        disk.write_whole(file, fill_up)
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


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
