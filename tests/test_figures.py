"""Figures: drawn from frames, complete, and without a trace in pyplot."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import report_fixture
from matplotlib.figure import Figure

from iqa import figures

RNG = np.random.default_rng(0)
PREDICTIONS = pd.DataFrame({"mos": np.linspace(1, 5, 40), "prediction": np.linspace(1, 5, 40) * 2 - 3})
TABLE = pd.DataFrame({"mos": RNG.uniform(1, 5, 90), "split": ["train"] * 60 + ["test"] * 30})
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "train_loss": [3, 2, 1], "val_loss": [3, 2, 2.5]})
for column in ("train_srcc", "val_srcc", "train_plcc", "val_plcc"):
    HISTORY[column] = [0.1, 0.8, 0.7]

DRAWN = {
    "mos_histogram": lambda: figures.mos_histogram(TABLE, 1, 5),
    "sample_images": lambda: figures.sample_images([np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9))], ["a", "b"]),
    "training_curves": lambda: figures.training_curves(HISTORY),
    "prediction_scatter": lambda: figures.prediction_scatter(PREDICTIONS, 1, 5, "title"),
    "scatter_grid": lambda: figures.scatter_grid({name: (PREDICTIONS, 1, 5) for name in "abcd"}),
    "ablation_forest": lambda: figures.ablation_forest(report_fixture.ablation()),
    "latency": lambda: figures.latency(report_fixture.latency()),
    "architecture": lambda: figures.architecture(report_fixture.architecture()),
    "before_after": lambda: figures.before_after(report_fixture.architecture("last"), report_fixture.architecture()),
}


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(mpl.text.Text))


@pytest.mark.parametrize("name", DRAWN)
def test_figure_is_drawn_without_touching_pyplot_or_the_style(name, tmp_path):
    from matplotlib import pyplot

    before = dict(mpl.rcParams)
    figure = DRAWN[name]()
    figure.savefig(tmp_path / "figure.svg")
    assert isinstance(figure, Figure)
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before
    assert figure.get_figwidth() <= figures.WIDTH


@pytest.mark.parametrize("name", DRAWN)
def test_figure_does_not_change_its_data(name):
    copies = [frame.copy() for frame in (PREDICTIONS, TABLE, HISTORY)]
    DRAWN[name]()
    for frame, copy in zip((PREDICTIONS, TABLE, HISTORY), copies, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


def test_scatter_shows_every_prediction_unscaled_even_outside_the_range():
    ax = figures.prediction_scatter(PREDICTIONS, 1, 5).axes[0]
    points = ax.collections[0].get_offsets()
    assert np.allclose(points, PREDICTIONS[["mos", "prediction"]])
    assert ax.get_xlim() == ax.get_ylim() and ax.get_aspect() == 1
    assert ax.get_ylim()[0] < PREDICTIONS["prediction"].min() and ax.get_ylim()[1] > PREDICTIONS["prediction"].max()


def test_scatter_prints_agreement_and_count():
    shown = texts(figures.prediction_scatter(PREDICTIONS, 1, 5))
    assert "SRCC 1.000" in shown and "PLCC 1.000" in shown and "n = 40" in shown


def test_grid_has_a_panel_for_each_database():
    figure = DRAWN["scatter_grid"]()
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.axison] == list("abcd")


def test_a_grid_without_a_database_says_so():
    assert texts(figures.scatter_grid({})) == "no database was available"


def test_the_heat_map_shows_every_pair_and_what_is_not_available():
    rows = [("a", "D1", 0.9), ("a", "D2", np.nan), ("b", "D1", 0.25), ("b", "D2", np.nan)]
    cross = pd.DataFrame(rows, columns=["model", "title", "srcc"]).assign(trained_on="T")
    shown = texts(figures.cross_heatmap(cross))
    assert shown.count("0.900") == shown.count("0.250") == 1
    assert shown.count("not\navailable") == 2
    assert all(name in shown for name in ("a\n(T)", "b\n(T)", "D1", "D2"))


def test_histogram_shares_of_each_split_add_up_to_all_images():
    for ax in figures.mos_histogram(TABLE, 1, 5).axes:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100)


def test_curves_mark_the_best_epoch():
    assert "best: 2" in texts(figures.training_curves(HISTORY))
    assert "best: 3" in texts(figures.training_curves(HISTORY, best_epoch=3))


def test_samples_show_every_image_in_the_last_row_too():
    figure = figures.sample_images([np.zeros((4, 4, 3), np.uint8)] * 8, [str(i) for i in range(8)])
    assert sum(len(ax.images) for ax in figure.axes) == 8
    with pytest.raises(ValueError, match="one label each"):
        figures.sample_images([np.zeros((4, 4))], [])


def test_forest_names_every_group_and_verdict():
    shown = texts(DRAWN["ablation_forest"]())
    for text in ("reference", "fusion: last", "input: rgb", "not distinguishable", "worse"):
        assert text in shown
