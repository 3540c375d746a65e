"""The benchmarks run and say what they measured, and a comparison tells what became slower. No time is asserted."""

import json
import os
import sys
from importlib import import_module

import pandas as pd
import pytest

from benchmarks import common, compare, pipeline, scaling
from iqa.study import paths

COLUMNS = ["what", "value", "value_low", "value_high", "unit", "against", "ratio", "ratio_low", "ratio_high", "goal"]
OPTIONS = {
    "model": "--runs hyperiqa_s1 --batch 1 --rounds 1",
    "training": "--runs koniq10k/mobilenetv2_s1 --batch 2 --steps 1 --rounds 1 --device cpu --peak 1",
    "data_path": "--images 2 --batches 1 --rounds 1",
    "folder": "--runs demo/main_s1 --images 1 --rounds 1 --device cpu",
    "evaluation": "--runs demo/main_s1 --images 3 --batch 2 --scores 50 --resamples 20 --rounds 1 --device cpu",
    "pipeline": "--parts profile --finished nothing",
    "memory": "--images 2 --megapixels 0.3 --cases map",
    "scaling": "--sizes 100 --runs 20 --resamples 5 --rounds 1",
}


def with_compiled_modules(_bytecode, **variables):
    """The environment of a benchmark's processes that compile nothing anew, as nobody looks at their times."""
    return os.environ | variables


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs a benchmark with tiny settings; its rows, by what was measured."""

    def run(name, *more):
        module = import_module(f"benchmarks.{name}")
        monkeypatch.setattr(common, "OUT", tmp_path)
        monkeypatch.setattr(module, "environment", with_compiled_modules, raising=False)
        monkeypatch.setattr(sys, "argv", [name, *OPTIONS[name].split(), *more])
        module.main()
        written = json.loads((tmp_path / f"{name}.json").read_text())
        assert {"machine", "load", "versions", "commit", "settings"} <= set(written)
        assert {"torch", "timm", "numpy", "python"} <= set(written["versions"])
        table = pd.DataFrame(written["measured"])
        assert list(table.columns) == COLUMNS and table["what"].is_unique
        assert (table[["value", "value_low", "value_high"]] >= 0).all(axis=None)
        return table.set_index("what")

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model", "data_path", "folder", "evaluation"])
def test_what_is_measured_is_held_against_a_floor(measured, name):
    table = measured(name)
    assert (table["ratio"] > 0).all() and (table["against"] != "").all()


@pytest.mark.slow
def test_training_is_compared_with_a_bare_loop_the_step_by_hand_and_the_loader(measured, capsys):
    table = measured("training")
    assert [what.split(": ", 1)[1].split(",")[0] for what in table.index] == [
        *("training", "training", "loader alone", "epoch of 140", "use of the device")
    ]
    assert "left out" in capsys.readouterr().out
    assert table["value"].iloc[3] == pytest.approx(7046 * 20 / table["value"].iloc[0] / 60)


@pytest.mark.slow
def test_every_step_is_measured_and_so_is_what_tells_which_trainings_are_due(measured):
    table = measured("scaling")
    steps = ["preparation", "epoch", "scoring", "statistics", "figures"]
    images = [f"{step}, 100 images{of}" for step in steps for of in ("", ": memory")]
    assert list(table.index) == [*images, "jobs() of 20 trainings", "iqa why with 20 trainings"]


@pytest.mark.slow
def test_the_memory_of_a_map_is_measured(measured):
    assert [what.split(":")[0] for what in measured("memory").index] == ["map", "map"]


@pytest.mark.slow
@pytest.mark.parametrize("floor", ["snakemake", "train_bare"])
def test_the_floors_of_a_report_and_a_training_can_be_measured(floor, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "environment", with_compiled_modules)
    cost = getattr(pipeline.Project(tmp_path), floor)()
    assert cost.cpu > 0 and cost.peak > 10


def test_a_study_that_is_not_finished_has_no_profile_and_is_told_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "OUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["pipeline", *OPTIONS["pipeline"].split()])
    pipeline.main()
    assert "results/nothing holds no finished study; iqa report nothing makes it" in capsys.readouterr().out
    assert json.loads((tmp_path / "pipeline.json").read_text())["measured"] == []


def test_the_profile_of_a_study_is_what_its_runs_took_by_run_and_step_and_the_rest():
    rows = pipeline.profile(paths.ROOT / "tests" / "smoke_results", 1e6)
    table = (
        pd.DataFrame(rows)
        .set_index("what")["value"]
        .rename(lambda what: what.removeprefix("smoke_results from nothing: "))
    )
    runs = table[table.index.str.fullmatch(r"\w+/\w+")]
    assert table["all runs"] == pytest.approx(runs.sum()) and table["the rest"] == pytest.approx(1e6 - runs.sum())
    assert table.filter(regex="train, ").item() == pytest.approx(runs.filter(like="train/").sum())


def test_a_command_has_a_row_for_its_processor_time_and_one_for_the_largest_of_its_processes():
    ours, floor = [common.Cost(6, 300), common.Cost(8, 500)], [common.Cost(2, 100), common.Cost(2, 100)]
    found = pd.DataFrame(pipeline.rows("report", "nothing", "value < 4", ours, floor))
    assert found[["value", "ratio", "unit"]].to_numpy().tolist() == [[7, 3.5, "CPU s"], [400, 4, "MiB"]]


def test_the_import_cells_of_the_notebooks_are_python():
    for name in pipeline.NOTEBOOKS:
        assert "import" in pipeline.import_cell(name)
        compile(pipeline.import_cell(name), name, "exec")


def test_the_floor_of_growth_is_linear_growth():
    rows = pd.DataFrame(scaling.growth("{:,} images", {10: [1.0], 1000: [10_000.0], 100: [10.0]}, "CPU s"))
    assert list(rows["what"]) == ["10 images", "100 images", "1,000 images"]
    assert rows["ratio"].dropna().to_list() == pytest.approx([1, 100])


def test_a_row_tells_the_middle_and_the_ends_of_its_rounds_and_the_ratio_of_each_round():
    row = common.row("x", [2, 4, 9], "CPU s", "y", [1, 1, 3])
    assert list(row) == COLUMNS
    assert [row[key] for key in COLUMNS if key.startswith(("value", "ratio"))] == [4, 2, 9, 3, 2, 4]
    assert common.row("x", [1], "CPU s")["ratio"] is None


def test_a_failing_command_is_an_error_with_what_it_printed():
    with pytest.raises(RuntimeError, match="no such thing"):
        common.process([sys.executable, "-c", "raise SystemExit('no such thing')"])


# --- the comparison with the accepted table

MACHINE = {"cpu": "A processor", "cores": 2, "memory_gb": 16.0, "gpu": None}


def part(*rows, machine=MACHINE, load=0.0, **settings):
    return {"machine": machine, "load": load, "settings": settings, "measured": [common.row(*each) for each in rows]}


def verdicts(before, now):
    table = compare.judge({"b": before}, {"b": now})
    return dict(zip(table["what"], table["verdict"], strict=True))


THEN = [1.0, 1.1, 1.2]
CASES = {
    "slower": ([1.3, 1.4, 1.5], "CPU s", "slower"),
    "the spreads overlap": ([1.15, 1.4, 1.5], "CPU s", "same"),
    "within the margin": ([1.23, 1.24, 1.25], "CPU s", "same"),
    "quicker": ([0.7, 0.8, 0.9], "CPU s", "quicker"),
    "more memory": ([1.3, 1.4, 1.5], "MiB", "slower"),
    "a higher rate": ([1.3, 1.4, 1.5], "patches/CPU s", "quicker"),
    "seconds of the clock": ([1.3, 1.4, 1.5], "s", "seconds of the clock"),
    "a little more in one round": ([1.4], "CPU s", "same"),
    "much more in one round": ([1.6], "CPU s", "slower"),
}


@pytest.mark.parametrize(("values", "unit", "verdict"), CASES.values(), ids=CASES)
def test_a_row_is_slower_or_quicker_where_the_spreads_of_both_measurements_are_apart(values, unit, verdict):
    assert verdicts(part(("x", THEN, unit)), part(("x", values, unit))) == {"x": verdict}


def test_where_there_is_a_floor_the_ratio_is_compared_also_with_another_machine():
    before = part(("ratio", THEN, "s", "floor", [1.0] * 3), ("time", THEN, "CPU s"))
    now = part(
        ("ratio", [9.0] * 3, "s", "floor", [9.0, 8.9, 8.8]),
        ("time", [9.0] * 3, "CPU s"),
        machine=MACHINE | {"cpu": "B"},
    )
    assert verdicts(before, now) == {"ratio": "same", "time": "measured on another machine"}


def test_new_and_gone_rows_are_named_and_other_settings_are_not_compared():
    before, now = part(("x", THEN, "CPU s"), ("y", THEN, "CPU s")), part(("x", THEN, "CPU s"), ("z", THEN, "CPU s"))
    assert verdicts(before, now) == {"x": "same", "y": "gone", "z": "new"}
    assert compare.told(compare.judge({"b": before}, {"b": now})).splitlines()[:2] == ["new: b, z", "gone: b, y"]
    few, many = (part(("x", THEN, "CPU s"), batch=batch, rounds=batch) for batch in (1, 8))
    assert verdicts(few, many) == {"x": "measured with other settings"}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Lets benchmarks have written something and calls the comparison with options; its exit status."""
    monkeypatch.setattr(common, "OUT", tmp_path / "out")
    monkeypatch.setattr(compare, "TABLE", tmp_path / "table.json")
    monkeypatch.setattr(compare, "BENCHMARKS", ("a", "b"))

    def run(options="", **written):
        common.OUT.mkdir(exist_ok=True)
        for name, content in written.items():
            (common.OUT / f"{name}.json").write_text(json.dumps(content))
        monkeypatch.setattr(sys, "argv", ["compare", *options.split()])
        return compare.main()

    return run


def test_the_status_tells_whether_a_row_is_slower_until_the_table_is_accepted(files, capsys):
    assert files("--accept", a=part(("x", THEN, "CPU s")), b=part(("y", THEN, "CPU s"))) == 0
    assert files() == 0
    assert files(a=part(("x", [2.0, 2.1, 2.2], "CPU s"))) == 1
    assert "slower: a, x: +91% (CPU s)" in capsys.readouterr().out
    assert files("--accept") == 0 and files() == 0


@pytest.mark.parametrize(("load", "names", "reason"), [(0.5, "ab", "busy meanwhile: a"), (0, "a", "not measured: b")])
def test_a_loaded_machine_or_a_missing_benchmark_is_accepted_only_if_told_so(files, capsys, load, names, reason):
    written = {name: part(("x", THEN, "CPU s"), load=load * (name == "a")) for name in names}
    assert files("--accept", **written) == 2
    assert reason in capsys.readouterr().out and not compare.TABLE.exists()
    assert files("--accept --force") == 0
    assert set(json.loads(compare.TABLE.read_text())) == set(names)


def test_what_was_not_measured_now_stays_in_the_table(files):
    files("--accept", a=part(("x", THEN, "CPU s")), b=part(("y", THEN, "CPU s")))
    (common.OUT / "b.json").unlink()
    assert files("--accept --force", a=part(("x", [9.0], "CPU s"))) == 0
    table = json.loads(compare.TABLE.read_text())
    assert [table[name]["measured"][0]["value"] for name in "ab"] == [9.0, 1.1]
