"""The notebook of claims: each row has a section, what is computed is right, and verdicts follow from the rules."""

import ast
import json
import re
import shutil
from functools import cache

import made_study
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from iqa.analysis import complexity
from iqa.app import steps
from iqa.app.stale import State
from iqa.metrics.coefficients import srcc
from iqa.model.hyperiqa import HyperIQA
from iqa.report import claims
from iqa.report.claims import ClaimError, Claims, Finding
from iqa.report.evidence import Documents, Measured
from iqa.report.params import ClaimsParams
from iqa.show.tables import MINUS, TIMES
from iqa.study import param_files, paths
from iqa.study.identity import differences
from iqa.training.params import TrainParams

PARAMS = paths.PARAMS
STUDY = ClaimsParams().models
ROWS = Claims().rows
DOCUMENTS = Documents(ClaimsParams())


@cache
def sections() -> dict[str, list[dict]]:
    """The notebook's cells by claim; those before the first claim under `setup`, the last ones under `record`."""
    found, name = {"setup": []}, "setup"
    for cell in json.loads(steps.notebook("claims").read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if heading := re.match(r"##+ (.*)", source) if cell["cell_type"] == "markdown" else None:
            title = heading[1].split()[0]
            name = title if source.startswith("### ") else "record" if title == "Record" else name
        found.setdefault(name, []).append(cell | {"source": source})
    return found


@cache
def compiled(name: str) -> list:
    """The code of a section's cells; that of the parameters cell is followed by the study and run of a test."""
    cells = [cell for cell in sections()[name] if cell["cell_type"] == "code"]
    given = "\nstudy, run = given"
    tagged = ["parameters" in cell["metadata"].get("tags", []) for cell in cells]
    return [compile(cell["source"] + given * tag, cell["id"], "exec") for cell, tag in zip(cells, tagged, strict=True)]


def execute(study: str, *names: str) -> dict:
    """Variables of the notebook after its setup and some sections have run."""
    variables = {"given": (study, "main")}
    for name in ("setup", *names):
        for code in compiled(name):
            exec(code, variables)
    return variables


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict:
    """Variables after all sections have run without any results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", tmp_path_factory.mktemp("results"))
        return execute("demo", *list(sections())[1:])


@pytest.fixture(scope="module")
def settled(ran) -> pd.DataFrame:
    """All claims, without any results."""
    return pd.read_csv(ran["out"].path / "claims.csv", keep_default_na=False).set_index("id")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Writes files of a made-up study beside the real parameter files of koniq10k."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    paths.PARAMS.mkdir()
    (paths.PARAMS / STUDY).symlink_to(PARAMS / STUDY)
    (paths.PARAMS / "made").mkdir()
    return made_study.Study("made")


def finding(claim: str, study: made_study.Study) -> Finding:
    """What the claim's section finds in a study."""
    ((name, found),) = execute(study.name, claim)["claims"].settled
    assert name == claim
    return found


def same(finding: Finding, row: pd.Series) -> bool:
    return (finding.found, finding.basis, finding.verdict) == (row["found"], row["basis"], row["verdict"])


# the files


@pytest.mark.slow
def test_every_claim_is_settled_in_the_order_of_the_file(settled):
    assert list(settled.index) == list(ROWS) and {f"C{n:02d}" for n in range(1, 26)} <= set(settled.index)
    assert settled["verdict"].isin(claims.VERDICTS).all() and set(settled["verdict"]) == set(claims.VERDICTS)
    assert all(basis.startswith(claims.BASES) for basis in settled["basis"])
    assert settled["found"].str.endswith(".").all() and not settled["found"].str.contains("nan|None").any()


def test_each_section_settles_its_own_claim(ran):
    assert [name for name, _ in ran["claims"].settled] == list(sections())[1:-1] == list(ROWS)


def test_a_section_begins_with_the_claim_and_its_figures_as_the_row_has_them(settled):
    for claim in ROWS.values():
        first, quoted, why = sections()[claim.id][0]["source"].split("\n\n")
        assert first == f"### {claim.id} {claim.claim}" and settled.loc[claim.id, "cell"] == first[4:].replace(" ", "-")
        assert quoted == f"> {', '.join(claim.source.split())}: {claim.stated}"
        assert why.endswith(".") and 30 < len(why) < 400, claim.id


def test_no_section_changes_a_parameter_so_that_each_cell_can_be_run_again(ran):
    assert ClaimsParams.collect(ran) == ran["params"] == ClaimsParams(run="main")


def test_what_was_found_is_shown_beneath_its_cell(ran):
    shown = ran["claims"].settled[0][1]._repr_markdown_()
    assert shown.startswith("**does not hold** (computed (without data)): 27.63M against")
    for name in ROWS:
        last = ast.parse([cell for cell in sections()[name] if cell["cell_type"] == "code"][-1]["source"]).body[-1]
        assert isinstance(last, ast.Expr) and last.value.func.id.startswith("settle"), name


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """`rows(change)` writes `report/claims.csv` anew, for the notebook to read."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    shutil.copytree(paths.REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("demo*", "*.png"))
    monkeypatch.setattr(paths, "REPORT", tmp_path / "report")

    def write(change) -> None:
        file = tmp_path / "report" / "claims.csv"
        change(pd.read_csv(file, dtype=str, keep_default_na=False)).to_csv(file, index=False)

    return write


def test_a_row_without_a_section_is_named_at_the_end(rows, ran):
    rows(lambda table: pd.concat([table, table.iloc[:1].assign(id="X01")]))
    variables = execute("demo")
    variables["claims"].settled = ran["claims"].settled
    with pytest.raises(ClaimError, match="without a section: X01"):
        exec(compiled("record")[0], variables)


def test_a_section_without_a_row_is_named(rows):
    rows(lambda table: table[table["id"] != "D11"])
    with pytest.raises(ClaimError, match=r"report/claims\.csv has no row D11; add it, or remove the section D11"):
        execute("demo", "D11")


def test_a_claim_that_two_rows_state_or_two_sections_settle_is_named(rows, ran):
    variables = execute("demo")
    variables["claims"].settled = [*ran["claims"].settled, ran["claims"].settled[1]]
    with pytest.raises(ClaimError, match=r"settled twice \(.*\): C02$"):
        exec(compiled("record")[0], variables)
    rows(lambda table: pd.concat([table, table.iloc[1:2]]))
    with pytest.raises(ClaimError, match="several rows have the id C02"):
        execute("demo")


def test_claims_are_settled_anew_when_a_row_changes(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    claims = param_files.load(ClaimsParams, "demo", "main")
    before = State("demo").identity(claims)
    assert differences(before, State("demo").identity(claims), ClaimsParams.defaults()) == []
    rows(lambda table: table.assign(figures=table["figures"].str.replace("18.2", "18.3")))
    reasons = differences(before, State("demo").identity(claims), ClaimsParams.defaults())
    assert [str(reason) for reason in reasons] == ["file report/claims.csv: its contents differ"]


@pytest.mark.parametrize(("basis", "verdict"), [("computed", "hold"), ("guessed", "holds")])
def test_an_unknown_verdict_or_basis_is_an_error_that_names_the_claim(basis, verdict):
    with pytest.raises(ClaimError, match="C01: no such verdict or basis"):
        Claims().settle(ROWS["C01"], "Found.", basis, verdict)


def test_every_experiment_that_is_named_has_a_parameter_file():
    assert {name for claim in ROWS.values() for name in claim.experiments} <= set(param_files.experiments(STUDY))


def test_every_parameter_that_is_named_is_one_of_training():
    assert {name for claim in ROWS.values() for name in claim.parameters} <= set(TrainParams.model_fields)


def test_all_claims_that_were_given_to_the_project_have_a_row(shared):
    assert set(pd.read_csv(shared / "reference/claims.csv")["id"]) <= set(ROWS)


def test_an_experiment_without_a_file_is_an_error_with_those_that_there_are():
    with pytest.raises(
        ClaimError, match=r"train/nothing\.yaml does not exist; there are: baseline_published, convnext_tiny"
    ):
        DOCUMENTS.model("nothing")


# what is computed


def test_parameters_are_those_of_the_published_models(ran):
    counts = {name: ran["count"](DOCUMENTS.model(name)) for name in ("hyperiqa", "swin_base_attention")}
    assert counts == {"hyperiqa": 27_375_369, "swin_base_attention": 89_111_941}
    counts = [ran["count"](DOCUMENTS.model(name)) for name in ("swin_tiny_last", "swin_tiny")]
    assert [round(count / 1e6, 2) for count in counts] == [28.98, 29.32]


def test_macs_without_numbers_are_those_with_numbers(ran):
    with torch.device("cpu"):
        model = HyperIQA(DOCUMENTS.training("mobilenetv2").architecture()).eval()
    assert DOCUMENTS.macs("mobilenetv2") == complexity.macs_torch(model, 224, 224)
    assert ran["count"](DOCUMENTS.model("mobilenetv2")) == ran["count"](model)


def test_a_training_step_keeps_twice_as_much_for_twice_the_batch(ran):
    one, two, three = (ran["kept_bytes"]("mobilenetv2", batch) for batch in (1, 2, 3))
    assert three - two == two - one > 10e6
    assert not DOCUMENTS.model("mobilenetv2").training


def test_a_filter_that_is_used_twice_leaves_the_optimiser_nothing(made):
    found = execute("made", "C19")
    model = DOCUMENTS.model("hyperiqa")
    assert (found["first"], found["again"]) == (len([*model.semantic.parameters(), *model.hyper.parameters()]), 0)


def test_a_floor_above_the_rate_makes_the_cosine_rise(ran):
    rates = ran["rates"]
    assert rates(30, 5e-7, 1e-6)[[0, -1]].tolist() == pytest.approx([5e-7, 1e-6])
    falling = rates(30)
    assert (np.diff(falling) < 0).all() and falling[15] == pytest.approx(0.5)
    assert (np.diff(rates(30, restart=10)) > 0).sum() == 3


def test_the_standard_error_of_an_srcc_is_that_of_drawn_samples():
    generator = np.random.default_rng(0)
    rho = 2 * np.sin(np.pi / 6 * 0.9)  # Pearson's coefficient of a normal pair whose Spearman's is 0.9
    x, noise = generator.normal(size=(2, 400, 500))
    found = srcc(x, rho * x + np.sqrt(1 - rho**2) * noise).std()
    assert claims.standard_error(0.9, 500) == pytest.approx(found, rel=0.1)
    expected = 1.96 * np.sqrt(2) * claims.standard_error(0.9, 500)
    assert claims.bound(0.9, 0.9, 500) == pytest.approx(expected, rel=1e-4)


def test_the_best_of_ten_epochs_is_flattered_by_the_mean_of_the_largest_of_ten(made):
    found = execute("made", "C18")
    largest = stats.norm.rvs(size=(20_000, found["k"]), random_state=0).max(axis=1).mean()
    assert found["k"] == 10 and found["gain"] / claims.standard_error(0.9343, 2010) == pytest.approx(largest, abs=0.02)


def test_centre_crops_are_one_crop(made):
    coverage = execute("made", "C21")["coverage"]
    assert coverage("center") == (1, pytest.approx(224**2 / (512 * 384))) and coverage("random")[0] == 20


def test_a_value_agrees_with_a_figure_of_as_many_decimals():
    agrees = claims.agrees
    assert agrees(28.979, "28.98") and agrees(0.0029, "0.003") and not agrees(0.0029, "0.029")
    assert agrees(11.6, "12") and not agrees(11.4, "12")


@pytest.mark.parametrize(
    ("claim", "texts", "verdict"),
    [
        ("C01", ["27.63M against 27.38M", "+0.9%", "23.51M"], "does not hold"),
        ("C02", ["2.69M", "24,870", "33,545"], "does not hold"),
        ("C03", ["4.92 GMAC", "4.25 GMAC", "+15.7%"], "does not hold"),
        ("C04", [f"0.4924 ({MINUS}0.2576)", "2 of 4"], "does not hold"),
        ("C05", [f"{MINUS}0.0054", f"{MINUS}0.0012"], "not distinguishable"),
        ("C07", ["+1.35", "+1.72", "+0.0082"], "does not hold"),
        ("C08", ["28.98M to 29.32M (+1.2%)"], "does not hold"),
        ("C09", ["+0.0090, 9 times", "0.9182 with centre crops (+0.0013)"], "does not hold"),
        ("C10", [f"{MINUS}0.0103", "+0.0029"], "not distinguishable"),
        ("C11", ["0.0002 and 0.0029", "10 times"], "arithmetic error"),
        ("C12", ["+2.27, +2.94, +3.27 and +3.34", "+2.52, +3.26, +3.63 and +3.71%"], "arithmetic error"),
        ("C13", ["89.11M with", "88.85M is"], "does not hold"),
        ("C14", ["4.49", "8.74", "15.43", "4.57", "8.82", "15.52"], "does not hold"),
        ("C15", ["57.90 images/s", "38%"], "not testable here"),
        ("C16", ["+0.0007", "±0.0095"], "not distinguishable"),
        ("C17", ["ms_in1k, ms_in22k_ft_in1k and ms_in22k_ft_in1k"], "not distinguishable"),
        ("C18", ["0.0052"], "does not hold"),
        ("C19", ["26 tensors", "and 0 after"], "not testable here"),
        ("C20", [f"384{TIMES}512", "1.78 times"], "does not hold"),
        ("C21", ["1 crop", "26%"], "holds"),
        ("C22", ["from 1e-05 to 10% of it and not to 1e-07 (heads: to 1%)", "5e-06 to 20%"], "does not hold"),
        ("C23", ["366 tensors", "0 of the 2 keys"], "does not hold"),
        ("C24", ["8.8 GB"], "not testable here"),
        ("D09", ["SPAQ +0.0133, KADID-10k +0.0056", f"AGIQA-3K {MINUS}0.0025", "2 of 3"], "does not hold"),
        ("D14", ["322 s more: 39%", "2.6 times"], "does not hold"),
        ("D24", [f"0.9206 to 0.9184 ({MINUS}0.0022)"], "not distinguishable"),
        ("D26", [f"larger by {MINUS}0.0001, inside ±0.0137"], "not distinguishable"),
        ("D27", ["larger by +0.0027, inside ±0.0139"], "not distinguishable"),
        ("D47", ["KonIQ-10k 0.9166", "SPAQ 0.8508", "2 of 2"], "holds"),
        ("D48", ["5 options and calls them 7"], "arithmetic error"),
        ("D49", ["0.9195 to 0.9236 (+0.0041)", "rank_weight, lr and schedule"], "not distinguishable"),
        ("D50", ["all pairs 0.2436", "different labels 0.2994"], "does not hold"),
        ("D51", ["3 of 4", "KADID-10k 0.8343 and 0.4924 (+0.3419)", "1.58%", "of the results"], "does not hold"),
        ("D52", ["from 5e-07 to 1e-06, rising in 10 epochs", "5e-06 to 1e-06, rising in 0"], "does not hold"),
        ("D13", ["96 + 192 + 384 + 768 = 1440", "1920"], "holds"),
        ("D36", ["+2.94 points", "+3.21%"], "holds"),
    ],
)
def test_what_is_known_of_a_claim_is_found(settled, claim, texts, verdict):
    assert settled.loc[claim, "verdict"] == verdict
    assert [text for text in texts if text not in settled.loc[claim, "found"]] == []


def test_a_difference_inside_the_bound_is_not_distinguishable_and_outside_it_the_sign_decides():
    assert DOCUMENTS.step(0.9336, 0.9343).verdict == "not distinguishable"
    assert DOCUMENTS.step(0.93, 0.95).verdict == "holds" and DOCUMENTS.step(0.95, 0.93).verdict == "does not hold"


def test_a_claim_of_several_comparisons_needs_them_all():
    assert claims.joint(["holds", "not distinguishable", "does not hold"]) == "does not hold"
    assert claims.joint(["holds", "not distinguishable"]) == "not distinguishable"
    assert claims.joint(["holds", "holds"]) == "holds"


# what a study has measured


def test_an_ablation_on_another_database_is_named_beside_and_changes_no_verdict(made, settled):
    made.database("toy", "synthetic")
    made.train("main", "toy")
    assert same(finding("D28", made), settled.loc["D28"])
    made.ablation("main", {"group": "l1", "differs": "rank_weight: 0.0"}, {"group": "b", "differs": "epochs: 3"})
    found = finding("D28", made)
    assert found.verdict == settled.loc["D28", "verdict"]
    assert found.basis == "published figures; beside it measured in this study"
    assert "results/made/ablation/table/ablation.csv" in found.sources.split("; ")
    seen = "In this study (study made, Synthetic demo, resnet10t): rank_weight: 0.0 instead of rank_weight: 0.3 gives"
    assert f"{seen} SRCC {MINUS}0.0200" in found.found
    assert "(3 seeds), worse." in found.found and "epochs" not in found.found
    assert same(finding("D30", made), settled.loc["D30"])


def test_an_ablation_between_values_of_which_the_claim_does_not_speak_is_not_named(made, settled):
    made.database("toy", "synthetic")
    made.train("main", "toy")  # with a ranking weight of 0.3
    made.ablation("main", {"group": "l1", "differs": "rank_weight: 0.0"}, {"group": "b", "differs": "rank_weight: 7"})
    assert same(finding("C10", made), settled.loc["C10"])  # compares 0.5 with 0
    found = finding("D28", made).found
    assert "rank_weight: 0.0 instead of rank_weight: 0.3" in found and "rank_weight: 7" not in found


def test_an_ablation_row_that_changes_more_than_the_parameter_is_not_named(made, settled):
    made.database("toy", "synthetic")
    made.train("main", "toy")
    made.ablation("main", {"group": "l1", "differs": "fusion: last, rank_weight: 0.0"})
    assert same(finding("D28", made), settled.loc["D28"])


def test_evidence_on_two_backbones_is_told_in_two_sentences(monkeypatch):
    row = made_study.ABLATION | {"differs": "fusion: last", "base": "fusion: concat", "place": "Toy", "table": "t"}
    rows = [row | {"group": name, "reference": name, "backbone": name} for name in ("resnet10t", "resnet18")]
    measured = Measured("demo", "KonIQ-10k")
    monkeypatch.setattr(measured, "contrasts", pd.DataFrame(rows))
    found = measured.look_elsewhere({"fusion: last", "fusion: concat"})
    assert found.count("In this study (study demo, Toy, resnet10t): fusion: last instead of fusion: concat") == 1
    assert found.count("In this study (study demo, Toy, resnet18): fusion: last instead of fusion: concat") == 1
    assert measured.look_elsewhere({"fusion: last", "fusion: attention"}) == ""


@pytest.mark.parametrize(
    ("verdicts", "settles"),
    [
        (("worse", "worse"), "holds"),
        (("better", "worse"), "does not hold"),
        (("worse", "not distinguishable"), "not distinguishable"),
        (("worse", "equivalent"), "does not hold"),
        (("worse", "one seed only"), None),
        (("worse", "not run"), None),
    ],
)
def test_an_ablation_on_koniq_settles_a_claim_about_it(made, settled, verdicts, settles):
    made.database("k", "koniq10k")
    made.train("swin_base", "k")
    groups = zip(("swin_base_l1", "swin_base_rank03"), ("0.0", "0.3"), verdicts, strict=True)
    rows = [{"group": name, "differs": f"rank_weight: {value}", "verdict": verdict} for name, value, verdict in groups]
    made.ablation("swin_base", *rows)
    found = finding("D28", made)
    assert found.verdict == (settles or settled.loc["D28", "verdict"])
    assert found.basis.startswith("measured in this study: KonIQ-10k" if settles else "published figures")
    if settles:
        assert "Measured: swin_base against swin_base_l1: SRCC +0.0200 [+0.0100, +0.0300]" in found.found


@pytest.mark.parametrize(
    ("verdict", "settles"),
    [("equivalent", "holds"), ("better", "does not hold"), ("not distinguishable", "not distinguishable")],
)
def test_that_two_recipes_reach_one_srcc_is_confirmed_by_their_equivalence(made, verdict, settles):
    made.database("k", "koniq10k")
    made.train("swin_tiny_step", "k")
    made.ablation("swin_tiny_step", {"group": "swin_tiny", "differs": "rank_weight: 0.5", "verdict": verdict})
    found = finding("D49", made)
    assert found.verdict == settles and ("equivalent (within ±0.01)" in found.found) == (verdict == "equivalent")


@pytest.mark.parametrize(
    ("static", "linear", "settles"),
    [
        ("worse", "worse", "holds"),
        ("better", "worse", "does not hold"),
        ("worse", "better", "does not hold"),
        ("not distinguishable", "worse", "not distinguishable"),
        ("worse", "one seed only", "not testable here"),
        ("worse", "not run", "not testable here"),
    ],
)
@pytest.mark.parametrize("reader", ["synthetic", "koniq10k"])
def test_the_hyper_network_helps_if_it_is_better_than_each_simpler_head(made, reader, static, linear, settles):
    made.database("d", reader)
    made.train("main", "d")
    words = {"static": static, "linear": linear}
    rows = [{"group": name, "differs": f"head: {name}", "verdict": word} for name, word in words.items()]
    made.ablation("main", *rows, {"group": "last", "differs": "fusion: last"})
    found = finding("D53", made)
    assert found.verdict == settles and "fusion" not in found.found
    if settles != "not testable here":
        place = {"synthetic": "Synthetic demo", "koniq10k": "KonIQ-10k"}[reader]
        assert found.basis == f"measured in this study: {place}"
        assert f"main against static on {place}: SRCC +0.0200 [+0.0100, +0.0300] (3 seeds)" in found.found


def test_a_part_of_koniq_settles_nothing_and_is_named_as_a_part(made, settled):
    made.database("k", "koniq10k")
    made.finish("data_prep", "k", audit={"n": 500, "splits": {"train": {"n": 300}, "test": {"n": 200}}})
    made.train("swin_base", "k")
    rows = [{"group": f"swin_base_{name}", "differs": "rank_weight: 0.0"} for name in ("l1", "rank03")]
    made.ablation("swin_base", *rows)
    found = finding("D28", made)
    assert found.verdict == settled.loc["D28", "verdict"]
    place = "In this study (study made, KonIQ-10k (500 of 10,073 images), resnet10t)"
    assert place in found.found and "instead of rank_weight: 0.3" in found.found


@pytest.mark.parametrize(("reader", "epoch", "verdict"), [("koniq10k", 20, "holds"), ("koniq10k", 4, "does not hold")])
def test_best_epochs_on_koniq_settle_when_training_converges(made, reader, epoch, verdict):
    made.database("k", reader)
    made.train("ms_hyperiqa", "k", best_epoch=epoch)
    found = finding("D06", made)
    assert found.verdict == verdict and f"Measured best epochs: {epoch} to {epoch} in 2 trainings." in found.found


def test_best_epochs_elsewhere_are_named_beside(made):
    made.database("toy", "synthetic")
    made.train("ms_hyperiqa", "toy")
    found = finding("D06", made)
    assert found.verdict == "not testable here" and found.basis.startswith("needs KonIQ-10k and trainings")
    assert "(study made, Synthetic demo): best validation result in epochs 5 to 5 of 2" in found.found


def test_best_epochs_that_were_chosen_on_test_images_are_not_named(made):
    made.database("toy", "synthetic")
    made.train("ms_hyperiqa", "toy", params="select_on: test_srcc")
    assert "In this study" not in finding("D06", made).found


@pytest.mark.parametrize(
    ("combined", "alone", "verdict"),
    [(0.01, 0.02, "holds"), (0.02, 0.01, "does not hold"), (0.01, 0.01, "not distinguishable")],
)
def test_a_training_is_steadier_if_its_validation_srcc_changes_less_from_epoch_to_epoch(made, combined, alone, verdict):
    made.database("k", "koniq10k")
    for name, change in (("ms_hyperiqa", combined), ("ms_hyperiqa_l1", alone)):
        made.train(name, "k", history=pd.DataFrame({"val_srcc": [0.8, 0.8 + change, 0.8, 0.8 + change]}))
    found = finding("D07", made)
    assert found.verdict == verdict and f"of ms_hyperiqa changes by {combined:.4f} to {combined:.4f}" in found.found
    assert "results/made/train/ms_hyperiqa_l1_s2/history.csv" in found.sources


@pytest.mark.parametrize(("later", "verdict"), [(0.85, "holds"), (0.95, "does not hold"), (0.9, "not distinguishable")])
def test_the_test_srcc_of_each_epoch_of_the_replica_settles_whether_it_falls(made, later, verdict):
    made.database("k", "koniq10k")
    made.train("swin_tiny_step_published", "k", seeds=(42,), history=pd.DataFrame({"test_srcc": [0.9, 0.8, later]}))
    assert finding("D16", made).verdict == verdict


@pytest.mark.parametrize(("lengths", "verdict"), [((10, 12), "holds"), ((11, 12), "does not hold"), ((9, 30), None)])
def test_a_patience_suits_all_sizes_if_all_stop_before_the_last_epoch(made, lengths, verdict):
    made.database("k", "koniq10k")
    for name in ("swin_base_attention", "swin_base", "swin_small", "swin_tiny"):
        history = pd.DataFrame({"val_srcc": [0.8] * lengths[name != "swin_base_attention"]})
        made.train(name, "k", seeds=(1,), history=history)
    assert finding("D35", made).verdict == (verdict or "does not hold")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.81, 0.83, "holds"), (0.75, 0.78, "does not hold"), (0.78, 0.83, "not distinguishable")],
)
def test_tests_on_other_databases_settle_which_model_generalises_better(made, low, high, verdict):
    made.database("k", "koniq10k")
    made.database("wild", "livec\nsplit: all_test")
    for name in ("ms_hyperiqa", "hyperiqa"):
        made.train(name, "k", seeds=(1,))
    made.params("cross_dataset", "main", "databases: [wild]\ntest_crops: null\n")
    row = {"database": "wild", "title": "LIVE In the Wild", "available": True}
    ends = {"ms_hyperiqa_s1": (low, high), "hyperiqa_s1": (0.79, 0.80)}
    rows = [row | {"model": model, "srcc_low": a, "srcc_high": b} for model, (a, b) in ends.items()]
    made.finish("cross_dataset", "main", cross=pd.DataFrame(rows))
    assert finding("D09", made).verdict == verdict


@pytest.mark.parametrize(("gain", "verdict"), [(0.0012, "holds"), (0.009, "does not hold")])
def test_two_tests_of_one_epoch_settle_what_random_crops_add(made, gain, verdict):
    made.database("k", "koniq10k")
    made.train("swin_tiny_step", "k", seeds=(1,))
    row = {"database": "k", "title": "KonIQ-10k", "available": True, "model": "swin_tiny_step_s1"}
    for crops, srcc_of in (("center", 0.9), ("random", 0.9 + gain)):
        made.params("cross_dataset", crops, f"databases: [k]\ntest_crops: {crops}\n")
        made.finish("cross_dataset", crops, cross=pd.DataFrame([row | {"srcc": srcc_of}]))
    found = finding("C09", made)
    assert found.verdict == verdict and f"swin_tiny_step_s1 +{gain:.4f}" in found.found


@pytest.mark.parametrize(
    ("more", "verdict"), [(0.02, "holds"), (-0.02, "does not hold"), (0.01, "not distinguishable")]
)
def test_one_gain_is_larger_than_another_outside_both_their_bounds(ran, more, verdict):
    text, word = ran["growth"]((0.01 + more, 0.01), (0.01, 0.01))
    assert word == verdict and ("inside" if word == "not distinguishable" else "outside") + " ±0.0141" in text


def test_the_gain_of_choosing_on_the_test_set_is_measured_where_each_epoch_was_tested(made):
    made.database("toy", "synthetic")
    history = pd.DataFrame({"val_srcc": [0.5, 0.8, 0.7], "test_srcc": [0.4, 0.70, 0.75]})
    made.train("main", "toy", seeds=(1,), history=history)
    assert "In this study (study made, Synthetic demo): 0.0500 over 1 trainings" in finding("C18", made).found


def test_latencies_of_the_same_model_are_named_with_their_hardware(made, settled):
    swin = DOCUMENTS.training("swin_base").backbone
    timed = {"device": "cpu", "batch_size": 1, "mean_ms": 250.0, "std_ms": 4.0, "images_per_second": 4.0}
    timed |= {"precision": "32-true", "compiled": False}
    made.params("complexity", "main", "{}\n")
    counted = [{"run": "a", "backbone": swin, "fusion": "concat"}, {"run": "b", "backbone": swin, "fusion": "last"}]
    others = [{"batch_size": 8}, {"precision": "bf16-mixed"}, {"compiled": True}]
    latency = pd.DataFrame([timed | {"run": "a"}, *(timed | {"run": "a"} | other for other in others)])
    latency = pd.concat([latency, pd.DataFrame([timed | {"run": "b", "mean_ms": 1.0}])])
    made.finish("complexity", "main", complexity=pd.DataFrame(counted), latency=latency)
    found = finding("C25", made)
    assert found.verdict == "not testable here"
    assert found.found.endswith("Measured in study made on A processor, batch 1: 250.0 ms (SD 4.0), 4.0 images/s.")
    assert finding("D23", made).found.count("Measured in study made on A processor, batch 1: 250.0 ms") == 1


def test_a_gain_in_srcc_that_plcc_exceeds_is_no_clearer_gain_in_srcc(made):
    made.database("k", "koniq10k")
    made.train("swin_base", "k")
    made.ablation("swin_base", {"group": "swin_base_l1", "differs": "rank_weight: 0.0", "delta_plcc": -0.05})
    found = finding("D43", made)
    assert found.verdict == "does not hold" and found.found.endswith("PLCC +0.0500.")


def analysed(made, database, model) -> None:
    """An analysis of one model that weighs the finest scale for good images, and has clear clusters of quality."""
    ends = {"low": 0.1, "high": 0.3}
    parts = [("deep weight against quality", "rises"), ("the claim as a whole", "all parts")]
    tests = pd.DataFrame([{"part": part, "stated": stated} | ends for part, stated in parts])
    tests = tests.assign(model=model, value=0.2, verdict="does not hold")
    space = pd.DataFrame([{"model": model, "of": "quality", "measure": "silhouette", "value": 0.2} | ends])
    other = space.assign(model="hyperiqa_s1", value=0.05, low=0.04, high=0.06)
    made.params("analysis", "main", f"database: {database}\nmodel: {model}\n")
    tables = {"attention": tests, "separation": pd.concat([space, other])}
    made.finish("analysis", "main", analysis={"database": database}, **tables)


def test_an_analysis_on_koniq_settles_what_is_said_of_attention_weights(made):
    made.database("k", "koniq10k")
    made.train("swin_base_attention", "k", seeds=(1,))
    analysed(made, "k", "swin_base_attention_s1")
    found = finding("D46", made)
    assert (found.verdict, found.basis) == ("does not hold", "measured in this study: KonIQ-10k")
    assert "deep weight against quality 0.200 [0.100, 0.300], stated: rises, does not hold" in found.found


def test_an_analysis_on_koniq_settles_whether_clusters_are_clearer(made):
    made.database("k", "koniq10k")
    for experiment in ("resnet50_super", "hyperiqa"):
        made.train(experiment, "k", seeds=(1,))
    analysed(made, "k", "resnet50_super_s1")
    found = finding("D45", made)
    assert found.verdict == "holds" and "0.200 [0.100, 0.300] (resnet50_super_s1)" in found.found


def test_an_analysis_elsewhere_is_told_beside_and_settles_nothing(made, settled):
    made.database("demo", "synthetic")
    made.train("attention", "demo", seeds=(1,))
    analysed(made, "demo", "attention_s1")
    for claim in ("D45", "D46"):
        found = finding(claim, made)
        assert found.verdict == settled.loc[claim, "verdict"] == "not testable here"
        assert found.basis.endswith("beside it measured in this study") and "0.200 [0.100, 0.300]" in found.found


# a complete study


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> tuple[dict, pd.DataFrame]:
    """Variables and claims after a made-up, complete study of the documents' models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", tmp_path_factory.mktemp("complete"))
        made_study.complete(STUDY)
        variables = execute(STUDY, *list(sections())[1:])
        found = pd.read_csv(variables["out"].path / "claims.csv", keep_default_na=False).set_index("id")
        for file in {file for text in found["sources"] for file in text.split("; ")}:
            folder = paths.RESULTS if file.startswith("results/") else paths.ROOT
            assert (folder / file.removeprefix("results/")).is_file(), file
    return variables, found


OUT_OF_REACH = {"C15", "C24", "C25", "D12", "D19", "D23", "D39", "D40"}  # needs what no study can make
SETTLED_BEFORE = {  # by models, arithmetic, the authors' code, or figures of the documents that no study changes
    *("C01", "C02", "C03", "C04", "C06", "C07", "C08", "C11", "C12", "C13", "C14", "C20", "C21", "C22", "C23"),
    *("D01", "D02", "D03", "D04", "D10", "D11", "D13", "D14", "D18", "D20", "D21", "D22", "D29", "D32", "D36"),
    *("D47", "D48", "D50", "D51", "D52"),
}


@pytest.mark.slow
@pytest.mark.parametrize("claim", ROWS)
def test_a_complete_study_settles_each_claim_or_says_what_no_study_can_make(complete, claim):
    row = complete[1].loc[claim]
    if claim in OUT_OF_REACH:
        assert row["verdict"] == "not testable here"
        assert row["basis"].startswith("needs ") and "no study can make" in row["basis"]
    elif claim in SETTLED_BEFORE:
        assert row["verdict"] in {"holds", "does not hold", "arithmetic error"}
        assert row["basis"].startswith((claims.COMPUTED, claims.PUBLISHED, claims.CODE))
    else:
        assert row["basis"] == "measured in this study: KonIQ-10k" and row["verdict"] in claims.VERDICTS[:3]
        assert "results/koniq10k/" in row["sources"]


@pytest.mark.slow
def test_what_is_compared_for_a_claim_is_trained_with_two_seeds_or_more(complete):
    compared = set()
    for claim in ROWS.values():
        if "against" in complete[1].loc[claim.id, "found"]:
            compared |= set(claim.experiments)
    seeds = {name: len(param_files.experiments(STUDY)[name]) for name in compared}
    assert len(seeds) > 20 and {name: count for name, count in seeds.items() if count < 2} == {}


def test_a_finding_names_the_files_of_its_numbers(settled):
    for sources in settled["sources"]:
        assert all((paths.ROOT / file).is_file() for file in sources.split("; "))
    assert settled.loc["C01", "sources"].split("; ") == [
        *("params/koniq10k/train/hyperiqa.yaml", "params/koniq10k/train/ms_hyperiqa.yaml", "report/claims.csv"),
    ]
    assert "report/published.csv" in settled.loc["D51", "sources"].split("; ")


@pytest.mark.parametrize("claim", ["C06", "C18", "C20", "C22", "C23", "D52"])
def test_what_only_code_says_names_repository_and_file(settled, claim):
    assert re.match(r"the authors' code \((ukeSJTU|cny123222)/\S+ \S+\.py", settled.loc[claim, "basis"])


def test_the_super_semantic_vector_is_tried_with_the_fusion_alone_changed():
    assert DOCUMENTS.changed(*ROWS["D44"].experiments) == ["fusion"]


def test_no_sentence_of_the_notebook_holds_a_typed_number():
    """Figures in sentences would go stale; those that are left name epochs, documents and models."""
    typed = []
    for name in ROWS:
        why = sections()[name][0]["source"].split("\n\n")[2]
        code = "\n".join(cell["source"] for cell in sections()[name] if cell["cell_type"] == "code")
        constants = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
        typed += [(name, text) for text in [why, *constants] if isinstance(text, str) and " " in text.strip()]
    assert len(typed) > 200
    names = r"S00\d|HyperIQA|RTX 3090|alpha 0\.5, as the alpha table has it"
    plain = [(name, re.sub(names, "", text)) for name, text in typed]
    assert [(name, text) for name, text in plain if re.search(r"\d\.\d|\d{3,}(?!-)", text)] == []
