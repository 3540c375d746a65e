"""How each claim is checked: a function per claim, or per kind of claims, registered under their ids.

A check takes the claim and what the study measured, and returns a `Finding`. Its sentences hold no typed numbers: they
are computed, or read from the claim's row, from `published.csv`, from parameter files or from results.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from iqa.claims import facts
from iqa.claims.facts import Claim, ClaimError, published_srcc
from iqa.claims.measured import Contrast, Measured
from iqa.show.tables import number

HOLDS, FAILS, OPEN = "holds", "does not hold", "not distinguishable"
ERROR, UNTESTED = "arithmetic error", "not testable here"
VERDICTS = (HOLDS, FAILS, OPEN, ERROR, UNTESTED)
COMPUTED, PUBLISHED, MEASURED, NEEDS = "computed (without data)", "published figures", "measured in this study", "needs"
ON_KONIQ = f"{MEASURED}: {facts.DATABASE}"
BASES = (COMPUTED, PUBLISHED, MEASURED, NEEDS)
COMMAND = f"make report STUDY={facts.STUDY}"
TIMING = f"iqa run {facts.STUDY}/complexity/main"
OF_CONTRAST = {"better": HOLDS, "worse": FAILS, "not distinguishable": OPEN}


@dataclass(frozen=True)
class Finding:
    """What was found about a claim.

    Args:
        found: sentences.
        basis: where from; starts with one of `BASES`.
        verdict: one of `VERDICTS`.
    """

    found: str
    basis: str
    verdict: str

    def beside(self, seen: str) -> "Finding":
        """With what this study saw elsewhere, which does not touch the verdict."""
        if not seen:
            return self
        return replace(self, found=self.found + seen, basis=f"{self.basis}; beside it {MEASURED}")


Check = Callable[[Claim, Measured], Finding]
CHECKS: dict[str, Check] = {}


def check(*ids: str) -> Callable[[Check], Check]:
    """Register a check for claims."""

    def register(function: Check) -> Check:
        for name in ids:
            if name in CHECKS:
                raise ValueError(f"claim {name} has two checks: {CHECKS[name].__name__} and {function.__name__}")
            CHECKS[name] = function
        return function

    return register


def verdict(holds: bool, otherwise: str = FAILS) -> str:
    """`holds`, or another verdict."""
    return HOLDS if holds else otherwise


def needs(what: str, found: str, command: str = COMMAND) -> Finding:
    """A claim that cannot be settled here, what it would need, and the command that then does it, if there is one."""
    return Finding(found, f"{NEEDS} {what}" + (f": {command}" if command else ""), UNTESTED)


def runs(claim: Claim) -> str:
    """The data and trainings that would settle a claim."""
    return f"{facts.DATABASE} and trainings of {', '.join(claim.experiments)}"


# numbers as they are written


def srcc(value: float) -> str:
    return number(value, ".4f")


def signed(value: float) -> str:
    return number(value, "+.4f")


def percent(value: float, decimals: int = 1) -> str:
    """A share or relative change: 0.0124 is +1.2%."""
    return number(100 * value, f"+.{decimals}f") + "%"


def millions(value: float) -> str:
    return number(value, ".2fM") + "M"


def gmacs(value: float) -> str:
    return number(value, ".2fG") + " GMAC"


def listed(values: list[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)


# differences between configurations


@dataclass(frozen=True)
class Step:
    """The SRCC of two published single runs; the second is where the step starts."""

    after: float
    before: float

    @property
    def delta(self) -> float:
        return self.after - self.before

    @property
    def bound(self) -> float:
        return facts.bound(self.after, self.before)

    @property
    def verdict(self) -> str:
        """Inside the bound nothing is said; outside it the sign decides."""
        return OPEN if abs(self.delta) <= self.bound else verdict(self.delta > 0)

    def __str__(self) -> str:
        side = "inside" if self.verdict == OPEN else "outside"
        return f"{srcc(self.before)} to {srcc(self.after)} ({signed(self.delta)}) is {side} ±{srcc(self.bound)}"


BOUND = f" (unpaired 95% bound, {facts.TEST_IMAGES:,} test images)"


def step(source: str, after: str, before: str) -> Step:
    """The step between two experiments as a source publishes them."""
    return Step(*(published_srcc(source, experiment) for experiment in (after, before)))


def steps(claim: Claim, source: str | None = None) -> list[Step]:
    """From each further experiment of a claim to its first, by the first of its sources that has them all."""
    first, *others = claim.experiments
    for name in [source] if source else claim.source.split():
        try:
            return [step(name, first, other) for other in others]
        except ClaimError:
            continue
    raise ClaimError(f"report/published.csv: no row of {source or claim.source} for {', '.join(claim.experiments)}")


def joint(verdicts: list[str]) -> str:
    """One verdict of several comparisons that a claim needs together."""
    return FAILS if FAILS in verdicts else OPEN if OPEN in verdicts else HOLDS


def settled(claim: Claim, study: Measured, finding: Finding) -> Finding:
    """The finding, or what this study measured on KonIQ-10k if it compared the first experiment with all others."""
    first, *others = claim.experiments
    contrasts: list[Contrast | None] = [study.contrast(first, other) for other in others]
    if not contrasts or not all(found and found.verdict in OF_CONTRAST for found in contrasts):
        return finding.beside(study.beside(claim.parameters))
    seen = "; ".join(f"{found.first} against {found.second}: {found}" for found in contrasts)
    found = f"{finding.found} Measured: {seen}."
    return Finding(found, ON_KONIQ, joint([OF_CONTRAST[each.verdict] for each in contrasts]))


def compare(claim: Claim, study: Measured, source: str | None = None, note: str = "") -> Finding:
    """A claim that one configuration is better than others, by its published figures or by this study."""
    own = steps(claim, source)
    found = f"{', '.join(map(str, own))}{BOUND}.{note}"
    return settled(claim, study, Finding(found, PUBLISHED, joint([each.verdict for each in own])))


def complete(claims: list[Claim]) -> None:
    """Raise an error unless every claim has a check and every check a claim."""
    names = [claim.id for claim in claims]
    lacking = [name for name in names if name not in CHECKS]
    spare = [name for name in CHECKS if name not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    faults = [("without a check", lacking), ("checked but without a row", spare), ("with two rows", twice)]
    if text := "; ".join(f"{what}: {', '.join(ids)}" for what, ids in faults if ids):
        raise ClaimError(f"report/claims.csv and iqa/claims do not agree on claims {text}")
