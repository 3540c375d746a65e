"""The tables of a study's report by name, each of which can be made alone, and as CSV, Markdown and LaTeX."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from iqa.analysis.params import AblationParams
from iqa.data.params import DataPrepParams
from iqa.report import older
from iqa.report.params import ReportParams
from iqa.report.reader import Reader, Record, ReportError
from iqa.show import ablation, analysis, complexity, cross_dataset, data_prep, report, tables, train
from iqa.show.tables import Table
from iqa.study import param_files, paths
from iqa.study.disk import write_whole
from iqa.study.params import ParameterError
from iqa.study.results import finished
from iqa.training.params import TrainParams

LISTED = (*data_prep.TABLES, *train.TABLES, *ablation.TABLES, *complexity.TABLES, *cross_dataset.TABLES)
LISTED += (*analysis.TABLES, *report.TABLES)  # in the report's order
END = "% end of a table\n"


class Tables:
    """Every table of a report, made from the results when it is asked for: `tables["ablation/main"]`.

    Attributes:
        titles: what each table is, by its name.
        absent: databases of the study that are not on this machine, by name: title and reason.
        here: the names of the others.
    """

    def __init__(self, params: ReportParams, reader: Reader):
        self.params, self.reader = params, reader
        self.absent = absent(params)
        self._listed: dict[str, tuple[Table, str, str]] = {}
        self.here = [run for run in param_files.run_names(params.study, "data_prep") if run not in self.absent]
        runs = {"data_prep": self.here[:1], "train": [params.main], "ablation": self.ablations()}
        runs |= {"complexity": [params.complexity], "cross_dataset": [params.cross], "analysis": [params.analysis]}
        runs |= {"claims": [params.claims], "report": [params.run], "runs": [params.run], "experiments": [params.run]}
        for table in LISTED:
            step = table.files[0].partition("/")[0]
            for run in runs[step]:
                if step == "ablation":  # a table of each comparison, with the title of that
                    title = param_files.load(AblationParams, params.study, run).title
                    table = table._replace(name=f"ablation/{run}", title=title)
                self._listed[table.name] = table, step, run
        self.titles = {name: table.title for name, (table, _, _) in self._listed.items()}

    def __getitem__(self, name: str) -> pd.DataFrame:
        table, _, run = self._find(name)
        files = [file.replace("/", f"/{run}/") for file in table.files]
        try:
            return self._make(table, files)
        except LookupError as error:  # the files are not as the code of now writes them
            read = ", ".join(map(self.reader.shown, files))
            raise ReportError(f"the table '{name}' needs {error}, which {read} lacks; make its run again") from None

    def _make(self, table: Table, files: list[str]) -> pd.DataFrame:
        if files[0].endswith(".csv"):
            others = [self.baselines for _ in files[1:]]
            return self.reader.tabulate(lambda frame: table.make(frame, *others), files[0])
        special = {"data_prep": self._databases, "runs": lambda: self.records, "experiments": self.experiments}
        special |= {"cross_dataset": lambda: self.baselines}
        read = (special.get(file.partition("/")[0], lambda file=file: self.reader.record(file))() for file in files)
        return table.make(*read)

    def of_run(self, name: str) -> tuple[str, str]:
        """`(step, run)` of the run whose results hold the table."""
        _, step, run = self._find(name)
        return "report" if step in ("runs", "experiments") else step, run

    def _find(self, name: str) -> tuple[Table, str, str]:
        if name not in self._listed:
            raise ReportError(f"the report of '{self.params.study}' has no table '{name}': {', '.join(self.titles)}")
        return self._listed[name]

    @cached_property
    def audits(self) -> Record:
        """`audit.json` of each database that is not absent, by name."""
        found = {run: self.reader.record(f"data_prep/{run}/audit.json") for run in self.here}
        return Record(found, self.reader.shown("data_prep"))

    @cached_property
    def baselines(self) -> pd.DataFrame:
        """`baselines.csv` beside the report's cross-database results; no rows where there is none (yet)."""
        study, step, run, file = self.params.study, "cross_dataset", self.params.cross, "baselines.csv"
        here = finished(study, step, run) and not older.lacks(study, step, run, file)
        return self.reader.rows(f"{step}/{run}/{file}") if here else pd.DataFrame()

    def _databases(self) -> Record:
        """The audits, and `title` and `absent` (the reason) of each database that is absent."""
        facts = {run: {"title": title, "absent": reason} for run, (title, reason) in self.absent.items()}
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
        for name in sorted(known, key=lambda name: name != main):
            runs = [param_files.load(TrainParams, study, run) for run in known[name]]
            found[name] = {"seeds": [params.seed for params in runs], "parameters": runs[0].by_group()}
        return found

    def runs(self) -> list[tuple[str, str]]:
        """`(step, run)` of what the report is made of: all but absent databases and trainings that are not finished."""
        left_out = {("data_prep", run) for run in self.absent} | {("train", run) for run in self.unfinished()}
        return [run for run in self.params.needs() if run not in left_out]

    def unfinished(self) -> list[str]:
        """Training runs of the study that are not finished."""
        study = self.params.study
        return [run for run in param_files.run_names(study, "train") if not finished(study, "train", run)]

    def ablations(self) -> list[str]:
        """The ablation runs of the study, that of the report's chapter first."""
        first = self.params.ablation
        return [first, *(run for run in param_files.run_names(self.params.study, "ablation") if run != first)]

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

    A document needs the packages `longtable`, `booktabs`, `array` and `calc`. A reference names `tab:<name>`.

    Args:
        captions: plain text by name; it stands above the table.
    """
    import pypandoc

    end = f"```{{=latex}}\n{END}```\n"
    labelled = (f"{table}\n: {tables.escape(captions[name])} {{#tab:{name}}}\n" for name, table in markdown.items())
    options = ["--wrap=none", "--columns=120", "--fail-if-warnings"]  # lines break in tables wider than 120 characters
    found = pypandoc.convert_text(
        f"\n{end}".join(labelled), "latex", format="markdown-raw_html-raw_tex", extra_args=options
    )
    return {name: f"{text.strip()}\n" for name, text in zip(markdown, found.split(END), strict=True)}


def of_study(study: str) -> Tables:
    """The tables of a study that has one report.

    Raises:
        ParameterError: the study has no report, or several.
    """
    reports = param_files.run_names(study, "report")
    if len(reports) != 1:
        raise ParameterError(f"params/{study}/report/ holds {len(reports)} files, not one: {', '.join(reports)}")
    return Tables(param_files.load(ReportParams, study, reports[0]), Reader(study))


def table_folder(study: str) -> Path:
    """Where the tables of a study are written."""
    return paths.REPORT / study / "tables"


def absent(params: ReportParams) -> dict[str, tuple[str, str]]:
    """Databases of the study of which there are no results because they are not on this machine: title and reason."""
    from iqa.data.releases import absent, title

    runs = [run for step, run in params.needs() if step == "data_prep" and not finished(params.study, step, run)]
    prepared = {run: param_files.load(DataPrepParams, params.study, run) for run in runs}
    reasons = {run: absent(values) for run, values in prepared.items()}
    return {run: (title(prepared[run]), reason) for run, reason in reasons.items() if reason is not None}
