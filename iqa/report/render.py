"""Render the report of a study: `report/report.md.j2` filled with results, as HTML and PDF, and `summary.json`.

The template is Markdown with Jinja. Every number in it is read from a file under `results/<study>/` and remembers
which one; a number, file, figure, reference or citation that is missing stops the build with an error naming it.
The same results give the same bytes.
"""

import json
import os
import re
import shutil
import traceback
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
import pypandoc
import typst

from iqa.analysis.params import AblationParams
from iqa.report.appendix import Tables
from iqa.report.params import ReportParams
from iqa.report.reader import Reader, ReportError, Sourced
from iqa.show import ablation, complexity, cross_dataset, report, tables
from iqa.show.tables import Interval
from iqa.study import param_files, paths

TEMPLATE = "report.md.j2"
MARKDOWN_MARKS = re.compile(r"([\\`*_{}\[\]<>$@#|~^\"'])")


class Writer:
    """The functions of the template: each turns something that was read into Markdown.

    Args:
        reader: where numbers and figures come from.
        folder: the build folder; figures are copied into it, so that the renderers see one folder only.
    """

    def __init__(self, reader: Reader, folder: Path):
        self.reader = reader
        self.folder = folder

    def num(self, file: str, key: str, form: str = tables.DEFAULT_FORMAT) -> str:
        """A number of a JSON file."""
        value = self.reader.value(file, key)
        if not isinstance(value, Sourced):
            raise ReportError(f"{self.reader.shown(file)}: key '{key}' holds {value!r}, which is not a number")
        return self.show(value, form)

    def text(self, file: str, key: str) -> str:
        """A text of a JSON file."""
        value = self.reader.value(file, key)
        if not isinstance(value, str):
            raise ReportError(f"{self.reader.shown(file)}: key '{key}' holds {value!r}, which is not a text")
        return self.show(value)

    def show(self, value: Any, form: str = tables.DEFAULT_FORMAT) -> str:
        """A value that was read: numbers with their source, intervals as three numbers, texts as they are."""
        if isinstance(value, Interval):
            low, high = self.show(value.low, form), self.show(value.high, form)
            return rf"{self.show(value.value, form)} \[{low}, {high}\]"
        text = tables.cell(value, form)
        if isinstance(value, Sourced) and not tables.missing(value):
            return f'[{text}]{{.num title="{_plain(value.source)}"}}'
        return MARKDOWN_MARKS.sub(r"\\\1", text)

    def table(self, frame: pd.DataFrame, label: str, caption: str) -> str:
        """A table of values, each column rounded as `iqa.show.tables` says; columns of numbers are set right."""
        if frame.empty:
            raise ReportError(f"the table '{label}' has no rows")
        rules = ["--:" if _numeric(frame[name]) else ":--" for name in frame]
        lines = [[self.show(str(name)) for name in frame], rules]
        for row in frame.itertuples(index=False):
            forms = [tables.FORMATS.get(name, tables.DEFAULT_FORMAT) for name in frame]
            lines.append([self.show(value, form) for value, form in zip(row, forms, strict=True)])
        grid = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{grid}\n\n: {caption} {{#{label}}}\n"

    def figure(self, file: str, label: str, caption: str, width: str = "100%") -> str:
        """A figure of a run's folder: `train/main_s1/curves.svg`."""
        name = file.replace("/", "_")
        shutil.copyfile(self.reader.path(file), self.folder / name)
        return f"![{caption}]({name}){{#{label} width={width}}}\n"

    def link(self, text: str, file: str, anchor: str) -> str:
        """A link from the report to a place in a file of a run's folder: a section of an executed notebook."""
        path = Path(os.path.relpath(self.reader.path(file), self.folder.parent)).as_posix()
        return f"[{self.show(text)}]({quote(path)}#{quote(anchor)})"


def render(params: ReportParams) -> dict[str, Path]:
    """Build `report.html`, `report.pdf`, `summary.json` and the folder `tables` of a study from its results.

    A run that the study's parameter files name writes to `report/<study>/`, its summary to `results/<study>/`; any
    other, such as `scratch`, to its own results folder, and leaves the study's report as it is.

    What an earlier build left is removed first; the new files appear only when all of them are complete.

    Returns:
        Paths by name: `html`, `pdf`, `summary`, and each file of `tables/`.

    Raises:
        ReportError: something that the report needs is missing or does not fit; the message names it.
    """
    official = params.run in param_files.run_names(params.study, "report")
    own = paths.run_folder(params.study, params.step, params.run)
    target = paths.REPORT / params.study if official else own
    outputs = {
        "html": target / "report.html",
        "pdf": target / "report.pdf",
        "summary": (paths.RESULTS / params.study if official else own) / "summary.json",
    }
    for path in outputs.values():
        path.unlink(missing_ok=True)
    shutil.rmtree(target / "tables", ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    reader = Reader(params.study)
    with TemporaryDirectory(prefix=".build-", dir=target) as name:
        folder = Path(name)
        markdown = folder / "report.md"
        markdown.write_text(_fill(params, reader, folder), encoding="utf-8")
        _to_html(markdown, folder / "report.html")
        _to_pdf(markdown, folder / "report.pdf")
        (folder / "summary.json").write_text(json.dumps(summary(params, reader), indent=2) + "\n", encoding="utf-8")
        written = Tables(params, reader).write_all(target / "tables")
        for path in outputs.values():
            (folder / path.name).replace(path)
    return outputs | {f"tables/{file.name}": file for file in written}


def summary(params: ReportParams, reader: Reader) -> dict[str, Any]:
    """The study's main numbers for other tools: `study`, `synthetic`, `main`, `cross` and `commit`."""
    metrics_file = f"train/{params.main}/metrics.json"
    keys = ("srcc", "srcc_low", "srcc_high", "plcc", "plcc_low", "plcc_high", "n", "seconds")
    main = {key: reader.value(metrics_file, key) for key in keys}
    cross = reader.rows(f"cross_dataset/{params.cross}/cross.csv")
    columns = ["model", "database", "available", "n", "srcc", "srcc_low", "srcc_high", "plcc", "plcc_low", "plcc_high"]
    lacking = [column for column in columns if column not in cross]
    if lacking:
        raise ReportError(f"{reader.shown(f'cross_dataset/{params.cross}/cross.csv')} lacks {', '.join(lacking)}")
    return {
        "study": params.study,
        "synthetic": reader.value(metrics_file, "synthetic"),
        "main": {
            "run": params.main,
            "database": reader.value(metrics_file, "database"),
            "select_on": reader.value(metrics_file, "select_on"),
            **_bare(main),
        },
        "cross": [_bare(row) for row in tables.records(cross[columns])],
        "commit": reader.record(f"train/{params.main}/record.json")["commit"],
    }


def _bare(values: dict[str, Any]) -> dict[str, Any]:
    """Values for JSON: plain numbers, a count as an integer, and null for what is missing."""

    def plain(name: str, value: Any) -> Any:
        if tables.missing(value):
            return None
        if isinstance(value, Sourced):
            return int(value) if name == "n" else float(value)
        return value

    return {name: plain(name, value) for name, value in values.items()}


def _fill(params: ReportParams, reader: Reader, folder: Path) -> str:
    """The template as Markdown, its figures beside it in `folder`."""
    writer = Writer(reader, folder)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.REPORT),
        undefined=jinja2.StrictUndefined,
        comment_start_string="{##",  # `{#` starts a label
        comment_end_string="##}",
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["show"] = writer.show
    functions = {name: getattr(writer, name) for name in ("num", "text", "table", "figure", "link")}
    try:
        return environment.get_template(TEMPLATE).render(**functions, **_context(params, reader))
    except ReportError as error:
        raise ReportError(str(error)) from None  # without the template's frames, which Python tools cannot read
    except jinja2.TemplateError as error:
        places = traceback.extract_tb(error.__traceback__)
        lines = [getattr(error, "lineno", None), *(p.lineno for p in reversed(places) if p.filename.endswith(TEMPLATE))]
        line = next((line for line in lines if line), "?")
        raise ReportError(f"report/{TEMPLATE}, line {line}: {error}") from None


def _context(params: ReportParams, reader: Reader) -> dict[str, Any]:
    """What the template can speak about besides the numbers of single files."""
    metrics = reader.record(f"train/{params.main}/metrics.json")  # the one training that a report cannot do without
    listed = Tables(params, reader)
    audits = {
        run: reader.record(f"data_prep/{run}/audit.json")
        for run in param_files.run_names(params.study, "data_prep")
        if run not in listed.absent
    }
    database = metrics["database"]
    if database not in audits:
        raise ReportError(f"{reader.shown(f'train/{params.main}/metrics.json')}: no data_prep run '{database}'")
    files = {
        "complexity": f"complexity/{params.complexity}/complexity.csv",
        "cross": f"cross_dataset/{params.cross}/cross.csv",
        "claims": f"claims/{params.claims}/claims.csv",
        "published": f"report/{params.run}/published.csv",
    }
    ablations = {run: _ablation(run, reader) for run in listed.ablations()}
    parts = reader.rows(f"cross_dataset/{params.cross}/breakdown.csv")
    train = reader.record(f"train/{params.main}/params.json")
    found = {name: tables.records(reader.rows(file)) for name, file in files.items()}
    return {
        "params": params,
        "database": database,
        "audits": audits,
        "absent": listed.absent,
        "metrics": metrics,
        "prepared": {run: reader.record(f"data_prep/{run}/params.json") for run in audits},
        "cross_params": reader.record(f"cross_dataset/{params.cross}/params.json"),
        "train": train,
        "loss_terms": reader.record(f"train/{params.main}/loss.json")["terms"],
        "model": reader.record(f"train/{params.main}/architecture.json"),
        "before": reader.record(f"train/{params.main}/architecture_before.json"),
        **found,
        "ablations": ablations,
        "verdicts": dict(Counter(row["verdict"] for row in found["claims"])),
        "commits": sorted({report.revision(reader.record(f"{step}/{run}/record.json")) for step, run in listed.runs()}),
        "unfinished": listed.unfinished(),
        "mixed": _mixed(params, reader, listed),
        "tables": listed,
        "cost": _cost(params, reader),
        "breakdowns": cross_dataset.breakdown_tables(parts, found["cross"][0]["model"]),
        "inside": _inside(params, reader),
    }


def _ablation(run: str, reader: Reader) -> dict[str, Any]:
    """Parameters, rows and both tables of one comparison."""
    file = f"ablation/{run}/ablation.csv"
    return {
        "params": reader.record(f"ablation/{run}/params.json"),
        "rows": tables.records(reader.rows(file)),
        "verdicts": reader.tabulate(ablation.ablation_verdicts_table, file),
        "further": reader.tabulate(ablation.ablation_further_table, file),
    }


def _mixed(params: ReportParams, reader: Reader, listed: Tables) -> dict[str, dict[str, list[str]]]:
    """Comparisons of trainings that were made on different machines or with different versions, by title: in what."""
    finished = set(listed.runs())
    found = {}
    for run in listed.ablations():
        needs = [need for need in param_files.load(AblationParams, params.study, run).needs() if need in finished]
        if differing := report.differing(reader.record(f"{step}/{name}/record.json") for step, name in needs):
            found[listed.titles[f"ablation/{run}"]] = differing
    return found


def _cost(params: ReportParams, reader: Reader) -> dict[str, Any]:
    """What the chapter on complexity shows besides whole tables; operations are those of one model, the report's own
    if it was counted."""
    folder = f"complexity/{params.complexity}"
    counters = reader.rows(f"{folder}/counters.csv")
    runs = list(counters["run"].unique())
    run = params.main if params.main in runs else runs[0]
    return {
        "costs": reader.tabulate(complexity.overview_costs_table, f"{folder}/overview.csv"),
        "agreement": reader.tabulate(complexity.overview_agreement_table, f"{folder}/overview.csv"),
        "counts": reader.tabulate(complexity.complexity_counts_table, f"{folder}/complexity.csv"),
        "run": run,
        "operations": complexity.counters_table(counters, run),
        "where": complexity.where_measured(reader.rows(f"{folder}/latency.csv")),
    }


def _inside(params: ReportParams, reader: Reader) -> dict[str, Any]:
    """What the chapter on the inside of a model says in words besides whole tables: values of single rows."""
    folder = f"analysis/{params.analysis}"
    rows = {
        name: tables.records(reader.rows(f"{folder}/{name}.csv"))
        for name in ("models", "separation", "variance", "attention", "errors", "ceiling")
    }
    shares: dict[str, list[dict[str, Any]]] = {}
    for row in rows["variance"]:
        shares.setdefault(row["model"], []).append(row)
    return {
        **rows,
        "shares": shares,
        "about": reader.record(f"{folder}/analysis.json"),
        "params": reader.record(f"{folder}/params.json"),
        "ceilings": {row["what"]: row for row in rows["ceiling"]},
        "wholes": [row for row in rows["attention"] if row["part"] == "the claim as a whole"],
    }


def _plain(text: str) -> str:
    """A text inside the double quotes of a Markdown attribute."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _numeric(column: pd.Series) -> bool:
    return all(tables.missing(value) or isinstance(value, float | int | Interval) for value in column)


def _pandoc(markdown: Path, to: str, output: Path, *options: str) -> None:
    """Convert with citations and references resolved; every warning of pandoc is an error."""
    shared = [
        "--standalone",
        "--fail-if-warnings",
        "--number-sections",
        "--wrap=none",
        "--columns=100000",  # never split a table's width by the length of its Markdown
        f"--lua-filter={paths.REPORT / 'xref.lua'}",
        "--citeproc",
        f"--bibliography={paths.REPORT / 'references.bib'}",
        "--metadata=link-citations=true",
        "--metadata=lang=en",
        f"--resource-path={markdown.parent}",
    ]
    try:
        pypandoc.convert_file(
            str(markdown), to, format="markdown", outputfile=str(output), extra_args=[*shared, *options]
        )
    except RuntimeError as error:
        raise ReportError(f"report/{TEMPLATE} as {output.name}: {error}") from None


def _to_html(markdown: Path, output: Path) -> None:
    """One file that holds its style and figures, and formulas as MathML."""
    style = f"--css={paths.REPORT / 'style.css'}"
    _pandoc(
        markdown, "html5", output, "--embed-resources", "--mathml", "--section-divs", "--toc", "--toc-depth=1", style
    )


def _to_pdf(markdown: Path, output: Path) -> None:
    """A4 through typst, with the fonts that come inside it, so that every machine makes the same pages."""
    source = markdown.with_suffix(".typ")
    _pandoc(markdown, "typst", source, f"--template={paths.REPORT / 'template.typ'}")
    try:
        typst.compile(source, output=output, root=markdown.parent, ignore_system_fonts=True, timestamp=0)
    except typst.TypstError as error:
        raise ReportError(f"report/{TEMPLATE} as {output.name}: {error.diagnostic or error}") from error
