"""What settles claims: the documents' models and published figures, and what a study has measured.

Models are built on torch's meta device, with shapes but without numbers, so that counting takes seconds and no memory.
"""

import re
from functools import cache
from typing import Any

import pandas as pd
import torch

from iqa.analysis import comparison, complexity, published
from iqa.analysis.params import CrossDatasetParams
from iqa.metrics.verdicts import BETTER, EQUIVALENT, FAILS, HOLDS, OPEN, WORSE, qualify
from iqa.model.hyperiqa import HyperIQA
from iqa.model.params import ModelParams
from iqa.report.claims import MEASURED, Claim, ClaimError, Finding, Step, bound, joint
from iqa.report.params import ClaimsParams
from iqa.show.tables import number
from iqa.study import param_files
from iqa.study.results import finished_runs, read_table
from iqa.training.params import TrainParams

# of ablation tables, on what is said to be better
VERDICTS = {BETTER: HOLDS, WORSE: FAILS, OPEN: OPEN, EQUIVALENT: FAILS}
PARAMETER = re.compile(r", (?=[a-z_]+: )")  # between the parameters of `fusion: last, epochs: 3`


class Documents:
    """Models and published figures of the documents. An experiment is named by its training file.

    Args:
        params: the study that holds the training files, and the test images of the published figures.
        read: files whose numbers were used; those that are used here are added.
    """

    def __init__(self, params: ClaimsParams, read: list[str] | None = None):
        self.params = params
        self.experiments = param_files.experiments(params.models)
        self.read = [] if read is None else read

    def training(self, experiment: str) -> TrainParams:
        """Parameters of an experiment, with the first of its seeds."""
        if experiment not in self.experiments:
            file = f"params/{self.params.models}/train/{experiment}.yaml"
            raise ClaimError(f"{file} does not exist; there are: {', '.join(self.experiments)}")
        self.read.append(f"params/{self.params.models}/train/{experiment}.yaml")
        return param_files.load(TrainParams, self.params.models, self.experiments[experiment][0])

    def values_of(self, claim: Claim) -> set[str]:
        """The parameters that a claim is about, with the values that its experiments have (`fusion: last`)."""
        trainings = [self.training(experiment).model_dump() for experiment in claim.experiments]
        return {f"{key}: {training[key]}" for training in trainings for key in claim.parameters}

    def changed(self, first: str, second: str) -> list[str]:
        """Training parameters in which two experiments differ."""
        return comparison.changed(self.training(first).model_dump(), self.training(second).model_dump())

    def model(self, experiment: str) -> HyperIQA:
        """The model of an experiment in eval mode. It is shared, so do not change it."""
        return build(self.training(experiment).architecture().model_dump_json())

    def macs(self, experiment: str) -> int:
        """Multiply-accumulates of a model for one crop, attention products included."""
        return _count_macs(self.model(experiment), self.params.size)

    def figures(self) -> pd.DataFrame:
        """All published figures, with SRCC and PLCC as numbers."""
        self.read.append("report/published.csv")
        return published.published_numbers()

    def published(self, source: str, experiment: str = "", method: str = "", tested_on: str = "") -> pd.Series:
        """What a source publishes of an experiment or a method, on the documents' database unless another is named."""
        self.read.append("report/published.csv")
        return published.find_row(source, experiment, method, tested_on or self.params.database)

    def values(self, source: str, experiments: list[str], column: str = "srcc") -> list[float]:
        """Published values of several experiments."""
        return [float(self.published(source, experiment)[column]) for experiment in experiments]

    def step(self, before: float, after: float) -> Step:
        """The step from one published SRCC to another, with the bound of these test images."""
        return Step(before, after, bound(before, after, self.params.test_images, self.params.confidence))

    def steps(self, source: str, experiments: list[str]) -> list[Step]:
        """The steps to the first experiment from each of the others, as a source publishes them."""
        after, *before = self.values(source, experiments)
        return [self.step(value, after) for value in before]


@cache
def build(architecture: str) -> HyperIQA:
    """The model of parameters in JSON, on the meta device, in eval mode. It is shared, so do not change it."""
    with torch.device("meta"):
        return HyperIQA(ModelParams.model_validate_json(architecture, strict=False)).eval()


@cache
def _count_macs(model: HyperIQA, size: int) -> int:
    return complexity.macs_torch(model, size, size)


def format_contrast(row: dict[str, Any]) -> str:
    """A row of a comparison in words."""
    delta, low, high = (number(row[key], "+.4f") for key in ("delta", "delta_low", "delta_high"))
    over = f"{row['seeds']} seed{'s' * (row['seeds'] > 1)}"
    if row.get("splits", 0) > 1:
        over = f"median of {row['splits']:.0f} splits"
    return f"SRCC {delta} [{low}, {high}] ({over}), {qualify(row)}"


class Measured:
    """What a study has measured.

    Args:
        study: its name.
        database: title of the documents' database, on which alone a measurement settles a claim.
        read: files whose numbers were used; those that are used here are added.
    """

    def __init__(self, study: str, database: str, read: list[str] | None = None):
        self.study, self.database = study, database
        self.read = [] if read is None else read
        self.contrasts = comparison.find_contrasts(study)
        self.trainings = published.trainings(study)
        places = {name: published.place(study, name) for name in set(self.trainings["database"])}
        self.trainings["place"] = self.trainings["database"].map(places)

    def note(self, step: str, run: str, file: str) -> None:
        """Note that numbers of a run's file were used."""
        self.read.append(f"results/{self.study}/{step}/{run}/{file}")

    def finding(self, found: str, word: str) -> Finding:
        """What was measured on the documents' database, which settles a claim."""
        return Finding(found, f"{MEASURED}: {self.database}", word)

    def trained(self, experiment: str) -> pd.DataFrame:
        """Trainings of an experiment on the documents' database."""
        rows = self.trainings
        rows = rows[(rows["experiment"] == experiment) & (rows["place"] == self.database)]
        for run in rows["run"]:
            self.note("train", run, "metrics.json")
        return rows

    def validated(self) -> pd.DataFrame:
        """All trainings whose epoch was chosen on validation images, wherever they trained."""
        on_test = [param_files.load(TrainParams, self.study, run).selects_on_test for run in self.trainings["run"]]
        rows = self.trainings.loc[[not chosen for chosen in on_test]]
        for run in rows["run"]:
            self.note("train", run, "metrics.json")
        return rows

    def histories(self, experiment: str, column: str) -> list[pd.Series]:
        """A column of the epochs of each training of an experiment on the documents' database, where it was noted."""
        found = []
        for run in self.trained(experiment)["run"]:
            history = read_table(self.study, "train", run, "history")
            if column in history and history[column].notna().all():
                self.note("train", run, "history.csv")
                found.append(history[column])
        return found

    def crossed(self, **changes: Any) -> pd.DataFrame:
        """Results on whole databases of runs whose parameters have some values, with the experiment of each model."""
        parts = [pd.DataFrame(columns=["experiment", "model", "title", "place", "srcc", "srcc_low", "srcc_high"])]
        experiment_of = param_files.experiment_of(self.study)
        experiment_of |= {name: name for name in experiment_of.values()}
        for run in finished_runs(self.study, "cross_dataset"):
            params = param_files.load(CrossDatasetParams, self.study, run)
            if all(getattr(params, key) == value for key, value in changes.items()):
                self.note("cross_dataset", run, "cross.csv")
                table = read_table(self.study, "cross_dataset", run, "cross").query("available")
                places = [published.place(self.study, name) for name in table["database"]]
                parts.append(table.assign(experiment=table["model"].map(experiment_of), place=places))
        return pd.concat(parts[1:] or parts)

    def contrast(self, first: str, second: str) -> dict[str, Any] | None:
        """The comparison of two experiments, seen from the first; None unless a table judges it."""
        row = comparison.find_contrast(self.contrasts, first, second, self.database)
        if row is None or row["verdict"] not in VERDICTS:
            return None
        self.note("ablation", row["table"], "ablation.csv")
        return row

    def judge(self, claim: Claim) -> Finding | None:
        """What was measured of a claim's first experiment against the others; None unless all were compared."""
        first, *others = claim.experiments
        return self.judge_pairs([(first, other) for other in others])

    def judge_pairs(self, pairs: list[tuple[str, str]]) -> Finding | None:
        """What was measured of pairs of which the first is said to be better; None unless all were compared."""
        rows = {pair: self.contrast(*pair) for pair in pairs}
        if not rows or not all(rows.values()):
            return None
        text = "; ".join(f"{first} against {other}: {format_contrast(row)}" for (first, other), row in rows.items())
        return self.finding(f"Measured: {text}.", joint(VERDICTS[row["verdict"]] for row in rows.values()))

    def judge_value(self, value: str, others: set[str]) -> Finding | None:
        """What was measured of a parameter's value (`head: hyper`) against some others, on any database.

        Comparisons count in which nothing else differs. The value has to be better in all of them; None unless each of
        the others was compared somewhere.
        """
        texts, words = {}, {}
        for row in self.contrasts.to_dict("records"):
            other = {row["differs"]: row["base"], row["base"]: row["differs"]}.get(value)
            if other in others and row["verdict"] in VERDICTS:
                pair = (row["group"], row["reference"]) if row["differs"] == value else (row["reference"], row["group"])
                seen = comparison.find_contrast(self.contrasts, *pair, row["place"])
                text = f"{pair[0]} against {pair[1]} on {row['place']}: {format_contrast(seen)}"
                texts[text] = other, row["place"]
                words[text] = VERDICTS[seen["verdict"]]
                self.note("ablation", row["table"], "ablation.csv")
        if {other for other, _ in texts.values()} != others:
            return None
        places = ", ".join(dict.fromkeys(place for _, place in texts.values()))
        return Finding(f"Measured: {'; '.join(texts)}.", f"{MEASURED}: {places}", joint(words.values()))

    def gain(self, first: str, second: str) -> tuple[float, float] | None:
        """How much better the first experiment is than the second, and half the length of its interval."""
        row = self.contrast(first, second)
        return None if row is None else (row["delta"], (row["delta_high"] - row["delta_low"]) / 2)

    def look_elsewhere(self, values: set[str]) -> str:
        """What was measured on each database and backbone where nothing but some values differed, in sentences.

        Args:
            values: parameters with the values of which a claim speaks (`fusion: last`).
        """

        def alone(row: pd.Series) -> bool:
            changed = [part for text in (row["differs"], row["base"]) for part in PARAMETER.split(text)]
            return set(changed) <= values

        rows = self.contrasts.loc[[alone(row) for _, row in self.contrasts.iterrows()]]
        sentences = []
        for (place, backbone, base), group in rows.groupby(["place", "backbone", "base"], sort=False):
            texts = [f"{row['differs']} instead of {base} gives {format_contrast(row)}" for _, row in group.iterrows()]
            sentences.append(f" In this study (study {self.study}, {place}, {backbone}): {'; '.join(texts)}.")
            for table in group["table"]:
                self.note("ablation", table, "ablation.csv")
        return "".join(sentences)
