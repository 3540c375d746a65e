"""Tables as text: rounding, Markdown and LaTeX with every mark escaped, and what the ablation table shows."""

import re

import numpy as np
import pandas as pd
import pypandoc
import pytest
import report_fixture

from iqa.analysis import residuals
from iqa.show import ablation, analysis, complexity, tables

MARKS = r"a_b & 5% of $x$ #1 {y} ~z^2 \cmd |p| *bold* `code` <tag>"


class Sourced(float):
    """A number that knows more than its value, as those that the report reads."""

    source = "ablation.csv : attention, p_holm = 0.0004"


@pytest.fixture
def compared():
    """What the ablation step writes: a reference, a better group, one that is named by its experiment, one not run."""
    frame = pd.DataFrame(
        {
            "group": ["main", "attention", "wide", "jitter"],
            "label": ["reference", "fusion: attention", "wide", "color_jitter: 0.1"],
            "differs": ["", "fusion: attention", "backbone: resnet50, dropout: 0.3", "color_jitter: 0.1"],
            "seeds": [3, 3, 2, 0],
            "srcc_mean": [0.9, 0.92, 0.899, np.nan],
            "srcc_std": [0.004, 0.003, 0.005, np.nan],
            "plcc_mean": [0.91, 0.93, 0.909, np.nan],
            "val_srcc_mean": [0.905, 0.925, 0.9, np.nan],
            "chosen_on": "validation",
            "delta": [0, 0.02, -0.001, np.nan],
            "p_holm": [np.nan, 0.0004, 0.62, np.nan],
            "verdict": ["reference", "better", "not distinguishable", "not run"],
            "decision": ["", "adopted", "not adopted", ""],
            "command": ["", "", "", "iqa run koniq10k/train/jitter"],
        }
    )
    for name, value in (("srcc", "srcc_mean"), ("delta", "delta")):
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[value] - 0.01, frame[value] + 0.01
    return frame


def shown_cells(text: str, form: str) -> list[list[str]]:
    """The cells of a table, row by row, as pandoc understands them."""
    html = pypandoc.convert_text(text, "html", format=form, extra_args=["--wrap=none"])
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.S)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows]
    plain = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
    return [[re.sub("&[a-z]+;", lambda mark: plain[mark[0]], re.sub("<[^>]+>", "", cell)) for cell in r] for r in cells]


def test_the_ablation_table_shows_verdict_decision_and_corrected_p_value(compared):
    shown = tables.rounded(ablation.ablation_table(compared))
    assert shown.columns.tolist() == [
        *("Differs in", "Seeds", "SRCC", "SD of seeds", "PLCC", "SRCC difference", "p (Holm)"),
        *("Verdict", "Decision", "Validation SRCC"),
    ]
    dash = tables.DASH
    assert shown["p (Holm)"].tolist() == [dash, "<0.001", "0.620", dash]
    assert shown["Decision"].tolist() == [dash, "adopted", "not adopted", dash]
    assert shown["Differs in"].tolist()[::2] == ["reference", "wide: backbone: resnet50, dropout: 0.3"]
    assert shown.iloc[1]["SRCC"] == "0.920 [0.910, 0.930]"


def test_two_narrower_tables_hold_every_column_once_beside_the_name(compared):
    compared = compared.assign(published_srcc=0.9, published_protocol="official split", chosen_on="TEST")
    first, second = ablation.ablation_verdicts_table(compared), ablation.ablation_further_table(compared)
    assert sorted([*first, *second]) == sorted([*ablation.ablation_table(compared), "Differs in"])
    assert list(second) == [
        *("Differs in", "SD of seeds", "PLCC", "Validation SRCC", "Chosen on", "Published SRCC", "Published protocol"),
    ]


def test_a_group_that_was_not_run_shows_dashes_and_its_command(compared):
    row = tables.rounded(ablation.ablation_table(compared)).iloc[3]
    assert row["Verdict"] == "not run: iqa run koniq10k/train/jitter"
    assert set(row.drop(["Differs in", "Verdict"])) == {tables.DASH}


def test_where_epochs_were_chosen_is_shown_only_if_any_was_on_the_test_images(compared):
    compared.loc[1, "chosen_on"] = "TEST"
    assert ablation.ablation_table(compared)["Chosen on"].tolist() == ["validation", "TEST", "validation", "validation"]


def test_published_values_are_shown_with_their_protocol_only_if_there_are_any(compared):
    empty = compared.assign(published_srcc=np.nan, published_protocol="")
    assert not any("ublished" in name for name in ablation.ablation_table(empty))
    one = empty.assign(published_srcc=[0.9236, *[np.nan] * 3], published_protocol=["official split", "", "", ""])
    shown = tables.rounded(ablation.ablation_table(one))
    assert shown.iloc[0][["Published SRCC", "Published protocol"]].tolist() == ["0.924", "official split"]
    assert (shown.iloc[1:][["Published SRCC", "Published protocol"]] == tables.DASH).all(axis=None)
    several = one.assign(published_srcc=["(1) 0.904 (2) 0.9236", "0.9", np.nan, np.nan])  # read back from a file
    shown = tables.rounded(ablation.ablation_table(several))["Published SRCC"]
    assert shown.tolist() == ["(1) 0.904 (2) 0.924", "0.900", tables.DASH, tables.DASH]


def test_numbers_of_the_table_stay_the_objects_that_were_read(compared):
    read = compared.astype(object)
    read.loc[1, "p_holm"] = Sourced(0.0004)
    cell = ablation.ablation_table(read)["p (Holm)"].iloc[1]
    assert cell.source.endswith("p_holm = 0.0004") and tables.cell(cell, tables.FORMATS["p (Holm)"]) == "<0.001"


def test_p_values_have_three_decimals_and_no_false_zero():
    assert [tables.number(p, tables.P_VALUE) for p in (0.0, 0.00099, 0.001, 0.0496, 1.0)] == [
        *("<0.001", "<0.001", "0.001", "0.050", "1.000")
    ]


def test_markdown_gives_back_every_cell(compared):
    shown = tables.rounded(ablation.ablation_table(compared)).assign(Marks=[MARKS, "two\nlines", "", tables.MINUS])
    head, *rows = shown_cells(tables.markdown(shown), "gfm")
    assert head == list(shown)
    expected = [[" ".join(cell.split()) for cell in row] for row in shown.to_numpy()]
    assert rows == expected


def test_latex_gives_back_every_cell(compared):
    known = MARKS.replace("`", "")  # pandoc reads no \textasciigrave
    shown = tables.rounded(ablation.ablation_table(compared)).assign(Marks=[known, "two\nlines", "", "[1]"])
    head, *rows = shown_cells(tables.latex(shown, "tab:a", "A caption"), "latex")
    assert head == list(shown)
    spaces = str.maketrans({"\N{NO-BREAK SPACE}": " "})
    expected = [[" ".join(cell.split()) for cell in row] for row in shown.to_numpy()]
    assert [[" ".join(cell.translate(spaces).split()) for cell in row] for row in rows] == expected


def test_latex_escapes_every_mark_that_it_reads_as_a_command():
    text = tables.latex(pd.DataFrame({"A_1": [MARKS]}), "tab:a_1", "100 % & more")
    assert r"A\_1 \\" in text and r"\caption{100 \% \& more}" in text and r"\label{tab:a_1}" in text
    cell = text.split("\\midrule\n")[1].split(" \\\\\n")[0]
    assert cell == (
        r"a\_b \& 5\% of \$x\$ \#1 \{y\} \textasciitilde{}z\textasciicircum{}2 \textbackslash{}cmd "
        r"$|$p$|$ *bold* \textasciigrave{}code\textasciigrave{} \textless{}tag\textgreater{}"
    )
    assert tables.latex(pd.DataFrame({"a": [tables.MINUS + "0.1"]}), "l", "c").count("$-$0.1") == 1


def test_latex_has_booktabs_rules_and_a_line_for_each_row(compared):
    shown = tables.rounded(ablation.ablation_table(compared))
    lines = tables.latex(shown, "tab:a", "A caption").splitlines()
    places = [lines.index(rf"\{rule}rule") for rule in ("top", "mid", "bottom")]
    assert np.diff(places).tolist() == [2, len(shown) + 1]
    for line in lines[places[0] + 1 : places[2]]:
        assert line == r"\midrule" or line.count(" & ") == len(shown.columns) - 1


def test_a_row_that_begins_with_a_bracket_is_no_argument_of_the_row_before():
    text = tables.latex(pd.DataFrame({"a": ["x", "[0.1, 0.2]", "*"]}), "tab:a", "")
    assert "\n{}[0.1, 0.2]" in text and "\n{}*" in text


def test_columns_of_numbers_are_set_right_and_texts_left():
    shown = pd.DataFrame(
        {
            "Number": ["1,234", tables.DASH],
            "P": ["<0.001", "0.5"],
            "Share": [tables.MINUS + "1.5%", "2e" + tables.MINUS + "05"],
            "Interval": ["0.9 [0.8, 1.0]", tables.DASH],
            "Text": ["a", "b"],
            "Empty": [tables.DASH, tables.DASH],
            "Long": ["a long text that would not fit into a narrow column", ""],
        }
    )
    assert r"\begin{tabular}{rrrlllp{0.20\linewidth}}" in tables.latex(shown, "l", "c")
    assert tables.markdown(shown).splitlines()[1] == "| --: | --: | --: | :-- | :-- | :-- | :-- |"


def test_a_table_without_rows_still_has_its_head():
    empty = pd.DataFrame({"a": pd.Series(dtype=str), "b": pd.Series(dtype=str)})
    assert tables.markdown(empty) == "| a | b |\n| :-- | :-- |\n"
    assert "a & b \\\\\n\\midrule\n\\bottomrule" in tables.latex(empty, "l", "c")


def test_throughput_tells_the_quickest_batch_the_largest_and_what_stopped_a_larger_one():
    frame = report_fixture.latency()
    frame.loc[1, "images_per_second"] = 1.0  # of last_s1 with 8 images: slower than one by one
    table = complexity.throughput_table(frame)
    assert table["Quickest batch"].tolist() == [1, 8] and table["Largest batch"].tolist() == [8, 8]
    assert table["Stopped by"].iloc[0].startswith("batch of 64: memory: more than 0.1 GiB")


def test_latency_is_that_of_one_image_and_gives_reasons_where_there_are_any():
    frame = report_fixture.latency()
    assert complexity.latency_table(frame)["Median (ms)"].tolist() == [
        8.1,
        9.4,
    ] and "Reason" not in complexity.latency_table(frame)
    none = frame[frame["batch_size"] == 1].assign(reason="this machine has no device cuda", median_ms=np.nan)
    assert (
        tables.rounded(complexity.latency_table(none))[["Median (ms)", "Reason"]].to_numpy().tolist()
        == [[tables.DASH, "this machine has no device cuda"]] * 2
    )


def test_a_setting_without_any_measurement_has_dashes():
    frame = report_fixture.latency().assign(images_per_second=np.nan, reason="no")
    shown = tables.rounded(complexity.throughput_table(frame))
    assert shown["Images/s"].tolist() == [tables.DASH] * 2 and shown["Stopped by"].iloc[0] == "batch of 1: no"


def test_operations_of_one_run_need_no_column_of_runs():
    frame = report_fixture.counters()
    assert len(complexity.counters_table(frame)) == 2 * len(complexity.counters_table(frame, "main_s1"))
    assert "Run" not in complexity.counters_table(frame, "main_s1")
    assert tables.rounded(complexity.counters_table(frame, "main_s1"))["Missed by"].tolist()[-2:] == [
        "torch, thop",
        tables.DASH,
    ]


def test_memory_is_shown_in_mebibytes():
    row = {"run": "a", "device": "cpu", "precision": "32-true", "batch_size": 8, "inference_bytes": 2**20}
    shown = tables.rounded(
        complexity.memory_table(pd.DataFrame([row | {"training_bytes": np.nan, "reason": "training: full"}]))
    )
    assert shown.iloc[0].tolist() == ["a", "cpu", "32-true", "8", "1.0", tables.DASH, "training: full"]


def test_bands_of_attention_have_a_row_each_and_cases_without_levels_no_column_for_them():
    found = report_fixture.gathered()
    weighed = report_fixture.look_inside("Attention over the scales", {"a": found}, bands=4)
    bands = analysis.attention_bands_table(weighed["in_bands"])
    assert len(bands) == 4 and bands["Images"].eq(30).all()
    assert list(bands)[3:] == ["Scale 1", "Scale 2", "Scale 3", "Scale 4", "Entropy"]
    shown = analysis.cases_table(residuals.cases(found.table, 3))
    assert "Level" not in shown and "Distortion" in shown and len(shown) == 6


def test_what_generated_weights_cannot_tell_has_one_row_per_reason():
    found = {name: report_fixture.gathered(synthetic=False) for name in ("a", "b")}
    frame = report_fixture.look_inside("Weight space", found)["separation"]
    table = analysis.separation_table(frame)
    assert len(frame) == 12 and table["Model"].tolist() == ["a", "a", "b", "b", "a, b", "a, b"]
    assert table["Verdict"].iloc[-2] == "not available: the database shows no content twice"
