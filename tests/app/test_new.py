"""`iqa new`: studies of one's own from folders and tables as people have them, and copies of studies."""

import shutil
from types import SimpleNamespace as Options

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from iqa.app import cli, new, run, steps
from iqa.data import prepare
from iqa.data.params import DataPrepParams
from iqa.model.backbone import BackboneError
from iqa.report import render
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.training.params import TrainParams
from iqa.training.weights import mismatches

IMAGES = 24
MOS = [round(1.2 + 3.6 * number / IMAGES, 2) for number in range(IMAGES)]
SCRATCH = {"backbone": "resnet10t", "weights": "none"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project, and beside it a folder of photographs."""
    monkeypatch.setattr(paths, "ROOT", tmp_path / "project")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "project/params")
    paths.PARAMS.mkdir(parents=True)
    save(tmp_path / "photos", [f"img {number:02}.jpg" for number in range(IMAGES)])
    return tmp_path


def save(folder, names, size=(96, 80)):
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name, format="jpeg")


def rows(line, mos=tuple(MOS)):
    """A line for each image; `{comma}` is its score with a decimal comma."""
    return [line.format(n=n, mos=value, comma=str(value).replace(".", ",")) for n, value in enumerate(mos)]


def start(name, **given):
    """Make a study with some of the options of the command."""
    options = [option.name for option in cli.commands.commands["new"].params]
    new.start(Options(**dict.fromkeys(options) | {"name": name} | given))


def make(project, lines, encoding="utf-8", images="photos", name="labels.csv", **options):
    """The labels that `iqa new` writes for a table, and the parameters of the database."""
    file = project / name
    file.write_text("\n".join(lines) + "\n", encoding=encoding)
    start("mine", images=str(project / images), labels=str(file), **SCRATCH | options)
    return pd.read_csv(paths.PARAMS / "mine/labels.csv"), param_files.load(DataPrepParams, "mine", "mine")


@pytest.mark.parametrize(
    ("lines", "encoding", "columns"),
    [
        (["Filename;MOS;SD", *rows("img {n:02}.jpg;{comma};0,5")], "utf-8", ["image", "mos", "mos_std"]),
        (["image_name,mos", *rows("img {n:02}.jpg,{mos}")], "utf-8-sig", ["image", "mos"]),
        (["id\tQuality\tscene", *rows("img {n:02}\t{mos}\tplace")], "utf-16", ["image", "mos", "reference"]),
        (["no,path,score", *rows('{n},"Bilder\\photos\\IMG {n:02}.JPG",{mos}')], "cp1252", ["image", "mos"]),
        (rows('{mos}  "img {n:02}.jpg"'), "utf-8", ["image", "mos"]),
        (["Größe|Bild|Note|MOS_zscore", *rows("9|img {n:02}.jpg|3|{mos}")], "utf-8", ["image", "mos"]),
        (["a title", "image,mos,,", *rows("img {n:02}.jpg,{mos},,"), ",,,"], "utf-8", ["image", "mos"]),
    ],
)
def test_tables_are_read_as_people_have_them(project, lines, encoding, columns):
    labels, params = make(project, lines, encoding)
    assert list(labels) == columns
    assert list(labels["image"]) == [f"img {number:02}.jpg" for number in range(IMAGES)]
    assert list(labels["mos"]) == pytest.approx(MOS)
    assert (params.low, params.high, params.higher_is_better, params.missing) == (1, 5, True, "error")


def test_a_workbook_is_read_too(project):
    table = pd.DataFrame({"Picture": [f"img {n:02}" for n in range(IMAGES)], "mean score": [2.0 * mos for mos in MOS]})
    table.to_excel(project / "labels.xlsx", index=False)
    start("mine", images=str(project / "photos"), labels=str(project / "labels.xlsx"), **SCRATCH)
    labels = pd.read_csv(paths.PARAMS / "mine/labels.csv")
    assert list(labels["mos"]) == pytest.approx([2 * mos for mos in MOS]) and labels["image"][0] == "img 00.jpg"


def test_the_reader_takes_what_was_written_with_subfolders_a_split_and_missing_images(project, capsys):
    save(project / "nested", [f"{'ab'[number % 2]}/{number}.JPG" for number in range(IMAGES)])
    lines = ["image;dmos;Set", *rows("{n};{mos};training")[:-6], *rows("{n};{mos};testing")[-6:], "gone;3;training"]
    labels, params = make(project, lines, images="nested")
    read = prepare.read(params)
    assert len(labels) == IMAGES + 1 and list(read.skipped["image"]) == ["gone"]
    assert read.table["image"].iloc[1] == "b/1.JPG" and (read.table["split"] == "test").sum() == 6
    assert not read.higher_is_better
    told = capsys.readouterr().out
    for words in ("1 of the listed images", "lower scores are better, as the column", "split from 'Set'"):
        assert words in told
    assert "make report STUDY=mine" in told


def test_rows_of_single_ratings_become_their_mean_and_standard_deviation(project):
    ratings = [f"{n},img {n:02}.jpg,{rating}" for n in range(IMAGES) for rating in (1 + n % 3, 3, 5)]
    labels, _ = make(project, ["rater,image,rating", *ratings])
    assert list(labels["mos"][:3]) == [3, pytest.approx(10 / 3), pytest.approx(11 / 3)]
    assert labels["mos_std"][0] == 2


@pytest.mark.parametrize(
    ("scores", "options", "scale"),
    [
        ((0.1, 0.9), {}, (0, 1)),
        ((0.5, 4.9), {}, (0, 5)),
        ((2, 9), {}, (1, 10)),
        ((12.5, 88), {}, (0, 100)),
        ((-3, 111.5), {}, (-3, 112)),
        ((2, 4), {"low": 0, "high": 9}, (0, 9)),
    ],
)
def test_the_scale_is_the_usual_one_that_holds_the_scores_or_the_given_one(project, scores, options, scale):
    _, params = make(project, ["image,mos", *rows("img {n:02}.jpg,{mos}", np.linspace(*scores, IMAGES))], **options)
    assert (params.low, params.high) == scale


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (["image,mos", *rows("other {n}.png,{mos}")], {}, "none of the 24 images .* no column of labels.csv"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}")[:9]], {}, "9 of the 9 listed images are there; at least 20"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}"), "img 00.jpg,2"], {}, "listed more than once: img 00.jpg"),
        (["image,a,b", *rows("img {n:02}.jpg,{mos},{mos}")], {}, "not clear; name one with --score-column; .*: a, b"),
        (["image,mos", *rows("img {n:02}.jpg,good")], {}, "which column holds the scores is not clear"),
        (["image,mos", *rows("img {n:02}.jpg,good")], {"score_column": "mos"}, "'mos' holds other than numbers"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}")], {"score_column": "MOS"}, "no column 'MOS'; .*: image, mos"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}")], {"high": 4}, "from 1.2 to 4.65 are not within 1 to 4"),
        (["image,mos", *rows("img {n:02}.jpg,3")], {}, "all scores are 3"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}")], {"size": 32}, "a shorter side of 32 pixels is too small"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}")], {"images": "nowhere"}, "no such folder; .*--images"),
        (["image,mos,mos", *rows("img {n:02}.jpg,{mos},1")], {}, "column 'mos' stands twice"),
        (["images"], {}, "holds no table"),
        (["image,mos", *rows("img {n:02}.jpg,{mos}")], {"weights": "imagenet", "backbone": "x"}, "no weights of 'x'"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(project, lines, options, message):
    with pytest.raises(new.NewError, match=message):
        make(project, lines, **options)
    assert list(paths.PARAMS.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbone": "resnet5000"}, BackboneError, "not a timm model"),
        ({"device": "gpu"}, ParameterError, "key 'device'"),
        ({"title": "two\nlines"}, ParameterError, "key 'title'"),
    ],
)
def test_values_that_parameters_refuse_are_refused_and_nothing_is_written(project, options, error, message):
    with pytest.raises(error, match=message):
        make(project, ["image,mos", *rows("img {n:02}.jpg,{mos}")], **options)
    assert list(paths.PARAMS.iterdir()) == []


def test_an_existing_study_is_never_overwritten_and_names_are_checked(project):
    lines = ["image,mos", *rows("img {n:02}.jpg,{mos}")]
    make(project, lines)
    before = {file: file.read_bytes() for file in paths.PARAMS.rglob("*.*")}
    with pytest.raises(new.NewError, match="params/mine exists, and is not overwritten"):
        make(project, lines, seeds=1)
    for name in ("MINE", "../mine", "a b", ""):
        with pytest.raises(new.NewError, match=r"exists|cannot be the name of a study"):
            start(name, images=str(project / "photos"), labels=str(project / "labels.csv"), **SCRATCH)
    assert {file: file.read_bytes() for file in paths.PARAMS.rglob("*.*")} == before


@pytest.mark.parametrize(("ablation", "other"), [("head", "linear"), ("share", "main_half"), ("none", None)])
def test_every_run_of_the_study_has_what_it_reads(project, ablation, other):
    make(project, ["image,mos", *rows("img {n:02}.jpg,{mos}")], seeds=2, ablation=ablation)
    runs = {(params.step, params.run): params for params in steps.all_params("mine")}
    assert {name for step, name in runs if step == "train"} == {
        f"{name}_s{seed}" for name in ("main", other) if name for seed in (1, 2)
    }
    assert {need for params in runs.values() for need in params.needs()} <= runs.keys()


def test_other_databases_that_are_here_are_for_testing(project):
    (paths.ROOT / "data/LIVE-itW").mkdir(parents=True)
    make(project, ["image,mos", *rows("img {n:02}.jpg,{mos}")])
    assert param_files.run_names("mine", "data_prep") == ["livec", "mine"]
    assert steps.load("mine", "data_prep", "livec").split == "all_test"
    assert steps.load("mine", "cross_dataset", "main").databases == ["mine", "livec"]


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((640, 480), {}, (224, 384)),
        ((300, 260), {}, (224, None)),
        ((300, 180), {}, (160, None)),
        ((640, 480), {"size": 256}, (224, 256)),
        ((96, 70), {}, (64, None)),
    ],
)
def test_crops_and_stored_size_follow_from_backbone_and_images(project, size, options, expected):
    save(project / "sized", [f"{number}.jpg" for number in range(IMAGES)], size)
    lines = ["image,mos", *rows("{n}.jpg,{mos}")]
    _, params = make(project, lines, images="sized", **{"backbone": "mobilenetv2_035"} | options)
    assert (param_files.load(TrainParams, "mine", "main_s1").crop, params.height) == expected


@pytest.mark.parametrize(
    ("backbone", "mean", "given"),
    [
        ("tf_efficientnet_lite0", [0.5, 0.5, 0.5], {"freeze_batch_norm": True, "lr": 1.5e-4}),
        ("resnet10t", [0.485, 0.456, 0.406], {"backbone_args": {}}),
        ("swin_tiny_patch4_window7_224", [0.485, 0.456, 0.406], {"backbone_args": {"strict_img_size": False}}),
    ],
)
def test_the_input_is_that_of_timms_weights(project, backbone, mean, given):
    lines = ["image,mos", *rows("img {n:02}.jpg,{mos}")]
    make(project, lines, backbone=backbone, weights="imagenet")
    params = param_files.load(TrainParams, "mine", "main_s1")
    assert params.pretrained and params.mean == mean and mismatches(params) == []
    assert {key: getattr(params, key) for key in given} == given


def test_a_file_of_weights_has_to_fit_the_backbone_and_run_and_report_tell_of_another_input(project, shared, capsys):
    lines = ["image,mos", *rows("img {n:02}.jpg,{mos}")]
    file = shared / "weights/mobilenetv2_100_imagenet.pth"
    with pytest.raises(ValueError, match="does not fit backbone 'resnet10t'"):
        make(project, lines, weights=str(file))
    make(project, lines, backbone="mobilenetv2_100", weights=str(file), mean=[0.5] * 3, std=[0.5] * 3)
    params = param_files.load(TrainParams, "mine", "main_s1")
    (told,) = mismatches(params)
    assert params.weights == str(file) and "unless the file of weights was trained otherwise" in told
    run._check_inputs(params, {})
    assert f"[train/main_s1] warning: {told}" in capsys.readouterr().err
    assert render._mismatches("mine") == [told]


def test_only_an_input_that_is_not_that_of_the_weights_is_told(project):
    plain = {"database": "a", "backbone": "tf_efficientnet_lite0", "lr": 1e-4}
    (told,) = mismatches(TrainParams(**plain, pretrained=True))
    assert "mean [0.485, 0.456, 0.406]" in told and "have [0.5, 0.5, 0.5]" in told
    assert mismatches(TrainParams(**plain)) == []
    assert mismatches(TrainParams(**plain | {"backbone": "no such"}, pretrained=True)) == []
    with pytest.raises(ValueError, match="do not fit input 'mscn'; use input: rgb"):
        TrainParams(**plain, pretrained=True, input="mscn")


@pytest.fixture
def copied(project):
    """The project with a study to copy."""
    real = type(paths.ROOT)(__file__).parents[2] / "params"
    shutil.copytree(real / "biq2021", paths.PARAMS / "biq2021")
    return project


def test_a_copy_differs_in_what_was_asked_for_alone(copied):
    start("small", source="biq2021", backbone="mobilenetv2_100", seeds=1, epochs=2, device="cpu")
    for params in steps.all_params("small"):
        if params.step == "train":
            before = param_files.load(TrainParams, "biq2021", params.run).model_dump()
            changed = {key: value for key, value in params.model_dump().items() if value != before[key]}
            assert changed == {
                **{"study": "small", "backbone": "mobilenetv2_100", "epochs": 2, "device": "cpu"},
                **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            }
    assert set(param_files.run_names("small", "train")) == {
        run for run in param_files.run_names("biq2021", "train") if run.endswith("_s1")
    }
    assert steps.load("small", "report", "report").title == "small: biq2021 with other parameters"
    assert "# batches of 16 are small for statistics" in (paths.PARAMS / "small/train.yaml").read_text()


def test_a_copy_that_does_not_fit_together_leaves_nothing(copied):
    file = paths.PARAMS / "biq2021/complexity/main.yaml"
    file.write_text("runs: [main_s2]\n")
    with pytest.raises(new.NewError, match="would lack the train run main_s2"):
        start("small", source="biq2021", seeds=1)
    (paths.PARAMS / "biq2021/train.yaml").write_text("database: biq2021\nbackbone: resnet10t\nlr: 1\nweights: a.pth\n")
    with pytest.raises(new.NewError, match="from a file; give --weights, too"):
        start("small", source="biq2021", backbone="resnet18")
    assert sorted(place.name for place in paths.PARAMS.iterdir()) == ["biq2021"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--images and --labels: needed; or name a study to copy with --from"),
        (["--images", "x"], "--labels: needed"),
        (["--from", "demo", "--low", "3"], "--low has no meaning with --from"),
        (["--from", "nothing"], "does not exist; the studies are"),
    ],
)
def test_the_command_says_what_it_lacks(project, arguments, message, capsys):
    assert cli.main(["new", "mine", *arguments]) == 1
    assert message in capsys.readouterr().err
