"""The `iqa` command: its arguments, what it prints and writes, and how it reports mistakes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from benchmarks import memory
from benchmarks.common import fresh
from benchmarks.images import write_photographs
from iqa import __version__
from iqa.app import cli
from iqa.app.predict import Sheet
from iqa.data import prepare
from iqa.model import export
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, load_model
from iqa.study import paths, results
from iqa.study.paths import PathError
from iqa.training.fit import describe


def test_the_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0 and capsys.readouterr().out == f"iqa {__version__}\n"


def test_a_file_that_is_no_run_is_told_what_a_run_is(capsys):
    assert cli.main(["run", "README.md"]) == 1
    assert "params/<study>/<step>/<run>.yaml" in capsys.readouterr().err


def test_an_unknown_study_is_told(capsys):
    assert cli.main(["report", "nothing"]) == 1
    assert "params/nothing does not exist" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_told_with_where_to_get_it(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "real" / "data_prep"
    folder.mkdir(parents=True)
    (folder / "biq2021.yaml").write_text("reader: biq2021\nfolder: nowhere\n")
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    assert cli.main(["report", "real"]) == 1
    message = capsys.readouterr().err
    assert "nowhere" in message and "nisarahmedrana/BIQ2021" in message and "folder" in message


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(PathError, match="IQA_NOT_SET is not set"):
        paths.resolve("$IQA_NOT_SET/data")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (["predict"], "Missing argument 'IMAGE|FOLDER...'.\nsee: iqa predict --help"),
        (["predict", "a.png", "--patches", "0"], "Invalid value for '--patches': '0' is not a whole number from 1"),
        (["predict", "a.png", "--patches", "many"], "'many' is not a whole number from 1"),
        (["predict", "a.png", "--seed", "-1"], "Invalid value for '--seed': '-1' is not a whole number from 0"),
        (["predict", "a.png", "--patches", "1000000000"], "is not a whole number from 1 to 10,000"),
        (["predict", "a.png", "--patches", "9" * 5000], "is not a whole number from 1 to 10,000"),
        (["predict", "a.png", "--batch-size", "0"], "Invalid value for '--batch-size': '0' is not"),
        (["predict", "a.png", "--workers", "-1"], "Invalid value for '--workers': '-1' is not"),
        (["predict", "a.png", "--workers", "100000"], "is not a whole number from 1 to 256"),
        (["predict", "a.png", "--stride", "0"], "Invalid value for '--stride': '0' is not"),
        (["predict", "a.png", "--device", "meta"], "device 'meta' cannot be used; name auto, cpu"),
        (["complexity", "a.pt", "--device", "cuda:x"], "device 'cuda:x' cannot be used"),
        (["complexity", "a.pt", "--batch-sizes", "1,0"], "Invalid value for '--batch-sizes': '0' is not"),
        (["describe", "a.pt", "--height", "1e9"], "Invalid value for '--height': '1e9' is not"),
        (["evaluate", "a.pt", "--resamples", "0"], "Invalid value for '--resamples': '0' is not"),
        (["report", "--jobs", "0"], "Invalid value for '--jobs': '0' is not"),
        (["report", "--runs-per-gpu", "-1"], "Invalid value for '--runs-per-gpu': '-1' is not"),
        (["predict", ""], "one of the names is empty"),
        (["nothing"], "No such command 'nothing'.\nsee: iqa --help"),
        (["repotr"], "'repotr'. (Did you mean one of: 'export', 'report'?)"),
        (["report", "--dry"], "No such option '--dry'. Did you mean '--dry-run'?\nsee: iqa report --help"),
        (["accept", "demo"], "Missing option '--because'"),
        (["predict", "a.png", "--crops", "spiral"], "'spiral' is not one of 'whole', 'center'"),
        (["run", "-p", "lr", "1", "-p", "lr", "2", "demo/train/main"], "-p lr: set twice; leave one out"),
        (["run", "-p", "lr", "[1", "demo/train/main"], "-p lr [1, line 1: not valid YAML"),
    ],
)
def test_a_wrong_call_ends_with_status_1_and_one_message(capsys, call, message):
    assert cli.main(call) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("iqa: ") and message in shown.err and shown.err.count("\n") <= 2 and shown.out == ""
    assert len(shown.err) < 300


def test_without_a_command_the_help_is_printed_with_examples(capsys):
    assert cli.main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS) and "iqa predict holiday/ --csv" in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_and_argument_has_help_with_its_default(name, capsys):
    command = cli.commands.commands[name]
    assert cli.main([name, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert command.help.splitlines()[0] in shown
    for part in command.params:
        about = part.to_info_dict()
        assert part.help and (part.help in shown or about.get("hidden"))
        if isinstance(default := getattr(part, "show_default", None), str):
            assert f"[default: ({default})]" in shown
        elif default:
            assert f"[default: {about['default']}]" in shown


def test_what_the_system_refuses_is_told_without_a_traceback(monkeypatch, capsys):
    def refuse(place):
        """Refuse."""
        raise PermissionError(13, "Permission denied", "results/demo")

    monkeypatch.setattr(cli.commands.commands["why"], "callback", refuse)
    assert cli.main(["why"]) == 1
    assert capsys.readouterr().err == "iqa: results/demo: Permission denied\n"


def test_a_bug_keeps_its_traceback_and_an_interrupt_ends_with_status_130(monkeypatch, capsys):
    def fail(place):
        """Fail."""
        raise error

    monkeypatch.setattr(cli.commands.commands["why"], "callback", fail)
    error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        cli.main(["why"])
    error = KeyboardInterrupt()
    assert cli.main(["why"]) == 130
    assert capsys.readouterr().err == "iqa: interrupted\n"
    error = MemoryError()
    assert cli.main(["why"]) == 1
    assert capsys.readouterr().err.startswith("iqa: there is not enough memory")


# --- predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with random weights, for MSCN crops of 64x64 pixels, whose scores run from 5 (worst) to 1 (best)."""
    file = tmp_path_factory.mktemp("run") / "best.pt"
    torch.manual_seed(0)
    params = tiny.PARAMS.model_copy(update={"study": "demo", "run": "toy"})
    size = {"height": None, "width": None, "keep_aspect": True}
    database = {"title": "Toy", "low": 1.0, "high": 5.0, "higher_is_better": False, "synthetic": False, "size": size}
    state = HyperIQA(params.architecture()).state_dict()
    torch.save({"params": params.model_dump(), "database": database, "state_dict": state}, file)
    return str(file)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of two images, one of them in a subfolder, and a file that is none."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for seed, name in enumerate(["b.png", "more/a.jpg"]):
        pixels = np.random.default_rng(seed).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "labels.csv").write_text("image,mos")
    return folder


def predict(*arguments):
    return cli.main(["predict", *map(str, arguments)])


def read(table):
    """The rows of a CSV file, every cell as text."""
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predict_prints_a_table_with_the_scale_and_a_closing_line(model, images, capsys):
    assert predict(images, "--model", model) == 0
    heading, columns, *rows, closing = capsys.readouterr().out.splitlines()
    assert heading == "demo/toy: scores from 5 (worst) to 1 (best), the scale of Toy"
    assert columns.split() == ["image", "score", "spread", "patches"]
    assert [row.split()[0] for row in rows] == [str(images / "b.png"), str(images / "more" / "a.jpg")]
    score = load_model(model, "cpu").score(images / "b.png")
    assert rows[0].split()[1] == f"{score:.3f}"
    assert closing.startswith("2 images in ") and closing.endswith("images per second)")


def test_predict_writes_every_digit_as_csv_and_json(model, images, tmp_path):
    table, file = tmp_path / "scores.csv", tmp_path / "scores.json"
    how = ("--crops", "random", "--patches", 4, "--seed", 2, "--batch-size", 3, "--workers", 2, "--device", "cpu")
    assert predict(images, "--model", model, "--csv", table, "--json", file, *how) == 0
    found = json.loads(file.read_text())
    assert list(found["images"][0]) == ["image", "score", "spread", "patches", "height", "width", "synthetic"]
    assert read(table) == [{key: str(value) for key, value in row.items()} for row in found["images"]]
    expected = load_model(model, "cpu").patch_scores(images / "b.png", batch_size=3, crops="random", patches=4, seed=2)
    assert found["images"][0]["score"] == expected.score and found["images"][0]["spread"] == expected.spread
    assert {key: found["images"][0][key] for key in ("patches", "height", "width")} == {
        "patches": 4,
        "height": 80,
        "width": 100,
    }
    assert found["model"] == "demo/toy" and found["errors"] == []
    assert found["scale"].items() >= {"low": 1.0, "high": 5.0, "higher_is_better": False, "of": "Toy"}.items()
    assert found["preparation"]["input"] == "mscn" and found["preparation"]["crop"] == 64
    assert found["preparation"]["size"] == vars(load_model(model, "cpu").size)
    assert found["settings"] == {
        "crops": "random",
        "patches": 4,
        "seed": 2,
        "batch_size": 3,
        "device": "cpu",
        "precision": "32-true",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "scores.json"}


def test_unreadable_files_are_listed_at_the_end_and_the_others_are_scored(model, images, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes((images / "b.png").read_bytes()[:100])
    (tmp_path / "empty.jpg").touch()
    table, file = tmp_path / "scores.csv", tmp_path / "scores.json"
    assert (
        predict(tmp_path, images / "b.png", images / "labels.csv", "--model", model, "--csv", table, "--json", file)
        == 2
    )
    shown = capsys.readouterr()
    assert "1 image in " in shown.out
    listed = shown.err[shown.err.index("iqa: 3 could not be read:") :].splitlines()[1:]
    assert [line.split(":")[0].strip() for line in listed] == [
        str(tmp_path / "broken.png"),
        str(tmp_path / "empty.jpg"),
        str(images / "labels.csv"),
    ]
    assert listed[1].endswith("the file is empty")
    assert [row["image"] for row in read(table)] == [str(images / "b.png")]
    errors = json.loads(file.read_text())["errors"]
    assert errors[1] == {"image": str(tmp_path / "empty.jpg"), "reason": "the file is empty"}


def test_where_no_image_can_be_read_the_table_is_empty(model, tmp_path, capsys):
    table = tmp_path / "scores.csv"
    assert predict(tmp_path / "absent.png", "--model", model, "--csv", table) == 2
    shown = capsys.readouterr()
    assert "0 images in " in shown.out and "No such file or directory" in shown.err
    assert table.read_text() == "image,score,spread,patches,height,width,synthetic\n"


def test_a_name_that_is_no_text_can_be_written(model, images, tmp_path):
    name = b"\xff.png".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_bytes((images / "b.png").read_bytes())
    assert predict(tmp_path / name, "--model", model, "--csv", tmp_path / "scores.csv") == 0
    assert read(tmp_path / "scores.csv")[0]["image"].endswith("\\xff.png")


def test_maps_are_drawn_and_scored_from_the_same_dense_grid(model, images, tmp_path):
    maps, table = tmp_path / "new" / "maps", tmp_path / "scores.csv"
    twin = tmp_path / "b.png"
    twin.write_bytes((images / "b.png").read_bytes())
    assert predict(images, twin, "--model", model, "--map", maps, "--stride", 20, "--csv", table) == 0
    rows = read(table)
    assert [row["map"] for row in rows] == [str(maps / name) for name in ("b.png.png", "a.jpg.png", "b.png-2.png")]
    for row in rows:
        with Image.open(row["map"]) as drawn:
            assert drawn.format == "PNG" and min(drawn.size) > 200
    expected = load_model(model, "cpu").quality_map(images / "b.png", stride=20)
    assert (float(rows[0]["score"]), int(rows[0]["patches"])) == (expected.score, len(expected.scores))


@pytest.mark.parametrize(
    ("rule", "fast"),
    [
        ({"test_crops": "grid", "test_patches": 25}, {"crops": "grid", "patches": 16}),
        ({"test_crops": "random", "test_patches": 30}, {"crops": "grid", "patches": 16}),
        ({"test_crops": "grid", "test_patches": 9}, {"crops": "grid", "patches": 9}),
        ({"test_crops": "whole"}, {"crops": "whole"}),
    ],
)
def test_fast_scores_a_grid_of_16_crops_where_the_rule_has_more(images, tmp_path, rule, fast):
    torch.manual_seed(0)
    params = tiny.PARAMS.model_copy(update=rule)
    network = HyperIQA(params.architecture())
    torch.save(describe(params, tiny.database()) | {"state_dict": network.state_dict()}, tmp_path / "best.pt")
    assert predict(images / "b.png", "--model", tmp_path / "best.pt", "--fast", "--json", tmp_path / "x.json") == 0
    settings = json.loads((tmp_path / "x.json").read_text())["settings"]
    assert {key: settings[key] for key in fast} == fast


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map", "maps", "--crops", "grid"], "leave out --crops"),
        (["--stride", "8"], "--stride belongs to --map"),
        (["--map", "maps", "--stride", "65"], "leaves gaps between crops of 64 pixels"),
        (["--map", "file"], "no folder for maps can be made"),
        (["--csv", "nowhere/scores.csv"], "cannot be written"),
        (["--json", "."], "cannot be written"),
        (["--csv", "/dev/null"], "cannot be written (it is no file)"),
        (["--csv", "n" * 255], "cannot be written (File name too long)"),
        (["--csv", "same", "--json", "same"], "cannot be both --csv and --json"),
        (["--map", "maps", "--patches", "9"], "leave out --crops"),
        (["--fast", "--patches", "9"], "--fast chooses the crops"),
        (["--fast", "--map", "maps"], "--fast chooses the crops"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--size", "384"], "size '384': give height x width in pixels, such as 384x512, or stored"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_scored(
    model, images, tmp_path, monkeypatch, arguments, message, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert predict(images, "--model", model, *arguments) == 1
    shown = capsys.readouterr()
    assert message in shown.err and shown.out == ""


def test_a_folder_without_images_ends_with_status_1(model, tmp_path, capsys):
    assert predict(tmp_path, "--model", model) == 1
    assert "no images in this folder" in capsys.readouterr().err


def test_the_demos_model_that_was_not_made_is_told_with_how_to_make_it(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    assert predict(images, "--model", "demo/main_s1") == 1
    assert "iqa run demo/train/main_s1" in capsys.readouterr().err


@pytest.fixture
def trained(model, tmp_path, monkeypatch):
    """Puts a model with its record into the results, as of a study whose report is about `main_s1`."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")

    def put(study, run, started, synthetic=False):
        folder = paths.run_folder(study, "train", run)
        folder.mkdir(parents=True)
        saved = torch.load(model, weights_only=True)
        torch.save(saved | {"database": saved["database"] | {"synthetic": synthetic}}, folder / "best.pt")
        (folder / "metrics.json").write_text(json.dumps({"synthetic": synthetic}))
        tiny.finish(folder, started=started)
        (paths.PARAMS / study / "report").mkdir(parents=True, exist_ok=True)
        (paths.PARAMS / study / "report" / "report.yaml").write_text("main: main_s1\n")

    return put


@pytest.mark.parametrize(
    "others", [[], [("demo", "main_s1", "2026-03", True)]], ids=["no model", "only synthetic ones"]
)
def test_without_a_real_model_it_is_said_how_to_get_one(trained, images, capsys, others):
    for of in others:
        trained(*of)
    assert predict(images) == 1
    shown = capsys.readouterr()
    assert all(way in shown.err for way in ("a published checkpoint", "--model", "demo/main_s1", "iqa new NAME"))
    assert shown.err.count("\n") == 3 and shown.out == ""


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([("mine", "main_s1", "2026-01")], "mine/main_s1"),
        ([("mine", "last_s1", "2026-01"), ("yours", "last_s1", "2026-02")], "yours/last_s1"),
        ([("mine", "main_s1", "2026-01"), ("mine", "last_s1", "2026-02")], "mine/main_s1"),
        ([("mine", "main_s1", "2026-01"), ("demo", "main_s1", "2026-02", True)], "mine/main_s1"),
    ],
    ids=["the only one", "the newest", "the main one of a study", "a real one"],
)
def test_without_a_model_the_newest_real_one_scores_and_is_named(trained, images, capsys, others, chosen):
    for of in others:
        trained(*of)
    assert predict(images) == 0
    assert f"scores with {chosen}, the newest" in capsys.readouterr().err


def test_every_score_of_a_synthetic_model_says_so(trained, images, tmp_path, capsys):
    trained("demo", "main_s1", "2026-01", synthetic=True)
    table, file = tmp_path / "scores.csv", tmp_path / "scores.json"
    assert predict(images, "--model", "demo/main_s1", "--csv", table, "--json", file) == 0
    heading, columns, *rows, _ = capsys.readouterr().out.splitlines()
    assert "synthetic: no person has rated" in heading and columns.endswith("trained on")
    assert len(rows) == 2 and all(row.endswith("  synthetic") for row in rows)
    assert [row["synthetic"] for row in read(table)] == ["True", "True"]
    found = json.loads(file.read_text())
    assert found["synthetic"] and all(row["synthetic"] for row in found["images"])
    copied = shutil.copy(paths.run_folder("demo", "train", "main_s1") / "best.pt", tmp_path / "copied.pt")
    assert load_model(copied, "cpu").synthetic is True


def test_a_file_that_is_no_model_ends_with_status_1(images, capsys):
    assert predict(images, "--model", images / "labels.csv") == 1
    assert "labels.csv" in capsys.readouterr().err


def test_an_image_is_not_overwritten_by_its_scores(model, images, capsys):
    before = (images / "b.png").read_bytes()
    assert predict(images, "--model", model, "--csv", images / "b.png") == 1
    assert "is one of the images" in capsys.readouterr().err and (images / "b.png").read_bytes() == before


def test_the_last_lines_count_what_has_no_score(model, images, tmp_path, capsys):
    (tmp_path / "empty.jpg").touch()
    file = tmp_path / "scores.json"
    assert predict(images, tmp_path, "--model", model, "--json", file) == 2
    shown = capsys.readouterr()
    assert "; 1 unreadable, 1 passed over, 0 not reached (" in shown.out.splitlines()[-1]
    assert "iqa: 1 file was passed over: .csv 1" in shown.err
    about = json.loads(file.read_text())
    assert about["passed_over"] == {".csv": 1} and about["not_reached"] == []


def test_a_name_of_two_lines_stays_on_one_line_of_the_table(model, images, tmp_path, capsys):
    shutil.copy(images / "b.png", tmp_path / "a\nb.png")
    assert predict(tmp_path, "--model", model, "--csv", tmp_path / "scores.csv") == 0
    assert "a\\nb.png" in capsys.readouterr().out
    assert read(tmp_path / "scores.csv")[0]["image"].endswith("a\nb.png")


def stop_after(monkeypatch, number, error):
    """Let `iqa predict` be stopped by an error once so many images have been scored."""
    scored = Predictor.score_files

    def score_files(self, files, *arguments, **how):
        for count, found in enumerate(scored(self, files, *arguments, **how)):
            if count == number:
                raise error
            yield found

    monkeypatch.setattr(Predictor, "score_files", score_files)


def test_what_was_scored_before_an_interrupt_is_printed_and_written(model, images, tmp_path, monkeypatch, capsys):
    table, file = tmp_path / "scores.csv", tmp_path / "scores.json"
    stop_after(monkeypatch, 1, KeyboardInterrupt())
    assert predict(images, "--model", model, "--csv", table, "--json", file) == 130
    shown = capsys.readouterr()
    assert "; 0 unreadable, 1 passed over, 1 not reached (" in shown.out and str(images / "b.png") in shown.out
    assert f"iqa: 1 were not reached:\n  {images / 'more' / 'a.jpg'}" in shown.err
    assert len(read(table)) == 1 and json.loads(file.read_text())["not_reached"] == [str(images / "more" / "a.jpg")]


def test_a_bug_in_the_middle_loses_no_score(model, images, tmp_path, monkeypatch, capsys):
    stop_after(monkeypatch, 1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        predict(images, "--model", model, "--csv", tmp_path / "scores.csv")
    assert len(read(tmp_path / "scores.csv")) == 1 and "1 not reached" in capsys.readouterr().out


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_an_earlier_table_stays_until_the_first_score(model, images, tmp_path, monkeypatch, error):
    table = tmp_path / "scores.csv"
    table.write_text("earlier")
    stop_after(monkeypatch, 0, error)
    if isinstance(error, KeyboardInterrupt):
        assert predict(images, "--model", model, "--csv", table) == 130
    else:
        with pytest.raises(ZeroDivisionError):
            predict(images, "--model", model, "--csv", table)
    assert table.read_text() == "earlier" and list(tmp_path.iterdir()) == [table]


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_what_was_scored(model, images, tmp_path, sent, status):
    (tmp_path / "images").mkdir()
    for number in range(300):
        (tmp_path / f"images/{number}.png").hardlink_to(images / "b.png")
    table, printed = tmp_path / "scores.csv", tmp_path / "printed.txt"
    run = os.fork()  # a process with the libraries loaded
    if not run:
        for number in (1, 2):
            os.dup2(os.open(printed, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
        sys.stdout, sys.stderr = (open(number, "w") for number in (1, 2))  # noqa: SIM115, PTH123
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            os._exit(predict(tmp_path / "images", "--model", model, "--csv", table))
        except BaseException:
            traceback.print_exc()
        os._exit(255)
    ended = 0, 0
    while not ended[0] and not table.exists():
        time.sleep(0.02)
        ended = os.waitpid(run, os.WNOHANG)
    if not ended[0]:
        os.kill(run, sent)
        ended = os.waitpid(run, 0)
    rows, told = read(table), printed.read_text()
    assert os.waitstatus_to_exitcode(ended[1]) == status and "Traceback" not in told
    assert 1 <= len(rows) < 300 and f"{300 - len(rows)} not reached" in told


def test_a_table_is_whole_after_each_row_and_catches_up_once_there_is_space(tmp_path):
    sheet, file = Sheet(tmp_path / "scores.csv", ["image", "score"]), tmp_path / "scores.csv"
    file.write_text("earlier")
    rows = [{"image": f"{number}, \n.png", "score": number} for number in range(3)]
    sheet.add(rows[0])
    assert len(read(file)) == 1
    real, sheet.out = sheet.out, Full(sheet.out)
    with pytest.raises(OSError, match="No space left"):
        sheet.add(rows[1])
    assert len(read(file)) == 1 and file.read_bytes().endswith(b"0\n")
    sheet.out = real
    sheet.add(rows[2])
    sheet.close()
    assert [row["score"] for row in read(file)] == ["0", "1", "2"] and list(tmp_path.iterdir()) == [file]


class Full:
    """A file on a disk that has no more space than for three bytes."""

    def __init__(self, file):
        self.file, self.space = file, 3

    def write(self, data):
        if not self.space:
            raise OSError(28, "No space left on device")
        written, self.space = self.file.write(data[: self.space]), 0
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_scores_are_printed_and_the_status_is_2_where_the_disk_is_full(model, images, tmp_path, monkeypatch, capsys):
    table, file = tmp_path / "scores.csv", tmp_path / "scores.json"
    table.write_text("earlier")
    monkeypatch.setattr(Sheet, "write", full)
    monkeypatch.setattr(results, "write_json", full)
    assert predict(images, "--model", model, "--csv", table, "--json", file) == 2
    shown = capsys.readouterr()
    assert "2 images in " in shown.out and "iqa: 2 could not be written:" in shown.err
    assert f"{table}: No space left on device" in shown.err and table.read_text() == "earlier"


def test_maps_that_cannot_be_drawn_cost_no_score(model, images, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", f"{'n' * 248}.png"):
        shutil.copy(images / "b.png", folder / name)
    table = tmp_path / "scores.csv"
    assert predict(folder, "--model", model, "--map", tmp_path / "maps", "--stride", 64, "--csv", table) == 2
    assert "File name too long" in capsys.readouterr().err
    assert [bool(row["map"]) for row in read(table)] == [True, False] and len(list((tmp_path / "maps").iterdir())) == 1


def test_a_map_never_takes_the_place_of_an_image(model, images, tmp_path):
    for name in ("a", "a.png"):
        shutil.copy(images / "b.png", tmp_path / name)
    before = (tmp_path / "a.png").read_bytes()
    assert predict(tmp_path / "a", tmp_path / "a.png", "--model", model, "--map", tmp_path, "--stride", 64) == 0
    assert (tmp_path / "a.png").read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"a", "a.png", "a-2.png", "a.png.png"}


@pytest.mark.slow
def test_photographs_take_less_than_a_gigabyte_beyond_the_model(tmp_path):
    write_photographs(tmp_path, 4, 6000, 4000)
    assert fresh(memory.measure, tmp_path, "grid", "demo/main_s1", 2).added < 1000


@pytest.mark.slow
def test_another_process_with_other_workers_writes_the_same_bytes(model, images, tmp_path):
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    assert predict(images, "--model", model, "--workers", 1, "--json", here) == 0
    command = [sys.executable, "-m", "iqa.app.cli", "predict", images, "--model", model]
    command += ["--workers", 3, "--json", there]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=paths.ROOT)
    assert here.read_bytes() == there.read_bytes()


def test_predict_brings_images_to_another_size(model, images, tmp_path):
    assert predict(images, "--model", model, "--size", "70x90", "--crops", "center", "--csv", tmp_path / "s.csv") == 0
    expected = load_model(model, "cpu", "70x90").score(images / "b.png", crops="center")
    first = read(tmp_path / "s.csv")[0]
    assert (first["height"], first["width"], float(first["score"])) == ("70", "90", pytest.approx(expected))


# --- evaluate


def test_evaluate_prints_and_writes_the_agreement_and_names_what_is_not_available(model, tmp_path, monkeypatch, capsys):
    missing = {"gone": {"title": "Gone", "reason": "no such folder"}}
    monkeypatch.setattr(prepare, "open_available", lambda *_: ({"tiny": tiny.database()}, missing))
    (tmp_path / "models").mkdir()
    for name in ("a.pt", "b.pt"):
        shutil.copy(model, tmp_path / "models" / name)
    table, file = tmp_path / "table.csv", tmp_path / "results.json"
    arguments = ["--databases", "tiny,gone", "--resamples", "20", "--csv", str(table), "--json", str(file)]
    assert cli.main(["evaluate", str(tmp_path / "models"), *arguments]) == 0
    shown = capsys.readouterr()
    assert "95% bootstrap intervals" in shown.out and "PLCC, fitted (5)" in shown.out
    assert shown.err.endswith("gone is not available: no such folder\n")
    found = [(Path(row["model"]).name, row["database"], row["available"]) for row in read(table)]
    assert found == [(name, *of) for name in ("a.pt", "b.pt") for of in (("tiny", "True"), ("gone", "False"))]
    tested = json.loads(file.read_text())["datasets"]["tiny"]["metrics"]
    assert tested["num_samples"] == 10
    for name in ("srcc", "plcc_fitted5"):
        assert tested[name] == float(read(table)[0][name])


# --- describe and export


def test_describe_prints_the_parts_of_a_trained_model(model, capsys):
    assert cli.main(["describe", model]) == 0
    heading, _, columns, *rows = capsys.readouterr().out.splitlines()
    assert heading.startswith("demo/toy: HyperIQA with concat fusion, ") and "[3, 64, 64]" in heading
    assert columns.split() == ["Part", "Detail", "Output", "Parameters", "Share"]
    total = sum(parameter.numel() for parameter in load_model(model, "cpu").network.parameters())
    assert rows[0].startswith("resnet10t") and rows[-1].startswith("total") and f"{total:,}" in rows[-1]


def test_describe_says_how_a_model_scores_and_on_which_scale(model, capsys):
    assert cli.main(["describe", model]) == 0
    rule = load_model(model, "cpu").rule
    assert f"scored: {rule}; scores from 5 (worst) to 1 (best), the scale of Toy" in capsys.readouterr().out
    assert cli.main(["describe", str(paths.PARAMS / "koniq10k/train/hyperiqa.yaml")]) == 0
    assert "scored: grid of 25 crops; for validation: grid of 4 crops" in capsys.readouterr().out


def test_describe_prints_a_model_that_is_not_yet_trained_at_another_size(capsys):
    assert cli.main(["describe", str(paths.PARAMS / "smoke/train/main.yaml"), "--height", "128", "--width", "160"]) == 0
    assert "smoke/main, not trained" in (shown := capsys.readouterr().out) and "[3, 128, 160]" in shown


def test_a_parameter_file_of_another_step_describes_no_model(capsys):
    assert cli.main(["describe", str(paths.PARAMS / "smoke/ablation/main.yaml")]) == 1
    assert "it is a run of ablation" in capsys.readouterr().err


def test_quick_complexity_prints_runs_checkpoints_and_parameter_files_without_ptflops_and_thop(
    model, monkeypatch, capsys
):
    for name in ("ptflops", "thop"):
        monkeypatch.setitem(sys.modules, name, None)
    untrained = str(paths.PARAMS / "smoke/train/last.yaml")
    assert cli.main(["complexity", model, untrained, "--quick", "--height", "64", "--width", "96"]) == 0
    heading, columns, *rows = capsys.readouterr().out.splitlines()
    assert heading == "MACs (2 FLOPs each) of one image of 64x96 pixels"
    assert "GMACs, torch" in columns and "thop" not in columns
    assert rows[0].startswith("demo/toy") and rows[1].startswith("smoke/last, not trained")
    assert "Median (ms)" in rows[3] and rows[-1].startswith("cpu: ")


def test_complexity_takes_a_run_that_is_not_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    assert cli.main(["complexity", "smoke/main_s1", "--device", "cpu", "--batch-sizes", "1,2"]) == 0
    shown = capsys.readouterr().out
    assert "smoke/main_s1, not trained" in shown and "GMACs, thop" in shown and "Quickest batch" in shown


def test_complexity_without_the_counters_points_to_quick(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ptflops", None)
    assert cli.main(["complexity", "smoke/main_s1"]) == 1
    assert "ptflops is not installed; --quick needs neither" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["demo/nothing"], "nothing"), (["params/smoke/ablation/main.yaml"], "it is a run of ablation")],
)
def test_complexity_of_what_is_no_model_is_told(arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(paths.ROOT)
    assert cli.main(["complexity", *arguments, "--quick"]) == 1
    assert message in capsys.readouterr().err


def test_export_says_what_was_checked(model, tmp_path, monkeypatch, capsys):
    seen = {}

    def write(predictor, file, height=None, width=None):
        seen.update(name=predictor.name, file=file, size=(height, width))
        check = {"batch": 3, "height": 96, "width": 128, "difference": 1.2e-6}
        inputs = {"pixels": ["batch", 3, 96, 128]}
        return {"file": "model.onnx", "bytes": 1_700_000, "opset": 20, "inputs": inputs, "checks": [check]}

    monkeypatch.setattr(export, "export", write)
    assert cli.main(["export", model, str(tmp_path / "model.onnx"), "--height", "96", "--width", "128"]) == 0
    assert seen == {"name": "demo/toy", "file": tmp_path / "model.onnx", "size": (96, 128)}
    heading, _, columns, check = capsys.readouterr().out.splitlines()
    assert heading == "model.onnx: demo/toy, 1.7 MB, opset 20, input pixels (batch, 3, 96, 128)"
    assert columns.split() == ["batch", "height", "width", "difference"]
    assert check.split() == ["3", "96", "128", "1.2e-06"]


def test_an_export_that_fails_is_told(model, tmp_path, capsys):
    assert cli.main(["export", model, str(tmp_path / "nowhere" / "model.onnx")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "iqa.app.cli", "--help"]
    done = subprocess.run(command, cwd=paths.ROOT, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(("output", "reason"), [("/dev/full", "No space left on device"), ("&-", "output is closed")])
def test_an_output_that_takes_nothing_is_told(output, reason):
    command = f"{sys.executable} -m iqa.app.cli --help >{output}"
    how = {"shell": True, "cwd": paths.ROOT, "env": os.environ | {"PYTHONUNBUFFERED": ""}}
    done = subprocess.run(command, **how, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("iqa: the standard output") and reason in done.stderr


# --- outside of a checkout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Calls the command of a copy of the package alone, as a wheel installs it."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(paths.ROOT / "iqa", folder / "iqa", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def call(*arguments):
        command = [sys.executable, "-P", "-m", "iqa.app.cli", *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert [file.name for file in folder.iterdir()] == ["iqa"]
        return done

    return call


@pytest.mark.slow
def test_outside_of_a_checkout_images_are_scored(installed, model, images, tmp_path):
    done = installed("predict", images, "--model", model)
    assert done.returncode == 0 and "2 images in " in done.stdout


def test_outside_of_a_checkout_a_command_that_needs_a_study_says_so(installed):
    done = installed("report")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "checkout" in done.stderr


@pytest.mark.parametrize(
    "call",
    [
        "run demo/train/main",
        "report",
        "why",
        "accept demo --because x",
        "table",
        "evaluate demo/main_s1",
        "describe demo/main_s1",
    ],
)
def test_each_command_that_needs_a_study_says_so_where_there_is_none(call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "IN_CHECKOUT", False)
    for name in ("PARAMS", "RESULTS"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    assert cli.main(call.split()) == 1
    told = capsys.readouterr().err
    assert "checkout" in told and told.count("\n") == 1


def test_an_interrupt_that_a_library_turns_into_another_error_is_one_line(monkeypatch, capsys):
    class Panic(BaseException):
        """As what a Rust extension raises where it is interrupted while it is imported."""

    def interrupted(place):
        """Say why."""
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise Panic from None

    monkeypatch.setattr(cli.commands.commands["why"], "callback", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert cli.main(["why"]) == 130 and capsys.readouterr().err == "iqa: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before
