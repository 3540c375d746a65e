"""What a study has measured of the claims: ablation tables, trainings and latencies. Missing results are no error."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from iqa.claims.facts import DATABASE
from iqa.data import prepare
from iqa.data.params import DataPrepParams
from iqa.data.releases import RELEASES
from iqa.show.tables import missing, number
from iqa.study import param_files
from iqa.study.results import finished, read_json, read_table

SWAPPED = {
    "better": "worse",
    "worse": "better",
    "not distinguishable": "not distinguishable",
    "one seed only": "one seed only",
}

CHANGED = re.compile(r"(?:^|, )([a-z_]+): ")


@dataclass(frozen=True)
class Contrast:
    """A row of an ablation table: one configuration against the table's reference, on one database.

    Args:
        database: its title, and how much of it the study has if not all.
        synthetic: whether no person has rated its images.
        first, second: the configuration and the reference, as experiments.
        differs: what is changed, such as `fusion: last`.
        base: the values of the changed parameters in the reference, in the same form.
        delta, low, high: difference of the mean SRCC and its interval; `delta_plcc` that of the PLCC.
        seeds: number of runs of the configuration.
        verdict: better, worse, not distinguishable, or one seed only.
    """

    database: str
    synthetic: bool
    first: str
    second: str
    differs: str
    base: str
    delta: float
    low: float
    high: float
    delta_plcc: float
    seeds: int
    verdict: str

    @property
    def changed(self) -> list[str]:
        """The parameters that are changed."""
        return CHANGED.findall(self.differs)

    def swapped(self) -> "Contrast":
        """The same seen from the other side."""
        values = {"first": self.second, "second": self.first, "delta": -self.delta, "low": -self.high}
        values |= {"high": -self.low, "delta_plcc": -self.delta_plcc, "verdict": SWAPPED[self.verdict]}
        return Contrast(**vars(self) | values)

    def __str__(self) -> str:
        interval = f"[{number(self.low, '+.4f')}, {number(self.high, '+.4f')}]"
        return (
            f"SRCC {number(self.delta, '+.4f')} {interval} ({self.seeds} seed{'s' * (self.seeds > 1)}), {self.verdict}"
        )


class Measured:
    """The finished results of one study, as far as claims need them."""

    def __init__(self, study: str):
        self.study = study

    def _done(self, step: str) -> list[str]:
        return [run for run in param_files.run_names(self.study, step) if finished(self.study, step, run)]

    def place(self, database: str) -> tuple[str, bool]:
        """Title of a database of the study, and whether it is synthetic."""
        params = param_files.load(DataPrepParams, self.study, database)
        return prepare.title(params), RELEASES[params.reader].synthetic if params.reader in RELEASES else False

    def part(self, database: str) -> str:
        """How much of a release the study has, in brackets; nothing if it has all, or has not read it."""
        release = RELEASES.get(param_files.load(DataPrepParams, self.study, database).reader)
        if release is None or release.images is None or not finished(self.study, "data_prep", database):
            return ""
        images = read_json(self.study, "data_prep", database, "audit")["n"]
        return f" ({images:,} of {release.images:,} images)" if images < release.images else ""

    def where(self, title: str, synthetic: bool) -> str:
        """How a sentence names the study and the database."""
        told = not synthetic or "synthetic" in title.lower()
        return f"study {self.study}, {title}{'' if told else ' (synthetic)'}"

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """Every comparison of the study's ablation tables that has a verdict, each once."""
        found: dict[tuple[str, str, str], Contrast] = {}
        for run in self._done("ablation"):
            table = read_table(self.study, "ablation", run, "ablation")
            if table["verdict"].iloc[0] != "reference":  # its runs are not finished
                continue
            reference = table.iloc[0]
            params = read_json(self.study, "train", reference["runs"].split()[0], "params")
            for row in table[table["verdict"].isin(list(SWAPPED))].to_dict("records"):
                contrast = self._contrast(row, reference, params)
                found.setdefault((contrast.database, contrast.second, contrast.differs), contrast)
        return list(found.values())

    def _contrast(self, row: dict[str, Any], reference: pd.Series, params: dict[str, Any]) -> Contrast:
        title, synthetic = self.place(params["database"])
        return Contrast(
            database=title + self.part(params["database"]),
            synthetic=synthetic,
            first=row["group"],
            second=reference["group"],
            differs=row["differs"],
            base=", ".join(f"{name}: {params.get(name)}" for name in CHANGED.findall(row["differs"])),
            delta=row["delta"],
            low=row["delta_low"],
            high=row["delta_high"],
            delta_plcc=row["plcc_mean"] - reference["plcc_mean"],
            seeds=int(row["seeds"]),
            verdict=row["verdict"],
        )

    def contrast(self, first: str, second: str) -> Contrast | None:
        """The comparison of two experiments on all of KonIQ-10k, if the study has made it."""
        for found in self.contrasts:
            if found.database == DATABASE and {found.first, found.second} == {first, second}:
                return found if found.first == first else found.swapped()
        return None

    def beside(self, parameters: list[str]) -> str:
        """What the study saw where nothing but these parameters was changed, as sentences that name the database."""
        groups: dict[tuple[str, bool, str], list[Contrast]] = {}
        for found in self.contrasts:
            if set(found.changed) <= set(parameters):
                groups.setdefault((found.database, found.synthetic, found.base), []).append(found)
        return "".join(
            f" In this study ({self.where(title, synthetic)}): "
            + "; ".join(f"{found.differs} instead of {base} gives {found}" for found in rows)
            + "."
            for (title, synthetic, base), rows in groups.items()
        )

    @cached_property
    def trainings(self) -> pd.DataFrame:
        """One row per finished training: run, experiment, database, title, synthetic, and what `metrics.json` says."""
        rows = []
        for experiment, runs in param_files.experiments(self.study).items():
            for run in runs:
                if finished(self.study, "train", run):
                    metrics = read_json(self.study, "train", run, "metrics")
                    title, synthetic = self.place(metrics["database"])
                    about = {"run": run, "experiment": experiment, "synthetic": synthetic}
                    about["title"] = title + self.part(metrics["database"])
                    rows.append(metrics | about)
        return pd.DataFrame(rows, columns=None if rows else ["run", "experiment", "title", "synthetic", "best_epoch"])

    def trained(self, experiment: str) -> pd.DataFrame:
        """The trainings of an experiment on all of KonIQ-10k."""
        table = self.trainings
        return table[(table["experiment"] == experiment) & (table["title"] == DATABASE)]

    def best_epochs(self) -> str:
        """In which epochs the study's trainings were best, as sentences that name the database; or nothing."""
        return "".join(
            f" In this study ({self.where(title, synthetic)}): best validation result in epochs "
            f"{part['best_epoch'].min():.0f} to {part['best_epoch'].max():.0f} of {len(part)} trainings."
            for (title, synthetic), part in self.trainings.groupby(["title", "synthetic"])
        )

    def selection_gain(self) -> str:
        """By how much the best test SRCC of all epochs exceeds that of the epoch that validation chose; or nothing."""
        gains: dict[tuple[str, bool], list[float]] = {}
        for row in self.trainings.to_dict("records"):
            history = read_table(self.study, "train", row["run"], "history")
            if {"test_srcc", "val_srcc"} <= set(history) and history["test_srcc"].notna().all():
                chosen = history["test_srcc"][history["val_srcc"].idxmax()]
                gains.setdefault((row["title"], row["synthetic"]), []).append(history["test_srcc"].max() - chosen)
        return "".join(
            f" In this study ({self.where(*place)}): {sum(values) / len(values):.4f} over {len(values)} trainings."
            for place, values in gains.items()
        )

    def analysed(self, name: str) -> list[tuple[str, bool, pd.DataFrame]]:
        """Title of the database, whether it is synthetic, and the table `name`, of each finished analysis."""
        found = []
        for run in self._done("analysis"):
            database = read_json(self.study, "analysis", run, "analysis")["database"]
            title, synthetic = self.place(database)
            found.append((title + self.part(database), synthetic, read_table(self.study, "analysis", run, name)))
        return found

    @cached_property
    def timings(self) -> pd.DataFrame:
        """One row per model and device: `latency.csv` of one image in full precision, with backbone and fusion."""
        tables = []
        for run in self._done("complexity"):
            counted = read_table(self.study, "complexity", run, "complexity")[["run", "backbone", "fusion"]]
            hardware = read_json(self.study, "complexity", run, "record")["hardware"]
            timed = read_table(self.study, "complexity", run, "latency").merge(counted, on="run")
            timed = timed[(timed["precision"] == "32-true") & ~timed["compiled"] & (timed["batch_size"] == 1)]
            on_cpu = timed["device"] == "cpu"
            tables.append(timed.assign(hardware=timed["device"].mask(on_cpu, hardware["cpu"])))
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["backbone", "fusion"])

    def latency(self, backbone: str, fusion: str) -> str:
        """Time and throughput of a model as this study measured them, hardware named; or nothing."""
        table = self.timings
        own = table[(table["backbone"] == backbone) & (table["fusion"] == fusion)]
        return "".join(
            f" Measured in study {self.study} on {row['hardware']}, batch {row['batch_size']}: "
            f"{row['mean_ms']:.1f} ms (SD {row['std_ms']:.1f}), {row['images_per_second']:.1f} images/s."
            for row in own.to_dict("records")
            if not missing(row["mean_ms"])
        )
