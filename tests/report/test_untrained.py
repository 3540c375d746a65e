"""The report of a study before it is trained, and of one that is trained in part."""

import json
import re
import shutil

import finished
import pytest

from iqa.report.appendix import Tables
from iqa.report.beside import Beside
from iqa.report.params import ReportParams
from iqa.report.reader import Reader, ReportError
from iqa.report.render import _fill, _to_html, render
from iqa.study import param_files, paths

pytestmark = pytest.mark.slow

MEASURED = ("data_prep", "train", "ablation", "cross_dataset", "analysis")
NOTHING = "Nothing is trained here yet"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Parameters of the report of a copy of the smoke study, with all its results."""
    finished.put_results(tmp_path)
    for name in ("params", "report"):
        shutil.copytree(getattr(paths, name.upper()), tmp_path / name, dirs_exist_ok=True)
    for name in ("params", "results", "report"):
        monkeypatch.setattr(paths, name.upper(), tmp_path / name)
    return param_files.load(ReportParams, "smoke", "report")


def remove(*steps_and_runs):
    for name in steps_and_runs:
        shutil.rmtree(paths.RESULTS / "smoke" / name)


def written(study, folder):
    """The words of the report in HTML, for which every reference has to lead somewhere."""
    folder.mkdir()
    (folder / "report.md").write_text(_fill(Tables(study, Reader(study.study)), folder, Beside(study.study, folder)))
    _to_html(folder / "report.md", folder / "report.html", ())
    return re.sub(
        r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", "", (folder / "report.html").read_text(), flags=re.S)
    )


def test_a_study_of_which_nothing_is_trained_has_a_report(study):
    remove(*MEASURED)
    outputs = render(study)
    text = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", "", outputs["html"].read_text(), flags=re.S))
    assert NOTHING in text and "iqa run smoke/train/main_s1" in text and "iqa report smoke" in text
    assert "not run: iqa run smoke/train/last" in text and "iqa run smoke/cross_dataset/main" in text
    assert "iqa run smoke/analysis/main" in text and "iqa run smoke/data_prep/demo" in text
    assert not re.search(r"\bnan\b", text)
    summary = json.loads(outputs["summary"].read_text())
    assert summary["synthetic"] and summary["main"]["srcc"] is None and summary["cross"] == []
    tables = {name.partition("/")[2] for name in outputs if name.endswith(".csv")}
    assert {"ablation_main.csv", "architecture.csv", "complexity.csv", "claims.csv", "parameters.csv"} <= tables
    assert not {"main.csv", "cross.csv", "inside.csv", "audits.csv"} & tables


@pytest.mark.parametrize(
    ("removed", "told"),
    [
        (["train/main_s1", "analysis/main"], "The main model is not trained yet. Run main_s1"),
        (["train/main_s1", "cross_dataset/main"], "is not run yet; make it with: iqa run smoke/cross_dataset/main"),
        (["train/last_s1", "ablation/main"], "No training that this table compares is finished"),
        (["data_prep/demo"], "it is not prepared; make it with: iqa run smoke/data_prep/demo"),
        (["data_prep/demo_photos"], "it is not prepared; make it with: iqa run smoke/data_prep/demo_photos"),
        (["analysis/main"], "is not run yet; make it with: iqa run smoke/analysis/main"),
        (["train/last_s1"], "This report is not complete: 1 of the 2 trainings of this study is finished"),
        (["complexity/main", "claims/main"], "wait for their results: claims/main and complexity/main"),
    ],
)
def test_a_study_that_is_finished_in_part_has_a_report_too(study, tmp_path, removed, told):
    (paths.PARAMS / "smoke/ablation/weight.yaml").write_text("title: Another table\n")
    shutil.copytree(paths.RESULTS / "smoke/ablation/main", paths.RESULTS / "smoke/ablation/weight")
    remove(*removed)
    text = written(study, tmp_path / "build")
    assert told in text and NOTHING not in text
    assert not re.search(r"\bnan\b", text)


def test_a_table_of_a_training_that_is_not_finished_says_how_to_make_it(study):
    remove("train/main_s1")
    with pytest.raises(ReportError, match="holds no finished run; make it with: iqa run smoke/train/main_s1"):
        Tables(study, Reader("smoke"))["main"]


def test_the_files_of_a_training_are_those_that_its_run_writes(study):
    names = ("params", "architecture", "architecture_before", "loss")
    before = {name: Reader("smoke").record(f"train/main_s1/{name}.json") for name in names}
    metrics = Reader("smoke").record("train/main_s1/metrics.json")
    remove("train/main_s1")
    reader = Reader("smoke")
    assert {name: reader.record(f"train/main_s1/{name}.json") for name in names} == before
    planned = reader.record("train/main_s1/metrics.json")
    assert planned.items() <= metrics.items() and "srcc" not in planned
    source = reader.value("train/main_s1/architecture.json", "parameters").source
    assert "params/smoke/train/main.yaml : parameters = " in source


def test_a_comparison_that_is_not_made_has_its_groups_and_what_is_published(study):
    made = Reader("smoke").rows("ablation/main/ablation.csv")
    remove("ablation/main", "train/last_s1")
    planned = Reader("smoke").rows("ablation/main/ablation.csv")
    assert list(planned) == list(made) and len(planned) == len(made)
    same = ["group", "label", "differs"]
    assert planned[same].fillna("").equals(made[same].fillna(""))
    assert set(planned["verdict"]) == {"not run"} and planned["srcc_mean"].isna().all()
    commands = dict(zip(planned["group"], planned["command"], strict=True))
    assert commands == {"main": "iqa run smoke/ablation/main", "last": "iqa run smoke/train/last"}
