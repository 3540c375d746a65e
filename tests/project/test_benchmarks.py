"""The benchmarks run and say what they measured. No time is asserted."""

import inspect
import json
import os
import sys
from importlib import import_module

import pandas as pd
import pytest

from benchmarks import common, pipeline, scaling, startup
from iqa.study import paths

pytestmark = pytest.mark.slow
COLUMNS = ["what", "measured", "unit", "against", "floor", "ratio", "goal"]
OPTIONS = {
    "model": "--runs hyperiqa_s1 --batch 1 --rounds 1",
    "training": "--runs demo/main_s1 --batch 2 --steps 1 --rounds 1 --threads 1 --device cpu --peak 1",
    "folder": "--runs demo/main_s1 --images 1 --rounds 1 --device cpu",
    "evaluation": "--runs demo/main_s1 --images 3 --batch 2 --scores 50 --resamples 20 --rounds 1 --device cpu",
    "startup": "--rounds 1 --cases",
    "pipeline": "--parts training --rounds 1",
    "memory": "--images 2 --megapixels 0.3 --threads 1",
    "scaling": "--sizes 100 200 --resamples 5 --threads 1",
}


def with_compiled_modules(_bytecode, **variables):
    """The environment of a benchmark's processes that compile nothing anew, as nobody looks at their times."""
    return os.environ | variables


def first_alone(module, monkeypatch):
    """Starts a process for the first case of a benchmark; the others, which repeat it, are measured in this one."""
    for name in ("CACHE", "RESULTS"):
        monkeypatch.setattr(paths, name, paths.ROOT / name.lower())  # so that it is put back
    cases = iter([common.process])

    def here(command, **_):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(word) for word in command[2:]])
            module.main()
        return 1.0, 1.0

    return lambda command, **options: next(cases, here)(command, **options)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs a benchmark with tiny settings; its file."""

    def run(name, *more):
        module = import_module(f"benchmarks.{name}")
        monkeypatch.setattr(common, "OUT", tmp_path)
        monkeypatch.setattr(module, "environment", with_compiled_modules, raising=False)
        if "--in-folder" in inspect.getsource(module):
            monkeypatch.setattr(module, "process", first_alone(module, monkeypatch))
        monkeypatch.setattr(sys, "argv", [name, *OPTIONS[name].split(), *more])
        module.main()
        return json.loads((tmp_path / f"{name}.json").read_text())

    return run


def rows_of(written):
    """The rows, each with a ratio of what it measured and its floor."""
    assert {"machine", "load", "commit", "settings", "measured"} <= set(written)
    table = pd.DataFrame(written["measured"])
    assert list(table.columns) == COLUMNS
    assert (table[["measured", "floor", "ratio"]] > 0).all(axis=None)
    assert table["ratio"].to_numpy() == pytest.approx((table["measured"] / table["floor"]).to_numpy())  # of one round
    return table


def test_training_is_compared_with_a_bare_loop_the_step_by_hand_and_the_loader(measured, capsys):
    table = rows_of(measured("training"))
    assert [text.split(",")[0] for text in table["what"]] == [
        "demo/main_s1: training",
        "demo/main_s1: training",
        "demo/main_s1: loader alone",
        "demo/main_s1: use of the device",
    ]
    assert table["measured"][0] == table["measured"][1] == table["floor"][2]
    assert "left out" in capsys.readouterr().out


def test_an_epoch_of_the_real_database_follows_from_the_patches_per_second(measured):
    table = rows_of(measured("training", "--runs", "koniq10k/mobilenetv2_s1"))
    minutes = table[table["unit"] == "min"]["measured"].item()
    assert minutes == pytest.approx(7046 * 20 / table["measured"][0] / 60)


def test_scoring_and_statistics_have_their_floors(measured):
    assert list(rows_of(measured("evaluation"))["unit"]) == ["patches/s", "s"]


def test_starting_the_command_loads_no_torch(measured):
    written = measured("startup", "iqa --help", "import iqa")
    assert list(rows_of(written)["what"]) == ["iqa --help", "import iqa"]
    assert written["settings"]["import_iqa_loads_torch"] is False


def test_the_import_cells_of_the_notebooks_are_python():
    for name in startup.NOTEBOOKS:
        assert "import" in startup.import_cell(name)
        compile(startup.import_cell(name), name, "exec")


def test_the_floor_of_a_report_is_snakemake_with_nothing_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "environment", with_compiled_modules)
    taken, held = pipeline.Project(tmp_path).snakemake()
    assert taken > 0 and held > 10


def test_every_step_is_measured_at_every_size(measured):
    table = pd.DataFrame(measured("scaling")["measured"])
    assert list(table["images"]) == [100, 200] * 5
    assert list(table["step"].unique()) == ["preparation", "epoch", "scoring", "statistics", "figures"]
    assert (table[["seconds", "peak_mib"]] > 0).all(axis=None)


def test_memory_is_measured_of_every_case(measured):
    table = pd.DataFrame(measured("memory")["measured"])
    assert list(table["case"]) == ["grid", "map", "whole"] and (table["peak_mib"] > 0).all()


def test_exponents_are_slopes_and_ratios_tell_growth_faster_than_linear():
    rows = [
        {"step": step, "images": n, "seconds": n**power, "peak_mib": 1.0 * n, "added_mib": 1.0 * n}
        for n in (10, 1000, 100)
        for step, power in (("linear", 1.0), ("square", 2.0))
    ]
    table = scaling.table(rows).set_index(["step", "images"])
    assert table.loc["linear", "exponent"].to_numpy() == pytest.approx([1, 1, 1])
    assert table.loc["square", "exponent"].to_numpy() == pytest.approx([2, 2, 2])
    assert table["memory_exponent"].to_numpy() == pytest.approx(1)
    assert table["ratio"].dropna().to_numpy() == pytest.approx([1, 1, 10, 10])


@pytest.mark.parametrize("name", ["model", "folder"])
def test_the_measurements_of_models_and_folders_run(measured, name):
    assert measured(name)["measured"]


def test_a_failing_command_is_an_error_with_what_it_printed():
    with pytest.raises(RuntimeError, match="no such thing"):
        common.process([sys.executable, "-c", "raise SystemExit('no such thing')"])
