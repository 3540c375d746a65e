"""Checks of results: differences between configurations, as published and as this study measured them."""

from itertools import pairwise

import numpy as np

from iqa.claims import facts
from iqa.claims.checks import (
    BOUND,
    COMPUTED,
    FAILS,
    OF_CONTRAST,
    ON_KONIQ,
    OPEN,
    PUBLISHED,
    Finding,
    Step,
    check,
    compare,
    joint,
    listed,
    settled,
    signed,
    srcc,
    step,
    verdict,
)
from iqa.claims.facts import Claim, published, published_srcc
from iqa.claims.measured import Measured
from iqa.show.tables import number

LATER = "ukeSJTU"  # the repository in which the authors of S000 published their results
FINAL = "cny123222"  # that of the authors of S001, S002 and S003


def points(delta: float) -> str:
    """A difference in percentage points: 0.0082 is +0.82."""
    return number(100 * delta, "+.2f")


def values(source: str, experiments: list[str], column: str = "srcc") -> list[float]:
    """Published values of several experiments on KonIQ-10k."""
    return [float(published(source, experiment)[column]) for experiment in experiments]


# one configuration against another


@check("D17", "D24", "D28", "D30", "D31", "D33", "D37")
def configurations(claim: Claim, study: Measured) -> Finding:
    """The first experiment is said to be better than the others; what else differs between them is named."""
    others = [key for key in facts.changed(*claim.experiments[:2]) if key not in claim.parameters]
    note = f" The two also differ in {listed(others)}." if others else ""
    return compare(claim, study, note=note)


@check("C05")
def combined_loss_and_cosine(claim: Claim, study: Measured) -> Finding:
    return compare(claim, study, LATER, " Its authors measured this later, first against L1, then against steps.")


@check("C07")
def all_scales_against_another_paper(claim: Claim, study: Measured) -> Finding:
    new, quoted = published("S001", claim.experiments[0]), published("S001", method="HyperIQA, quoted")
    gains = [points(new[column] - quoted[column]) for column in ("srcc", "plcc")]
    others = [key for key in facts.changed(*claim.experiments) if key not in claim.parameters]
    alike = step("S002", "swin_tiny", "swin_tiny_last")
    found = (
        f"{gains[0]} and {gains[1]} points between a {new['backbone']} and the {quoted['backbone']} of another paper, "
        f"which differ in {len(others)} further parameters. Like for like (S002): {alike}{BOUND}."
    )
    return Finding(found, PUBLISHED, verdict(not others)).beside(study.beside(claim.parameters))


@check("C10")
def ranking_loss(claim: Claim, study: Measured) -> Finding:
    harm, gain = step("S001", "swin_tiny_step_rank05", "swin_tiny_step"), step("S002", *claim.experiments)
    final = Step(published_srcc(FINAL, method="SMART-IQA base"), gain.after)
    found = f"S001: {harm}. S002: {gain}. Final version, without it: {final}{BOUND}."
    contrast = study.contrast(*claim.experiments)
    if contrast and contrast.verdict in OF_CONTRAST:
        word = OPEN if contrast.verdict == OPEN else FAILS  # the documents contradict each other: one of them is wrong
        return Finding(f"{found} Measured, {contrast.first} against {contrast.second}: {contrast}.", ON_KONIQ, word)
    return Finding(found, PUBLISHED, joint([each.verdict for each in (gain, final)])).beside(
        study.beside(claim.parameters)
    )


def attention_steps(claim: Claim) -> list[Step]:
    """From concatenation to attention, for each pair of a claim's experiments, in whichever document has both."""
    found = []
    for after, before in zip(claim.experiments[::2], claim.experiments[1::2], strict=True):
        found.append(step("S003" if "base" in after else "S002", after, before))
    return found


@check("C16")
def attention_in_the_best_model(claim: Claim, study: Measured) -> Finding:
    return compare(claim, study, "S003")


@check("D25")
def attention(claim: Claim, study: Measured) -> Finding:
    own = attention_steps(claim)
    small = claim.experiments[2]
    rounds = published_srcc("S002", method="Swin-Small attention, round 3") - own[1].after
    found = (
        f"{', '.join(map(str, own))}{BOUND}. Two rounds of {small} differ by {srcc(abs(rounds))}, "
        f"{abs(rounds / own[1].delta):.0f} times its gain; how other configurations vary is not stated."
    )
    return Finding(found, PUBLISHED, joint([each.verdict for each in own])).beside(study.beside(claim.parameters))


@check("D26")
def attention_by_size(claim: Claim, study: Measured) -> Finding:
    small, base = attention_steps(claim)
    found = f"{signed(base.delta)} is called significant and {signed(small.delta)} minimal: {base} and {small}{BOUND}."
    return Finding(found, PUBLISHED, verdict(base.delta > small.delta)).beside(study.beside(claim.parameters))


@check("D15")
def attention_in_epoch_two(claim: Claim, study: Measured) -> Finding:
    text = "Swin-Tiny {}, step schedule"
    names = [text.format("attention") + ", epoch 1", text.format("attention") + ", epoch 2", text.format("concat")]
    one, two, concat, concat_two = (published_srcc("S001", method=n) for n in [*names, names[2] + ", epoch 2"])
    after = Step(concat_two, two)
    found = f"Falls of {signed(two - one)} and {signed(concat_two - concat)}. After epoch 2: {after}{BOUND}."
    return Finding(found, PUBLISHED, after.verdict).beside(study.beside(claim.parameters))


@check("D16")
def after_the_first_epoch(claim: Claim, study: Measured) -> Finding:
    names = ["Swin-Tiny concat, step schedule" + epoch for epoch in ("", ", epoch 2", ", epoch 3")]
    first, *later = (published_srcc("S001", method=name) for name in names)
    own = [Step(first, value) for value in later]
    found = "Back from later epochs to the first: " + ", ".join(map(str, own)) + BOUND + "."
    return Finding(found, PUBLISHED, joint([each.verdict for each in own])).beside(study.best_epochs())


@check("D27")
def ranking_loss_by_size(claim: Claim, study: Measured) -> Finding:
    base, small = (step("S003", *claim.experiments[i : i + 2]) for i in (0, 2))
    more, limit = base.delta - small.delta, float(np.hypot(base.bound, small.bound))
    found = (
        f"{signed(small.delta)} and {signed(base.delta)}: the second is larger by {srcc(more)}, and the choice of the "
        f"test images alone leaves ±{srcc(limit)} to such a difference of differences (95%, unpaired)."
    )
    word = OPEN if abs(more) <= limit else verdict(more > 0)
    return Finding(found, PUBLISHED, word).beside(study.beside(claim.parameters))


@check("C17")
def capacity(claim: Claim, study: Measured) -> Finding:
    base, small, tiny = values("S002", claim.experiments)
    own = [Step(small, tiny), Step(base, small)]
    tags = [facts.weights_tag(experiment) for experiment in reversed(claim.experiments)]
    found = (
        f"{own[0]}, {own[1]}{BOUND}. Size is confounded with pretraining: timm's weights for tiny, small and base are "
        f"{listed(tags)}."
    )
    return Finding(found, f"{PUBLISHED}; {COMPUTED}", joint([s.verdict for s in own])).beside(
        study.beside(claim.parameters)
    )


@check("D34")
def progression(claim: Claim, study: Measured) -> Finding:
    own = [Step(after, before) for before, after in pairwise(values("S003", claim.experiments))]
    clear = sum(each.verdict != OPEN for each in own)
    found = f"{', '.join(map(str, own))}{BOUND}. {clear} of {len(own)} stages exceed it."
    return Finding(found, PUBLISHED, joint([each.verdict for each in own]))


@check("D05")
def longer_training(claim: Claim, study: Measured) -> Finding:
    new, old = map(facts.macs, claim.experiments)
    cost = claim.numbers[0] / claim.numbers[1] * new / old
    return compare(claim, study, LATER, f" The training computes {cost:.2f} times as much.")


@check("D41")
def best_model(claim: Claim, study: Measured) -> Finding:
    best, plain = values("S003", claim.experiments)
    final = published_srcc(FINAL, method="SMART-IQA base")
    own = [Step(best, plain), Step(best, final)]
    found = (
        f"Against L1 alone: {own[0]}. Against the same authors' final version, without ranking loss: {own[1]}{BOUND}."
    )
    return settled(claim, study, Finding(found, PUBLISHED, joint([each.verdict for each in own])))


@check("D43")
def srcc_more_than_plcc(claim: Claim, study: Measured) -> Finding:
    pairs = [("S002", *claim.experiments), ("S001", "swin_tiny_step_rank05", "swin_tiny_step")]
    texts = []
    for source, *experiments in pairs:
        (a, b), (c, d) = (values(source, experiments, column) for column in ("srcc", "plcc"))
        texts.append(f"{source}: SRCC {signed(a - b)}, PLCC {signed(c - d)}")
    gain = step(*pairs[0])
    found = f"{'; '.join(texts)}. The SRCC of S002: {gain}{BOUND}."
    finding, contrast = (
        settled(claim, study, Finding(found, PUBLISHED, gain.verdict)),
        study.contrast(*claim.experiments),
    )
    if finding.basis != ON_KONIQ:
        return finding
    word = finding.verdict if contrast.delta > contrast.delta_plcc else FAILS
    return Finding(f"{finding.found} PLCC {signed(contrast.delta_plcc)}.", ON_KONIQ, word)
