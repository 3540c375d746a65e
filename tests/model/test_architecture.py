"""The architecture's diagram and table, drawn from descriptions of built models and of a made-up one."""

from itertools import combinations

import pytest
import tiny
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyBboxPatch
from matplotlib.text import Text

from iqa.model.architecture import describe
from iqa.model.fusion import FUSIONS
from iqa.model.heads import HEADS
from iqa.model.hyperiqa import TARGET_INPUTS, HyperIQA
from iqa.show import diagram, tables, train

CONTROLS = [("static", "lda"), ("static", "pooled"), ("linear", "means")]  # heads, and what they read
VARIANTS = [(fusion, target_input) for fusion in FUSIONS for target_input in TARGET_INPUTS] + CONTROLS


def described(fusion="last", target_input="lda", size=96):
    """The description of the demo's model with another fusion, or head without one, and target input."""
    widths = [240, 32, 16, 8, 4] if target_input == "means" else [64, 32, 16, 8, 4]  # 240: the demo's channels
    changes = {"head" if fusion in HEADS else "fusion": fusion, "target_input": target_input, "target_widths": widths}
    params = tiny.demo().architecture().model_copy(update=changes)
    with torch.device("meta"):
        return describe(HyperIQA(params), size, size)


@pytest.fixture(scope="module")
def built():
    """Descriptions of all variants."""
    return {variant: described(*variant) for variant in VARIANTS}


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def thick_frames(ax):
    return sum(patch.get_linewidth() > 2 for patch in ax.patches if isinstance(patch, FancyBboxPatch))


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_texts_of_the_diagram_are_large_enough_apart_and_inside(built, variant):
    figure = train.before_after(built["last", "lda"], built[variant])
    renderer = FigureCanvasAgg(figure).get_renderer()
    shown = [text for text in figure.findobj(Text) if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown]
    assert min(text.get_fontsize() for text in shown) >= 7  # 6 points where 7.2 in are printed on 6.3 in
    for (one, box), (other, second) in combinations(boxes, 2):
        assert not box.overlaps(second), f"{one!r} and {other!r} overlap"
    for text, box in boxes:
        assert box.x0 > 0 and box.y0 > 0 and box.x1 < figure.bbox.x1 and box.y1 < figure.bbox.y1, text


@pytest.mark.parametrize(
    ("fusion", "operation", "count"),
    [
        ("last", "pool\n4×4", 1),  # noqa: RUF001
        ("concat", "pool\n4×4", 4),  # noqa: RUF001
        ("attention", "pool\n4×4", 4),  # noqa: RUF001
        ("attention", "mean\nMLP\nsoftmax", 1),
        ("attention", "×", 4),  # noqa: RUF001
        ("pooled", "mean\n1×1", 4),  # noqa: RUF001
        ("pooled_last", "mean\n1×1", 1),  # noqa: RUF001
        ("fpn_cbam", "1×1", 3),  # noqa: RUF001
        ("fpn_cbam", "3×3\nCBAM\npool 4×4", 3),  # noqa: RUF001
        ("fpn_cbam", "+", 2),
        ("fpn_cbam", "256\nchannels\nper level", 1),
    ],
)
def test_the_diagram_shows_what_the_fusion_does_to_each_level_that_it_reads(built, fusion, operation, count):
    assert texts(train.architecture(built[fusion, "lda"])).count(operation) == count


def test_only_attention_and_the_pyramid_have_points_where_levels_meet(built):
    found = {}
    for fusion in ("last", "concat", "pooled", "attention", "fpn_cbam"):
        ax = train.architecture(built[fusion, "lda"]).axes[0]
        found[fusion] = [round(patch.center[0], 1) for patch in ax.patches if isinstance(patch, Circle)]
    one, two, three, four = diagram.COLUMNS
    assert found == {
        "last": [],
        "concat": [],
        "pooled": [],
        "attention": [four, three, two, one],
        "fpn_cbam": [three, two],
    }


def test_each_level_with_values_of_its_own_has_an_lda_module(built):
    description = built["concat", "lda"]
    shown = texts(train.architecture(description))
    assert shown.count("LDA\n16") == 4 and "vector\nof 64" in shown
    levels = [level | {"local": None if level["stride"] == 4 else level["local"]} for level in description["levels"]]
    assert texts(train.architecture(description | {"levels": levels})).count("LDA\n16") == 3


def test_a_pooled_target_input_shows_the_pooling_instead(built):
    shown = texts(train.architecture(built["last", "pooled"]))
    assert not any("LDA" in text for text in shown)
    assert {"mean\n16", "mean\n32", "mean\n64", "mean\n128", "linear\n240 → 64", "vector\nof 64"} <= set(shown)
    assert "HyperIQA, pooled target input" in shown


def test_labels_come_from_the_description():
    description = described("concat")
    description |= {"generated_weights": 33_321, "target_widths": [224, 111, 57, 1], "semantic_widths": [77, 66, 55]}
    description["parts"][0] |= {"title": "some_net.of_somebody", "parameters": 12_345_678}
    shown = "\n".join(texts(train.architecture(description)))
    for text in ("some_net", "12.3M parameters", "33,321 weights", "224", "111", "57", "240×4×4", "3×96×96", "24×24"):  # noqa: RUF001
        assert text in shown
    assert "of_somebody" not in shown
    assert "77\N{NO-BREAK SPACE}→ 66" in shown


def test_before_and_after_are_one_diagram_each_and_state_the_change(built):
    before, after = built["last", "lda"], built["fpn_cbam", "lda"]
    above, below = train.before_after(before, after).axes
    upper, lower = (texts(ax) for ax in (above, below))
    more = after["parameters"] - before["parameters"]
    assert upper[:2] == ["before: HyperIQA", f"{before['parameters'] / 1e3:.0f}k parameters"]
    assert lower[0] == "after: MS-HyperIQA"
    change = f"(+{more / 1e6:.2f}M, +{more / before['parameters']:.1%})"
    assert lower[1] == f"{after['parameters'] / 1e6:.2f}M parameters {change}"
    assert not any("(+" in text for text in upper) and sum("(+" in text for text in lower) == 3


def test_a_smaller_model_has_a_minus_sign(built):
    below = train.before_after(built["concat", "lda"], built["last", "lda"]).axes[1]
    assert any("(\N{MINUS SIGN}7,168" in text for text in texts(below))


def test_parts_that_differ_are_marked_in_both(built):
    before = built["last", "lda"]
    counts = {}
    for variant in (("concat", "lda"), ("last", "pooled"), ("attention", "pooled")):
        above, below = train.before_after(before, built[variant]).axes
        counts[variant] = thick_frames(above), thick_frames(below)
    assert counts["concat", "lda"] == (2, 2)  # fusion, semantic features
    assert counts["last", "pooled"] == (4, 5)  # LDA modules; means and a linear map
    assert counts["attention", "pooled"] == (6, 7)


def test_equal_descriptions_are_drawn_once_without_marks(built):
    (ax,) = train.before_after(built["last", "lda"], described("last", "lda")).axes
    assert texts(ax)[0] == "HyperIQA" and thick_frames(ax) == 0


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_differences_add_up_to_the_difference_of_the_models(built, variant):
    before, after = built["last", "lda"], built[variant]
    changes = diagram.difference(before, after)
    assert sum(changes.values()) == after["parameters"] - before["parameters"]
    assert ("fusion" in changes) == (variant[0] != "last") and ("local" in changes) == (variant[1] != "lda")
    wider = {"hyper", "target"} if variant[1] == "means" or variant in CONTROLS else set()
    assert {"backbone", "hyper", "target"} & changes.keys() == wider


def test_other_widths_of_the_target_network_are_a_difference():
    before = described("concat")
    assert diagram.difference(before, before | {"target_widths": [64, 16, 1]}) == {"target": 0}


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_the_table_lists_parts_and_levels_in_the_order_of_the_data_flow(built, variant):
    description = built[variant]
    table = train.architecture_table(description)
    backbone, *rest = [part["title"] for part in description["parts"]]
    assert list(table["Part"]) == [backbone, *(f"level {number}" for number in range(1, 5)), *rest, "total"]
    assert list(table["Output"][1:5]) == ["16×24×24", "32×12×12", "64×6×6", "128×3×3"]  # noqa: RUF001
    counts = table["Parameters"][:-1].dropna()
    assert counts.sum() == table["Parameters"].iloc[-1] == description["parameters"]
    assert table["Share"][:-1].dropna().sum() == pytest.approx(1) and table["Share"].iloc[-1] == 1


def test_the_table_says_what_the_parts_do(built):
    details = {fusion: train.architecture_table(built[fusion, "lda"]).set_index("Part") for fusion in FUSIONS}
    assert details["last"].loc["last fusion", "Detail"] == "level 4, pooled to 4×4"  # noqa: RUF001
    assert "levels 2 to 4 (256 channels each), CBAM" in details["fpn_cbam"].loc["fpn_cbam fusion", "Detail"]
    assert "softmax" in details["attention"].loc["attention fusion", "Detail"]
    assert details["pooled"].loc["pooled fusion", "Output"] == "240×1×1"  # noqa: RUF001
    table = details["concat"]
    assert table.loc["semantic features", "Detail"] == "1×1 convolutions 240 → 64 → 48"  # noqa: RUF001
    assert table.loc["local distortion aware modules", "Detail"] == "16 + 16 + 16 + 16 values of levels 1 to 4"
    assert table.loc["target network", "Detail"].startswith("64 → 32 → 16 → 8 → 4 → 1")
    assert (
        "240 → 64" in train.architecture_table(built["last", "pooled"]).set_index("Part").loc["pooled levels", "Detail"]
    )


def test_levels_that_are_no_row_are_listed():
    description = described("last")
    description["levels"][1]["fused"] = True
    assert train.filled(description, "fusion", "words") == "levels 2, 4, pooled to 4×4"  # noqa: RUF001


def test_generated_weights_are_no_parameters(built):
    table = train.architecture_table(built["concat", "lda"]).set_index("Part")
    assert table.loc["hyper network", "Output"] == "2,785 weights"
    assert table.loc["target network", "Parameters"] == 0


def test_the_table_is_rounded_for_people(built):
    shown = tables.rounded(train.architecture_table(built["last", "lda"])).set_index("Part")
    assert list(shown.loc["level 1"]) == ["stride 4", "16×24×24", tables.DASH, tables.DASH]  # noqa: RUF001
    assert list(shown.loc["total"]) == [tables.DASH, tables.DASH, "406,201", "100.0%"]


def test_numbers_that_were_read_from_a_file_give_the_same_table_and_diagram(built):
    def as_read(value):
        if isinstance(value, dict):
            return {key: as_read(item) for key, item in value.items()}
        if isinstance(value, list):
            return [as_read(item) for item in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    description = built["fpn_cbam", "pooled"]
    read = as_read(description)
    assert tables.rounded(train.architecture_table(read)).equals(tables.rounded(train.architecture_table(description)))
    assert texts(train.architecture(read)) == texts(train.architecture(description))
