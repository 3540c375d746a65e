import datetime
import json
import math
import os
import re
from functools import cache
from pathlib import Path

import pytest
import tiny

from iqa.analysis.params import AblationParams, ComplexityParams
from iqa.app import cli, graph, machine, stale, steps
from iqa.model.params import ModelParams
from iqa.report import appendix
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.training import params
from iqa.training.params import TrainParams

RUN_FILES = sorted(paths.PARAMS.glob("*/*/*.yaml"))
STEP_FILES = sorted(file for file in paths.PARAMS.glob("*/*.yaml") if file.stem != "resources")


NEEDED = tiny.NEEDED["train"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a parameter file of a study in an empty `params/`."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")

    def write(place: str, text: str):
        file = paths.PARAMS / place
        file.parent.mkdir(parents=True, exist_ok=True)
        shared = file.parent.with_suffix(".yaml")
        if file.parent.name == "train" and not shared.exists():
            shared.write_text("".join(f"{key}: {value}\n" for key, value in NEEDED.items()))
        if file.name == "train.yaml" and text.endswith("\n"):
            text += "".join(f"{key}: {value}\n" for key, value in NEEDED.items() if f"{key}:" not in text)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_an_empty_file_is_a_run_with_the_defaults(write):
    write("trial/train/a.yaml", "# nothing differs\n")
    assert param_files.load(TrainParams, "trial", "a") == TrainParams(study="trial", run="a", **NEEDED)


def test_a_runs_file_wins_over_its_steps_file_which_wins_over_the_defaults(write):
    write("trial/train.yaml", "epochs: 3\nlr: 0.5\n")
    write("trial/train/a.yaml", "lr: 0.25\n")
    params = param_files.load(TrainParams, "trial", "a")
    assert (params.epochs, params.lr, params.batch_size) == (3, 0.25, TrainParams.defaults()["batch_size"])


def test_overrides_win_over_the_files_and_are_checked_too(write):
    write("trial/train/a.yaml", "epochs: 3\n")
    assert param_files.load(TrainParams, "trial", "a", {"epochs": 5}).epochs == 5
    with pytest.raises(ParameterError, match="unknown key 'epoch'"):
        param_files.load(TrainParams, "trial", "a", {"epoch": 5})


@pytest.mark.parametrize("place", ["trial/train.yaml", "trial/train/a.yaml"])
def test_an_unknown_key_is_refused_with_the_file_and_the_keys_that_exist(write, place):
    write("trial/train/a.yaml", "")
    file = write(place, "learning_rate: 0.1\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: unknown key 'learning_rate'; .*batch_size"):
        param_files.load(TrainParams, "trial", "a")


@pytest.mark.parametrize(
    "line",
    [
        "epochs: many",
        "epochs: 2.5",
        "epochs: true",
        "epochs: '3'",
        "epochs: 0",
        "epochs: null",
        "lr: fast",
        "lr: -0.1",
        "dropout: 1.0",
        "pretrained: 1",
        "backbone: 50",
        "fusion: lst",
        "lda_channels: 8",
        "lda_channels: [8, x]",
        "database: ../demo",
    ],
)
def test_a_wrong_type_or_value_is_refused_with_the_file_the_key_and_the_value(write, line):
    file = write("trial/train/a.yaml", line + "\n")
    key, value = line.split(": ", 1)
    shown = re.escape(value.strip("'[]").split(", ")[-1].replace("null", "None").replace("true", "True"))
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key '{key}.*{shown}"):
        param_files.load(TrainParams, "trial", "a")


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.0001", "1E-4", "'1e-4'"])
def test_a_number_may_be_written_with_an_exponent(write, text):
    write("trial/train/a.yaml", f"lr: {text}\n")
    assert param_files.load(TrainParams, "trial", "a").lr == 1e-4


@pytest.mark.parametrize("text", ["1_0", "1_0.5"])
def test_digits_with_underscores_are_no_number(write, text):
    write("trial/train/a.yaml", f"lr: {text}\n")
    with pytest.raises(ParameterError, match=f"key 'lr'.*'{text}'"):
        param_files.load(TrainParams, "trial", "a")


def test_a_whole_number_is_accepted_where_a_real_one_is_meant(write):
    write("trial/train/a.yaml", "lr: 1\nmean: [0, 1e-1, 0.5]\n")
    params = param_files.load(TrainParams, "trial", "a")
    assert params.lr == 1.0
    assert params.mean == [0.0, 0.1, 0.5]


@pytest.mark.parametrize("word", ["on", "off", "yes", "no"])
def test_the_words_of_old_yaml_are_text_and_not_truth_values(write, word):
    write("trial/train/a.yaml", f"pretrained: {word}\n")
    with pytest.raises(ParameterError, match=f"key 'pretrained'.*'{word}'"):
        param_files.load(TrainParams, "trial", "a")
    write("trial/train/a.yaml", f"backbone: {word}\n")
    assert param_files.load(TrainParams, "trial", "a").backbone == word


@pytest.mark.parametrize("key", ["study", "run"])
@pytest.mark.parametrize("place", ["trial/train.yaml", "trial/train/a.yaml"])
def test_study_and_run_follow_from_the_place_of_the_file_and_are_refused_inside_it(write, place, key):
    write("trial/train/a.yaml", "")
    file = write(place, f"{key}: a\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key '{key}'.*remove it"):
        param_files.load(TrainParams, "trial", "a")


def test_a_missing_file_is_refused_with_the_runs_that_exist(write):
    write("trial/train/b.yaml", "")
    write("trial/train/a.yaml", "")
    with pytest.raises(ParameterError, match=r"trial/train/c.yaml does not exist; .*: a, b"):
        param_files.load(TrainParams, "trial", "c")
    with pytest.raises(ParameterError, match="the complexity runs of study 'trial' are: none"):
        param_files.load(ComplexityParams, "trial", "main")


@pytest.mark.parametrize(
    ("text", "message"), [("lr: [1, 2", "not valid YAML"), ("- lr\n", "found list"), ("7", "found int")]
)
def test_a_file_that_is_not_a_list_of_keys_is_refused(write, text, message):
    file = write("trial/train/a.yaml", text)
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}.*{message}"):
        param_files.load(TrainParams, "trial", "a")


def test_a_key_given_twice_is_refused(write):
    write("trial/train/a.yaml", "lr: 0.1\nlr: 0.2\n")
    with pytest.raises(ParameterError, match=r"(?s)not valid YAML.*duplicate key"):
        param_files.load(TrainParams, "trial", "a")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b"])
def test_a_name_that_could_leave_its_folder_is_refused(name):
    with pytest.raises(ParameterError, match="key 'run'"):
        TrainParams.build({"run": name}, "test")


def test_parameters_cannot_be_changed_after_they_are_read():
    with pytest.raises(ValueError, match="frozen"):
        TrainParams(**NEEDED).epochs = 3


def test_the_parameters_of_a_notebook_are_collected_from_its_variables():
    given = NEEDED | {"run": "own", "epochs": 2}
    variables = TrainParams.defaults() | given | {"lr": "1e-4", "something_else": 7}
    assert TrainParams.collect(variables) == TrainParams(**given | {"lr": 1e-4})
    with pytest.raises(ParameterError, match="the parameters cell of the train notebook lacks epochs"):
        TrainParams.collect({key: value for key, value in variables.items() if key != "epochs"})


def test_a_notebook_that_is_played_with_takes_from_the_studys_main_run_what_its_cell_leaves(monkeypatch, capsys):
    monkeypatch.delenv("IQA_BATCH", raising=False)
    cell = dict.fromkeys(TrainParams.model_fields) | TrainParams.defaults()
    main = param_files.load(TrainParams, "demo", "main_s1")
    assert TrainParams.collect(cell | {"epochs": 2}) == main.model_copy(update={"run": "scratch", "epochs": 2})
    assert "database: demo, input: mscn, crop: 96" in capsys.readouterr().out
    with pytest.raises(ParameterError, match="key 'database' is not set and has no default"):
        TrainParams.collect(cell | {"run": "own"})
    monkeypatch.setenv("IQA_BATCH", "1")
    with pytest.raises(ParameterError, match="key 'database' is not set and has no default"):
        TrainParams.collect(cell)


@pytest.mark.parametrize("cls", steps.STEPS.values(), ids=steps.STEPS)
def test_every_notebook_can_be_played_with_as_it_is(cls, monkeypatch):
    monkeypatch.delenv("IQA_BATCH", raising=False)
    params = cls.collect(dict.fromkeys(cls.model_fields) | cls.defaults())
    assert (params.study, params.run) == ("demo", "scratch")


def test_the_place_of_a_file_tells_study_step_and_run(write):
    file = write("trial/train/a.yaml", "")
    assert steps.locate(file) == steps.locate("trial/train/a") == [("trial", "train", "a")]
    for wrong in (paths.PARAMS / "trial/train.yaml", "trial/training/a", paths.PARAMS / "trial/train/a.yml", "a"):
        with pytest.raises(ParameterError, match=re.escape("<study>/<step>/<run>")):
            steps.locate(wrong)
    with pytest.raises(ParameterError, match=r"trial/train/b.yaml does not exist; the train runs .*: a"):
        steps.locate("trial/train/b")


def test_a_file_with_seeds_stands_for_a_run_of_each(write):
    file = write("trial/train/a.yaml", "seeds: [1, 7]\nlr: 0.5\n")
    write("trial/train/b.yaml", "seed: 3\n")
    assert param_files.run_names("trial", "train") == ["a_s1", "a_s7", "b"]
    assert param_files.experiments("trial") == {"a": ["a_s1", "a_s7"], "b": ["b"]}
    loaded = [steps.load(*run) for run in steps.locate(file)]
    assert [(params.run, params.seed, params.lr) for params in loaded] == [("a_s1", 1, 0.5), ("a_s7", 7, 0.5)]
    assert steps.locate("trial/train/a") == steps.locate(file)
    assert steps.locate("trial/train/a_s7") == [("trial", "train", "a_s7")]
    with pytest.raises(ParameterError, match=r"a.yaml is a file of several runs; .*: a_s1, a_s7, b"):
        param_files.load(TrainParams, "trial", "a")


@pytest.mark.parametrize("seeds", ["3", "[]", "[1, 1]", "[a]", "[-1]", "[1.5]"])
def test_seeds_that_are_no_list_of_different_whole_numbers_are_refused(write, seeds):
    file = write("trial/train/a.yaml", f"seeds: {seeds}\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key 'seeds'"):
        param_files.run_names("trial", "train")


@pytest.mark.parametrize("repeats", ["[1, 3]", "1..3", "'1..3'", "1..1"])
def test_a_database_with_repeats_stands_for_a_split_of_each_and_a_training_on_it_for_a_run_on_each(write, repeats):
    numbers = [1, 3] if repeats == "[1, 3]" else [1] if repeats == "1..1" else [1, 2, 3]
    file = write("trial/data_prep/live.yaml", f"reader: live\nrepeats: {repeats}\n")
    write("trial/train.yaml", "database: live\n")
    write("trial/train/a.yaml", "lr: 0.5\nseed: 4\n")
    write("trial/train/b.yaml", "like: a\nrepeats: [1]\n")
    write("trial/train/c.yaml", "database: other\nseeds: 1..2\n")
    runs = [f"live_r{number}" for number in numbers]
    assert param_files.experiments("trial", "data_prep") == {"live": runs}
    assert [steps.load(*run).repeat for run in steps.locate(file)] == numbers
    trainings = [f"a_r{number}" for number in numbers]
    assert param_files.experiments("trial") == {"a": trainings, "b": ["b_r1"], "c": ["c_s1", "c_s2"]}
    loaded = [steps.load("trial", "train", run) for run in [*trainings, "b_r1"]]
    assert [(params.database, params.lr, params.seed) for params in loaded] == [
        (database, 0.5, 4) for database in [*runs, "live_r1"]
    ]


@pytest.mark.parametrize("repeats", ["3", "[]", "[1, 1]", "[0, 1]", "0..3", "3..1", "1-3", "1..2000", "[1..3]"])
def test_repeats_that_are_no_list_or_range_of_different_whole_numbers_are_refused(write, repeats):
    file = write("trial/data_prep/a.yaml", f"repeats: {repeats}\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key 'repeats': a list of different whole"):
        param_files.run_names("trial", "data_prep")


@pytest.mark.parametrize(
    ("place", "text", "problem"),
    [
        ("data_prep/live.yaml", "repeats: 1..2\nrepeat: 1", "set 'repeat' or 'repeats', not both"),
        ("data_prep.yaml", "repeats: 1..2", "key 'repeats' belongs in the file of a run, data_prep/<name>.yaml"),
        ("train.yaml", "repeats: 1..2", "key 'repeats' belongs in the file of a run, train/<name>.yaml"),
        ("ablation/main.yaml", "repeats: 1..2", "unknown key 'repeats'"),
        ("data_prep/live.yaml", "seeds: [1]", "key 'seeds' belongs in the file of a training"),
        ("data_prep/live.yaml", "repeat: 1..2", "key 'repeat': .*, not '1..2'"),
        ("train/a.yaml", "database: live\nseeds: [1, 2]", "'live' stands for 2 splits, .* such as live_r1"),
        ("train/a.yaml", "database: live\nrepeats: [2, 3]", "database has no repeat 3; list it in .*live.yaml"),
        ("train/a.yaml", "database: other\nrepeats: [1]", "database has no repeat 1; list it in .*other.yaml"),
    ],
)
def test_repeats_that_would_have_no_effect_or_two_meanings_are_refused(write, place, text, problem):
    write("trial/data_prep/live.yaml", "reader: live\nrepeats: 1..2\n")
    write("trial/ablation/main.yaml", "")
    write("trial/train/b.yaml", "")
    file = write(f"trial/{place}", f"{text}\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}.*{problem}"):
        list(steps.all_params("trial"))


def test_repeats_of_a_training_without_a_database_are_refused(write):
    write("trial/train/a.yaml", "repeats: [1]\n")
    (paths.PARAMS / "trial/train.yaml").unlink()
    with pytest.raises(ParameterError, match=r"a.yaml: key 'repeats': its database has no repeat 1; set 'database'"):
        param_files.run_names("trial", "train")


def test_two_files_cannot_stand_for_one_run(write):
    write("trial/train/a.yaml", "seeds: [1]\n")
    write("trial/train/a_s1.yaml", "")
    with pytest.raises(ParameterError, match=r"a_s1.yaml and .*a.yaml both stand for the run 'a_s1'"):
        param_files.run_names("trial", "train")
    write("trial/train/a.yaml", "seeds: [1]\nseed: 2\n")
    with pytest.raises(ParameterError, match="'seed' or 'seeds', not both"):
        param_files.run_names("trial", "train")


def test_a_file_that_is_like_another_starts_from_its_values(write):
    write("trial/train.yaml", "epochs: 9\nlr: 0.1\n")
    write("trial/train/a.yaml", "lr: 0.2\nclip: 3.0\nseeds: [1, 2]\n")
    write("trial/train/b.yaml", "like: a\nclip: 4.0\n")
    write("trial/train/c.yaml", "like: b\nseeds: [5]\n")
    params = param_files.load(TrainParams, "trial", "c_s5")
    assert (params.epochs, params.lr, params.clip, params.seed) == (9, 0.2, 4.0, 5)
    assert param_files.run_names("trial", "train") == ["a_s1", "a_s2", "b", "c_s5"]
    write("trial/train/a.yaml", "like: b\n")
    with pytest.raises(ParameterError, match=r"key 'like': .*[ab].yaml is like itself in the end"):
        param_files.load(TrainParams, "trial", "b")
    write("trial/train/b.yaml", "like: d\n")
    with pytest.raises(ParameterError, match=r"b.yaml: key 'like': .*d.yaml does not exist"):
        param_files.load(TrainParams, "trial", "b")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("l1", {"l1": 1}),
        ("l1 + 0.5*plcc", {"l1": 1, "plcc": 0.5}),
        ("2 fidelity+1e-1 * l2", {"fidelity": 2, "l2": 0.1}),
    ],
)
def test_a_loss_is_a_weighted_sum_of_terms(text, weights):
    assert params.loss_terms(text) == weights
    assert TrainParams(**NEEDED, loss=text, rank_weight=0.0).terms() == weights
    assert TrainParams(**NEEDED, loss=text, rank_weight=0.3).terms() == weights | {"ranking": 0.3}


@pytest.mark.parametrize("text", ["l3", "l1 + l1", "l1 - l2", "0.5", "-1*l1"])
def test_a_loss_of_another_form_is_refused(text):
    with pytest.raises(ParameterError, match=r"key 'loss': .*different terms of l1, l2, .*, plcc, fidelity"):
        TrainParams.build(NEEDED | {"loss": text}, "here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input": "mscn", "color_jitter": 0.1}, "use input: rgb"),
        ({"batch_size": 9, "devices": 2}, "not a multiple"),
    ],
)
def test_training_parameters_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ParameterError, match=message):
        TrainParams.build(NEEDED | values, "here")


def test_a_table_compares_experiments_or_single_runs(write):
    write("trial/train/a.yaml", "seeds: [1, 2]\n")
    write("trial/train/b.yaml", "seeds: [1, 2]\nlr: 0.5\n")
    table = AblationParams(study="trial", reference="b", runs=["a_s2"])
    assert table.train_runs() == ["b_s1", "b_s2", "a_s2"]
    assert AblationParams(study="trial", reference="a").train_runs() == ["a_s1", "a_s2", "b_s1", "b_s2"]
    with pytest.raises(ParameterError, match="training has no parameter 'speed'"):
        AblationParams.build({"parameter": "speed"}, "here")


@pytest.mark.parametrize("step", steps.STEPS)
def test_the_defaults_of_a_step_satisfy_its_own_types(step):
    cls, needed = steps.STEPS[step], tiny.NEEDED.get(step, {})
    assert cls.build(cls.defaults() | needed, "defaults") == cls(**needed)


@pytest.mark.parametrize(("step", "key"), [(step, key) for step, needed in tiny.NEEDED.items() for key in needed])
def test_what_a_study_has_to_say_and_does_not_is_an_error_that_names_file_and_key(write, step, key):
    file = write(f"trial/{step}/a.yaml", "")
    shared = "".join(f"{other}: {value}\n" for other, value in tiny.NEEDED[step].items() if other != key)
    file.parent.with_suffix(".yaml").write_text(shared)
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key '{key}' is not set and has no default"):
        steps.load("trial", step, "a")
    file.write_text(f"{key}: null\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key '{key}' is not set and has no default"):
        steps.load("trial", step, "a")


run_names = cache(param_files.run_names)


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda file: file.relative_to(paths.PARAMS).as_posix())
def test_every_parameter_file_loads_and_needs_only_runs_that_exist(file):
    for place in steps.locate(file):
        params = steps.load(*place)
        for step, run in params.needs():
            assert run in run_names(params.study, step), f"{file} needs the {step} run '{run}'"


@pytest.mark.parametrize("file", STEP_FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_steps_file_belongs_to_a_step_with_runs(file):
    assert file.stem in steps.STEPS
    assert param_files.run_names(file.parent.name, file.stem)


@pytest.mark.parametrize("study", sorted(folder.name for folder in paths.PARAMS.iterdir() if folder.is_dir()))
def test_every_study_says_what_its_runs_ask_of_a_cluster_or_leaves_it_at_the_defaults(study):
    asked = machine.resources(study)
    assert asked.keys() == {(step, run) for step in steps.STEPS for run in param_files.run_names(study, step)}


# --- one reader of parameter files


def bomb(first: bytes, further: bytes) -> bytes:
    """A short file whose aliases stand for nine to the eighth power of values."""
    lines = [further % (b"*a%d, " % (number - 1) * 9) for number in range(1, 9)]
    return b"".join(b"a%d: &a%d %s\n" % (number, number, line) for number, line in enumerate([first, *lines]))


BAD_FILES = {  # what stands in a training file, and words of the message
    b"": None,
    b"\xef\xbb\xbfepochs: 3\n": None,
    b"epochs: 3\r\n": None,
    "# caf\u00e9\nepochs: 3\n".encode("latin-1"): "not UTF-8 text; save the file as UTF-8",
    "epochs: 3\n".encode("utf-16"): "save the file as UTF-8",
    "epochs: 3\n".encode("utf-16-le"): "save it as UTF-8",
    b"epochs: 3\0\n": "NUL",
    b"epochs:\t3\n\tlr: 1\n": "line 1: not valid YAML: found character",
    b"epochs: 3\n---\nlr: 1\n": "not valid YAML: .*another document|single document",
    b"epochs: 3\nepochs: 4\n": "duplicate key",
    b"epochs: 3\n'epochs': 4\n": "duplicate key",
    b"1: 2\n": "key 1: a key is a text",
    b"? [a]\n: 2\n": "a key is a text",
    b"epochs: 2001-99-99\n": "not valid YAML: month",
    b"epochs: !!python/object:os.system x\n": "not valid YAML: could not determine a constructor",
    b"epochs: " + b"1" * 5000: "not valid YAML: Exceeds the limit",
    b"epochs: 0x" + b"f" * 6000: "key 'epochs'.*a very large int",
    b"mean: " + b"[" * 400 + b"]" * 400: "not valid YAML: .*(is nested too deeply|its aliases)",
    b"mean: [" + b"0.5, " * 5000 + b"1]\n": r"key 'mean': .*at most 3.*, not 5001: \[0.5, 0.5, 0.5, 0.5, ...\]",
    b"# " + b"x" * 300_000: "at most 256 kB",
    b"mean: &a [*a]\n": "aliases",
    bomb(b"[1, 2]", b"[%s]"): "aliases",
    bomb(b"{x: 1}", b"{<<: [%s]}"): "aliases",
    b"".join(b"a%d: &a%d [[[[[[*a%d]]]]]]\n" % (n, n, n - 1) if n else b"a0: &a0 []\n" for n in range(40)): "aliases",
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.items(), ids=lambda value: repr(value)[:30])
def test_a_parameter_file_is_read_or_refused_with_its_name(write, content, message):
    file = write("trial/train/a.yaml", "")
    file.write_bytes(content)
    if message is None:
        assert param_files.load(TrainParams, "trial", "a").run == "a"
        return
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}.*({message})") as found:
        param_files.load(TrainParams, "trial", "a")
    assert len(str(found.value).replace(str(file), "")) < 400


def test_aliases_may_stand_for_a_few_values(write):
    write("trial/train/a.yaml", "mean: &half [0.5, 0.5, 0.5]\nstd: *half\n")
    assert param_files.load(TrainParams, "trial", "a").std == [0.5, 0.5, 0.5]


def test_what_is_no_file_is_refused_with_its_name(write):
    write("trial/train/a.yaml", "")
    folder = paths.PARAMS / "trial" / "train"
    makers = {
        "b.yaml": (Path.mkdir, "a folder"),
        "c.yaml": (lambda place: place.symlink_to("nowhere"), "a link to nothing"),
        "d.yaml": (os.mkfifo, "no file"),
        "e.yml": (Path.touch, "the name of a parameter file ends in .yaml; rename it"),
        "f.YAML": (Path.touch, "the name of a parameter file ends in .yaml; rename it"),
        "my run.yaml": (Path.touch, "the file's name is the run's: .*; rename it"),
        "-g.yaml": (Path.touch, "the file's name is the run's: .*; rename it"),
    }
    for name, (make, message) in makers.items():
        place = folder / name
        make(place)
        with pytest.raises(ParameterError, match=f"{re.escape(str(place))}: {message}"):
            list(steps.all_params("trial"))
        place.rmdir() if place.is_dir() else place.unlink()
    for name in (".hidden.yaml", "notes.md", "a.yaml~"):
        (folder / name).touch()
    assert [params.run for params in steps.all_params("trial")] == ["a"]


SEEDS = [
    "seeds: [1, 2]",
    "\ufeffseeds: [1, 2]",
    "'seeds': [1, 2]",
    "{seeds: [1, 2]}",
    "  seeds: [1, 2]",
    "? seeds\n: [1, 2]",
]
SEEDS += ['"see\\x64s": [1, 2]', "seeds:\n- 1\n- 2", "--- {seeds: [1, 2]}", "seeds : [1, 2]", "!!str seeds: [1, 2]"]


@pytest.mark.parametrize("text", SEEDS)
def test_seeds_are_obeyed_however_the_key_is_written_and_refused_where_they_have_no_effect(write, text):
    write("trial/train/a.yaml", text)
    assert param_files.run_names("trial", "train") == ["a_s1", "a_s2"]
    for place in ("trial/train.yaml", "trial/ablation/main.yaml", "trial/ablation.yaml"):
        write("trial/train/b.yaml", "")
        write("trial/ablation/main.yaml", "")
        file = write(place, text)
        with pytest.raises(
            ParameterError, match=f"{re.escape(str(file))}: key 'seeds' belongs in the file of a training"
        ):
            list(steps.all_params("trial"))
        file.unlink()


@pytest.mark.parametrize("text", ["like: b", "'like': b", "{like: b}"])
def test_like_is_obeyed_in_every_step_and_refused_where_it_has_no_effect(write, text):
    for step in ("train", "ablation"):
        write(f"trial/{step}/b.yaml", "dpi: 99\n")
        write(f"trial/{step}/a.yaml", text)
        assert steps.load("trial", step, "a").dpi == 99
        file = write(f"trial/{step}.yaml", text)
        with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key 'like' belongs in the file of a run"):
            steps.load("trial", step, "a")
        file.unlink()


@pytest.mark.parametrize("like", ["../train/b", "[a]", "null", "''", "1", "b.yaml", "/etc/passwd", "{a: b}", "'a b'"])
def test_like_names_a_file_beside_it(write, like):
    write("trial/train/b.yaml", "")
    file = write("trial/train/a.yaml", f"like: {like}\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key 'like': (the name of a file|.*not exist)"):
        param_files.load(TrainParams, "trial", "a")


@pytest.mark.parametrize("place", ["trial/trian.yaml", "trial/trian/a.yaml", "trial/train.yml", "trial/ablation.yaml"])
def test_a_file_that_no_run_would_read_is_refused(write, place):
    write("trial/train/a.yaml", "")
    write(place, "dpi: 99\n")
    with pytest.raises(ParameterError, match=re.escape(f"params/{place.removesuffix('/a.yaml')}")):
        list(steps.all_params("trial"))


BAD_STUDIES = [
    "",
    ".",
    "..",
    "demo/train",
    "/",
    "/tmp",
    "../params/demo",
    "a\nb",
    "-x",
    "a b",
    "x" * 300,
    "demo/..",
    "nosuch",
]


@pytest.mark.parametrize("study", BAD_STUDIES)
def test_what_is_no_name_of_a_study_is_refused_before_anything_is_made(study, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    calls = [
        lambda: graph.report(study),
        lambda: graph.print_due(study),
        lambda: stale.State(study),
        lambda: appendix.of_study(study),
        lambda: param_files.run_names(study, "data_prep"),
        lambda: param_files.load(TrainParams, study, "main"),
    ]
    for call in calls:
        with pytest.raises(ParameterError, match=r"the studies are: .*demo") as found:
            call()
        assert len(str(found.value)) < 600 and "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["", ".", "demo/..", "demo/nosuch", "demo/train/../main", "a/b/c/d", "x" * 5000, "demo/train/a\nb"]
)
def test_what_is_no_name_of_a_run_is_refused(name):
    for call in (steps.select, steps.locate):
        with pytest.raises(ParameterError) as found:
            call(name)
        assert len(str(found.value)) < 600 and "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "epochs", "[1"], "-p epochs [1, line 1: not valid YAML"),
        (["-p", "epochs", "1", "-p", "epochs", "2"], "-p epochs: set twice; leave one out"),
        (["-p", "epoch", "1"], "unknown key 'epoch'"),
        (["-p", "lr", ".nan"], "key 'lr': Input should be a finite number, not nan"),
        (["-p", "x" * 5000, "1"], "unknown key 'xxx"),
        (["-p", "lr", "1" * 5000], "not valid YAML: Exceeds the limit"),
        (["-p", "study", "other"], "-p study: a run writes to its own folder"),
    ],
)
def test_an_override_that_cannot_be_used_is_named(arguments, message, capsys):
    assert cli.main(["run", "demo/train/main_s1", *arguments]) == 1
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told and len(told) < 1500


# --- bounds belong to the types

JUNK = {
    **{"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "huge float": 1e308, "tiny": 1e-300, "half": 0.5, "0": 0},
    **{"-1": -1, "large": 10**9, "huge": 10**400, "huger": 1 << 200_000, "huge text": "1e999", "none": None},
    **{"true": True, "bytes": b"x", "date": datetime.date(2020, 1, 1), "tuple": (1, 2), "set": {1}, "keys": {1: 2}},
    **{"empty": "", "blank": "  ", "text": "x", "long": "x" * 100_000, "two lines": "a\nb", "escape": "\x1b[2Jx"},
    **{"half a character": "\ud800", "nul": "a\0b", "user": "~nosuchuser/x", "dollar": "100$ images"},
    **{"long name": "a/" + "b" * 300, "list": [], "map": {}, "nested": [[[[[[]]]]]], "zeros": [0, 0, 0]},
    **{"nan inside": [math.nan] * 3, "many": [0.5] * 100_000, "many texts": ["x" * 99] * 999},
    **{"deep": {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "text inside": {"a": "b\nc"}},
}
CLASSES = [*steps.STEPS.values(), ModelParams, machine.Resources]


@pytest.mark.parametrize("value", JUNK.values(), ids=JUNK)
def test_every_parameter_takes_a_value_or_refuses_it_with_file_and_key(value):
    for cls in CLASSES:
        for key in cls.model_fields:
            try:
                built = cls.build(tiny.NEEDED.get(cls.step, {}) | {key: value}, "some.yaml")
            except ParameterError as error:
                assert str(error).startswith("some.yaml: ") and key in str(error), (cls, key)
                assert len(str(error)) <= 600 and str(error).isprintable(), (cls, key)
            else:
                text = json.dumps(built.model_dump(), allow_nan=False).encode()
                assert len(text) < 200_000


@pytest.mark.parametrize(
    "line",
    [
        *("lr: .inf", "lr: .nan", "lr: 1e400", "weight_decay: .inf", "rank_weight: .inf", "rank_margin: .nan"),
        *("lr_ratio: .inf", "output_scale: .inf", "mean: [.nan, 0, 0]", "std: [0, 0, 0]", "std: [-1, 1, 1]"),
        *("target_widths: []", "semantic_grid: 0", "lda_channels: [8]", "lda_grids: [1, 1]", "threads: 100000"),
        *("seed: -1", "seed: 4294967296", "crop: 100000", "batch_size: 1000000", "device: cuda:x", "device: meta"),
        *("precision: 16", "loss: 0*l1", "loss: l1 + 0*plcc", "loss: 1e400*l1", "weights: ''", "backbone: ' '"),
        *("backbone_args: {pretrained: true}", "backbone_args: {a: .nan}", "backbone_args: {a: 2020-01-01}", "dpi: 0"),
        *("dpi: 100000", "hypernet_epochs: 0", "epochs: 1000000000", "nodes: 100000", "monitor_databases: [a, 1]"),
    ],
)
def test_a_value_that_a_training_would_choke_on_is_refused(write, line):
    file = write("trial/train/a.yaml", line + "\n")
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key '{line.split(':')[0]}"):
        param_files.load(TrainParams, "trial", "a")


@pytest.mark.parametrize(
    ("step", "line"),
    [
        *(
            ("data_prep", line)
            for line in ("seed: -1", "low: -.inf", "low: .nan", "high: .inf", "inputs: []", "height: 0")
        ),
        *(("data_prep", line) for line in ("folder: ''", "folder: data/100$ images", "folder: ~nosuchuser/x")),
        *(("data_prep", line) for line in ('folder: "a\\0b"', "train_fraction: 1", "scale: .nan", "workers: 100000")),
        ("data_prep", f"folder: {'x' * 5000}"),
        *(("ablation", line) for line in ('title: "a\\nb"', "title: ''", "confidence: 1", "resamples: 1000000000")),
        *(("ablation", line) for line in ("title: |\n  a\n  b", "parameter: speed", f"title: {'x' * 1000}")),
        *(("complexity", line) for line in ("devices: []", "devices: [gpu]", "seconds: .inf", "batch_sizes: [0]")),
        *(("analysis", line) for line in ("images: ['']", "bands: 1", "components: 100000", "seed: 1e3")),
        *(("claims", line) for line in ("test_images: 3", "confidence: .nan", 'database: "a\\tb"')),
    ],
)
def test_a_value_that_another_step_would_choke_on_is_refused(write, step, line):
    file = write(f"trial/{step}/a.yaml", line + "\n")
    key = line.split(":")[0]
    with pytest.raises(ParameterError, match=f"{re.escape(str(file))}: key '{key}") as found:
        steps.load("trial", step, "a")
    assert len(str(found.value).replace(str(file), "")) < 400


def test_a_message_names_a_few_of_many_problems(write):
    write("trial/train/a.yaml", "".join(f"{key}: .nan\n" for key in ("epochs", "lr", "clip", "seed", "crop")))
    with pytest.raises(ParameterError, match=r"key '.*; key '.*; key '.*; and 2 more$"):
        param_files.load(TrainParams, "trial", "a")


# --- paths


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("data/100$ images", "write '\\$\\$'"),
        ("~nosuchuser/x", "no user of this machine"),
        ("a\0b", "NUL"),
        ("x" * 5000, "at most 255 bytes"),
        ("x/" * 3000, "4095"),
        ("$IQA_NOT_SET/x", "IQA_NOT_SET is not set; set it"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused_with_the_remedy(path, message):
    with pytest.raises(paths.PathError, match=message) as found:
        paths.resolve(path)
    assert len(str(found.value)) < 250


def test_the_cache_is_a_folder_that_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.cache_folder(None) == paths.cache_folder("") == paths.ROOT / "cache"
    assert paths.cache_folder("other") == paths.ROOT / "other"
    assert paths.cache_folder(str(tmp_path / "100$")) == tmp_path / "100$"
    (tmp_path / "file").touch()
    for place in ("file", "file/inside"):
        with pytest.raises(paths.PathError, match=r"IQA_CACHE names .*file.*name another"):
            paths.cache_folder(str(tmp_path / place))


def test_every_value_that_decides_a_training_is_in_one_group():
    groups = TrainParams(**NEEDED).by_group()
    keys = [key for values in groups.values() for key in values]
    assert list(groups) == ["data", "model", "loss", "optimisation", "machine"]
    assert len(keys) == len(set(keys)) and set(keys) == TrainParams(**NEEDED).deciding().keys() - {"seed", "dpi"}
    assert "cbam" in groups["model"] and "rank_gap" in groups["loss"] and "val_crops" in groups["data"]
