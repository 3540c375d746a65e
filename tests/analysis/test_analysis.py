"""Looking inside models: against numpy, values from hand and known answers; chance is found to be chance."""

import dataclasses

import notebook_section
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from matplotlib.figure import Figure
from notebook_section import run_section
from sklearn.metrics import silhouette_score

from iqa.analysis import attention, gathering, maps, residuals, weights
from iqa.analysis.gathering import Gathered
from iqa.analysis.params import AnalysisParams
from iqa.app import graph
from iqa.data import DataError, synthetic
from iqa.data.pixels import Size
from iqa.metrics import coefficients
from iqa.model import scoring
from iqa.model.hyperiqa import HyperIQA
from iqa.model.predictor import Predictor, Scale
from iqa.show import analysis
from iqa.study import param_files, paths


def look_inside(heading, *models, **values):
    """What the cells under a heading of `06_analysis` make of models `a`, `b`, ..."""
    named = dict(zip("abc", models, strict=False))
    return notebook_section.look_inside(heading, named, resamples=300, **values)


def ceiling_of(table, ratings):
    found = Gathered(table, np.zeros((len(table), 1)), None)
    return look_inside("How far from the ceiling", found, ratings=ratings)["ceiling"].set_index("what")


def separation_of(generated, table):
    found = Gathered(table, np.asarray(generated, dtype=np.float32), None)
    return look_inside("Weight space", found)["separation"]


QUICK = {"resamples": 300, "confidence": 0.95, "seed": 0}
RNG = np.random.default_rng(0)


def predictor(fusion="concat", crops="whole", patches=1) -> Predictor:
    torch.manual_seed(0)
    network = HyperIQA(tiny.PARAMS.architecture().model_copy(update={"fusion": fusion})).eval()
    options = {"input": "mscn", "crops": crops, "patches": patches, "crop": 64, "batch_size": 3, "seed": 1}
    return Predictor(
        network=network,
        name="toy/run",
        input="mscn",
        crop=64,
        size=Size(),
        scale=Scale(0, 100, True, "Tiny"),
        options=options | {"precision": "32-true"},
    )


def labelled(n=200, contents=40, seed=0, **columns) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(n)], "mos": rng.uniform(0, 100, n)})
    table = table.assign(reference=np.arange(n) % contents, distortion="blur", level=np.nan, mos_std=np.nan)
    table = table.assign(good=table["mos"] / 100, height=48, width=64, prediction=table["mos"], residual=0.0)
    return table.assign(**columns)


# one pass


@pytest.mark.parametrize(("crops", "patches"), [("whole", 1), ("center", 1), ("grid", 4), ("random", 3)])
def test_scores_are_those_of_inference_and_weights_are_means_over_the_patches(crops, patches):
    model, database = predictor("attention", crops, patches), tiny.database(24, ((72, 96), (80, 72)))
    found = gathering.gather(model, database)
    indices = database.indices("test")
    scores = scoring.score(model.network, database, indices, **model.options)
    np.testing.assert_array_equal(found.table["prediction"], database.denormalise(scores))
    assert found.weights.shape[0] == len(indices) == len(found.scales)
    np.testing.assert_allclose(found.scales.sum(axis=1), 1, atol=1e-6)
    one = dataclasses.replace(model, options=model.options | {"batch_size": 1})
    alone = gathering.gather(one, database)
    np.testing.assert_allclose(found.weights, alone.weights, atol=1e-5)
    assert set(map(tuple, found.table[["height", "width"]].to_numpy())) == {(72, 96), (80, 72)}


def test_a_model_that_does_not_weigh_the_scales_has_no_attention():
    found = gathering.gather(predictor("last"), tiny.database(16))
    assert found.scales is None
    weighed = look_inside("Attention over the scales", found, attention=None)
    assert weighed["in_bands"].empty and weighed["claim"].empty
    assert isinstance(analysis.attention(weighed["in_bands"]), Figure)


def test_scores_where_lower_is_better_are_turned_for_the_quality():
    table = gathering.gather(predictor(), tiny.database(16, up=False)).table
    np.testing.assert_allclose(table["good"], 1 - table["mos"] / 100)


# weight space


def test_components_are_those_of_a_singular_value_decomposition():
    generated = RNG.normal(size=(30, 200)) @ np.diag(np.linspace(0.1, 2, 200))
    coordinates, share = weights.pca(generated)
    left, values, _ = np.linalg.svd(generated - generated.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(share, values**2 / np.sum(values**2), atol=1e-10)
    wanted = left * values / np.sqrt(np.mean(np.sum((generated - generated.mean(axis=0)) ** 2, axis=1)))
    np.testing.assert_allclose(np.abs(coordinates[:, :5]), np.abs(wanted[:, :5]), atol=1e-8)
    assert np.mean(np.sum(coordinates**2, axis=1)) == pytest.approx(1)


def test_the_units_of_the_weights_do_not_matter_and_equal_weights_have_no_components():
    generated = RNG.normal(size=(20, 50))
    np.testing.assert_allclose(weights.pca(generated)[1], weights.pca(1000 * generated)[1], atol=1e-10)
    coordinates, share = weights.pca(np.full((20, 50), 0.3, np.float32))
    assert not coordinates.any() and not share.any()


def test_components_are_turned_towards_the_quality():
    space = look_inside("Weight space", tiny.gathered())
    points, variance = space["points"], space["variance"]
    assert points["pc1"].corr(points["good"]) > 0.9 and points["pc2"].corr(points["good"]) > -1e-9
    assert variance["component"].tolist() == [1, 2, 3, 4, 5] and variance["explained"].is_monotonic_decreasing


def of(table, of, measure):
    return table[(table["of"] == of) & (table["measure"] == measure)].iloc[0]


def test_what_lies_in_the_weights_is_found_above_chance():
    found = tiny.gathered()
    table = look_inside("Weight space", found)["separation"]
    assert of(table, "quality", "probe SRCC")["value"] > 0.95
    told = of(table, "distortion", "probe accuracy")
    assert told["value"] > 0.95 and told["chance"] == pytest.approx(1 / 3) and told["verdict"] == "above chance"
    direct = silhouette_score(found.weights, found.table["distortion"])
    assert of(table, "distortion", "silhouette")["value"] == pytest.approx(direct, abs=1e-5)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()


def test_what_does_not_lie_in_the_weights_is_not_distinguishable_from_chance():
    verdicts = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        table = labelled(seed=seed, distortion=rng.choice(["blur", "noise"], 200))
        rows = separation_of(rng.normal(size=(200, 60)), table)
        assert abs(of(rows, "quality", "probe SRCC")["value"]) < 0.25
        verdicts += [of(rows, "quality", "probe SRCC")["verdict"], of(rows, "distortion", "probe accuracy")["verdict"]]
    assert verdicts.count("not distinguishable") >= 6 and "above chance" not in verdicts


def test_a_content_is_held_out_as_a_whole():
    """Contents with a MOS and a place of their own: nothing carries over from one to another."""
    rng = np.random.default_rng(1)
    content = np.repeat(np.arange(20), 10)
    mos = rng.uniform(0, 100, 20)[content] + rng.normal(0, 1, 200)
    generated = np.eye(20)[content] + rng.normal(0, 0.01, (200, 20))
    space, _ = weights.pca(generated)
    by_content = weights.quality_probe(space, mos, content, **QUICK)
    by_image = weights.quality_probe(space, mos, np.arange(200), **QUICK)
    assert by_image["value"] > 0.9 and abs(by_content["value"]) < 0.6
    told = weights.class_probe(space, pd.Series(content), content, **QUICK, by_content=False)
    assert told["value"] == 1 and told["classes"] == 20 and told["chance"] == pytest.approx(0.05)


def test_classes_that_a_database_does_not_tell_have_a_reason():
    table = labelled(n=30, contents=30)
    generated = RNG.normal(size=(30, 8))
    rows = separation_of(generated, table)
    assert of(rows, "content", "silhouette")["reason"] == "the database shows no content twice"
    assert of(rows, "distortion", "probe accuracy")["reason"] == "the database tells 1 kind of distortion"
    rows = separation_of(generated[:4], table.iloc[:4])
    assert of(rows, "quality", "probe SRCC")["reason"] == "4 contents are too few for 5 folds"
    rows = separation_of(np.ones((30, 8)), table)
    assert rows["value"].isna().all() and rows["reason"].notna().all()


# attention


def test_bands_hold_about_equally_many_images_and_equal_values_together():
    assert gathering.band([1, 2, 3, 4, 5, 6], 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert gathering.band([1, 1, 1, 1, 5, 6], 3).tolist() == [0, 0, 0, 0, 1, 1]
    assert gathering.band([2, 2, 2], 5).tolist() == [0, 0, 0]


def test_entropy_is_one_for_even_weights_and_zero_for_one_scale_alone():
    np.testing.assert_allclose(attention.entropy(np.array([[0.25] * 4, [0, 0, 1, 0]])), [1, 0], atol=1e-9)


def test_means_of_bands_are_those_by_hand():
    found = tiny.gathered()
    rows = pd.DataFrame(attention.attention_bands(found, 4, **QUICK))
    worst = rows[(rows["band"] == 1) & (rows["quantity"] == "scale 4")].iloc[0]
    own = found.table["good"] <= found.table["good"].quantile(0.25)
    assert worst["n"] == own.sum() == 30
    assert worst["mean"] == pytest.approx(found.scales[own, 3].mean())
    assert worst["low"] < worst["mean"] < worst["high"]
    assert (worst["from"], worst["to"]) == (0, pytest.approx(found.table["mos"][own].max()))
    assert rows[rows["quantity"] == "deep"]["mean"].is_monotonic_increasing


def verdicts(scales, table=None) -> dict[str, str]:
    table = tiny.gathered().table if table is None else table
    rows = attention.attention_tests(Gathered(table, np.zeros((len(table), 1)), scales), 5, **QUICK)
    return {row["part"]: row["verdict"] for row in rows}


def test_the_statement_holds_for_weights_that_follow_it_and_fails_for_the_contrary():
    found = tiny.gathered()
    assert set(verdicts(found.scales).values()) == {"holds"}
    contrary = verdicts(found.scales[:, ::-1])  # the finest scale rises with the quality
    assert contrary["deep weight against quality"] == contrary["the claim as a whole"] == "does not hold"
    assert contrary["entropy against quality"] == "holds"


def test_weights_that_do_not_depend_on_the_quality_rarely_decide_anything():
    found = [verdicts(np.random.default_rng(seed).dirichlet([8, 8, 8, 8], 120)) for seed in range(20)]
    for part in ("deep weight against quality", "entropy against quality"):
        assert sum(each[part] == "not distinguishable" for each in found) >= 16  # 19 of 20 are expected


def test_the_slope_is_that_of_numpy():
    x, y = RNG.uniform(size=50), RNG.uniform(size=50)
    slope, resampled = attention.slope(x, y, np.arange(50), 200, 0)
    assert slope == pytest.approx(np.polyfit(x, y, 1)[0])
    assert resampled.std() == pytest.approx(y.std() / x.std() / np.sqrt(50), rel=0.3)


# errors


def test_bias_and_mean_absolute_error_of_groups_are_those_by_hand():
    table = labelled(distortion=np.tile(["blur", "noise"], 100))
    table["residual"] = np.where(table["distortion"] == "blur", 2.0, -4.0)
    found = look_inside("Errors", Gathered(table, np.zeros((200, 1)), None))
    rows, left_out = found["errors"], found["left_out"]
    everything = rows.iloc[0]
    assert (everything["by"], everything["n"], everything["bias"], everything["mae"]) == ("all", 200, -1, 3)
    kinds = rows[rows["by"] == "distortion"].set_index("value")
    assert kinds.loc["blur", "bias"] == 2 and kinds.loc["noise", "mae"] == 4
    assert kinds["verdict"].to_dict() == {"blur": "too high", "noise": "too low"}
    assert set(left_out) == {"rating deviation", "level", "size"}
    assert left_out["size"] == "the same for all images (48 x 64)"
    assert len(rows[rows["by"] == "MOS"]) == 5 and rows[rows["by"] == "MOS"]["n"].eq(40).all()


def test_many_sizes_are_cut_into_bands_and_many_distortions_are_left_out():
    table = labelled(width=np.arange(200) + 50, distortion=[f"kind {i}" for i in range(200)])
    kept, left_out = residuals.groups_of(table, 5)
    assert kept["size"].nunique() == 5 and kept["size"].str.endswith(" pixels").all()
    assert left_out["distortion"] == "200 different values, which are no kinds"


def test_the_worst_and_best_cases_are_those_with_the_largest_and_smallest_errors():
    table = labelled(n=10, contents=10, residual=[0, -9, 1, 2, 8, 3, -4, 5, 6, 7.0])
    found = residuals.cases(table, 2)
    assert found["image"].tolist() == ["1.png", "4.png", "0.png", "2.png"]
    assert found["kind"].tolist() == ["worst", "worst", "best", "best"]
    assert len(residuals.cases(table.iloc[:3], 12)) == 2
    assert residuals.chosen(table, [])["image"].tolist() == ["0.png", "7.png", "1.png"]
    assert residuals.chosen(table, ["3.png", "2.png"]).index.tolist() == [3, 2]
    with pytest.raises(DataError, match=r"key 'images': not among the test images: x\.png"):
        residuals.chosen(table, ["x.png"])


# the ceiling


def test_the_simulated_ceiling_is_that_of_the_noise_that_was_added():
    """True means, ratings drawn around them: the simulation sees the MOS and the deviations only."""
    rng = np.random.default_rng(2)
    true = rng.uniform(20, 80, 1500)
    ratings = true[:, None] + rng.normal(0, 30, (1500, 12))
    table = labelled(n=1500, contents=1500, mos=ratings.mean(axis=1), mos_std=ratings.std(axis=1, ddof=1))
    table["prediction"] = true
    rows = ceiling_of(table, 12)
    for name in ("srcc", "plcc"):
        assert rows.loc["simulated", name] == pytest.approx(rows.loc["model", name], abs=0.012)
    assert rows.loc["simulated", "plcc"] == pytest.approx(np.sqrt(rows.loc["simulated", "reliability"]), abs=2e-3)
    assert rows.loc["simulated", "srcc_low"] < rows.loc["simulated", "srcc"] < rows.loc["simulated", "srcc_high"]


def test_a_ceiling_that_cannot_be_had_says_why():
    def reason(ratings=10, **columns):
        return ceiling_of(labelled(**columns), ratings).loc["simulated", "reason"]

    assert reason() == "the database gives no deviation of the ratings"
    assert "parameter 'ratings'" in reason(None, mos_std=10.0)
    assert "exceeds the spread of the MOS" in reason(1, mos_std=500.0)
    rows = ceiling_of(labelled(quality=np.arange(200.0)), None)
    assert np.isfinite(rows.loc["known", "srcc"]) and pd.isna(rows.loc["known", "reason"])


def test_the_ceiling_of_the_model_is_the_agreement_of_its_scores():
    table = tiny.gathered().table
    rows = ceiling_of(table, 30)
    assert rows.loc["model", "srcc"] == coefficients.srcc(table["prediction"], table["mos"])
    assert rows.loc["known", "srcc"] > rows.loc["model", "srcc"]


def test_studies_on_synthetic_data_know_how_many_observers_were_simulated():
    for study in ("demo", "demo-full", "smoke"):
        assert param_files.load(AnalysisParams, study, "main").ratings == synthetic.OBSERVERS


# maps


@pytest.mark.parametrize(("crops", "shape"), [("whole", (72, 96)), ("grid", (64, 64))])
def test_maps_are_of_the_image_or_of_its_centre_crop(tmp_path, crops, shape):
    from PIL import Image

    file = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 255, (72, 96, 3), dtype=np.uint8)).save(file)
    model = predictor(crops=crops, patches=4)
    row = {"image": "a.png", "why": "chosen", "mos": 1.0, "prediction": 2.0}
    features = maps.feature_maps(model, file, row)
    assert features.image.shape[:2] == shape and len(features.maps) == 4
    assert features.maps[0].shape == (shape[0] // 4, shape[1] // 4)
    quality = maps.quality_map(model, file, row)
    assert quality.image.shape == (72, 96, 3) and quality.maps[0].shape == (72, 96)
    assert isinstance(analysis.maps([quality], "bright: good"), Figure)


# figures and parameters


@pytest.mark.parametrize("models", [1, 2, 3])
def test_the_weight_space_has_a_column_per_model_on_the_same_axes(models):
    space = look_inside("Weight space", *(tiny.gathered() for _ in range(models)))
    points, variance = space["points"], space["variance"]
    axes = [ax for ax in analysis.weight_space(points, variance).axes if ax.get_label() != "<colorbar>"]
    assert len(axes) == 2 * models and len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    plain = analysis.weight_space(points.assign(distortion="authentic", reference=points["image"]), variance)
    assert len([ax for ax in plain.axes if ax.get_label() != "<colorbar>"]) == models


def test_rare_kinds_share_a_marker():
    points = look_inside("Weight space", tiny.gathered())["points"]
    points["distortion"] = [f"kind {i % 9}" for i in range(len(points))]
    assert analysis._kinds(points)[1].nunique() == analysis.KINDS
    assert "4 others" in set(analysis._kinds(points)[1])


def test_errors_are_drawn_without_deviations_and_without_kinds():
    for synthetic_data in (True, False):
        found = tiny.gathered(synthetic=synthetic_data)
        figure = analysis.errors(found.table, look_inside("Errors", found)["errors"])
        assert len(figure.axes) == (3 if synthetic_data else 1)


def test_a_run_that_is_its_own_reference_is_looked_at_once():
    params = AnalysisParams(database="demo", reference="main_s1", attention=None)
    assert params.train_runs() == ["main_s1"]
    assert params.needs() == [("train", "main_s1"), ("data_prep", "demo")]


def test_a_report_without_training_looks_into_what_is_finished(tmp_path, monkeypatch):
    for name in ("RESULTS", "PARAMS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    shared = "database: demo\nbackbone: resnet10t\nlr: 2.0e-3\n"
    named = {
        "train": shared,
        "data_prep/demo": "reader: synthetic\nscale: 0.1",
        "train/main_s1": "seed: 1",
        "train/attention_s1": "fusion: attention",
    }
    for run, text in {**named, "analysis/main": "database: demo\nreference: main_s1\nattention: attention_s1"}.items():
        file = paths.PARAMS / "toy" / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    for run in ("data_prep/demo", "train/main_s1"):
        folder = paths.RESULTS / "toy" / run
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
    (job,) = [job for job in graph.jobs("toy", train=False) if job.step == "analysis"]
    assert job.inputs == []  # what is trained and prepared is taken as it is
    (job,) = [job for job in graph.jobs("toy") if job.step == "analysis"]
    assert any(mark.endswith("train/attention_s1") for mark in job.inputs)
    assert job.due and job.mark.endswith("analysis/main")


def test_one_model_alone_and_models_that_are_not_trained_stand_in_the_table():
    model, waiting = predictor("attention"), {"other": "iqa run toy/train/other"}
    found = {"run": gathering.gather(model, tiny.database(16))}
    names = {"gathered": found, "models": {"run": model}, "waiting": waiting}
    table = run_section("06_analysis.ipynb", "The models", **names)["table"]
    assert table["status"].tolist() == ["finished", "not run"] and table["fusion"].iloc[0] == "attention"
    assert table["command"].iloc[1] == "iqa run toy/train/other"
