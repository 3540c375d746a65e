"""The tables of a study's report by name, each of which can be made alone, and as CSV, Markdown and LaTeX."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from iqa.analysis.params import AblationParams
from iqa.data.params import DataPrepParams
from iqa.report.params import ReportParams
from iqa.report.reader import Reader, ReportError
from iqa.show import ablation, analysis, complexity, cross_dataset, data_prep, report, tables, train
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.study.results import finished, write_text

Make = Callable[[], pd.DataFrame]


class Tables:
    """Every table of a report, made from the results when it is asked for: `tables["ablation/main"]`.

    Attributes:
        titles: what each table is, by its name.
        absent: databases of the study that are not on this machine, by name: title and reason.
    """

    def __init__(self, params: ReportParams, reader: Reader):
        self.params = params
        self.reader = reader
        self.absent = absent(params)
        self.titles: dict[str, str] = {}
        self._make: dict[str, tuple[tuple[str, str], Make]] = {}
        for name, (title, of_run, make) in self._listed():
            self.titles[name] = title
            self._make[name] = (of_run, make)

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self._known(name)[1]()

    def of_run(self, name: str) -> tuple[str, str]:
        """`(step, run)` of the run whose results hold the table."""
        return self._known(name)[0]

    def _known(self, name: str) -> tuple[tuple[str, str], Make]:
        if name not in self._make:
            raise ReportError(f"the report of '{self.params.study}' has no table '{name}': {', '.join(self.titles)}")
        return self._make[name]

    def _listed(self) -> Iterator[tuple[str, tuple[str, tuple[str, str], Make]]]:
        """Name, and title, run and function of each table, in the report's order."""
        params, read = self.params, self.reader
        here = [run for run in param_files.run_names(params.study, "data_prep") if run not in self.absent]
        audits = [("data_prep", run) for run in here]
        titles = [title for title, _ in self.absent.values()]
        trained = ("train", params.main)
        folder = "train/" + params.main

        def audit(run: str) -> dict[str, Any]:
            return read.record(f"data_prep/{run}/audit.json")

        def main() -> pd.DataFrame:
            metrics = read.record(f"{folder}/metrics.json")
            return train.main_result_table(metrics, audit(metrics["database"]))

        def records() -> list[dict[str, Any]]:
            return [read.record(f"{step}/{run}/record.json") for step, run in self.runs()]

        if here:
            yield "databases", ("Databases", audits[0], lambda: data_prep.databases_table(map(audit, here), titles))
            yield "audits", ("Audit of the databases", audits[0], lambda: data_prep.audits_table(map(audit, here)))
        shape = f"{folder}/architecture.json"
        yield "architecture", ("Parts of the model", trained, lambda: train.architecture_table(read.record(shape)))
        yield "main", ("Agreement with the MOS on the test images", trained, main)
        for run in self.ablations():
            title = param_files.load(AblationParams, params.study, run).title
            yield (
                f"ablation/{run}",
                (title, ("ablation", run), self._of(ablation.ablation_table, f"ablation/{run}/ablation.csv")),
            )
        counted = ("complexity", params.complexity)
        listed = (
            ("complexity", "Parameters and MACs", complexity.complexity_table, "complexity"),
            ("overview", "Cost and agreement", complexity.overview_table, "overview"),
            ("counters", "MACs by kind of operation", complexity.counters_table, "counters"),
            ("parts", "Parameters and MACs of the parts", complexity.parts_table, "parts"),
            ("latency", "Time of one image", complexity.latency_table, "latency"),
            ("throughput", "Throughput", complexity.throughput_table, "latency"),
            ("memory", "Peak memory", complexity.memory_table, "memory"),
        )
        yield from self._tables_of(counted, listed)
        crossed = ("cross_dataset", params.cross)
        file = "/".join(crossed) + "/cross.csv"
        yield "cross", ("Other databases", crossed, self._of(cross_dataset.cross_database_table, file))
        yield (
            "cross_further",
            ("Other databases: further measures", crossed, self._of(cross_dataset.cross_further_table, file)),
        )
        inside = ("analysis", params.analysis)
        listed = (
            ("inside", "Models that were looked into", analysis.analysed_table, "models"),
            ("weight_space", "What generated weights tell", analysis.separation_table, "separation"),
            ("components", "Principal components of generated weights", analysis.variance_table, "variance"),
            ("attention_bands", "Attention weights in bands of MOS", analysis.attention_bands_table, "bands"),
            ("attention", "The statement on attention weights", analysis.attention_tests_table, "attention"),
            ("errors", "Errors by kind of image", analysis.errors_table, "errors"),
            ("cases", "Images with the largest and smallest errors", analysis.cases_table, "cases"),
            ("ceiling", "Agreement and the ceiling of rating noise", analysis.ceiling_table, "ceiling"),
        )
        yield from self._tables_of(inside, listed)
        own = ("report", params.run)
        file = f"report/{params.run}"
        yield (
            "published",
            ("Published methods and this study", own, self._of(report.published_table, f"{file}/published.csv")),
        )
        settled = ("claims", params.claims)
        listed = (
            ("claims", "Claims and what holds", report.claims_table, "claims"),
            ("verdicts", "Verdicts on claims", report.verdicts_table, "claims"),
        )
        yield from self._tables_of(settled, listed)
        yield "provenance", ("Runs", own, lambda: report.provenance_table(records()))
        yield "environment", ("Hardware and versions", own, lambda: report.environment_table(records()))

    def _tables_of(
        self, of: tuple[str, str], listed: Iterable[tuple[str, str, Callable[[pd.DataFrame], pd.DataFrame], str]]
    ) -> Iterator[tuple[str, tuple[str, tuple[str, str], Make]]]:
        """The tables of one run, each given by its name, title, function and the name of its CSV file."""
        for name, title, function, csv in listed:
            yield name, (title, of, self._of(function, f"{'/'.join(of)}/{csv}.csv"))

    def _of(self, function: Callable[[pd.DataFrame], pd.DataFrame], file: str) -> Make:
        return lambda: self.reader.tabulate(function, file)

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

    def write(self, name: str, folder: Path) -> list[Path]:
        """Write a table as CSV (its numbers in full), Markdown and LaTeX (as they are shown); the files."""
        frame, title = self[name], self.titles[name]
        stem = name.replace("/", "_")
        shown = tables.rounded(frame)
        texts = {
            "csv": tables.plain(frame).to_csv(index=False),
            "md": tables.markdown(shown),
            "tex": tables.latex(shown, label=f"tab:{stem}", caption=title),
        }
        folder.mkdir(parents=True, exist_ok=True)
        files = {folder / f"{stem}.{kind}": text for kind, text in texts.items()}
        for file, text in files.items():
            write_text(file, text)
        return list(files)

    def write_all(self, folder: Path) -> list[Path]:
        """Write every table that has rows, and return the files; the folder holds nothing else afterwards."""
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for name in self.titles:
            if not self[name].empty:
                self.write(name, part)
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
        return sorted(folder.iterdir())


def of_study(study: str) -> Tables:
    """The tables of a study that has one report.

    Raises:
        ParameterError: the study has no report, or several.
    """
    reports = param_files.run_names(study, "report")
    if len(reports) != 1:
        raise ParameterError(f"params/{study}/report/ holds {len(reports)} files, not one: {', '.join(reports)}")
    params = param_files.load(ReportParams, study, reports[0])
    assert isinstance(params, ReportParams)
    return Tables(params, Reader(study))


def table_folder(study: str) -> Path:
    """Where the tables of a study are written."""
    return paths.REPORT / study / "tables"


def absent(params: ReportParams) -> dict[str, tuple[str, str]]:
    """Databases of the study of which there are no results because they are not on this machine: title and reason."""
    from iqa.data.releases import absent, title

    found = {}
    for step, run in params.needs():
        if step == "data_prep" and not finished(params.study, step, run):
            prepared = param_files.load(DataPrepParams, params.study, run)
            reason = absent(prepared)
            if reason is not None:
                found[run] = (title(prepared), reason)
    return found
