"""What the report says follows from results: each rule of `report/rules.md.j2`, with opposite results."""

import re

import jinja2
import pytest

from iqa.metrics.verdicts import EQUIVALENT, FAILS, HOLDS, OPEN
from iqa.report.claims import COMPUTED, ERROR, MEASURED, UNTESTED, clearer, telling
from iqa.show import tables
from iqa.study import paths

WORDS = {"holds": HOLDS, "fails": FAILS, "open": OPEN, "untested": UNTESTED, "equivalent": EQUIVALENT}
FACTS = {"trained": True, "on_test": False, "splits": False, "prepared_here": True, "helps": HOLDS, "looks": False}
FACTS |= {
    "findings": [],
    "simple": [1],
    "others": [1],
    "accepted": {},
    "out_of_date": {},
    "chosen": {"analysis": "main"},
}
FACTS |= {"ablation": [{"seeds": 3}], "variants": [], "rivals": [], "metrics": {"synthetic": False}, "looked": "a"}
FACTS |= {"audit": {"title": "Photographs", "splits": {"test": {"references": 9, "n": 9}}}, "rows": None}


def said(call: str, **facts) -> str:
    """What a rule says of facts, on one line."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.REPORT),
        undefined=jinja2.StrictUndefined,
        comment_start_string="{##",
        comment_end_string="##}",
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": tables.markdown_cell, "code": lambda text: f"`{text}`"}
    template = environment.from_string(f'{{% import "rules.md.j2" as rules with context %}}{{{{ rules.{call} }}}}')
    text = template.render(WORDS | {"clearer": clearer} | FACTS | facts)
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (HOLDS, "The hyper network helps: a model with it is better than the same model with each simpler head."),
        (FAILS, "The hyper network does not help: a simpler head is better."),
        (OPEN, "A simpler head is as good as the hyper network, as far as these seeds and images can distinguish."),
        (UNTESTED, "Whether the hyper network helps is not known"),
    ],
)
def test_whether_the_hyper_network_helps_is_said_for_each_verdict(verdict, text):
    assert said("hyper_network(verdict)", verdict=verdict).startswith(text)


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["better"], "Of 1 variant compared with `main`, 1 is better."),
        (["worse", OPEN, OPEN], "Of 3 variants compared with `main`, 1 is worse and 2 are not distinguishable."),
        (
            [EQUIVALENT, "not run", "better"],
            "3 variants compared with `main`, 1 is better, 1 is equivalent and 1 is not run.",
        ),
        (["one seed only"] * 2, "2 are not judged, with one seed only."),
    ],
)
def test_variants_are_counted_by_their_verdicts(verdicts, text):
    assert text in said("counted(rows, 'main')", rows=[{"verdict": verdict} for verdict in verdicts])


BETTER = "A model that costs seconds is better than the network here."
AS_GOOD = "The network is not shown to be better than a model that costs seconds."
AHEAD = "The network is better than the models that cost seconds."


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["worse", "better"], BETTER),
        (["worse", OPEN], AS_GOOD),
        (["worse", "worse"], AHEAD),
        (["not run"], ""),
        ([], ""),
    ],
)
def test_a_network_is_better_than_simple_models_only_if_it_is_better_than_each(verdicts, text):
    rows = [{"kind": "baseline", "verdict": verdict} for verdict in verdicts]
    assert said("simple_models(rows)", rows=[*rows, {"kind": "checkpoint", "verdict": "better"}]) == text


@pytest.mark.parametrize(
    ("home", "ends", "text"),
    [
        ([0.8, 0.9], [(0.5, 0.7)], "It generalises poorly: the agreement is lower than at home on the other database"),
        (
            [0.8, 0.9],
            [(0.5, 0.7), (0.1, 0.2)],
            "It generalises poorly: the agreement is lower than at home on both other",
        ),
        ([0.8, 0.9], [(0.5, 0.7)] * 3, "on all 3 other databases, beyond both intervals."),
        (
            [0.8, 0.9],
            [(0.5, 0.7), (0.7, 0.85)],
            "It generalises in part: the agreement is lower than at home on 1 of 2",
        ),
        ([0.8, 0.9], [(0.85, 0.95), (0.7, 0.85)], "It generalises well as far as these images can tell"),
        ([0.8, 0.9], [(-0.1, 0.2)], "On *T* it is not distinguishable from chance."),
        (
            [-0.1, 0.3],
            [(-0.1, 0.2)],
            "How it generalises cannot be said, as at home it is not distinguishable from chance.",
        ),
    ],
)
def test_generalisation_is_poor_where_no_interval_reaches_that_at_home(home, ends, text):
    rows = [{"title": "T", "srcc_low": low, "srcc_high": high} for low, high in ends]
    assert text in (found := said("transfer(home, rows)", home=home, rows=rows))
    assert ("chance" in found) == (ends[0][0] < 0)


@pytest.mark.parametrize(
    ("swapped", "helps", "text"),
    [
        ("worse", OPEN, "and yet a model that never had them is as good"),
        ("worse", FAILS, "and yet a model that never had them is better"),
        ("worse", HOLDS, "Both controls agree"),
        (OPEN, OPEN, "generated weights hardly depend on the image"),
    ],
)
def test_the_two_controls_of_the_hyper_network_are_read_together(swapped, helps, text):
    rows = [{"weights": "shuffled", "model": "main_s1", "verdict": swapped}]
    facts = {"looks": True, "looked_params": {"model": "main_s1"}, "rows": lambda _: rows, "helps": helps}
    assert text in said("together()", **facts)


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["better"], "do not tell what a network is good for"),
        (["worse", OPEN], "is not one that only a network solves"),
        (["worse"], "goes beyond what statistics of the image"),
    ],
)
def test_what_simple_models_mean_for_the_data_is_said(verdicts, text):
    assert text in said("together()", rivals=[{"kind": "baseline", "verdict": verdict} for verdict in verdicts])


def test_what_could_not_be_seen_is_said_where_nothing_was_found():
    rows = [{"verdict": OPEN, "detectable": 0.02}, {"verdict": OPEN, "detectable": 0.04}]
    assert "one of less than 0.040 in SRCC may still be there" in said("together()", variants=rows)
    assert said("together()", variants=[{"verdict": "worse", "detectable": 0.02}]) == ""


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"metrics": {"synthetic": True}}, "**Synthetic data.**"),
        ({"on_test": True}, "**The epoch was chosen on the test images**"),
        ({"ablation": []}, "**One training.**"),
        ({"ablation": [{"seeds": 1}]}, "**One seed.**"),
        ({"splits": True}, "**Splits that share images.**"),
        ({}, "**Few seeds.** 3 trainings"),
        (
            {"variants": [{"verdict": "worse"}, {"verdict": "not run"}]},
            "**Open comparisons.** 1 of 2 variants is not judged",
        ),
        ({"helps": UNTESTED}, "**No control of the hyper network.**"),
        ({"simple": []}, "**No simple baseline.**"),
        ({"findings": [1]}, "**Suspicious predictions.**"),
        ({"others": []}, "**One database.** No result on another database is here"),
        ({"prepared_here": False}, "**Database not here.**"),
        (
            {"audit": {"title": "P", "splits": {"test": {"references": 3, "n": 9}}}},
            "**Contents.** The test images show 3",
        ),
        ({"accepted": {"old": 2}}, "**Accepted results.** 2 runs"),
        ({"out_of_date": {"a/b": []}}, "**Out of date.** 1 of the results"),
        ({"trained": False}, "**No main result.**"),
    ],
)
def test_a_limitation_is_named_where_it_applies_and_only_there(facts, text):
    assert text in said("limitations()", **facts)
    assert text not in said("limitations()") or not facts


def test_the_most_telling_claims_are_those_measured_here_and_then_those_of_most_documents():
    rows = [
        {"id": "A", "source": "S000", "verdict": FAILS, "basis": COMPUTED},
        {"id": "B", "source": "S000 S001", "verdict": FAILS, "basis": COMPUTED},
        {"id": "C", "source": "S000", "verdict": FAILS, "basis": f"{MEASURED}: Toy"},
        {"id": "D", "source": "S000 S001 S002", "verdict": UNTESTED, "basis": "needs time"},
        {"id": "E", "source": "S000", "verdict": ERROR, "basis": COMPUTED},
    ]
    assert [row["id"] for row in telling(rows, 2)] == ["E", "C", "B"]
