"""A study as one archive: what is in it, that it takes its place elsewhere, and what is refused."""

import hashlib
import io
import json
import shutil
import zipfile

import finished
import pytest
from ruamel.yaml import YAML

from iqa.app import publish
from iqa.study import paths

STUDY = finished.STUDY


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a finished study that was published."""
    folder = finished.make_project(tmp_path_factory.mktemp("published") / "project")
    shutil.copy(paths.ROOT / "CITATION.cff", folder)
    finished.call(folder, "publish", STUDY)
    return folder


@pytest.fixture(scope="module")
def archive(project):
    with zipfile.ZipFile(project / "results" / f"{STUDY}.zip") as archive:
        yield archive


def files_of(folder):
    """What each file of a folder holds."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- what is published


def test_an_archive_holds_parameters_results_best_models_and_the_report_with_their_checksums(archive):
    names = set(archive.namelist())
    wanted = ["params/smoke/train/main.yaml", "results/smoke/summary.json", "results/smoke/train/main_s1/best.pt"]
    wanted += [f"results/smoke/train/main_s1/{name}" for name in ("record.json", "predictions.csv", "notebook.ipynb")]
    assert {*wanted, "report/smoke/report.html", "report/smoke/report.pdf"} <= names
    assert not any(name.endswith("last.ckpt") for name in names)
    lines = archive.read("manifest-sha256.txt").decode().splitlines()
    listed = {name: sha for sha, name in (line.split("  ") for line in lines)}
    assert listed == {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names - {publish.MANIFEST}}


def test_an_archive_says_how_it_is_cited_and_that_its_images_are_synthetic(archive):
    citation = YAML(typ="safe").load(archive.read("CITATION.cff").decode())
    own = YAML(typ="safe").load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["type"], citation["cff-version"]) == ("dataset", own["cff-version"])
    assert citation["authors"] == own["authors"] and citation["references"][1:] == own["references"]
    assert citation["references"][0]["title"] == own["title"] and "report" in citation["title"]
    metadata = json.loads(archive.read(".zenodo.json"))
    assert metadata["title"] == citation["title"] and metadata["upload_type"] == "dataset"
    assert metadata["creators"] == [{"name": "the iqa contributors"}]
    assert "synthetic" in metadata["description"] and "Out of date" not in metadata["description"]


def test_the_same_study_gives_the_same_bytes(project, tmp_path):
    said = finished.call(project, "publish", STUDY, "--archive", str(tmp_path / "again.zip"))
    again = (tmp_path / "again.zip").read_bytes()
    assert again == (project / "results" / f"{STUDY}.zip").read_bytes()
    assert hashlib.sha256(again).hexdigest() in said and " MB, " in said


def test_a_study_that_is_out_of_date_is_published_only_as_it_is_and_says_so(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "project")
    (copy / "results/smoke/ablation/main/power.csv").unlink()
    (copy / "results/smoke.zip").unlink()
    said = finished.call(copy, "publish", STUDY, fails=True)
    assert "ablation/main" in said and "iqa report smoke" in said and "--as-it-is" in said
    assert not (copy / "results/smoke.zip").exists()
    finished.call(copy, "publish", STUDY, "--as-it-is")
    with zipfile.ZipFile(copy / "results/smoke.zip") as archive:
        description = json.loads(archive.read(".zenodo.json"))["description"]
    assert "Out of date when this was packed: " in description and "ablation/main" in description


def test_a_study_without_a_report_is_not_published(project, tmp_path):
    copy = shutil.copytree(project, tmp_path / "project")
    shutil.rmtree(copy / "report/smoke")
    said = finished.call(copy, "publish", STUDY, "--as-it-is", fails=True)
    assert "report/smoke/ holds no report; make it with: iqa report smoke" in said


# --- what is fetched


def test_a_fetched_study_is_up_to_date_elsewhere_and_can_be_fetched_again(project, tmp_path):
    finished.copy_sources(tmp_path)
    shutil.rmtree(tmp_path / "params" / STUDY)
    for _ in range(2):
        said = finished.call(tmp_path, "fetch", str(project / "results" / f"{STUDY}.zip"))
        assert "study 'smoke' is in place" in said and "smoke/last_s1, smoke/main_s1" in said
    assert finished.call(tmp_path, "why", STUDY) == "Due in study 'smoke': nothing.\n"
    assert "Nothing to be done" in finished.call(tmp_path, "report", STUDY)
    model = "results/smoke/train/main_s1/best.pt"
    assert (tmp_path / model).read_bytes() == (project / model).read_bytes()
    assert not list(tmp_path.glob("*/.fetch-*"))


MINE = {"params/mine/train/a.yaml": b"epochs: 2", "results/mine/train/a/best.pt": b"model"}
MINE |= {"results/mine/train/a/record.json": b"{}", "report/mine/report.html": b"<p>"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folders of a checkout."""
    for name in ("params", "results", "report"):
        (tmp_path / "here" / name).mkdir(parents=True)
        monkeypatch.setattr(paths, name.upper(), tmp_path / "here" / name)
    return tmp_path / "here"


def packed(folder, contents):
    """An archive of some files."""
    stream = io.BytesIO()
    publish._pack(contents, stream)
    file = folder / "mine.zip"
    file.write_bytes(stream.getvalue())
    return file


def written(*names):
    """A zip whose files have these names, and no other."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def tampered(name):
    """A zip whose manifest tells another checksum of one file."""
    stream = io.BytesIO()
    publish._pack(MINE, stream)
    with zipfile.ZipFile(stream) as archive:
        kept = {each: archive.read(each) for each in archive.namelist()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for each, data in kept.items():
            archive.writestr(each, b"other" if each == name else data)
    return stream.getvalue()


def whole():
    stream = io.BytesIO()
    publish._pack(MINE, stream)
    return stream.getvalue()


BAD = {
    "a path upwards": (written("results/mine/../../../evil"), "is no file of one study"),
    "an absolute path": (written("/etc/evil"), "is no file of one study"),
    "a path with a backslash": (written("results/mine/..\\..\\evil"), "is no file of one study"),
    "a hidden file": (written("results/mine/.lock"), "is no file of one study"),
    "code": (written("results/mine/a", "iqa/app/cli.py"), "is no file of one study"),
    "two studies": (written("results/mine/a", "results/yours/a"), "is no file of one study"),
    "a study that is none": (written("results/-/a"), "is no file of one study"),
    "nothing": (written(), "holds no study"),
    "no manifest": (written("results/mine/a"), "is no whole archive"),
    "another model": (tampered("results/mine/train/a/best.pt"), "is not the file whose checksum"),
    "half of it": (whole()[:300], "is no whole archive"),
    "a text": (b"results", "is no whole archive"),
}


@pytest.mark.parametrize("case", BAD)
def test_an_archive_that_is_damaged_or_writes_elsewhere_changes_nothing(here, tmp_path, case):
    data, message = BAD[case]
    (tmp_path / "bad.zip").write_bytes(data)
    with pytest.raises(publish.PublishError, match=message):
        publish.fetch(tmp_path / "bad.zip")
    assert files_of(here) == {} and {file.name for file in tmp_path.iterdir()} == {"bad.zip", "here"}
    assert sorted(file.name for file in here.rglob("*")) == ["params", "report", "results"]


OTHERS = {
    "another result": ("results/mine/train/a/best.pt", b"other"),
    "a further result": ("results/mine/train/b/best.pt", b"mine"),
    "a training at work": ("results/mine/train/a.unfinished/last.ckpt", b"mine"),
    "another parameter": ("params/mine/train/a.yaml", b"epochs: 3"),
    "lacking parameters": ("params/mine/train/b.yaml", b"epochs: 3"),
    "another report": ("report/mine/report.html", b"<b>"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_here_is_never_overwritten(here, tmp_path, case):
    name, data = OTHERS[case]
    (here / name).parent.mkdir(parents=True, exist_ok=True)
    (here / name).write_bytes(data)
    with pytest.raises(publish.PublishError, match="other files of study 'mine' are here") as error:
        publish.fetch(packed(tmp_path, MINE))
    assert files_of(here) == {name: data} and "move params/mine" in str(error.value)


def test_what_is_lacking_is_filled_and_further_parameters_stay(here, tmp_path):
    further = MINE | {"params/mine/train/b.yaml": b"epochs: 3"}
    for name in ("params/mine/train/a.yaml", "params/mine/train/b.yaml", "report/mine/report.html"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_bytes(further[name])
    (here / "results/mine").mkdir()
    (here / "results/mine/.lock").touch()  # of an earlier try
    publish.fetch(packed(tmp_path, MINE))
    assert files_of(here) == further
