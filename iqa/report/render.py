"""Render the report of a study: `report/report.md.j2` filled with results, as HTML and PDF, and `summary.json`.

The template is Markdown with Jinja. Every number in it is read from a file under `results/<study>/` and shows which
one. A number, file, figure, reference or citation that is missing stops the build with an error that names it.
The same results give the same bytes.
"""

import re
import shutil
import traceback
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
import pypandoc
import typst

from iqa.analysis import published
from iqa.analysis.params import AblationParams
from iqa.metrics.verdicts import EQUIVALENT
from iqa.model.heads import HEADS, HyperNetwork, LinearMap, StaticNetwork
from iqa.report import claims
from iqa.report.appendix import Tables
from iqa.report.beside import POLICY, Beside
from iqa.report.evidence import Measured
from iqa.report.params import TEXT_FOLDER, ReportParams
from iqa.report.reader import Reader, Record, ReportError, Sourced
from iqa.show import report, tables
from iqa.show.cross_dataset import breakdown_tables
from iqa.show.tables import Interval
from iqa.study import folders, param_files, paths, types
from iqa.study.echo import quoted
from iqa.study.results import ResultsError, RunFolder, command_for, write_json
from iqa.training.params import TrainParams
from iqa.training.weights import mismatches

LATE = ("complexity", "claims")  # steps whose chapters wait for their results; the others show what is planned
TEMPLATE = "report.md.j2"
# in messages of pandoc and xref.lua
UNRESOLVED = re.compile(r"citation (\S+) not found|label '#?([^']+)'|resource (\S+)")
FORMULA_OR_CITATION = re.compile(r"(\$[^$`\n]+\$|\[@\w[\w:-]*\])")
# what no text that was read may bring into the page, should it ever be read as Markdown
READER = "markdown-raw_html-raw_tex-raw_attribute-native_divs-native_spans-markdown_in_html_blocks-latex_macros"
COEFFICIENTS = ["srcc", "srcc_low", "srcc_high", "plcc", "plcc_low", "plcc_high"]


class Text(str):
    """A text that was read: as it is when it is compared, and with Markdown's marks escaped when it is written.

    A name of a run, which no mark can stand in, is written as it is, so that paths are made of it.
    """

    def __str__(self) -> str:
        plain = str.__str__(self)
        return plain if types.NAME.fullmatch(plain) else re.sub("^( ?)([-+:%=])", r"\1\\\2", tables.escape(plain))


def texts(value: Any) -> Any:
    """Plain values with every text in them, keys too, as `Text`."""
    if isinstance(value, dict):
        inner = {texts(key): texts(item) for key, item in value.items()}
        return Record(inner, value.file) if isinstance(value, Record) else inner
    if isinstance(value, list | tuple):
        return [texts(item) for item in value]
    return Text(value) if isinstance(value, str) else value


class Rows(list):
    """The rows of a table; asking for one that it lacks is an error that names the file."""

    def __init__(self, rows: list[dict[str, Any]], file: str):
        super().__init__(rows)
        self.file = file

    def __getitem__(self, place: Any) -> Any:
        try:
            return super().__getitem__(place)
        except IndexError:
            raise ReportError(f"{self.file} has no row {place}, but {len(self)} in all; make its run again") from None


class Writer:
    """The functions of the template: each gives what was read, or Markdown of it.

    What is read reaches the template as `Text` alone (`texts`); so no mark in a result is read as Markdown.

    Args:
        reader: where numbers and figures come from.
        folder: the build folder; figures are copied into it, so that the renderers see one folder only.
        beside: makes links from the report to files and notebooks.
    """

    def __init__(self, reader: Reader, folder: Path, beside: Beside):
        self.reader = reader
        self.folder = folder
        self.beside = beside

    def num(self, file: str, key: str, form: str = tables.DEFAULT_FORMAT) -> str:
        """A number of a JSON file."""
        value = self.reader.value(file, key)
        if not isinstance(value, Sourced):
            raise ReportError(f"{self.reader.shown(file)}: key '{key}' holds {value!r}, which is not a number")
        return self.show(value, form)

    def show(self, value: Any, form: str = tables.DEFAULT_FORMAT) -> str:
        """A value that was read: a number with its source, an interval as three numbers, a text as it is."""
        if isinstance(value, Interval):
            low, high = self.show(value.low, form), self.show(value.high, form)
            return rf"{self.show(value.value, form)} \[{low}, {high}\]"
        text = tables.markdown_cell(value, form)
        if isinstance(value, Sourced) and not tables.missing(value):
            self.beside.file(value.source.partition(" : ")[0])
            return f'[{text}]{{.num title="{tables.escape(value.source)}"}}'
        if isinstance(value, report.Noted) and value.files:
            files = [file if self.beside.file(file) else f"{file} (not here)" for file in value.files]
            note = f'[{tables.escape(value.note)}]{{.files title="{tables.escape("; ".join(files))}"}}'
            return tables.escape(value.removesuffix(value.note)) + note
        return text

    def table(self, frame: pd.DataFrame, label: str, caption: str) -> str:
        """A table with the sources of its numbers."""
        if frame.empty:
            raise ReportError(f"the table '{label}' has no rows")
        run, file = frame.attrs.get("run", ""), frame.attrs.get("file", "")
        source = f" {self.beside.table(run, file)}" if run else ""
        kind = " .claims" if file == "tables/claims.csv" else ""

        def write(value: Any, form: str) -> str:
            section = getattr(value, "section", "")
            return self.link(str(value), f"{run}/notebook.ipynb", section) if section else self.show(value, form)

        return f"{tables.markdown(frame, write)}\n: {caption}{source} {{#{label}{kind}}}\n"

    def source(self, run: str, name: str) -> str:
        """The line for a table that the template writes itself of a file of a run, `<step>/<run>`."""
        return self.beside.table(run, self.reader.shown(f"{run}/{name}"))

    def record(self, file: str) -> dict[str, Any]:
        """The values of a JSON file."""
        return texts(self.reader.record(file))

    def rows(self, file: str) -> list[dict[str, Any]]:
        """The rows of a CSV file."""
        return Rows(texts(tables.records(self.reader.rows(file))), self.reader.shown(file))

    def breakdowns(self, file: str, model: str) -> dict[str, pd.DataFrame]:
        """Tables of one model by title of the database, from a CSV file."""
        parts = texts(self.reader.tabulate(lambda frame: breakdown_tables(frame, model), file))
        for part in parts.values():
            part.attrs |= {"run": file.rpartition("/")[0], "file": self.reader.shown(file)}
        return parts

    def figure(self, file: str, label: str, caption: str, width: str = "100%") -> str:
        """A figure of a run's folder: `train/main_s1/curves.svg`."""
        name = file.replace("/", "_")
        shutil.copyfile(self.reader.path(file), self.folder / name)
        return f"![{caption} {self.beside.figure(file)}]({name}){{#{label} width={width}}}\n"

    def code(self, value: str) -> str:
        """A text in the type of programs."""
        return f"`{tables.one_line(str.__str__(value)).replace('`', chr(39)).strip() or '-'}`"

    def words(self, value: str) -> str:
        """A sentence that the code was registered with: formulas and citations in it are read, other marks are not."""
        parts = FORMULA_OR_CITATION.split(str.__str__(value))
        parts[::2] = [tables.escape(part).replace("\\'", "'") for part in parts[::2]]
        return "".join(parts)

    def tex(self, value: str) -> str:
        """A formula that the code was registered with."""
        formula = str.__str__(value)
        if not re.fullmatch(r"[^$`\n]*", formula):
            raise ReportError(f"{quoted(formula)}: a formula is one line without $ and `; make its run again")
        return formula

    def link(self, text: str, file: str, anchor: str) -> str:
        """A link from the report to a place in a file of a run's folder: a section of an executed notebook."""
        step, run, _ = file.split("/")
        self.reader.path(file)
        return f"[{self.show(text)}]({self.beside.notebook(step, run)}#{quote(anchor)})"


def render(params: ReportParams, out: RunFolder | None = None) -> dict[str, Path]:
    """Build `report.html`, `report.pdf`, `summary.json` and what lies beside the report from the results of a study.

    The folder of the report can be put on any static web host as it is: `index.html` leads to the report, which links
    to `tables/`, to `notebooks/` (executed notebooks as pages) and to `files/` (results and parameters that it names).

    A run that the study's parameter files name writes to `report/<study>/`, its summary to `results/<study>/`. Any
    other, such as `scratch`, writes to its own results folder and leaves the study's report as it is.

    What an earlier build left stays until all new files are complete.

    Args:
        out: folder of the run that renders the report; its `finish` puts the files into their places. Without it they
            are put there at once.

    Returns:
        Paths by name: `html`, `pdf`, `summary`, and each other file by its place in the report's folder.

    Raises:
        ReportError: something that the report needs is missing or does not fit; the message names it.
    """
    official = params.run in param_files.run_names(params.study, "report")
    target = summary_folder = paths.run_folder(params.study, params.step, params.run)
    if official:
        target, summary_folder = paths.REPORT / params.study, paths.RESULTS / params.study
    outputs = {"html": target / "report.html", "pdf": target / "report.pdf"}
    outputs["summary"] = summary_folder / "summary.json"
    staged = out.staged if out else Path
    listed = Tables(params, Reader(params.study, out and out.path))
    beside = Beside(params.study, target)
    staged(target).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".build-", dir=staged(target)) as name:
        folder = Path(name)
        markdown = folder / "report.md"
        markdown.write_text(_fill(listed, folder, beside), encoding="utf-8")
        for step, run in listed.runs():
            beside.notebook(step, run)
        try:
            _to_html(markdown, folder / "report.html", beside.notebooks)
            _to_pdf(markdown, folder / "report.pdf")
        except ReportError as error:
            raise ReportError(f"{_culprit(str(error), params.texts())}{error}") from None
        write_json(folder / "summary.json", summary(listed))
        written = [*listed.write(listed.made(), folder / "tables"), *beside.write(folder)]
        names = [file.relative_to(folder) for file in written]
        for part in sorted({path.parts[0] for path in names if path.parts[1:]}):
            folders.remove(staged(target / part))
            (folder / part).replace(staged(target / part))
        for path in (*outputs.values(), *(target / path for path in names if not path.parts[1:])):
            (folder / path.name).replace(staged(path))
    return outputs | {path.as_posix(): target / path for path in names}


def summary(listed: Tables) -> dict[str, Any]:
    """The study's main numbers for other tools: `study`, `synthetic`, `main`, `cross` and `commit`.

    Where the main run is not finished its numbers are null, and so is `commit`; without an evaluation `cross` is empty.
    """
    params, reader, crossed = listed.params, listed.reader, listed.chapters["cross_dataset"]
    file, trained = f"train/{params.main}/metrics.json", listed.is_made("train", params.main)
    about = {key: reader.value(file, key) for key in ("database", "select_on")}
    main = {key: reader.value(file, key) if trained else None for key in (*COEFFICIENTS, "n", "seconds")}
    columns, cross = ["model", "database", "available", "n", "seeds", "covers", *COEFFICIENTS], pd.DataFrame()
    if listed.is_made("cross_dataset", crossed):
        cross = reader.tabulate(lambda frame: frame[columns], f"cross_dataset/{crossed}/cross.csv")
    return {
        "study": params.study,
        "synthetic": reader.value(file, "synthetic"),
        "main": {"run": params.main, **about, **_plain(main)},
        "cross": [_plain(row) for row in tables.records(cross)],
        "commit": reader.record(f"train/{params.main}/record.json")["commit"] if trained else None,
    }


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Values for JSON: plain numbers, a count as an integer, and null for what is missing."""

    def plain(name: str, value: Any) -> Any:
        if tables.missing(value):
            return None
        kind = int if name in ("n", "seeds") else float
        return kind(value) if isinstance(value, Sourced) else value

    return {name: plain(name, value) for name, value in values.items()}


def _fill(listed: Tables, folder: Path, beside: Beside) -> str:
    """The template as Markdown, its figures beside it in `folder`."""
    writer = Writer(listed.reader, folder, beside)
    own = jinja2.FileSystemLoader(paths.PARAMS / listed.params.study / TEXT_FOLDER)
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.FileSystemLoader(paths.REPORT), jinja2.PrefixLoader({"text": own})]),
        undefined=jinja2.StrictUndefined,
        comment_start_string="{##",  # `{#` starts a label
        comment_end_string="##}",
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(writer, name) for name in ("show", "code", "words", "tex")}
    names = ("num", "table", "record", "rows", "breakdowns", "figure", "link", "source")
    functions = {name: getattr(writer, name) for name in names} | {"wrote": listed.reader.wrote}
    try:
        return environment.get_template(TEMPLATE).render(**functions, **_context(listed))
    except ReportError as error:
        place = _place(error)  # without the template's frames, which Python tools cannot read
        raise ReportError(f"{place}: {error}" if ".md, " in place else str(error)) from None
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ReportError(f"{_place(error)}: {error}") from None


def _place(error: Exception) -> str:
    """The template, or the text of a study, in which an error arose, with its line."""
    frames = traceback.extract_tb(error.__traceback__)
    found = [(Path(frame.filename), frame.lineno) for frame in frames if Path(frame.filename).suffix in (".j2", ".md")]
    if isinstance(error, jinja2.TemplateSyntaxError) and error.filename:
        found.append((Path(error.filename), error.lineno))
    file, line = found[-1] if found else (paths.REPORT / TEMPLATE, "?")
    return f"{paths.shown(file)}, line {line}"


def _culprit(message: str, files: list[Path]) -> str:
    """Where a study's own texts hold the citation, reference or picture that a message of pandoc names, if they do."""
    names = {name for found in UNRESOLVED.findall(message) for name in found if name}
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if any(name in line for name in names):
                return f"{paths.shown(file)}, line {number}: "
    return ""


def _context(listed: Tables) -> dict[str, Any]:
    """What the template can speak about besides the files that it reads."""
    database = listed.reader.value(f"train/{listed.params.main}/metrics.json", "database")
    read = {
        "params": listed.params.model_dump(),
        "audits": listed.audits,
        "absent": {title: reason.replace("`", "") for title, reason in listed.absent.values()},
        "database_title": published.title(listed.params.study, database),
        "trainings": len(param_files.run_names(listed.params.study, "train")),
        "unfinished": listed.unfinished(),
        "commits": sorted({report.revision(record) for record in listed.records}),
        "accepted": Counter(filter(None, map(report.last_reason, listed.records))),
        "out_of_date": _out_of_date(listed),
        "mixed": _mixed(listed),
        "mismatches": _mismatches(listed.params.study),
        "baselines": tables.records(listed.baselines),
    }
    command = partial(command_for, listed.params.study)
    words = ("name", "title", "words", "formula")
    waiting = {
        step: run for step, run in listed.chapters.items() if step in LATE and run and not listed.is_made(step, run)
    }
    found = {"tables": listed, "verdicts": claims.VERDICTS, "equivalent": EQUIVALENT}
    found |= {"chosen": listed.chapters | dict.fromkeys(waiting, ""), "waiting": waiting}
    found |= {"clearer": claims.clearer, "telling": claims.telling, "hyper_network": partial(_hyper_network, listed)}
    read["heads"] = [{key: getattr(head, key) for key in words} for head in HEADS.values()]
    return texts(read) | found | {"made": listed.is_made, "command": command}


def _hyper_network(listed: Tables) -> str | None:
    """The verdict on the hyper network against simpler heads, on any database; None where they were not compared."""
    others = {f"head: {head.name}" for head in (StaticNetwork, LinearMap)}
    try:
        found = Measured(listed.params.study, "").judge_value(f"head: {HyperNetwork.name}", others)
    except ResultsError:  # a training that a table compared is not here any more
        return None
    return found and found.verdict


def _mismatches(study: str) -> list[str]:
    """In what the input of trainings differs from that of the weights which they start from, each once."""
    known = param_files.runs_of(study, "train")
    trainings = [param_files.load(TrainParams, study, run, known=known) for run in known]
    return list(dict.fromkeys(text for params in trainings for text in mismatches(params)))


def _out_of_date(listed: Tables) -> dict[str, list[str]]:
    """Runs whose results would come out differently now, with the reasons, as the runner noted before it started."""
    params = listed.params
    name = f"{params.step}/{params.run}/out_of_date.json"
    folder = listed.reader.own or paths.run_folder(params.study, params.step, params.run)
    return listed.reader.record(name) if (folder / "out_of_date.json").is_file() else {}


def _mixed(listed: Tables) -> dict[str, dict[str, list[str]]]:
    """Comparisons of trainings that were made on different machines or with different versions, by title: in what."""
    found = {}
    for run in listed.ablations():
        needs = param_files.load(AblationParams, listed.params.study, run).needs()
        records = [record for record in listed.records if (record["step"], record["run"]) in needs]
        if differing := report.differing(records):
            found[listed.titles[f"ablation/{run}"]] = differing
    return found


def _pandoc(markdown: Path, to: str, output: Path, *options: str) -> None:
    """Convert with citations and references resolved; every warning of pandoc is an error."""
    shared = ["--standalone", "--fail-if-warnings", "--number-sections", "--wrap=none", "--citeproc"]
    shared += ["--columns=100000"]  # never split a table's width by the length of its Markdown
    shared += [f"--lua-filter={paths.REPORT / 'xref.lua'}", f"--bibliography={paths.REPORT / 'references.bib'}"]
    shared += ["--metadata=link-citations=true", "--metadata=lang=en", f"--resource-path={markdown.parent}"]
    extra = [*shared, *options]
    try:
        pypandoc.convert_file(str(markdown), to, format=READER, outputfile=str(output), extra_args=extra)
    except RuntimeError as error:
        lines = [line[:200] for line in dict.fromkeys(str(error).splitlines())]
        raise ReportError("\n".join([f"report/{TEMPLATE} as {output.name}: {lines[0]}", *lines[1:5]])) from None


def _to_html(markdown: Path, output: Path, notebooks: Iterable[str]) -> None:
    """One file that holds its style, script and figures, and formulas as MathML.

    Args:
        notebooks: the names of the pages of notebooks that are beside it.
    """
    script = (paths.REPORT / "report.js").read_text(encoding="utf-8").strip()
    allowed = b64encode(sha256(script.encode()).digest()).decode()  # this script alone may run
    options = ["--embed-resources", "--mathml", "--section-divs", "--toc", "--toc-depth=2"]
    options += [f"--template={paths.REPORT / 'template.htm'}", f"--css={paths.REPORT / 'style.css'}"]
    variables = {"script": script, "policy": f"{POLICY}; script-src 'sha256-{allowed}'"}
    variables["notebooks"] = " ".join(notebooks)
    options += [f"--variable={name}:{value}" for name, value in variables.items()]
    _pandoc(markdown, "html5", output, *options)


def _to_pdf(markdown: Path, output: Path) -> None:
    """A4 through typst, with the fonts that come inside it, so that every machine makes the same pages."""
    source = markdown.with_suffix(".typ")
    _pandoc(markdown, "typst", source, f"--template={paths.REPORT / 'template.typ'}")
    try:
        typst.compile(source, output=output, root=markdown.parent, ignore_system_fonts=True, timestamp=0)
    except typst.TypstError as error:
        raise ReportError(f"report/{TEMPLATE} as {output.name}: {error.diagnostic or error}") from error
