"""Tables: frame or record in, frame out. No function opens a file.

A table keeps its numbers as they come; they are rounded when the table is shown (`rounded`, or the report), each
column as `FORMATS` says. A missing value is shown as a dash. A table that is shown becomes a file's text by `markdown`
or `latex`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
ARROW = "\N{RIGHTWARDS ARROW}"
DEFAULT_FORMAT = ".3f"
COUNT = ",.0f"
P_VALUE = "p"
COUNTERS = ("estimated", "torch", "ptflops", "thop")  # of MACs
FORMATS = {
    "Images": COUNT,
    **dict.fromkeys(
        ("In the release", "Contents", "Sizes", "Enlarged", "Copies across splits", "Copies within one"), COUNT
    ),
    "Rating SD": ".2f",
    "Train": COUNT,
    "Validation": COUNT,
    "Test": COUNT,
    "Worst": "g",
    "Best": "g",
    "MOS": ".2f",
    "MOS SD": ".2f",
    "p (Holm)": P_VALUE,
    "p": P_VALUE,
    **dict.fromkeys(("Classes", "Component"), COUNT),
    **dict.fromkeys(("Explained", "Cumulative"), ".1%"),
    **dict.fromkeys(("Prediction", "Error", "Bias", "Mean absolute error"), ".3g"),
    "Level": "g",
    **dict.fromkeys((*(f"Scale {number}" for number in range(1, 5)), "Entropy"), ".2f"),
    "Seeds": COUNT,
    "Statements": COUNT,
    "Seed": ".0f",
    "Parameters": COUNT,
    "Share": ".1%",
    "Parameters (M)": ".2fM",
    "Backbone (M)": ".2fM",
    "Heads (M)": ".2fM",
    "Weights made": COUNT,
    "Trainable (M)": ".2fM",
    "Trainable": COUNT,
    **dict.fromkeys(("GMACs", *(f"GMACs, {name}" for name in COUNTERS)), ".4gG"),
    **{f"MACs, {name}": COUNT for name in COUNTERS},
    **dict.fromkeys(("Batch", "Passes", "Quickest batch", "Largest batch"), COUNT),
    **dict.fromkeys(("Median (ms)", "Mean (ms)", "SD (ms)", "Min (ms)", "Max (ms)", "p95 (ms)"), ".1f"),
    "Latency (ms)": ".1f",
    "Images/s": ",.1f",
    **dict.fromkeys(("Memory (MiB)", "Scoring (MiB)", "Training (MiB)"), ",.1fB"),
    "Seconds": ",.1f",
}
SCALES = {"M": 1e6, "G": 1e9, "B": 2**20}
NUMBER = re.compile(rf"[<{MINUS}+-]?\d[\d,]*(\.\d+)?(e[+{MINUS}-]?\d+)?%?")
MARKDOWN_MARKS = re.compile(r"[\\|*_`$~]|<(?=[A-Za-z/!?])")
LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": "$|$",
    DASH: "--",
    MINUS: "$-$",
    TIMES: r"$\times$",
    ARROW: r"$\rightarrow$",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}
WIDE = 28  # characters of the longest cell from which on a LaTeX column of text has lines of its own


@dataclass(frozen=True)
class Interval:
    """A value with the low and high end of its interval, shown as `0.899 [0.880, 0.915]`."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return cell(self)


def missing(value: Any) -> bool:
    """Whether a value is not there: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number(value: float, form: str = DEFAULT_FORMAT) -> str:
    """A number as it is printed; a last letter M, G or B divides by 10^6, 10^9 or 2^20 first (`.2fM`).

    The format `p` is that of p-values: three decimals, and `<0.001` for what is less.
    """
    if form == P_VALUE:
        return "<0.001" if value < 0.001 else format(value, ".3f")
    return format(value / SCALES.get(form[-1], 1), form.rstrip("MGB")).replace("-", MINUS)


def cell(value: Any, form: str = DEFAULT_FORMAT) -> str:
    """One value of a table as it is printed: a number, an `Interval`, a text, or a dash where it is missing."""
    if missing(value):
        return DASH
    if isinstance(value, Interval):
        low, high = cell(value.low, form), cell(value.high, form)
        return f"{cell(value.value, form)} [{low}, {high}]"
    return str(value) if isinstance(value, str | bool) else number(value, form)


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, for a notebook."""
    return pd.DataFrame(
        {name: [cell(value, FORMATS.get(name, DEFAULT_FORMAT)) for value in table[name]] for name in table}
    )


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its numbers in full, an interval in three columns, for a CSV file."""
    columns: dict[str, list[Any]] = {}
    for name in table:
        intervals = [value for value in table[name] if isinstance(value, Interval)]
        columns[name] = [value.value if isinstance(value, Interval) else value for value in table[name]]
        for end in ("low", "high") if intervals else ():
            columns[f"{name}, {end}"] = [getattr(value, end, None) for value in table[name]]
    return pd.DataFrame(columns)


def markdown(shown: pd.DataFrame) -> str:
    """A table that is shown (`rounded`) as a Markdown pipe table; columns of numbers are set right."""

    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(MARKDOWN_MARKS.sub(r"\\\g<0>", _one_line(cell)) for cell in cells) + " |"

    rules = "| " + " | ".join("--:" if _of_numbers(shown[name]) else ":--" for name in shown) + " |"
    return "\n".join([line(shown), rules, *map(line, shown.itertuples(index=False))]) + "\n"


def latex(shown: pd.DataFrame, label: str, caption: str) -> str:
    r"""A table that is shown (`rounded`) as a LaTeX `table`; the document needs `\usepackage{booktabs}`.

    Columns of numbers are set right. Texts and intervals are set left; a column of long texts breaks its lines.

    Args:
        label: what `\ref` names, as it is.
        caption: plain text; it stands above the table.
    """
    columns = "".join(_latex_column(shown[name], len(shown.columns)) for name in shown)
    head, *rows = (_latex_row(row) for row in (shown, *shown.itertuples(index=False)))
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex_text(caption)}}}",
        rf"\label{{{label}}}",
        r"\centering\small",
        rf"\begin{{tabular}}{{{columns}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        *(r"\end{tabular}", r"\end{table}"),
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Iterable[str]) -> str:
    text = " & ".join(map(_latex_text, cells))
    return ("{}" if text.startswith(("[", "*")) else "") + text + r" \\"  # an argument of the line before, else


def _latex_text(text: object) -> str:
    return "".join(LATEX.get(mark, mark) for mark in _one_line(text))


def _latex_column(column: pd.Series, count: int) -> str:
    if _of_numbers(column):
        return "r"
    long = any(len(cell) > WIDE for cell in column)
    return rf"p{{{min(0.9, 1.4 / count):.2f}\linewidth}}" if long else "l"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _of_numbers(column: pd.Series) -> bool:
    """Whether a column of a shown table holds numbers and dashes only, a number at least."""
    cells = [cell for cell in column if cell != DASH]
    return bool(cells) and all(NUMBER.fullmatch(cell) for cell in cells)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame, their cells the objects that they are (`DataFrame.to_dict` makes them plain floats)."""
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.itertuples(index=False, name=None)]


def databases(audits: Iterable[dict[str, Any]], absent: Iterable[str] = ()) -> pd.DataFrame:
    """What each database holds, one row per `audit.json`; of those that are absent, the title and dashes."""
    rows = [
        {
            "Database": audit["title"],
            "Images": audit["n"],
            "Train": audit["splits"].get("train", {}).get("n"),
            "Validation": audit["splits"].get("val", {}).get("n"),
            "Test": audit["splits"].get("test", {}).get("n"),
            "Worst": audit["low"] if audit["higher_is_better"] else audit["high"],
            "Best": audit["high"] if audit["higher_is_better"] else audit["low"],
            "MOS": audit["mos"]["mean"],
            "MOS SD": audit["mos"]["std"],
            "Ceiling": audit["ceiling_srcc"],
        }
        for audit in audits
    ]
    return _table([*rows, *({"Database": f"{title} (not available)"} for title in absent)])


def audits(audits: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """What the audit counted in each database, one row per `audit.json`."""
    rows = []
    for audit in audits:
        here = {check["check"]: check["here"] for check in audit["checks"]}
        release = {check["check"]: check["release"] for check in audit["checks"]}
        deviation = audit["mos_std"] or {}
        rows.append(
            {
                "Database": audit["title"],
                "Images": here["images"],
                "In the release": release["images"],
                "Contents": here["references"],
                "Sizes": here["stored sizes"],
                "Enlarged": here["images that were enlarged"],
                "Copies across splits": here["images that occur in more than one split"],
                "Copies within one": here["images that occur more than once in a split"],
                "Rating SD": deviation.get("mean"),
            }
        )
    return _table(rows)


def main_result(metrics: dict[str, Any], audit: dict[str, Any]) -> pd.DataFrame:
    """Agreement with the MOS on the test split: one row from `metrics.json`, and the database's ceiling."""
    return _table([{"Database": audit["title"], **_agreement(metrics), "Ceiling": audit["ceiling_srcc"]}])


def ablation(ablation: pd.DataFrame) -> pd.DataFrame:
    """Groups of runs against the reference, with intervals, from `ablation.csv`.

    All columns, as a file holds them; on a page they are two, `ablation_verdicts` and `ablation_further`. A group that
    was not run has dashes, and the command that makes it as its verdict. Where the epoch was chosen is told if it
    was on the test images anywhere; what others published is told if there is any.
    """
    rows = records(ablation)
    on_test = any(row["chosen_on"] == "TEST" for row in rows)
    published = any(not missing(row.get("published_srcc")) for row in rows)
    return _table(
        {
            "Differs in": _differs(row),
            "Seeds": row["seeds"] or None,
            "SRCC": _interval_or_none(row["srcc_mean"], row["srcc_low"], row["srcc_high"]),
            "SD of seeds": row["srcc_std"],
            "PLCC": row["plcc_mean"],
            "SRCC difference": _interval_or_none(row["delta"], row["delta_low"], row["delta_high"]),
            "p (Holm)": row["p_holm"],
            "Verdict": f"not run: {row['command']}" if row["verdict"] == "not run" else row["verdict"],
            "Decision": row["decision"] or None,
            "Validation SRCC": row["val_srcc_mean"],
            **({"Chosen on": row["chosen_on"]} if on_test else {}),
            **({"Published SRCC": _published(row["published_srcc"])} if published else {}),
            **({"Published protocol": row["published_protocol"] or None} if published else {}),
        }
        for row in rows
    )


def ablation_verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of `ablation` that tell whether a group differs from the reference."""
    return ablation(frame)[["Differs in", "Seeds", "SRCC", "SRCC difference", "p (Holm)", "Verdict", "Decision"]]


def ablation_further(frame: pd.DataFrame) -> pd.DataFrame:
    """The other columns of `ablation`: spread, PLCC, validation and published values."""
    table = ablation(frame)
    return table.drop(columns=[name for name in ablation_verdicts(frame) if name != "Differs in"])


def _published(value: Any) -> Any:
    """A published number, or the text of several with each rounded as a number is."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\d+\.\d+", lambda found: number(float(found[0])), value) or None


def _differs(row: dict[str, Any]) -> str:
    """What a group differs in, after its name where the figures use one."""
    if row["verdict"] == "reference":
        return "reference"
    return row["differs"] if row["label"] == row["differs"] else f"{row['label']}: {row['differs']}"


def architecture(description: dict[str, Any]) -> pd.DataFrame:
    """The parts of a model in the order of the data flow, and their sum, from `architecture.json`.

    Outputs are channels x height x width. The weights that the hyper network generates are no parameters; they stand
    in its output.
    """
    generated = f"{description['generated_weights']:,.0f} weights"
    details = {
        "backbone": f"levels of an image of {shape(description['input'])}",
        "fusion": filled(description, "fusion", "words"),
        "semantic": f"1{TIMES}1 convolutions {_chain(description['semantic_widths'])}",
        "hyper": f"3{TIMES}3 convolutions and linear maps to the target network's weights and biases",
        "local": filled(description, "local", "words"),
        "target": f"{_chain(description['target_widths'])}, with the {generated} generated for each image",
    }
    outputs = {"backbone": None, "hyper": generated, "target": "score"}
    rows = []
    for part in description["parts"]:
        name, count = part["name"], part["parameters"]
        output = outputs.get(name, shape(part["output"]))
        rows.append((part["title"], details[name], output, count, count / description["parameters"]))
        if name == "backbone":
            rows += [_level(number, level) for number, level in enumerate(description["levels"], 1)]
    rows.append(("total", None, None, description["parameters"], 1.0))
    columns = ("Part", "Detail", "Output", "Parameters", "Share")
    return _table(dict(zip(columns, row, strict=True)) for row in rows)


def _level(number: int, level: dict[str, Any]) -> tuple:
    size = shape([level["channels"], level["height"], level["width"]])
    return f"level {number}", f"stride {level['stride']:.0f}", size, None, None


def filled(description: dict[str, Any], name: str, key: str) -> str:
    """What the fusion or the target input (`local`) of a model was registered with, its fields filled in."""
    part = next(part for part in description["parts"] if part["name"] == name)
    levels = dict(enumerate(description["levels"], 1))
    if name == "fusion":
        width, *grid = part["output"]
        used = [number for number, level in levels.items() if level["fused"]]
        fields = {"levels": _levels(used), "grid": shape(grid), "channels": f"{width / len(used):.0f}"}
    else:
        values = {number: level["local"] for number, level in levels.items() if level["local"] is not None}
        fields = {"levels": _levels(list(values or levels)), "values": " + ".join(f"{v:.0f}" for v in values.values())}
        channels = sum(levels[number]["channels"] for number in values or levels)
        fields |= {"channels": f"{channels:.0f}", "size": shape(part["output"])}
    return part[key].format(**fields)


def _levels(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"level {numbers[0]}"
    row = numbers[-1] - numbers[0] == len(numbers) - 1
    return f"levels {numbers[0]} to {numbers[-1]}" if row else f"levels {', '.join(map(str, numbers))}"


def shape(sizes: Iterable[float]) -> str:
    """Sizes with a multiplication sign between them: 256 x 56 x 56."""
    return TIMES.join(f"{size:.0f}" for size in sizes)


def _chain(widths: Iterable[float]) -> str:
    """Widths with an arrow between them."""
    return f" {ARROW} ".join(f"{width:.0f}" for width in widths)


def complexity(complexity: pd.DataFrame) -> pd.DataFrame:
    """Parameters and multiply-accumulates (MACs) of each run's model by the counters that were used."""
    counters = [name for name in COUNTERS if f"macs_{name}" in complexity]
    return _table(
        {
            "Run": row["run"],
            "Backbone": row["backbone"],
            "Fusion": row["fusion"],
            "Parameters (M)": row["parameters"],
            "Trainable (M)": row["trainable_parameters"],
            "Backbone (M)": row["backbone_parameters"],
            "Heads (M)": row["head_parameters"],
            "Weights made": row["generated_weights"],
            **{f"GMACs, {name}": row[f"macs_{name}"] for name in counters},
        }
        for row in records(complexity)
    )


def complexity_counts(frame: pd.DataFrame) -> pd.DataFrame:
    """`complexity` on a page that tells backbone and fusion elsewhere."""
    return complexity(frame).drop(columns=["Backbone", "Fusion"])


def counters(counters: pd.DataFrame, run: str | None = None) -> pd.DataFrame:
    """MACs by kind of operation and counter, and their sum, of all runs or of one, from `counters.csv`."""
    return _table(
        {
            **({"Run": row["run"]} if run is None else {}),
            "Operation": row["kind"],
            **{f"MACs, {counter}": row[f"macs_{counter}"] for counter in COUNTERS},
            "Missed by": _text(row["missed_by"]),
        }
        for row in records(counters)
        if run in (None, row["run"])
    )


def parts(parts: pd.DataFrame) -> pd.DataFrame:
    """Parameters and MACs of each part of each model, from `parts.csv`."""
    return _table(
        {
            "Run": row["run"],
            "Part": row["title"],
            "Parameters": row["parameters"],
            "Trainable": row["trainable_parameters"],
            "MACs, estimated": row["macs_estimated"],
            "MACs, torch": row["macs_torch"],
        }
        for row in records(parts)
    )


def latency(latency: pd.DataFrame) -> pd.DataFrame:
    """Time of one image, from `latency.csv`; where it could not be measured, the reason."""
    rows = [row for _, own in _by_setting(latency) for row in own if row["batch_size"] == 1]
    reasons = any(_text(row["reason"]) for row in rows)
    return _table(
        {
            **_setting(row),
            "Median (ms)": row["median_ms"],
            "Mean (ms)": row["mean_ms"],
            "SD (ms)": row["std_ms"],
            "Min (ms)": row["min_ms"],
            "Max (ms)": row["max_ms"],
            "p95 (ms)": row["p95_ms"],
            "Passes": row["passes"],
            **({"Reason": _text(row["reason"])} if reasons else {}),
        }
        for row in rows
    )


def throughput(latency: pd.DataFrame) -> pd.DataFrame:
    """The most images per second, the largest batch that ran and what stopped a larger one, from `latency.csv`."""
    rows = []
    for _, own in _by_setting(latency):
        ran = [row for row in own if not missing(row["images_per_second"])]
        quickest = max(ran, key=lambda row: row["images_per_second"], default={})
        largest = ran[-1] if ran else {}
        failed = [row for row in own if _text(row["reason"])]
        stopped = f"batch of {failed[0]['batch_size']:.0f}: {failed[0]['reason']}" if failed else None
        rows.append(
            {
                **_setting(own[0]),
                "Images/s": quickest.get("images_per_second"),
                "Quickest batch": quickest.get("batch_size"),
                "Largest batch": largest.get("batch_size"),
                "Memory (MiB)": largest.get("peak_bytes"),
                "Stopped by": stopped,
            }
        )
    return _table(rows)


def memory(memory: pd.DataFrame) -> pd.DataFrame:
    """Peak memory of scoring and of training, from `memory.csv`."""
    rows = records(memory)
    reasons = any(_text(row["reason"]) for row in rows)
    return _table(
        {
            "Run": row["run"],
            "Device": row["device"],
            "Precision": row["precision"],
            "Batch": row["batch_size"],
            "Scoring (MiB)": row["inference_bytes"],
            "Training (MiB)": row["training_bytes"],
            **({"Reason": _text(row["reason"])} if reasons else {}),
        }
        for row in rows
    )


def overview(overview: pd.DataFrame) -> pd.DataFrame:
    """Cost beside agreement of each run, measured and published, from `overview.csv`.

    All columns, as a file holds them; on a page they are two, `overview_costs` and `overview_agreement`.
    """
    rows = records(overview)
    devices = {row["device"] for row in rows}
    on_test = any(row["chosen_on"] == "TEST" for row in rows)
    published = any(not missing(row["published_srcc"]) for row in rows)
    return _table(
        {
            "Run": row["run"],
            "Backbone": row["backbone"],
            "Fusion": row["fusion"],
            "Parameters (M)": row["parameters"],
            "GMACs": row["macs_torch"],
            **({"Device": row["device"]} if len(devices) > 1 else {}),
            "Latency (ms)": row["latency_ms"],
            "Images/s": row["images_per_second"],
            **{
                name.upper(): _interval_or_none(row[name], row[f"{name}_low"], row[f"{name}_high"]) or row["status"]
                for name in ("srcc", "plcc")
            },
            **({"Chosen on": row["chosen_on"]} if on_test else {}),
            **{f"Published {name.upper()}": _published(row[f"published_{name}"]) for name in _if(published)},
            **({"Published protocol": _text(row["published_protocol"])} if published else {}),
        }
        for row in rows
    )


OVERVIEW_COSTS = ["Backbone", "Fusion", "Parameters (M)", "GMACs", "Latency (ms)", "Images/s"]


def overview_costs(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns of `overview` that tell what a model is and costs, and the SRCC that it reaches."""
    table = overview(frame)
    return table[[name for name in table if name in ("Run", "Device", "SRCC", *OVERVIEW_COSTS)]]


def overview_agreement(frame: pd.DataFrame) -> pd.DataFrame:
    """The other columns of `overview`, one row per run: agreement, measured and published."""
    table = overview(frame).drop(columns=OVERVIEW_COSTS)
    return table.drop(columns="Device", errors="ignore").drop_duplicates("Run").reset_index(drop=True)


def _if(published: bool) -> tuple[str, ...]:
    return ("srcc", "plcc") if published else ()


def where_measured(latency: pd.DataFrame) -> list[str]:
    """Each device with its hardware and software in words, from `latency.csv`."""
    rows = records(latency)
    return list(dict.fromkeys(f"{row['device']}: {row['hardware']}; {row['software']}" for row in rows))


def _by_setting(latency: pd.DataFrame) -> Iterable[tuple[Any, list[dict[str, Any]]]]:
    """The rows of each run, device, precision and compilation."""
    keys = ["run", "device", "precision", "compiled"]
    return [(key, records(own)) for key, own in latency.groupby(keys, sort=False)]


def _setting(row: dict[str, Any]) -> dict[str, Any]:
    return {"Run": row["run"], "Device": row["device"], "Precision": setting(row)}


def setting(row: dict[str, Any]) -> str:
    """Precision, and whether it is compiled, of a row of `latency.csv`."""
    return row["precision"] + (", compiled" if row["compiled"] else "")


def _text(value: Any) -> str | None:
    """A text that is not empty, or None."""
    return None if missing(value) else str(value) or None


def cross_database(cross: pd.DataFrame) -> pd.DataFrame:
    """SRCC and PLCC on databases that were not trained on, from `cross.csv`; dashes where one is not available."""
    return _table(
        {**_database(row), "Images": row["n"], **_with_intervals(row, "srcc", "plcc")} for row in records(cross)
    )


def cross_further(cross: pd.DataFrame) -> pd.DataFrame:
    """The other coefficients on these databases, from `cross.csv`, and the ceiling."""
    return _table(
        {**_database(row), **_with_intervals(row, "plcc_fitted", "krcc", "rmse"), "Ceiling": row["ceiling_srcc"]}
        for row in records(cross)
    )


def _database(row: dict[str, Any]) -> dict[str, Any]:
    not_run = isinstance(row["reason"], str) and row["reason"].startswith("not run")
    absent = "" if row["available"] else " (not run)" if not_run else " (not available)"
    return {"Model": row["model"], "Database": f"{row['title']}{absent}"}


def _with_intervals(row: dict[str, Any], *names: str) -> dict[str, Any]:
    titles = {"srcc": "SRCC", "plcc": "PLCC", "plcc_fitted": "PLCC, fitted", "krcc": "KRCC", "rmse": "RMSE"}
    return {titles[name]: _interval_or_none(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in names}


def breakdowns(breakdown: pd.DataFrame, model: str) -> dict[str, pd.DataFrame]:
    """Agreement of one model per distortion and per level, by title of the database, from `breakdown.csv`."""
    own = breakdown[breakdown["model"] == model]
    return {
        str(title): _table(
            {
                "Part": row["value"] if row["by"] == "distortion" else f"level {row['value']}",
                "Images": row["n"],
                **_with_intervals(row, "srcc", "plcc"),
            }
            for row in records(part)
        )
        for title, part in own.groupby("title", sort=False)
    }


def analysed(models: pd.DataFrame) -> pd.DataFrame:
    """The models that were looked into, from `models.csv`; one that is not trained has its command."""
    return _table(
        {
            "Model": row["model"],
            "Fusion": _text(row["fusion"]),
            "Weights made": row["weights"],
            "Scored": _text(row["crops"]),
            "Images": row["n"],
            "SRCC": row["srcc"],
            "Status": row["status"] + (f": {row['command']}" if _text(row["command"]) else ""),
        }
        for row in records(models)
    )


def separation(separation: pd.DataFrame) -> pd.DataFrame:
    """How well generated weights tell quality, content and distortion apart, from `separation.csv`.

    What is not available for the same reason has one row at the end, whichever the models and measures.
    """
    rows, lacking = [], {}
    for row in records(separation):
        if missing(row["value"]):
            lacking.setdefault((row["of"], row["reason"]), []).append(row["model"])
            continue
        told = {"Model": row["model"], "Of": row["of"], "Measure": row["measure"], "Classes": row["classes"]}
        interval = Interval(row["value"], row["low"], row["high"])
        rows.append(told | {"Images": row["n"], "Value": interval, "Chance": row["chance"], "Verdict": row["verdict"]})
    names = ("Measure", "Classes", "Images", "Value", "Chance")
    for (of, reason), models in lacking.items():
        about = {"Model": ", ".join(dict.fromkeys(models)), "Of": of, **dict.fromkeys(names)}
        rows.append(about | {"Verdict": f"not available: {reason}"})
    return _table(rows)


def variance(variance: pd.DataFrame) -> pd.DataFrame:
    """Share of the variance of each principal component of the generated weights, from `variance.csv`."""
    names = {"component": "Component", "explained": "Explained", "cumulative": "Cumulative"}
    return _table(
        {"Model": row["model"], **{title: row[name] for name, title in names.items()}} for row in records(variance)
    )


def attention_bands(bands: pd.DataFrame) -> pd.DataFrame:
    """Mean weight of each scale and the entropy of the weights in bands of MOS, from `bands.csv`."""
    rows = []
    for (model, _), own in bands.groupby(["model", "band"], sort=False):
        found = {row["quantity"]: row for row in records(own)}
        first = next(iter(found.values()))
        row = {"Model": model, "MOS of band": f"{first['from']:.4g} to {first['to']:.4g}", "Images": first["n"]}
        for quantity, each in found.items():
            if quantity != "deep":
                row[quantity.capitalize()] = Interval(each["mean"], each["low"], each["high"])
        rows.append(row)
    return _table(rows)


def attention_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """The statement on attention weights in parts and as a whole, from `attention.csv`."""
    return _table(
        {
            "Model": row["model"],
            "Part": row["part"],
            "Stated": row["stated"],
            "Found": _interval_or_none(row["value"], row["low"], row["high"]),
            "p": row["p_value"],
            "Verdict": row["verdict"],
        }
        for row in records(tests)
    )


def errors(errors: pd.DataFrame) -> pd.DataFrame:
    """Bias and mean absolute error of all images and of groups of them, from `errors.csv`."""
    return _table(
        {
            "By": row["by"],
            "Group": row["value"],
            "Images": row["n"],
            "Bias": Interval(row["bias"], row["bias_low"], row["bias_high"]),
            "Mean absolute error": Interval(row["mae"], row["mae_low"], row["mae_high"]),
            "Predicted": row["verdict"],
        }
        for row in records(errors)
    )


def cases(cases: pd.DataFrame) -> pd.DataFrame:
    """The images with the largest and smallest errors, from `cases.csv`, without what the database does not tell."""
    names = {"kind": "Kind", "image": "Image", "mos": "MOS", "mos_std": "Rating SD", "prediction": "Prediction"}
    names |= {"residual": "Error", "distortion": "Distortion", "level": "Level"}
    rows = records(cases)
    told = {name: title for name, title in names.items() if any(not missing(row[name]) for row in rows)}
    return _table({title: row[name] for name, title in told.items()} for row in rows)


def ceiling(ceiling: pd.DataFrame) -> pd.DataFrame:
    """What the model reaches beside what the rating noise allows, from `ceiling.csv`."""
    names = {"model": "the model", "simulated": "ceiling, simulated", "known": "ceiling, known quality"}
    return _table(
        {
            "Agreement of": names[row["what"]],
            "Images": row["n"],
            **_with_intervals(row, "srcc", "plcc"),
            "Reliability": row["reliability"],
            "Reason": _text(row["reason"]),
        }
        for row in records(ceiling)
    )


def published(published: pd.DataFrame) -> pd.DataFrame:
    """Published methods and measured ones, from `published.csv` of the report's run."""
    names = {"method": "Method", "backbone": "Backbone", "trained_on": "Trained on", "tested_on": "Tested on"}
    names |= {"srcc": "SRCC", "plcc": "PLCC", "protocol": "Protocol", "source": "Source"}
    return _table({title: row[name] for name, title in names.items()} for row in records(published))


def claims(claims: pd.DataFrame) -> pd.DataFrame:
    """Statements of the documents with what was found, from `claims.csv`."""
    return _table(
        {
            "Statement": f"{row['id']} ({row['source'].replace(' ', ', ')}): {row['claim']}",
            "Stated": row["stated"],
            "Found": f"{row['found']} [{row['basis']}]",
            "Verdict": row["verdict"],
        }
        for row in records(claims)
    )


def verdicts(claims: pd.DataFrame) -> pd.DataFrame:
    """How many statements have each verdict, and which, from `claims.csv`."""
    return _table(
        {"Verdict": verdict, "Statements": len(part), "Which": ", ".join(part["id"])}
        for verdict, part in claims.groupby("verdict", sort=False)
    )


def provenance(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """When, where, from which code and from which data each run was made, one row per `record.json`."""
    return _table(
        {
            "Step": record["step"],
            "Run": record["run"],
            "Started (UTC)": record["started"][:16].replace("T", " "),
            "Seconds": record["seconds"],
            "Machine": record.get("machine"),  # records of older code name none
            "Seed": record["seed"],
            "Commit": revision(record),
            "Data": ", ".join(f"{name} {value[:8]}" for name, value in record["data"].items()) or None,
        }
        for record in records
    )


def environment(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Packages and hardware of the runs; where they differ between runs, every value that occurs."""
    found: dict[str, list[str]] = {}
    for record in records:
        for name, value in {**record["hardware"], **record["versions"]}.items():
            text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
            values = found.setdefault(name, [])
            values += [text] if text not in values else []
    return _table(
        {"What": ENVIRONMENT_NAMES.get(name, name), "Value": "; ".join(values)} for name, values in found.items()
    )


def differing(records: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    """In what the places and packages of runs differ: the values, in order of appearance, of each that has several."""
    found: dict[str, list[str]] = {}
    for record in records:
        place = {"machine": record.get("machine", "not named"), "processor": record["hardware"]["cpu"]}
        place |= {"GPU": record["hardware"]["gpu"]} | {name: record["versions"].get(name) for name in DECIDING}
        for name, value in place.items():
            values = found.setdefault(name, [])
            values += [str(value or "none")] if str(value or "none") not in values else []
    return {name: values for name, values in found.items() if len(values) > 1}


DECIDING = ("python", "torch", "timm", "lightning", "numpy")  # packages whose version may change the numbers
ENVIRONMENT_NAMES = {"cpu": "processor", "memory_gb": "memory (GiB)", "gpu": "GPU"}


def revision(record: dict[str, Any]) -> str:
    """A record's commit, shortened, and whether the checkout differed from it."""
    if record["commit"] is None:
        return "unknown"
    return record["commit"][:7] + (" + changes" if record["dirty"] else "")


def _agreement(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "Images": row["n"],
        **_with_intervals(row, "srcc", "plcc"),
        "PLCC, fitted": row["plcc_fitted"],
        "KRCC": row["krcc"],
        "RMSE": row["rmse"],
    }


def _interval_or_none(value: float, low: float, high: float) -> Interval | None:
    return None if missing(value) else Interval(value, low, high)


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A frame whose cells stay the objects that they are."""
    return pd.DataFrame(list(rows), dtype=object)
