import re

import pytest

from iqa.analysis.params import AblationParams, ComplexityParams
from iqa.app import machine, steps
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.training import params
from iqa.training.params import TrainParams

RUN_FILES = sorted(paths.PARAMS.glob("*/*/*.yaml"))
STEP_FILES = sorted(file for file in paths.PARAMS.glob("*/*.yaml") if file.stem != "resources")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a parameter file of a study in an empty `params/`."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")

    def write(place: str, text: str):
        file = paths.PARAMS / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_an_empty_file_is_a_run_with_the_defaults(write):
    write("trial/train/a.yaml", "# nothing differs\n")
    assert param_files.load(TrainParams, "trial", "a") == TrainParams(study="trial", run="a")


def test_a_runs_file_wins_over_its_steps_file_which_wins_over_the_defaults(write):
    write("trial/train.yaml", "epochs: 3\nlr: 0.5\n")
    write("trial/train/a.yaml", "lr: 0.25\n")
    params = param_files.load(TrainParams, "trial", "a")
    assert (params.epochs, params.lr, params.batch_size) == (3, 0.25, TrainParams().batch_size)


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
        TrainParams().epochs = 3


def test_the_parameters_of_a_notebook_are_collected_from_its_variables():
    variables = TrainParams().model_dump() | {"epochs": 2, "lr": "1e-4", "something_else": 7}
    assert TrainParams.collect(variables) == TrainParams(epochs=2, lr=1e-4)
    with pytest.raises(ParameterError, match="the parameters cell of the train notebook lacks epochs"):
        TrainParams.collect({key: value for key, value in variables.items() if key != "epochs"})


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
    with pytest.raises(ParameterError, match=r"key 'like': .*b.yaml is like itself in the end"):
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
    assert TrainParams(loss=text, rank_weight=0.0).terms() == weights
    assert TrainParams(loss=text, rank_weight=0.3).terms() == weights | {"ranking": 0.3}


@pytest.mark.parametrize("text", ["", "l3", "l1 + l1", "l1 - l2", "0.5", "-1*l1"])
def test_a_loss_of_another_form_is_refused(text):
    with pytest.raises(ParameterError, match=r"key 'loss': .*different terms of l1, l2, ranking, plcc, fidelity"):
        TrainParams.build({"loss": text}, "here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"color_jitter": 0.1}, "use input: rgb"),
        ({"batch_size": 9, "devices": 2}, "not a multiple"),
    ],
)
def test_training_parameters_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ParameterError, match=message):
        TrainParams.build(values, "here")


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
    cls = steps.STEPS[step]
    assert cls.build(cls().model_dump(), "defaults") == cls()


@pytest.mark.parametrize("file", RUN_FILES, ids=lambda file: file.relative_to(paths.PARAMS).as_posix())
def test_every_parameter_file_loads_and_needs_only_runs_that_exist(file):
    for place in steps.locate(file):
        params = steps.load(*place)
        for step, run in params.needs():
            assert run in param_files.run_names(params.study, step), f"{file} needs the {step} run '{run}'"


@pytest.mark.parametrize("file", STEP_FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_every_steps_file_belongs_to_a_step_with_runs(file):
    assert file.stem in steps.STEPS
    assert param_files.run_names(file.parent.name, file.stem)


@pytest.mark.parametrize("study", sorted(folder.name for folder in paths.PARAMS.iterdir() if folder.is_dir()))
def test_every_study_says_what_its_runs_ask_of_a_cluster_or_leaves_it_at_the_defaults(study):
    asked = machine.resources(study)
    assert asked.keys() == {(step, run) for step in steps.STEPS for run in param_files.run_names(study, step)}
