"""Tables as text: rounding, Markdown and LaTeX with every mark escaped, and what the ablation table shows."""

import html
import re

import notebook_section
import numpy as np
import pandas as pd
import pypandoc
import pytest
import tiny
from finished import KEPT

from iqa.analysis import residuals
from iqa.report.appendix import FACES, face, latex
from iqa.show import ablation, analysis, complexity, cross_dataset, report, tables, train

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
            "detectable": [np.nan, 0.012, 0.0161, np.nan],
            "seeds_needed": [np.nan, 2, np.inf, np.nan],
            "contents_needed": [np.nan, 100, 12_345, np.nan],
            "margin": 0.01,
            "p_equivalence": [np.nan, 1.0, 0.06, np.nan],
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
        *("Detectable difference", "Seeds needed", "Contents needed", "p (equivalence)"),
    ]
    assert shown.iloc[2]["Verdict"] == "not distinguishable (differences above 0.016 would have been seen)"
    assert shown["Seeds needed"].tolist() == [tables.DASH, "2", "none is enough", tables.DASH]
    assert shown["Contents needed"].tolist() == [tables.DASH, "100", "12,345", tables.DASH]
    dash = tables.DASH
    assert shown["p (Holm)"].tolist() == [dash, "<0.001", "0.620", dash]
    assert shown["Decision"].tolist() == [dash, "adopted", "not adopted", dash]
    assert shown["Differs in"].tolist()[::2] == ["reference", "wide"]
    assert shown.iloc[1]["SRCC"] == "0.920 [0.910, 0.930]"


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
    assert shown.iloc[0][["Published SRCC", "Published protocol"]].tolist() == ["0.9236", "official split"]
    assert (shown.iloc[1:][["Published SRCC", "Published protocol"]] == tables.DASH).all(axis=None)
    several = one.assign(published_srcc=["(1) 0.904 (2) 0.9236", "0.9", np.nan, np.nan])  # read back from a file
    shown = tables.rounded(ablation.ablation_table(several))["Published SRCC"]
    assert shown.tolist() == ["(1) 0.904 (2) 0.9236", "0.9", tables.DASH, tables.DASH]


def test_numbers_of_the_table_stay_the_objects_that_were_read(compared):
    read = compared.astype(object)
    read.loc[1, "p_holm"] = Sourced(0.0004)
    cell = ablation.ablation_table(read)["p (Holm)"].iloc[1]
    assert cell.source.endswith("p_holm = 0.0004") and tables.cell(cell, "p") == "<0.001"


def test_p_values_have_three_decimals_and_no_false_zero():
    assert [tables.number(p, "p") for p in (0.0, 0.00099, 0.001, 0.0496, 1.0)] == [
        *("<0.001", "<0.001", "0.001", "0.050", "1.000")
    ]


def table(frame):
    """A frame as the text that `rounded` makes of a table."""
    return tables.rounded(frame).astype(object)


def expected(shown):
    return [[" ".join(cell.split()) or tables.DASH for cell in row] for row in shown.to_numpy()]


def test_markdown_gives_back_every_cell(compared):
    shown = table(ablation.ablation_table(compared)).assign(Marks=[MARKS, "two\nlines", "", "a -- b ... &amp; 'c'"])
    for form in ("gfm", "markdown"):
        head, *rows = shown_cells(tables.markdown(shown), form)
        assert head == list(shown) and rows == expected(shown)


def body_cells(text: str) -> list[list[str]]:
    """The cells of a LaTeX table below its head, row by row, as pandoc understands them."""
    body = text.split(r"\endlastfoot")[1].split(r"\end{longtable}")[0]
    columns = "l" * (body.splitlines()[1].count(" & ") + 1)
    rows = shown_cells(rf"\begin{{tabular}}{{{columns}}}{body}\end{{tabular}}", "latex")
    return [[" ".join(cell.split()) for cell in row] for row in rows]


def test_latex_gives_back_every_cell_of_every_table(compared):
    known = MARKS.replace("`", "").replace("|", "")  # pandoc writes, but does not read, their LaTeX names
    shown = table(ablation.ablation_table(compared)).assign(Marks=[known, "two\nlines", "*", "[1]"])
    found = latex({"a": tables.markdown(shown), "b": tables.markdown(shown[["Marks"]])}, {"a": "A", "b": "B"})
    assert body_cells(found["a"]) == expected(shown) and body_cells(found["b"]) == expected(shown[["Marks"]])
    assert all(name in found["a"] for name in shown)


def test_latex_escapes_every_mark_that_it_reads_as_a_command():
    text = latex({"a_1": tables.markdown(pd.DataFrame({"A_1": [MARKS]}))}, {"a_1": "100 % & more of $x$"})["a_1"]
    assert r"100 \% \& more of \$x\$" in text and r"\label{tab:a_1}" in text and r"A\_1" in text
    row = text.split(r"\endlastfoot")[1].split(r"\end{longtable}")[0].strip().removesuffix(r"\\")
    assert not re.search(r"(?<!\\)[&%$#_]", row) and r"\textbackslash" in row and row.count(r"\textbar") == 2
    assert not re.search(r"[~^]", row.replace(r"\textasciitilde", "").replace(r"\^{}", ""))


HOSTILE = (
    "<b onclick=x> [x](javascript:y) ![z](w) `a` | b $\\input{x}$ \\input{y} {{7*7}} *c* @d ^[e] #f <!-- g --> &lt;"
)


def test_a_text_in_a_table_is_shown_as_it_is_on_one_line():
    frame = tables.table_of([{"Title": f"{HOSTILE}\n\n# second", "N": 1}])
    text = tables.markdown(frame)
    assert len(text.splitlines()) == 3
    page = pypandoc.convert_text(text, "html", format="markdown", extra_args=["--wrap=none"])
    assert not re.findall(r"<(b|a|img|code|em|span|h1|math|script)\b", page)
    assert html.unescape(re.sub(r"<[^>]+>", "", page)).count(HOSTILE) == 1
    made = latex({"a": text}, {"a": HOSTILE})["a"]
    assert not re.findall(r"(?<![\w\\])\\(input|href|includegraphics|footnote|textbf|emph)\b", made)
    assert made.count("textbackslash input") == 4


def test_latex_has_booktabs_rules_and_a_line_for_each_row(compared):
    text = latex(
        {"a": tables.markdown(ablation.ablation_table(compared)[["Differs in", "Seeds"]])}, {"a": "A caption"}
    )["a"]
    assert all(rf"\{rule}rule" in text for rule in ("top", "mid", "bottom")) and r"\caption{A caption}" in text
    assert text.split(r"\endlastfoot")[1].count(r" \\") == len(compared)


def test_lines_break_only_in_latex_tables_with_long_texts():
    short, long = pd.DataFrame({"a": [1.0], "b": ["x"]}), pd.DataFrame({"a": [1.0], "b": ["many words " * 20]})
    found = latex({"s": tables.markdown(short), "l": tables.markdown(long)}, {"s": "", "l": ""})
    assert "{@{}rl@{}}" in found["s"] and r"p{(\linewidth" in found["l"]


@pytest.mark.parametrize(("columns", "lying"), [(3, False), (7, False), (11, True), (14, True)])
def test_every_word_of_a_latex_table_fits_its_column_and_the_page(columns, lying):
    cells = {f"Difference {place}": tables.Interval(-0.5, -0.6, 0.1) for place in range(columns - 1)}
    markdown = tables.markdown(tables.table_of([{"Model": "many words of a name"} | cells]))
    text = latex({"a": markdown}, {"a": ""})["a"]
    digit, page = FACES[face(markdown)]
    shares = [float(share) for share in re.findall(r"\\real\{([\d.]+)\}", text)] or [1 / columns]
    assert ("landscape" in text) == lying and text.count("{") == text.count("}")
    assert all(share * (page - 6 * (columns - 1)) > digit * len("Difference") * 0.97 for share in shares[1:])


def test_titles_may_give_a_format_that_narrower_tables_keep(compared):
    frame = tables.table_of([{"Images:,.0f": 1234, "MOS": 1.23456, "Share:.1%": None}])
    assert tables.rounded(frame).iloc[0].tolist() == ["1,234", "1.235", tables.DASH]
    assert tables.rounded(frame[["Images"]].reset_index(drop=True)).iloc[0, 0] == "1,234"
    assert tables.rounded(ablation.ablation_table(compared).drop(columns="SRCC"))["Seeds"].tolist()[0] == "3"


def test_columns_of_numbers_are_set_right_and_texts_left():
    frame = tables.table_of(
        [
            {"Number:,.0f": 1234, "Interval": tables.Interval(0.9, 0.8, 1.0), "Text": "a", "Mixed": 0.5},
            {"Number:,.0f": None, "Interval": None, "Text": "b", "Mixed": "not run"},
        ]
    )
    rules = tables.markdown(frame).splitlines()[1].strip("| ").split(" | ")
    assert [rule.endswith(":") for rule in rules] == [True, True, False, False]


@pytest.mark.parametrize(
    ("values", "form"), [([13.3, 5.0, np.nan], ".1f"), ([0.35, 0.01], ".3f"), ([250.0], ".0f"), ([], ".0f")]
)
def test_numbers_of_a_column_have_as_many_decimals_as_its_largest(values, form):
    assert analysis.decimals(values) == form


def test_protocols_are_named_by_codes_that_a_table_explains():
    rows = [
        {"method": name, "protocol": words} for name, words in (("a", "split x"), ("b", "split y"), ("c", "split x"))
    ]
    published = pd.DataFrame(rows).reindex(columns=list(report.PUBLISHED.values()))
    assert report.published_table(published)["Protocol"].tolist() == ["P1", "P2", "P1"]
    explained = report.protocols_table(published)
    assert explained.to_numpy().tolist() == [["P1", "split x"], ["P2", "split y"]]


def test_a_table_without_rows_still_has_its_head():
    empty = pd.DataFrame({"a": pd.Series(dtype=str), "b": pd.Series(dtype=str)})
    assert shown_cells(tables.markdown(empty), "gfm") == [["a", "b"]]
    assert "a & b" in latex({"e": tables.markdown(empty)}, {"e": "c"})["e"]


@pytest.fixture
def timed():
    """What the complexity step writes of two runs, with one image and with two; four images do not fit."""
    frame = pd.read_csv(KEPT / "complexity/main/latency.csv").query("precision == '32-true' and not compiled")
    more = frame[frame["batch_size"] == 2].assign(batch_size=4, images_per_second=np.nan, reason="memory: full")
    return pd.concat([frame, more], ignore_index=True)


def test_throughput_names_the_quickest_batch_the_largest_and_what_stopped_a_larger_one(timed):
    timed.loc[(timed["run"] == "last_s1") & (timed["batch_size"] == 2), "images_per_second"] = 1.0
    table = complexity.throughput_table(timed).set_index("Run")
    assert table["Quickest batch"].to_dict() == {"main_s1": 2, "last_s1": 1}
    assert table["Largest batch"].tolist() == [2, 2] and table["Stopped by"].iloc[0] == "batch of 4: memory: full"


def test_latency_is_that_of_one_image_and_gives_reasons_where_there_are_any(timed):
    one = timed[timed["batch_size"] == 1]
    table = complexity.latency_table(timed)
    assert table["Median (ms)"].tolist() == one["median_ms"].tolist() and "Reason" not in table
    none = one.assign(reason="this machine has no device cuda", median_ms=np.nan)
    shown = tables.rounded(complexity.latency_table(none))[["Median (ms)", "Reason"]]
    assert shown.to_numpy().tolist() == [[tables.DASH, "this machine has no device cuda"]] * 2


def test_a_setting_without_any_measurement_has_dashes(timed):
    shown = tables.rounded(complexity.throughput_table(timed.assign(images_per_second=np.nan, reason="no")))
    assert shown["Images/s"].tolist() == [tables.DASH] * 2 and shown["Stopped by"].iloc[0] == "batch of 1: no"


def test_operations_name_the_counters_that_miss_them():
    frame = pd.read_csv(KEPT / "complexity/main/counters.csv")
    missed = frame["missed_by"].fillna(tables.DASH).tolist()
    assert tables.rounded(complexity.counters_table(frame))["Missed by"].tolist() == missed and tables.DASH in missed


def test_memory_is_shown_in_mebibytes():
    row = {"run": "a", "device": "cpu", "precision": "32-true", "batch_size": 8, "inference_bytes": 2**20}
    shown = tables.rounded(
        complexity.memory_table(pd.DataFrame([row | {"training_bytes": np.nan, "reason": "training: full"}]))
    )
    assert shown.iloc[0].tolist() == ["a", "cpu", "32-true", "8", "1.0", tables.DASH, "training: full"]


def test_bands_of_attention_have_a_row_each_and_cases_without_levels_no_column_for_them():
    found = tiny.gathered()
    weighed = notebook_section.look_inside("Attention over the scales", {"a": found}, bands=4)
    bands = analysis.attention_bands_table(weighed["in_bands"])
    assert len(bands) == 4 and bands["Images"].eq(30).all()
    assert list(bands)[3:] == ["Scale 1", "Scale 2", "Scale 3", "Scale 4", "Entropy"]
    shown = analysis.cases_table(residuals.cases(found.table, 3))
    assert "Level" not in shown and "Distortion" in shown and len(shown) == 6


def test_what_generated_weights_cannot_tell_has_one_row_per_reason():
    found = {name: tiny.gathered(synthetic=False) for name in ("a", "b")}
    frame = notebook_section.look_inside("Weight space", found)["separation"]
    table = analysis.separation_table(frame)
    assert len(frame) == 12 and table["Model"].tolist() == ["a", "a", "b", "b", "a, b", "a, b"]
    assert table["Verdict"].iloc[-2] == "not available: the database shows no content twice"


def test_what_a_model_without_a_scale_lacks_is_a_dash():
    ends = {"": 0.2, "_low": 0.1, "_high": 0.3}
    metrics = {"database": "toy", "n": 9, "plcc_fitted": 0.2, "krcc": 0.2, "rmse": 1.5}
    metrics |= {f"{name}{end}": value for name in ("srcc", "plcc") for end, value in ends.items()}
    metrics |= {"bias": -0.5, "bias_low": -1.0, "bias_high": 0.0}
    further = {"run": "main_s1"}, pd.DataFrame(), {"toy": {"title": "Toy", "ceiling_srcc": None}}
    shown = tables.rounded(train.main_result_table(metrics, *further)).iloc[0]
    assert (shown["Model"], shown["SRCC"], shown["RMSE"]) == ("main_s1", "0.200 [0.100, 0.300]", "1.500")
    assert shown["Verdict"] == tables.DASH
    assert shown["Bias"] == f"{tables.MINUS}0.500 [{tables.MINUS}1.000, 0.000]"
    metrics |= dict.fromkeys(("rmse", "bias", "bias_low", "bias_high"))
    shown = tables.rounded(train.main_result_table(metrics, *further)).iloc[0]
    assert (shown["RMSE"], shown["Bias"]) == (tables.DASH, tables.DASH)


def test_models_beside_a_run_have_rows_in_the_main_table_and_baselines_also_in_the_cross_table():
    agreement = {f"{name}{end}": 0.5 for name in ("srcc", "plcc", "bias") for end in ("", "_low", "_high")}
    agreement |= {"n": 9, "plcc_fitted": 0.5, "krcc": 0.5, "rmse": 0.5, "available": True, "reason": None}
    delta = {"delta": -0.1, "delta_low": -0.2, "delta_high": 0.0, "p_holm": 0.0004, "verdict": "worse"}
    rows = [
        {"model": "main_s1", "kind": "model", "database": "toy", "verdict": "reference"},
        {"model": "ridge", "kind": "baseline", "database": "toy"} | delta,
        {"model": "ridge", "kind": "baseline", "database": "far"} | delta,
        {"model": "a.pth", "kind": "checkpoint", "database": "far"} | delta,
    ]
    beside = pd.DataFrame([agreement | {"label": row["model"].upper(), "title": "T"} | row for row in rows])
    metrics, audits = agreement | {"database": "toy"}, {"toy": {"title": "Toy", "ceiling_srcc": 0.9}}
    shown = tables.rounded(train.main_result_table(metrics, {"run": "main_s1"}, beside, audits))
    assert shown["Model"].tolist() == ["main_s1", "RIDGE"] and shown["Verdict"].tolist() == ["reference", "worse"]
    difference = [text.replace(tables.MINUS, "-") for text in shown["SRCC difference"]]
    assert difference == [tables.DASH, "-0.100 [-0.200, +0.000]"] and shown["p (Holm)"].iloc[1] == "<0.001"

    cross = pd.DataFrame(
        [agreement | {"model": name, "database": "far", "title": "T"} for name in ("main_s1", "a.pth")]
    )
    shown = tables.rounded(cross_dataset.cross_database_table(cross, beside))
    assert shown["Model"].tolist() == ["main_s1", "a.pth", "RIDGE"]
    assert shown["Verdict"].tolist() == [tables.DASH, "worse", "worse"]
    assert "Verdict" not in cross_dataset.cross_database_table(cross)


def test_the_parameters_of_all_experiments_are_told_by_what_differs_from_the_first():
    def experiment(lr, seeds, **changes):
        return {
            "seeds": seeds,
            "parameters": {"model": {"fusion": "last", "cbam": True}, "optimisation": {"lr": lr} | changes},
        }

    given = {"main": experiment(1e-5, [1, 2], milestones=[3]), "other": experiment(5e-7, [42], milestones=[])}
    base, others = train.parameters_table(given), train.experiments_table(given)
    assert base.to_dict("list") == {
        "Group": ["model", "model", "optimisation", "optimisation"],
        "Parameter": ["fusion", "cbam", "lr", "milestones"],
        "Value": ["last", "true", "1e-05", "[3]"],
    }
    assert others["Seeds"].tolist() == ["1, 2", "42"]
    assert others["Differs in"].tolist() == ["", "lr 5e-07; milestones []"]


def test_results_on_other_databases_show_seeds_and_what_intervals_cover_where_models_have_seeds():
    row = {"model": "main", "database": "wild", "title": "Wild", "available": True, "reason": "", "n": 100}
    row |= {"srcc_std": 0.0312} | {f"{name}{end}": 0.5 for name in ("srcc", "plcc") for end in ("", "_low", "_high")}
    cross = pd.DataFrame([row | {"seeds": 3, "covers": "contents and trainings"}])
    shown = tables.rounded(cross_dataset.cross_database_table(cross)).iloc[0]
    assert shown[["Seeds", "SD of seeds"]].tolist() == ["3", "0.031"]
    assert shown["Intervals cover"] == "contents and trainings"
    assert list(cross_dataset.cross_database_table(cross.assign(seeds=np.nan))) == [
        *("Model", "Database", "Images", "SRCC", "PLCC")
    ]


def test_a_model_has_its_cost_once_and_a_row_for_each_test_set():
    cost = {"backbone": "resnet50", "parameters": 25e6, "macs_torch": 4e9, "latency_ms": 9.0, "status": "finished"}
    own = {f"{name}{end}": 0.9 for name in ("srcc", "plcc") for end in ("", "_low", "_high")}
    unknown = dict.fromkeys(own, np.nan) | {"status": "not run"}
    overview = pd.DataFrame([{"run": "a"} | cost | own, {"run": "b"} | cost | unknown])
    rows = [
        {"model": "a", "title": title, "trained_on": "Own", "available": True, "reason": np.nan} | own
        for title in ("Own", "Far")
    ]
    absent = [
        {"model": "a", "title": title, "trained_on": "Own", "available": False, "reason": "no files"} for title in "XY"
    ]
    waiting = [
        {"model": "b", "title": title, "available": False, "reason": "not run: iqa run b"}
        for title in ("Own", "Far", "X")
    ]
    table = complexity.backbones_table(overview, pd.DataFrame([*rows, *absent, *waiting]))
    shown = tables.rounded(table)
    assert shown["Run"].tolist() == ["a", "\u2013", "\u2013", "b", "\u2013"]
    assert shown["Test set"].tolist() == ["the run's own", "Far", "X, Y", "the run's own", "Own, Far, X"]
    assert shown["SRCC"].tolist()[1:] == ["0.900 [0.900, 0.900]", "not available", "not run", "not run"]
    assert shown["Parameters (M)"].tolist()[:2] == ["25.00", "\u2013"]


def test_findings_have_a_row_each_and_what_found_nothing_shares_one():
    about = {"group": "all", "n": 0, "of": 84, "p_value": np.nan, "found": False, "words": "concerned"}
    plateau = {"group": "blur", "n": 33, "p_value": 0.0004, "found": True, "words": "are predicted 26 to 27"}
    checks = pd.DataFrame(
        [
            {"model": "a", "check": "plateau"} | about | plateau,
            *({"model": "a", "check": check} | about for check in ("ties", "order")),
        ]
    )
    shown = tables.rounded(cross_dataset.sanity_table(checks))
    assert shown.iloc[0].tolist() == ["a", "plateau", "33", "84", "blur", "are predicted 26 to 27", "<0.001"]
    assert shown["Finding"].tolist()[1:] == ["nothing (ties, order)"]
    both = tables.rounded(cross_dataset.sanity_table(checks.assign(title="Far")))
    assert both["Database"].tolist() == ["Far", "Far"]
