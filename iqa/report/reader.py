"""Read the result files of a study. Every number remembers its file and key."""

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

import pandas as pd

from iqa.report import older, untrained
from iqa.show import tables
from iqa.study import param_files, paths
from iqa.study.echo import cut
from iqa.study.results import RECORD, ResultsError, command_for, finished, result_file


class ReportError(RuntimeError):
    """The report cannot be built; the message names what is missing and, where it can, how to make it."""


class Sourced(float):
    """A number that remembers where it was read.

    Attributes:
        source: file, key and exact value: `results/demo/train/main_s1/metrics.json : srcc = 0.8991`.
    """

    source: str

    def __new__(cls, value: float, source: str) -> "Sourced":
        number = super().__new__(cls, value)
        number.source = source
        return number


class Record(dict):
    """The values of a JSON object; asking for a key that it lacks is an error that names the file."""

    def __init__(self, values: dict[str, Any], file: str):
        super().__init__(values)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise ReportError(
            f"{self.file} has no key '{key}'; its keys here are: {', '.join(self) or 'none'}. "
            "Where an older version wrote the file, make its run again"
        )


class Reader:
    """Reads the result files of one study, each named from the study's folder: `train/main_s1/metrics.json`.

    Args:
        own: folder of the report's own run, which is not finished while it renders the report.
    """

    def __init__(self, study: str, own: Path | None = None):
        self.study = study
        self.own = own
        self._untrained = cache(partial(untrained.record, study))
        self._ablation = cache(partial(untrained.ablation, study))

    def path(self, file: str) -> Path:
        """A results file.

        Raises:
            ReportError: it is missing, or is not the file that its run wrote; names the command that makes it.
        """
        step, run, name = file.split("/")
        if step == "report":  # of the run that renders the report, whose record comes last
            path = (self.own or paths.run_folder(self.study, step, run)) / name
            if path.is_file():
                return path
        try:
            return result_file(self.study, step, run, name)
        except ResultsError as error:
            raise ReportError(str(error)) from None

    def wrote(self, file: str) -> bool:
        """Whether a run writes the file, by the record of a finished one, which an older version may have made."""
        step, run, name = file.split("/")
        record = paths.run_folder(self.study, step, run) / RECORD
        if step == "report" or name == RECORD or not record.is_file():
            return True
        return name in self.record(f"{step}/{run}/{RECORD}")["outputs"]

    def shown(self, file: str) -> str:
        """The file as it is named in messages and in the report."""
        return f"results/{self.study}/{file}"

    def _parse(self, file: str, parse: Callable[[IO[str]], Any]) -> Any:
        """What a file holds."""
        step, run, _ = file.split("/")
        try:
            with self.path(file).open(encoding="utf-8") as text:
                return parse(text)
        except (ValueError, RecursionError) as error:
            what, command = cut(str(error).splitlines()[0]), command_for(self.study, step, run)
            raise ReportError(f"{self.shown(file)} cannot be read ({what}); make it again with: {command}") from None

    def record(self, file: str) -> dict[str, Any]:
        """A JSON file; keys of its numbers are dotted (`splits.train.n`).

        Of a training or comparison that is not made: what its parameters decide of it, with their file as the source.
        """
        step, run, name = file.split("/")
        if not finished(self.study, step, run):
            values = self._untrained(step, run, name)
            if values is not None:
                return self._sourced(values, paths.shown(param_files.params_file(self.study, step, run)))
        if name == "loss.json" and not self.wrote(file):
            return self._sourced(older.describe_loss(self.study, run), self.shown(f"{step}/{run}/params.json"))
        values = self._parse(file, json.load)
        if not isinstance(values, dict):
            command = command_for(self.study, step, run)
            raise ReportError(f"{self.shown(file)} holds no JSON object; make it again with: {command}")
        values = older.complete_architecture(values) if name.startswith("architecture") else values
        return self._sourced(values, self.shown(file))

    def rows(self, file: str) -> pd.DataFrame:
        """A CSV file; the key of a number is the row's first cell, with its place if that repeats, and the column.

        Of a comparison that is not made: its groups, and published values with their file as the source; of an
        evaluation on other databases: its models and databases.
        """
        step, run, name = file.split("/")
        source = self.shown(file)
        if name == "ablation.csv" and not finished(self.study, step, run):
            frame, source = self._ablation(run), "report/published.csv"
        elif name == "cross.csv" and not finished(self.study, step, run):
            frame = untrained.cross(self.study, run)
        else:
            frame = self._parse(file, partial(pd.read_csv, keep_default_na=False, na_values=[""]))
        repeats = frame.iloc[:, 0].duplicated(keep=False)
        rows = []
        for place, row in enumerate(frame.astype(object).to_dict("records")):
            name = next(iter(row.values()))
            name = f"{name} (row {place + 1})" if repeats[place] else name
            rows.append({key: self._sourced(value, source, f"{name}, {key}") for key, value in row.items()})
        return pd.DataFrame(rows, columns=frame.columns, dtype=object)

    def tabulate(self, function: Callable[[pd.DataFrame], Any], file: str) -> Any:
        """What a function makes of a CSV file."""
        try:
            return function(self.rows(file))
        except KeyError as error:
            raise ReportError(f"{self.shown(file)} has no column {error}") from None

    def value(self, file: str, key: str) -> Any:
        """What a JSON file holds under a dotted key."""
        value: Any = self.record(file)
        for part in key.split("."):
            if not isinstance(value, Record):
                raise ReportError(f"{self.shown(file)}: key '{key}' goes too deep at '{part}'")
            value = value[part]
        if tables.missing(value):
            raise ReportError(f"{self.shown(file)}: key '{key}' holds no value ({value})")
        return value

    def _sourced(self, value: Any, file: str, key: str = "") -> Any:
        if isinstance(value, dict):
            inner = {name: self._sourced(item, file, f"{key}.{name}".strip(".")) for name, item in value.items()}
            return Record(inner, file)
        if isinstance(value, list):
            return [self._sourced(item, file, f"{key}.{place}".strip(".")) for place, item in enumerate(value)]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return Sourced(value, f"{file} : {key} = {value}")
        return value
