"""The claims of the source documents (`report/claims.csv`), and the verdicts and rules by which they are settled.

- What follows from the model, the code or arithmetic is computed: `holds`, `does not hold`, or `arithmetic error` (a
  figure that its own document's numbers do not give).
- A difference between two published single runs is `not distinguishable` if other test images alone could have caused
  it (`bound`). If it is larger its sign decides, which is no proof: seeds add to the noise.
- Where this study has measured the same on the documents' database, its result decides instead. What it measured on
  other databases is mentioned, and settles nothing.
- What the authors' code does and their documents do not say rests on that code; `basis` names repository and file.
- A claim that needs data, trainings or hardware that are not here is `not testable here`; `basis` says what would
  settle it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from iqa.metrics.verdicts import FAILS, HOLDS, OPEN
from iqa.show.tables import escape, number
from iqa.study import paths
from iqa.study.csv_texts import read_texts

ERROR, UNTESTED = "arithmetic error", "not testable here"
VERDICTS = (HOLDS, FAILS, OPEN, ERROR, UNTESTED)
COMPUTED, PUBLISHED, MEASURED, NEEDS = "computed (without data)", "published figures", "measured in this study", "needs"
CODE = "the authors' code"
BASES = (COMPUTED, PUBLISHED, MEASURED, NEEDS, CODE)


class ClaimError(ValueError):
    """Claims, their sections and published figures do not agree; the message names file, row and remedy."""


@dataclass(frozen=True)
class Claim:
    """A row of `report/claims.csv`.

    Args:
        id, source, claim, stated: its name, the documents that make it, what they say, and the figures that they state.
        kind: its subject: parameters, complexity, hardware, results, training, protocol, geometry, usage,
            arithmetic or generalisation.
        figures: numbers of the documents that its section needs, as they are written there.
        experiments: trainings that are compared, or would settle it; first the one that is said to be better.
        parameters: training parameters that it is about; their ablation on other databases is mentioned.
    """

    id: str
    source: str
    claim: str
    stated: str
    kind: str
    figures: list[str]
    experiments: list[str]
    parameters: list[str]

    @property
    def numbers(self) -> list[float]:
        return [float(figure) for figure in self.figures]


@dataclass(frozen=True)
class Finding:
    """What was found about a claim, in sentences; on what basis, beginning with one of `BASES`; one of `VERDICTS`.

    `sources` are the files that hold the numbers, separated by semicolons.
    """

    found: str
    basis: str
    verdict: str
    sources: str = ""

    def _repr_markdown_(self) -> str:
        return f"**{escape(self.verdict)}** ({escape(self.basis)}): {escape(self.found)}"


class Claims:
    """The claims by their id, and what the notebook finds about each.

    Raises:
        TableError: `report/claims.csv` cannot be used; the message names the line.
        ClaimError: two rows of `report/claims.csv` have the same id, or a section asks for a claim that has no row.
    """

    def __init__(self) -> None:
        columns = [field.name for field in fields(Claim)]
        table = read_texts(paths.REPORT / "claims.csv", columns, numbers=["figures"])
        if twice := sorted(set(table["id"][table["id"].duplicated()])):
            raise ClaimError(f"report/claims.csv: several rows have the id {', '.join(twice)}; remove or rename one")
        lists = {name: table[name].str.split() for name in ("figures", "experiments", "parameters")}
        self.rows = {row["id"]: Claim(**row) for row in table.assign(**lists).to_dict("records")}
        self.settled: list[tuple[str, Finding]] = []
        self.told: dict[str, str] = {}  # what was measured on other databases, and the first claim that names it

    def __getitem__(self, name: str) -> Claim:
        if name not in self.rows:
            raise ClaimError(f"report/claims.csv has no row {name}; add it, or remove the section {name}")
        return self.rows[name]

    def settle(
        self,
        claim: Claim,
        found: str,
        basis: str,
        verdict: str,
        measured: Finding | None = None,
        beside: str = "",
        sources: Iterable[str] = (),
    ) -> Finding:
        """Note what was found about a claim.

        Args:
            measured: what this study measured on the documents' database; its verdict counts instead.
            beside: sentences on what it measured on other databases; they change no verdict. Where an earlier claim has
                the same ones, it is named instead.
            sources: the files that hold the numbers of these sentences.
        """
        if measured:
            found, basis, verdict = f"{found} {measured.found}", measured.basis, measured.verdict
        elif beside:
            first = self.told.setdefault(beside, claim.id)
            beside = beside if first == claim.id else f" In this study: as for {first}."
            found, basis = found + beside, f"{basis}; beside it {MEASURED}"
        finding = Finding(found, basis, verdict, "; ".join(sorted({"report/claims.csv", *sources})))
        if finding.verdict not in VERDICTS or not finding.basis.startswith(BASES):
            raise ClaimError(f"{claim.id}: no such verdict or basis: '{finding.verdict}', '{finding.basis}'")
        self.settled.append((claim.id, finding))
        return finding

    def table(self) -> pd.DataFrame:
        """Every claim with what was found, in the order of the file, and `cell`: the anchor of its section.

        Raises:
            ClaimError: a claim was not settled, or more than once.
        """
        names, findings = [name for name, _ in self.settled], dict(self.settled)
        lacking = [name for name in self.rows if name not in findings]
        twice = [name for name in findings if names.count(name) > 1]
        faults = {
            "without a section": lacking,
            "settled twice (in two sections, or by a cell that was run again)": twice,
        }
        if text := "; ".join(f"{what}: {', '.join(ids)}" for what, ids in faults.items() if ids):
            raise ClaimError(f"report/claims.csv and notebooks/07_claims.ipynb do not agree on claims {text}")
        rows = [
            {"id": name, "source": claim.source, "claim": claim.claim, "stated": claim.stated}
            | vars(findings[name])
            | {"cell": f"{name} {claim.claim}".replace(" ", "-")}  # as JupyterLab and nbconvert make it of a heading
            for name, claim in self.rows.items()
        ]
        return pd.DataFrame(rows)


def telling(rows: Iterable[Mapping[str, Any]], most: int = 3) -> list[Mapping[str, Any]]:
    """Of each verdict but `UNTESTED` at most some claims: what a study measured first, then what most documents state.

    Args:
        rows: of `table`.
    """
    order = sorted(rows, key=lambda row: (not row["basis"].startswith(MEASURED), -len(row["source"].split())))
    return [
        row
        for word in (ERROR, FAILS, OPEN, HOLDS)
        for row in [each for each in order if each["verdict"] == word][:most]
    ]


def verdict(right: bool, otherwise: str = FAILS) -> str:
    """`holds`, or another verdict."""
    return HOLDS if right else otherwise


def agrees(value: float, figure: str) -> bool:
    """Whether a value is the figure once it is rounded to as many decimals as the figure has."""
    return round(value, len(figure.partition(".")[2])) == float(figure)


def standard_error(srcc: float, images: int) -> float:
    """Standard error of an SRCC: that of Fisher's z, sqrt((1 + r^2 / 2) / (n - 3)), transformed back to r.

    Source: Bonett & Wright 2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations".
    """
    return float(np.sqrt((1 + srcc**2 / 2) / (images - 3)) * (1 - srcc**2))


def bound(first: float, second: float, images: int, confidence: float = 0.95) -> float:
    """How far two SRCC may lie apart through the choice of the test images alone.

    The bound is unpaired: the difference of models that err on the same images varies less, which only predictions
    could show. Another seed adds to it. More cannot be known from single published values.
    """
    z = stats.norm.ppf((1 + confidence) / 2)
    return float(z * np.hypot(standard_error(first, images), standard_error(second, images)))


@dataclass(frozen=True)
class Step:
    """The step from one published SRCC to another, and the bound within which their difference means nothing."""

    before: float
    after: float
    limit: float

    @property
    def delta(self) -> float:
        return self.after - self.before

    @property
    def verdict(self) -> str:
        """Outside the bound the sign decides."""
        return OPEN if abs(self.delta) <= self.limit else verdict(self.delta > 0)

    def __str__(self) -> str:
        before, after, limit = (number(value, ".4f") for value in (self.before, self.after, self.limit))
        side = "inside" if self.verdict == OPEN else "outside"
        return f"{before} to {after} ({number(self.delta, '+.4f')}) is {side} ±{limit}"


def joint(verdicts: Iterable[str]) -> str:
    """The verdict on a claim that needs several comparisons to hold: the least favourable of theirs."""
    return min(verdicts, key=(FAILS, OPEN, HOLDS).index)


def clearer(new: Iterable[float], old: Iterable[float]) -> str:
    """The verdict on values or interval ends of which the first are said to be larger: open where the two overlap."""
    (low, high), (other_low, other_high) = ((min(ends), max(ends)) for ends in map(list, (new, old)))
    return HOLDS if low > other_high else FAILS if high < other_low else OPEN
