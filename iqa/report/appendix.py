"""The tables of a study's report by name, each of which can be made alone, and as CSV, Markdown and LaTeX."""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from iqa.analysis.params import AblationParams
from iqa.analysis.published import title as title_of
from iqa.data import releases
from iqa.data.params import DataPrepParams
from iqa.report.params import ReportParams
from iqa.report.reader import Reader, Record, ReportError
from iqa.show import ablation, analysis, complexity, cross_dataset, data_prep, report, tables, train
from iqa.show.tables import Table
from iqa.study import param_files
from iqa.study.disk import write_whole
from iqa.study.params import ParameterError
from iqa.study.results import command_for, finished
from iqa.training.params import TrainParams

# in the report's order
LISTED = (*data_prep.TABLES, *train.TABLES, *ablation.TABLES, *complexity.TABLES, *cross_dataset.TABLES)
LISTED += (*analysis.TABLES, *report.TABLES)
# files that parameters alone do not decide
MEASURED = ("train/metrics", "train/breakdown", "ablation/dynamics", "cross_dataset/")
MEASURED += ("complexity/", "claims/", "analysis/")
END = "% end of a table\n"
COLUMNS = 85  # characters of a line of LaTeX's usual size; lines break in wider tables
# faces of LaTeX in which a table is set until it fits: points of a digit, and of the text's width (A4, 25 mm margins)
FACES = {"": (5.0, 455), r"\footnotesize": (4.25, 455), r"\scriptsize": (3.75, 455)}
FACES |= {r"\begin{landscape}\footnotesize": (4.25, 700), r"\begin{landscape}\scriptsize": (3.75, 700)}
FACES |= {r"\begin{landscape}\tiny": (2.85, 700)}


class Tables:
    """Every table of a report, made from the results when it is asked for: `tables["ablation/main"]`.

    Attributes:
        titles: what each table is, by its name.
        absent: databases of the study that are not prepared on this machine, by name: title and reason.
        here: the names of the others; of several splits of one database, the first and that of the main run.
        splits: how many splits there are of databases with several, by title.
        chapters: the run of each step that has a chapter, by step; an empty name where there is none.
    """

    def __init__(self, params: ReportParams, reader: Reader):
        self.params, self.reader = params, reader
        self.absent = absent(params)
        self._listed: dict[str, tuple[Table, str, str]] = {}
        self._tables: dict[str, pd.DataFrame] = {}
        prepared = param_files.experiments(params.study, "data_prep").values()
        self.splits = {title_of(params.study, runs[0]): len(runs) for runs in prepared if runs[1:]}
        shown = {runs[0] for runs in prepared} | {param_files.load(TrainParams, params.study, params.main).database}
        self.shown = [run for runs in prepared for run in runs if run in shown]
        self.here = [run for run in self.shown if run not in self.absent]
        self.chapters = params.chapters()
        runs = {step: [run] if run else [] for step, run in self.chapters.items()}
        runs |= {"data_prep": [*self.here, *self.absent][:1], "train": [params.main], "ablation": self.ablations()}
        self._runs = runs | {"report": [params.run]}
        for table in LISTED:
            step = table.files[0].partition("/")[0]
            complete = all(self._runs[file.partition("/")[0]] or "/baselines." in file for file in table.files)
            for run in self._runs[step] if complete else []:
                if not self.reader.wrote(table.files[0].replace("/", f"/{run}/")):
                    continue
                named = table
                if step == "ablation":  # a table of each comparison, with the title of that
                    title = param_files.load(AblationParams, params.study, run).title + table.title
                    named = table._replace(name=f"{table.name}/{run}", title=title)
                self._listed[named.name] = named, step, run
        self.titles = {name: table.title for name, (table, _, _) in self._listed.items()}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._tables:
            made = self._tables[name] = self._make(name)
            made.attrs |= {"run": "/".join(self.of_run(name)), "file": f"tables/{name.replace('/', '_')}.csv"}
        return self._tables[name]

    def _make(self, name: str) -> pd.DataFrame:
        table, step, run = self._find(name)
        runs = self._runs | {step: [run]}
        files = [file.replace("/", f"/{''.join(runs[file.partition('/')[0]][:1])}/") for file in table.files]
        if self._waits(name):
            self.reader.path(files[0])  # says how to make it
        try:
            return table.make(*map(self._read, files))
        except LookupError as error:  # the files are not as the code of now writes them
            read = ", ".join(map(self.reader.shown, files))
            raise ReportError(f"the table '{name}' needs {error}, which {read} lacks; make its run again") from None

    def _read(self, file: str) -> Any:
        """What `Table.make` is called with for a file."""
        name = file.rpartition("/")[2]
        gathered = {"audit.json": self._databases, "baselines.csv": lambda: self.baselines}
        gathered |= {"records": lambda: self.records, "experiments": self.experiments}
        if name in gathered:
            return gathered[name]()
        return self.reader.rows(file) if name.endswith(".csv") else self.reader.record(file)

    def of_run(self, name: str) -> tuple[str, str]:
        """`(step, run)` of the run whose results hold the table."""
        return self._find(name)[1:]

    def made(self) -> list[str]:
        """The names of the tables that have rows, without those that wait for a training or a database."""
        return [name for name in self.titles if not self._waits(name) and not self[name].empty]

    def _waits(self, name: str) -> bool:
        table, step, run = self._find(name)
        return table.files[0].startswith(MEASURED) and not self.is_made(step, run)

    def is_made(self, step: str, run: str) -> bool:
        """Whether a run of the study is finished; of a step without runs, named by an empty text, it is not."""
        return bool(run) and finished(self.params.study, step, run)

    def _find(self, name: str) -> tuple[Table, str, str]:
        if name not in self._listed:
            raise ReportError(f"the report of '{self.params.study}' has no table '{name}': {', '.join(self.titles)}")
        return self._listed[name]

    @cached_property
    def audits(self) -> Record:
        """`audit.json` of each database that is here, by name."""
        found = {run: self.reader.record(f"data_prep/{run}/audit.json") for run in self.here}
        return Record(found, self.reader.shown("data_prep"))

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """`baselines.csv` beside the report's cross-database results; no rows where there is none (yet)."""
        file = f"cross_dataset/{self.params.cross}/baselines.csv"
        here = self.is_made("cross_dataset", self.params.cross) and self.reader.wrote(file)
        return self.reader.rows(file) if here else pd.DataFrame()

    def _databases(self) -> Record:
        """The audits, and `title` and `absent` (the reason) of each database that is absent."""
        absent = {run: self.absent[run] for run in self.shown if run in self.absent}
        facts = {run: {"title": title, "absent": reason} for run, (title, reason) in absent.items()}
        missing = {run: Record(values, f"{self.audits.file}/{run}") for run, values in facts.items()}
        return Record(self.audits | missing, self.audits.file)

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """`record.json` of each run that the report is made of."""
        return [self.reader.record(f"{step}/{run}/record.json") for step, run in self.runs()]

    def experiments(self) -> dict[str, dict[str, Any]]:
        """Each training experiment of the study, that of the main run first: its seeds, and its parameters by group."""
        study, found = self.params.study, {}
        main = param_files.experiment_of(study).get(self.params.main)
        known = param_files.experiments(study)
        files = param_files.runs_of(study, "train")
        for name in sorted(known, key=lambda name: name != main):
            runs = [param_files.load(TrainParams, study, run, known=files) for run in known[name]]
            found[name] = {"seeds": list(dict.fromkeys(params.seed for params in runs))}
            found[name]["parameters"] = runs[0].by_group()
            splits = [params.database for params in runs]
            if len(set(splits)) > 1:
                found[name]["parameters"]["data"]["database"] = f"{splits[0]} to {splits[-1]}"
        return found

    def runs(self) -> list[tuple[str, str]]:
        """`(step, run)` of what the report is made of: all that is finished."""
        return [(step, run) for step, run in self.params.needs() if finished(self.params.study, step, run)]

    def unfinished(self) -> list[str]:
        """Training runs of the study that are not finished."""
        study = self.params.study
        return [run for run in param_files.run_names(study, "train") if not finished(study, "train", run)]

    def ablations(self) -> list[str]:
        """The ablation runs of the study, that of the report's chapter first."""
        first = self.chapters["ablation"]
        names = param_files.run_names(self.params.study, "ablation")
        return sorted(names, key=lambda name: name != first)

    def write(self, names: Iterable[str], folder: Path) -> list[Path]:
        """Write tables as CSV (their numbers in full), Markdown and LaTeX (as they are shown); the files."""
        frames = {name.replace("/", "_"): self[name] for name in names}
        titles = {name.replace("/", "_"): title for name, title in self.titles.items()}
        markdown = {name: tables.markdown(frame) for name, frame in frames.items()}
        texts = {f"{name}.csv": tables.plain(frame).to_csv(index=False) for name, frame in frames.items()}
        texts |= {f"{name}.md": text for name, text in markdown.items()}
        texts |= {f"{name}.tex": text for name, text in latex(markdown, titles).items()}
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_whole(folder / name, text)
        return sorted(folder / name for name in texts)


def latex(markdown: dict[str, str], captions: dict[str, str]) -> dict[str, str]:
    """Tables in Markdown as LaTeX by their name; pandoc converts all of them at once.

    A document needs the packages `longtable`, `booktabs`, `array`, `calc` and `pdflscape`. A table that is too wide for
    its words has a smaller face, and at last lies across the page. A reference names `tab:<name>`.

    Args:
        captions: plain text by name; it stands above the table.
    """
    import pypandoc

    end = f"```{{=latex}}\n{END}```\n"
    labelled = (f"{table}\n: {tables.escape(captions[name])} {{#tab:{name}}}\n" for name, table in markdown.items())
    options = ["--wrap=none", f"--columns={COLUMNS}", "--fail-if-warnings"]
    found = pypandoc.convert_text(
        f"\n{end}".join(labelled), "latex", format="markdown-raw_html-raw_tex", extra_args=options
    )
    texts = zip(markdown, found.split(END), strict=True)
    return {name: _in_face(text.strip(), face(markdown[name])) for name, text in texts}


def face(markdown: str) -> str:
    """The first of `FACES` in which every word of a table in Markdown fits its column."""
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in markdown.splitlines()]
    widths = [len(rule.strip().strip(":")) for rule in rows[1]]  # columns of LaTeX are as wide in proportion
    cells = [[cell for row in (rows[0], *rows[2:]) for cell in row[place : place + 1]] for place in range(len(widths))]
    words = [max((len(word) for cell in column for word in cell.split()), default=1) for column in cells]
    needed = sum(widths) * max(word / width for word, width in zip(words, widths, strict=True))
    room = {name: (width - 6 * (len(widths) - 1)) / digit for name, (digit, width) in FACES.items()}
    return next((name for name, characters in room.items() if needed <= characters), list(FACES)[-1])


def _in_face(text: str, name: str) -> str:
    if not name:
        return f"{text}\n"
    end = "\\end{landscape}\n" if "landscape" in name else ""
    return f"{{{name}\\setlength{{\\tabcolsep}}{{3pt}}\n{text}\n{end}}}\n"


def of_study(study: str) -> Tables:
    """The tables of a study that has one report.

    Raises:
        ParameterError: the study has no report, or several.
    """
    reports = param_files.run_names(study, "report")
    if len(reports) != 1:
        raise ParameterError(f"params/{study}/report/ holds {len(reports)} files, not one: {', '.join(reports)}")
    return Tables(param_files.load(ReportParams, study, reports[0]), Reader(study))


def absent(params: ReportParams) -> dict[str, tuple[str, str]]:
    """Databases of the study of which there are no results: title and reason, such as that they are not here."""
    found = {}
    for step, run in params.needs():
        if step == "data_prep" and not finished(params.study, step, run):
            database = param_files.load(DataPrepParams, params.study, run)
            unprepared = f"it is not prepared; make it with: {command_for(params.study, step, run)}"
            found[run] = releases.title(database), releases.absent(database) or unprepared
    return found
