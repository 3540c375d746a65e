"""Figures: drawn from frames, complete, and without a trace in pyplot."""

import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from finished import KEPT
from matplotlib.figure import Figure

from iqa.show import ablation, common, complexity, cross_dataset, data_prep, scatter, style, train

RNG = np.random.default_rng(0)
PREDICTIONS = pd.DataFrame({"mos": np.linspace(1, 5, 40), "prediction": np.linspace(1, 5, 40) * 2 - 3})
TABLE = pd.DataFrame({"mos": RNG.uniform(1, 5, 90), "split": ["train"] * 60 + ["test"] * 30})
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3, 2, 1], "val_loss": [3, 2, 2.5]})
for column in ("train_srcc", "val_srcc", "train_plcc", "val_plcc"):
    HISTORY[column] = [0.1, 0.8, 0.7]

ABLATION = pd.DataFrame(
    {
        "label": ["reference", "fusion: last", "rank_weight: 0.0", "rank_weight: 1.0", "a_long_name_" * 5],
        "rank_weight": [0.3, np.nan, 0.0, 1.0, 2.0],
        "srcc_mean": [0.91, 0.905, 0.85, 0.95, np.nan],
        "srcc_std": [0.004, np.nan, 0.005, 0.003, np.nan],
        "val_srcc_mean": [0.92, 0.915, 0.86, 0.96, np.nan],
        "chosen_on": ["validation", "validation", "validation", "TEST", "validation"],
        "verdict": ["reference", "not distinguishable", "worse", "better", "not run"],
        "command": ["", "", "", "", "iqa run demo/train/a_long_name_s1 demo/train/a_long_name_s2"],
    }
)
ABLATION = ABLATION.assign(seeds=[3, 3, 3, 2, 0], delta=ABLATION["srcc_mean"] - 0.91)
POWER = pd.DataFrame(
    [
        (label, n, p, 0.04 * p / n)
        for label in ABLATION["label"][1:4]
        for n in range(2, 21)
        for p in (0.2, 0.5, 0.8, 0.9)
    ],
    columns=["label", "seeds", "power", "detectable"],
)
ABLATION = ABLATION.assign(srcc_low=ABLATION["srcc_mean"] - 0.01, srcc_high=ABLATION["srcc_mean"] + 0.02)
GROUPS = ["reference", *(f"fusion: {name}" for name in "abcde"), "one more than fits"]
DYNAMICS = pd.DataFrame(
    [
        (label, quantity, epoch, 0.1 * epoch + 0.01 * place)
        for place, label in enumerate(GROUPS)
        for quantity in ("train_loss", "val_loss", "val_srcc", "val_plcc")
        for epoch in range(1, 9)
    ],
    columns=["label", "quantity", "epoch", "mean"],
)
DYNAMICS = DYNAMICS.assign(min=DYNAMICS["mean"] - 0.02, max=DYNAMICS["mean"] + 0.03)
MONITORED = pd.concat(
    [
        DYNAMICS[DYNAMICS["quantity"].isin(["val_srcc", "val_plcc"])].replace(
            {"quantity": {"val_srcc": f"{name}_srcc", "val_plcc": f"{name}_plcc"}}
        )
        for name in ("test", "demo_photos")
    ]
)
PAIRS = {f"group {name}": PREDICTIONS * factor for name, factor in zip("abcd", (1, 0.5, 1, 2), strict=True)}
CROSS = pd.DataFrame(
    [(f"model {m}", title, 0.9 - 0.1 * d - 0.02 * m) for m in range(3) for d, title in enumerate(["D1", "D2"])],
    columns=["model", "title", "srcc"],
).assign(available=True)
CROSS = pd.concat([CROSS, CROSS[CROSS["title"] == "D2"].assign(title="D3", srcc=np.nan, available=False)])
CROSS = CROSS.assign(srcc_low=CROSS["srcc"] - 0.05, srcc_high=CROSS["srcc"] + 0.02)
SWEEP = ABLATION.dropna(subset="rank_weight").sort_values("rank_weight")
CURVE = ABLATION.iloc[[1, 2, 0]].assign(train_share=[0.125, 0.5, 1.0], images=[158, np.nan, 1260])
FRAMES = {"PREDICTIONS": PREDICTIONS, "TABLE": TABLE, "HISTORY": HISTORY, "ABLATION": ABLATION, "DYNAMICS": DYNAMICS}
FRAMES |= {"CROSS": CROSS, "SWEEP": SWEEP, "POWER": POWER}


def timed(models: int, sizes=(1, 8, 64)) -> pd.DataFrame:
    """Times on two devices with four settings; the largest batch of the second model does not fit."""
    frame = pd.DataFrame({"run": [f"swin_base_with_a_long_name_{i}" for i in range(models)], "ms": 3.0})
    frame["ms"] *= 1 + frame.index
    devices = pd.DataFrame({"device": ["cpu", "A100"], "hardware": ["A processor (R), 1 thread", "A100"], "by": [9, 1]})
    for other in (
        devices,
        pd.DataFrame({"precision": ["32-true", "bf16-mixed"]}),
        pd.DataFrame({"compiled": [False, True]}),
        pd.DataFrame({"batch_size": sizes}),
    ):
        frame = frame.merge(other, how="cross")
    time = frame["ms"] * frame["by"] * frame["batch_size"] ** 0.9
    time = time.mask(frame["run"].str.endswith("_1") & (frame["batch_size"] == sizes[-1]) & (len(sizes) > 1))
    frame = frame.assign(median_ms=time, min_ms=time * 0.9, p95_ms=time * 1.2)
    frame["images_per_second"] = 1000 * frame["batch_size"] / time
    return frame.assign(reason=["memory: full" if np.isnan(value) else "" for value in time])


def costs(models: int) -> pd.DataFrame:
    """Costs of models, the first measured and published twice, the second not run."""
    count = np.arange(models)
    srcc = np.where(count == 1, np.nan, 0.8 + 0.01 * count)
    return pd.DataFrame(
        {
            "run": [f"swin_base_{i}" for i in count],
            "parameters": 5e6 * (1 + count),
            "macs_torch": 4e8 * 1.6**count,
            "latency_ms": 5.0 + 4 * count,
            "hardware": "A processor (R) of some kind, 1 thread",
            "srcc": srcc,
            "srcc_low": srcc - 0.02,
            "srcc_high": srcc + 0.01,
            "published_srcc": ["(1) 0.9009 (2) 0.9012", *[np.nan] * (models - 1)],
            "status": np.where(count == 1, "not run", "finished"),
        }
    )


def described(name: str) -> dict:
    """A description of a model, as the training step wrote it."""
    return json.loads((KEPT / "train/main_s1" / f"{name}.json").read_text())


DRAWN = {
    "mos_histogram": lambda: data_prep.mos_histogram(TABLE, 1, 5),
    "sample_images": lambda: common.sample_images([np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9))], ["a", "b"]),
    "training_curves": lambda: train.training_curves(HISTORY),
    "prediction_scatter": lambda: train.prediction_scatter(PREDICTIONS, 1, 5, "title"),
    "scatter_grid": lambda: cross_dataset.scatter_grid({name: (PREDICTIONS, 1, 5) for name in "abcd"}),
    "ablation_forest": lambda: ablation.ablation_forest(ABLATION),
    "power_curves": lambda: ablation.power_curves(POWER, ABLATION),
    "compare_trainings": lambda: ablation.compare_trainings(DYNAMICS),
    "monitored": lambda: ablation.monitored(pd.concat([DYNAMICS, MONITORED])),
    "learning curve": lambda: ablation.sensitivity(CURVE, "train_share"),
    "monitored curves": lambda: train.training_curves(HISTORY.assign(test_srcc=0.6, test_plcc=0.5, live_srcc=0.4)),
    "scatter_pairs": lambda: ablation.scatter_pairs(PAIRS),
    "sensitivity": lambda: ablation.sensitivity(SWEEP, "rank_weight"),
    "compare_evaluations": lambda: cross_dataset.compare_evaluations(CROSS),
    "latency": lambda: complexity.latency(timed(2)),
    "latency of ten": lambda: complexity.latency(timed(10)),
    "throughput": lambda: complexity.throughput(timed(2)),
    "throughput of ten": lambda: complexity.throughput(timed(10)),
    "tradeoff": lambda: complexity.tradeoff(costs(2)),
    "tradeoff of ten": lambda: complexity.tradeoff(costs(10)),
    "architecture": lambda: train.architecture(described("architecture")),
    "before_after": lambda: train.before_after(described("architecture_before"), described("architecture")),
}


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_drawn_without_touching_pyplot_the_style_or_its_data(name, tmp_path):
    from matplotlib import pyplot

    before, copies = dict(mpl.rcParams), {key: frame.copy() for key, frame in FRAMES.items()}
    figure = DRAWN[name]()
    figure.savefig(tmp_path / "figure.svg")
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert figure.get_figwidth() <= style.WIDTH
    for key, frame in FRAMES.items():
        pd.testing.assert_frame_equal(frame, copies[key])


def test_scatter_shows_every_prediction_unscaled_even_outside_the_range():
    ax = train.prediction_scatter(PREDICTIONS, 1, 5).axes[0]
    points = ax.collections[0].get_offsets()
    assert np.allclose(points, PREDICTIONS[["mos", "prediction"]])
    assert ax.get_xlim() == ax.get_ylim() and ax.get_aspect() == 1
    assert ax.get_ylim()[0] < PREDICTIONS["prediction"].min() and ax.get_ylim()[1] > PREDICTIONS["prediction"].max()


def test_a_scatter_of_many_images_is_no_larger_as_svg_than_one_of_few(tmp_path):
    def size(images):
        values = np.random.default_rng(0).uniform(1, 5, (images, 2))
        figure = train.prediction_scatter(pd.DataFrame(values, columns=["mos", "prediction"]), 1, 5)
        figure.savefig(tmp_path / "scatter.svg")
        return (tmp_path / "scatter.svg").stat().st_size

    few, many = size(scatter.MANY_POINTS), size(4 * scatter.MANY_POINTS)
    assert many < few


def test_scatter_prints_agreement_and_count():
    shown = texts(train.prediction_scatter(PREDICTIONS, 1, 5))
    assert "SRCC 1.000" in shown and "PLCC 1.000" in shown and "n = 40" in shown


def test_grid_has_a_panel_for_each_database():
    figure = DRAWN["scatter_grid"]()
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.axison] == list("abcd")


def test_a_grid_without_a_database_says_so():
    assert texts(cross_dataset.scatter_grid({})) == "no database was available"


def test_the_curves_of_power_mark_what_was_measured_and_say_if_nothing_is_known():
    left, right = ablation.power_curves(POWER, ABLATION).axes
    assert [round(float(line.get_xdata()[0])) for line in left.lines[1::2]] == [3, 3, 2]
    assert left.lines[1].get_xdata()[0] != left.lines[3].get_xdata()[0]  # side by side
    assert np.allclose([line.get_ydata()[0] for line in left.lines[1::2]], ABLATION["delta"].abs()[1:4])
    assert [text.get_text() for text in right.get_legend().get_texts()] == [f"{n} seeds" for n in (2, 3, 5, 10, 20)]
    assert "the noise of trainings is unknown" in texts(ablation.power_curves(POWER.iloc[:0], ABLATION))


def test_the_heat_map_shows_every_pair_and_what_is_not_available():
    rows = [("a", "D1", 0.9), ("a", "D2", np.nan), ("b", "D1", 0.25), ("b", "D2", np.nan)]
    cross = pd.DataFrame(rows, columns=["model", "title", "srcc"]).assign(trained_on="T")
    shown = texts(cross_dataset.cross_heatmap(cross))
    assert shown.count("0.900") == shown.count("0.250") == 1
    assert shown.count("not\navailable") == 2
    assert all(name in shown for name in ("a\n(T)", "b\n(T)", "D1", "D2"))


def test_histogram_shares_of_each_split_add_up_to_all_images():
    for ax in data_prep.mos_histogram(TABLE, 1, 5).axes:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100)


def test_curves_mark_the_best_epoch():
    assert "best: 2" in texts(train.training_curves(HISTORY))
    assert "best: 3" in texts(train.training_curves(HISTORY, best_epoch=3))


def test_monitored_test_images_have_lines_that_are_named():
    shown = texts(train.training_curves(HISTORY.assign(test_srcc=0.6, test_plcc=0.5, live_srcc=0.4, live_plcc=0.4)))
    assert shown.count("TEST") == shown.count("live (test)") == 2
    shown = texts(ablation.monitored(MONITORED[MONITORED["label"] == "reference"]))
    assert "SRCC, monitored on TEST" in shown and "reference on demo_photos" in shown


def test_a_learning_curve_has_shares_and_numbers_of_images_on_a_logarithmic_axis():
    ax = DRAWN["learning curve"]().axes[0]
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1/8\n158", "1/2", "1\n1,260"]
    assert "number of training images" in ax.get_xlabel()


def test_samples_show_every_image_in_the_last_row_too():
    figure = common.sample_images([np.zeros((4, 4, 3), np.uint8)] * 8, [str(i) for i in range(8)])
    assert sum(len(ax.images) for ax in figure.axes) == 8
    with pytest.raises(ValueError, match="one label each"):
        common.sample_images([np.zeros((4, 4))], [])


NEW = [
    "monitored",
    "learning curve",
    "ablation_forest",
    "compare_trainings",
    "scatter_pairs",
    "sensitivity",
    "compare_evaluations",
]
NEW += [name for name in DRAWN if name.startswith(("latency", "throughput", "tradeoff"))]


@pytest.mark.parametrize("name", NEW)
def test_no_text_of_a_comparison_leaves_the_page_or_covers_another(name):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = DRAWN[name]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [text for text in figure.findobj(mpl.text.Text) if text.get_text().strip() and text.get_visible()]
    boxes = {text: text.get_window_extent(canvas.get_renderer()) for text in found}
    ticks = [label for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) for label in axis.get_ticklabels()]
    for text, box in boxes.items():
        if text not in ticks:  # matplotlib keeps labels of ticks beyond the limits, and does not draw them
            assert box.x0 >= -1 and box.y0 >= -1, text
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, text
    plain = [box for text, box in boxes.items() if text not in ticks]
    for place, box in enumerate(plain):
        assert not any(box.overlaps(other) for other in plain[:place])


def test_forest_names_every_group_and_verdict():
    shown = texts(DRAWN["ablation_forest"]())
    for text in ("reference", "fusion: last", "rank_weight: 0.0", "not distinguishable", "worse", "better"):
        assert text in shown


def test_forest_draws_no_mark_for_what_was_not_run_but_its_command():
    figure = DRAWN["ablation_forest"]()
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None, "")]
    assert len(marks) == (ABLATION["verdict"] != "not run").sum()
    shown = " ".join(texts(figure).split())
    assert "not run" in shown
    assert "make it with: iqa run demo/train/a_long_name_s1 demo/train/a_long_name_s2" in shown


def test_forest_flags_a_choice_on_the_test_images_in_words_and_by_a_hollow_mark():
    figure = DRAWN["ablation_forest"]()
    assert texts(figure).count("epoch chosen on TEST") == 1
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [0.95]


def test_trainings_show_mean_and_band_of_the_first_six_groups_by_different_lines_and_markers():
    figure = DRAWN["compare_trainings"]()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["training loss", "validation SRCC", "validation PLCC"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == GROUPS[:6]
    for ax in figure.axes:
        assert len(ax.lines) == len(ax.collections) == 6
        assert len({line.get_marker() for line in ax.lines}) == 6
    assert len({str(look["linestyle"]) for look in common.LOOKS}) == len(common.LOOKS) == 6
    own = DYNAMICS[(DYNAMICS["label"] == "fusion: a") & (DYNAMICS["quantity"] == "val_srcc")]
    assert np.allclose(figure.axes[1].lines[1].get_ydata(), own["mean"])
    band = figure.axes[1].collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (own["min"].min(), own["max"].max())


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pairs_share_one_square_scale_that_shows_every_prediction(count):
    figure = ablation.scatter_pairs(dict(list(PAIRS.items())[:count]))
    panels = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in panels] == list(PAIRS)[:count]
    assert len({(*ax.get_xlim(), *ax.get_ylim()) for ax in panels}) == 1
    for ax, predictions in zip(panels, PAIRS.values(), strict=False):
        assert np.allclose(ax.collections[0].get_offsets(), predictions[["mos", "prediction"]])
        assert ax.get_xlim() == ax.get_ylim() and ax.get_aspect() == 1
        assert ax.get_xlim()[0] < predictions.min(axis=None) and ax.get_xlim()[1] > predictions.max(axis=None)


def test_figures_of_trainings_of_which_none_is_finished_say_so():
    columns = ["group", "label", "differs", "quantity", "epoch", "seeds", "mean", "min", "max"]
    for figure in (ablation.scatter_pairs({}), ablation.compare_trainings(pd.DataFrame(columns=columns))):
        assert figure.texts[0].get_text() == "no training of this table is finished"


def sweep(*values):
    """A comparison over values of a parameter, the first of which is the reference's."""
    rows = ABLATION.iloc[[0] + [1] * (len(values) - 1)].reset_index(drop=True)
    return rows.assign(lr=values).sort_values("lr")


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((1e-6, 1e-7, 5e-6), "log"),
        ((0.3, 0.1, 0.5), "linear"),
        ((0.3, 0.0, 0.1, 2.0), "symlog"),
        ((0.3, 0.0, 0.5), "linear"),
        ((0.1, 1.0), "linear"),
        ((10.0, -1.0, 100.0), "linear"),
        ((0.3,), "linear"),
    ],
)
def test_sensitivity_is_logarithmic_where_values_span_more_than_tenfold(values, scale):
    figure = ablation.sensitivity(sweep(*values), "lr")
    ax = figure.axes[0]
    assert ax.get_xscale() == scale
    assert ax.get_xticks().tolist() == sorted(values)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [f"{value:g}" for value in sorted(values)]
    low, high = ax.get_xlim()
    assert low < min(values) and max(values) < high


def test_zero_stands_apart_from_the_smallest_value_on_a_logarithmic_axis():
    figure = ablation.sensitivity(sweep(0.3, 0.0, 0.1, 2.0), "lr")
    ax = figure.axes[0]
    places = [ax.transData.transform((value, 0.9))[0] for value in (0.0, 0.1, 0.3, 2.0)]
    assert np.isfinite(places).all() and min(np.diff(places)) > 20


def test_sensitivity_marks_the_reference_and_says_what_was_not_run():
    figure = DRAWN["sensitivity"]()
    ax = figure.axes[0]
    ring = next(line for line in ax.lines if line.get_label() == "reference")
    assert ring.get_xdata().tolist() == [0.3] and ring.get_ydata().tolist() == [0.91]
    assert [text.get_position()[0] for text in ax.texts if text.get_text() == "not run"] == [2.0]
    assert "validation (decides)" in texts(figure)
    intervals = ax.collections[0].get_segments()
    assert np.allclose([line[:, 1] for line in intervals], [[0.84, 0.87], [0.9, 0.93], [0.94, 0.97]])


def test_evaluations_show_each_model_on_each_database_with_its_interval():
    figure = DRAWN["compare_evaluations"]()
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["D1", "D2", "D3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["model 0", "model 1", "model 2"]
    points = [container.lines[0] for container in ax.containers]
    assert np.allclose([point.get_xdata() for point in points], [[0.9, 0.8], [0.88, 0.78], [0.86, 0.76]])
    assert len({point.get_marker() for point in points}) == 3
    assert [text.get_position()[1] for text in ax.texts if text.get_text() == "not available"] == [2]
    spans = [container.lines[2][0].get_segments()[0][:, 0] for container in ax.containers]
    assert np.allclose(spans, [[0.85, 0.92], [0.83, 0.9], [0.81, 0.88]])


def test_a_model_without_results_is_named_as_such():
    lacking = CROSS["model"] == "model 1"
    cross = CROSS.assign(available=CROSS["available"] & ~lacking)
    shown = [text.get_text() for text in cross_dataset.compare_evaluations(cross).legends[0].get_texts()]
    assert shown == ["model 0", "model 1 (no results)", "model 2"]


def test_latency_shows_one_image_of_each_model_with_each_setting_on_each_device():
    figure = DRAWN["latency"]()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["A processor (R), 1 thread", "A100"]
    settings = ["32-true", "32-true, compiled", "bf16-mixed", "bf16-mixed, compiled"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == settings
    marks = [line.get_xdata() for line in figure.axes[0].lines]
    assert np.allclose(marks, [[27, 54]] * 4)


def test_latency_names_why_there_is_no_mark():
    frame = timed(1, sizes=(1,)).assign(median_ms=np.nan, min_ms=np.nan, p95_ms=np.nan, reason="time: too long")
    assert texts(complexity.latency(frame)).count("time") == 8


def test_throughput_has_a_line_per_model_and_a_cross_where_a_batch_did_not_fit():
    figure = DRAWN["throughput of ten"]()
    assert len(figure.axes) == 8
    for ax in figure.axes:
        lines = [line for line in ax.lines if line.get_marker() != "x"]
        assert len(lines) == 10 and len({(str(line.get_linestyle()), line.get_color()) for line in lines}) == 10
        (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
        assert cross.get_xdata().tolist() == [64]
    assert len(figure.legends[0].get_texts()) == 10


@pytest.mark.parametrize("draw", [complexity.latency, complexity.throughput])
def test_one_model_with_one_batch_is_drawn_too(draw):
    assert draw(timed(1, sizes=(1,)).query("device == 'cpu' and precision == '32-true' and not compiled")).axes


def test_looks_of_ten_models_differ_where_colours_are_not_seen():
    looks = [complexity.line_look(place) for place in range(36)]
    assert len({(str(look["linestyle"]), look["marker"], look["color"]) for look in looks}) == 36
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks[:12]}) == 12


def test_bubbles_grow_with_parameters_and_tell_measured_from_published():
    figure = DRAWN["tradeoff of ten"]()
    for ax in figure.axes:
        bubbles = [each for each in ax.collections if hasattr(each, "get_sizes")]
        filled = [each for each in bubbles if len(each.get_facecolor()) and each.get_facecolor()[0][3] > 0]
        assert len(bubbles) == 10 and len(filled) == 9  # nine measured, one published
        assert len(ax.collections) == 10 + 9  # intervals of what is measured
        sizes = [each.get_sizes()[0] for each in filled]
        assert sizes == sorted(sizes)
        assert np.allclose([each.get_offsets()[0][1] for each in filled], costs(10)["srcc"].dropna())
    assert "2 swin_base_1, 10M parameters, not run" in texts(figure)


def test_without_any_srcc_the_figure_says_so():
    nothing = costs(2).assign(srcc=np.nan, published_srcc=np.nan)
    assert texts(complexity.tradeoff(nothing)).count("no SRCC measured or published") == 2
