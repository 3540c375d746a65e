"""Claims of the source documents: each has a check, what is computed is right, and verdicts follow from the rules."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from iqa import metrics
from iqa.analysis import complexity
from iqa.claims import checks, facts
from iqa.claims.checks import CHECKS, Finding, Step
from iqa.claims.comparison import comparison
from iqa.claims.facts import Claim, ClaimError
from iqa.claims.measured import Measured
from iqa.data.releases import RELEASES
from iqa.report import claims
from iqa.show.tables import MINUS, TIMES
from iqa.study import param_files, paths
from iqa.training.params import TrainParams

PARAMS = paths.PARAMS
ROWS = {claim.id: claim for claim in facts.claims()}
ABLATION = {"seeds": 3, "delta_low": -0.03, "delta_high": -0.01, "plcc_mean": 0.9, "delta": -0.02, "verdict": "worse"}


@pytest.fixture(scope="module")
def settled(tmp_path_factory) -> pd.DataFrame:
    """All claims, without any results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", tmp_path_factory.mktemp("results"))
        return claims.settle("demo").set_index("id")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Writes files of a made-up study beside the real parameter files of koniq10k."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    paths.PARAMS.mkdir()
    (paths.PARAMS / facts.STUDY).symlink_to(PARAMS / facts.STUDY)
    return Study("made")


class Study:
    """A study that is written file by file."""

    def __init__(self, name: str):
        self.name = name

    def database(self, name: str, reader: str) -> None:
        self._params("data_prep", name, f"reader: {reader}\n")

    def train(self, experiment: str, database: str, seeds=(1, 2), **found) -> None:
        """Finished runs of an experiment, all with the same metrics."""
        self._params("train", experiment, f"database: {database}\nseeds: {list(seeds)}\n")
        base = {"database": database, "srcc": 0.9, "srcc_low": 0.89, "srcc_high": 0.91, "plcc": 0.9, "best_epoch": 5}
        for seed in seeds:
            params = param_files.load(TrainParams, self.name, f"{experiment}_s{seed}").model_dump()
            self.finish("train", f"{experiment}_s{seed}", metrics=base | found, params=params)

    def ablation(self, reference: str, *rows: dict) -> None:
        """A table of one reference run and other groups."""
        self._params("ablation", "table", f"reference: {reference}\n")
        first = ABLATION | {"group": reference, "differs": "", "runs": f"{reference}_s1", "verdict": "reference"}
        table = pd.DataFrame([first, *(ABLATION | row for row in rows)])
        self.finish("ablation", "table", ablation=table)

    def _params(self, step: str, run: str, text: str) -> None:
        file = paths.PARAMS / self.name / step / f"{run}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def finish(self, step: str, run: str, **contents) -> None:
        """Results of a run: tables as CSV, the others as JSON."""
        folder = paths.run_folder(self.name, step, run)
        folder.mkdir(parents=True)
        for name, content in ({"record": {"hardware": {"cpu": "A processor"}}} | contents).items():
            if isinstance(content, pd.DataFrame):
                content.to_csv(folder / f"{name}.csv", index=False)
            else:
                (folder / f"{name}.json").write_text(json.dumps(content))


def finding(claim: str, study: Study) -> Finding:
    return CHECKS[claim](ROWS[claim], Measured(study.name))


def same(finding: Finding, row: pd.Series) -> bool:
    return (finding.found, finding.basis, finding.verdict) == (row["found"], row["basis"], row["verdict"])


# the files


def test_every_claim_is_settled_in_the_order_of_the_file(settled):
    assert list(settled.index) == list(ROWS) and {f"C{n:02d}" for n in range(1, 26)} <= set(settled.index)
    assert settled["verdict"].isin(checks.VERDICTS).all() and set(settled["verdict"]) == set(checks.VERDICTS)
    assert all(basis.startswith(checks.BASES) for basis in settled["basis"])
    assert settled["found"].str.endswith(".").all() and not settled["found"].str.contains("nan|None").any()


def test_a_claim_without_a_check_and_a_check_without_a_claim_are_errors():
    rows = list(ROWS.values())
    with pytest.raises(ClaimError, match="without a check: X01"):
        checks.complete([*rows, Claim("X01", "S000", "", "", "", [], [], [])])
    with pytest.raises(ClaimError, match="without a row: C01"):
        checks.complete(rows[1:])
    with pytest.raises(ClaimError, match="two rows: C02"):
        checks.complete([*rows, rows[1]])
    with pytest.raises(ValueError, match="claim C01 has two checks"):
        checks.check("C01")(lambda claim, study: None)


def test_every_experiment_that_is_named_has_a_parameter_file():
    known = set(param_files.experiments(facts.STUDY))
    assert {name for claim in ROWS.values() for name in claim.experiments} <= known
    assert set(facts.published_table()["experiment"]) - {""} <= known


def test_every_parameter_that_is_named_is_one_of_training():
    assert {name for claim in ROWS.values() for name in claim.parameters} <= set(TrainParams.model_fields)


def test_published_rows_have_a_protocol_a_source_and_a_known_database():
    table = facts.published_table()
    assert set(table["tested_on"]) <= {release.title for release in RELEASES.values()}
    assert (table["protocol"] != "").all() and (table["source"] != "").all() and table["srcc"].between(0, 1).all()
    assert not table.duplicated(["method", "tested_on", "source"]).any()


def test_all_values_that_were_given_to_the_project_are_among_the_published_rows(shared):
    given = pd.read_csv(shared / "reference/published.csv")
    own = facts.published_table()
    wanted = set(zip(given["method"], given["srcc"], given["plcc"].fillna(-1), strict=True))
    assert wanted <= set(zip(own["method"], own["srcc"], own["plcc"].fillna(-1), strict=True))
    assert set(pd.read_csv(shared / "reference/claims.csv")["id"]) <= set(ROWS)


def test_a_published_row_that_is_not_there_is_an_error_with_its_name():
    with pytest.raises(ClaimError, match="0 rows of S002 for 'resnet50' on KonIQ-10k"):
        facts.published("S002", "resnet50")


def test_an_experiment_without_a_file_is_an_error_with_those_that_there_are():
    with pytest.raises(ClaimError, match=r"train/nothing\.yaml does not exist; there are: convnext_tiny"):
        facts.parameters("nothing")


# what is computed


def test_parameters_are_those_of_the_published_models():
    assert facts.parameters("hyperiqa") == 27_375_369
    assert facts.parameters("swin_base_attention") == 89_111_941
    assert [round(facts.parameters(name) / 1e6, 2) for name in ("swin_tiny_last", "swin_tiny")] == [28.98, 29.32]


def test_macs_without_numbers_are_those_with_numbers():
    with torch.device("cpu"):
        model = claims.facts.HyperIQA(facts.training("mobilenetv2").architecture()).eval()
    assert facts.macs("mobilenetv2") == complexity.macs_torch(model, 224, 224)
    assert facts.parameters("mobilenetv2") == facts.count(model)


def test_a_training_step_keeps_twice_as_much_for_twice_the_batch():
    one, two, three = (facts.saved_bytes("mobilenetv2", batch) for batch in (1, 2, 3))
    assert three - two == two - one > 10e6
    assert not facts.model("mobilenetv2").training


def test_a_filter_that_is_used_twice_leaves_the_optimiser_nothing():
    model = facts.model("hyperiqa")
    assert list(facts.hyper_tensors("hyperiqa")) == [len([*model.semantic.parameters(), *model.hyper.parameters()]), 0]


def test_a_floor_above_the_rate_makes_the_cosine_rise():
    assert facts.rates(30, 5e-7, 1e-6)[[0, -1]].tolist() == pytest.approx([5e-7, 1e-6])
    falling = facts.rates(30)
    assert (np.diff(falling) < 0).all() and falling[15] == pytest.approx(0.5)
    assert (np.diff(facts.rates(30, restart=10)) > 0).sum() == 3


def test_the_standard_error_of_an_srcc_is_that_of_drawn_samples():
    generator = np.random.default_rng(0)
    rho = 2 * np.sin(np.pi / 6 * 0.9)  # Pearson's coefficient of a normal pair whose Spearman's is 0.9
    x, noise = generator.normal(size=(2, 400, 500))
    found = metrics.srcc(x, rho * x + np.sqrt(1 - rho**2) * noise).std()
    assert facts.standard_error(0.9, 500) == pytest.approx(found, rel=0.1)
    assert facts.bound(0.9, 0.9, 500) == pytest.approx(1.96 * np.sqrt(2) * facts.standard_error(0.9, 500))


def test_the_best_of_ten_epochs_is_flattered_by_the_mean_of_the_largest_of_ten():
    largest = stats.norm.rvs(size=(20_000, 10), random_state=0).max(axis=1).mean()
    assert facts.selection_gain(10, 0.9) / facts.standard_error(0.9) == pytest.approx(largest, abs=0.02)


def test_centre_crops_are_one_crop():
    assert facts.coverage("center", 20, 512, 384, 224) == (1, pytest.approx(224**2 / (512 * 384)))
    assert facts.coverage("random", 20, 512, 384, 224)[0] == 20


def test_a_value_agrees_with_a_figure_of_as_many_decimals():
    assert facts.agrees(28.979, "28.98") and facts.agrees(0.0029, "0.003") and not facts.agrees(0.0029, "0.029")
    assert facts.agrees(11.6, "12") and not facts.agrees(11.4, "12")


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
        ("C09", ["+0.0090, 9 times"], "does not hold"),
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
        ("C22", ["from 5e-07 to 1e-06", "30 of 30"], "does not hold"),
        ("C23", ["366 tensors", "0 of the 2 keys"], "does not hold"),
        ("C24", ["8.8 GB"], "not testable here"),
        ("D13", ["96 + 192 + 384 + 768 = 1440", "1920"], "holds"),
        ("D36", ["+2.94 points", "+3.21%"], "holds"),
    ],
)
def test_what_is_known_of_a_claim_is_found(settled, claim, texts, verdict):
    assert settled.loc[claim, "verdict"] == verdict
    assert [text for text in texts if text not in settled.loc[claim, "found"]] == []


def test_a_difference_inside_the_bound_is_not_distinguishable_and_outside_it_the_sign_decides():
    assert Step(0.9343, 0.9336).verdict == "not distinguishable"
    assert Step(0.95, 0.93).verdict == "holds" and Step(0.93, 0.95).verdict == "does not hold"


# what a study has measured


def test_an_ablation_on_another_database_is_named_beside_and_changes_no_verdict(made, settled):
    made.database("toy", "synthetic")
    made.train("main", "toy")
    assert same(finding("C10", made), settled.loc["C10"])
    made.ablation("main", {"group": "l1", "differs": "rank_weight: 0.0"}, {"group": "b", "differs": "epochs: 3"})
    found = finding("C10", made)
    assert found.verdict == settled.loc["C10", "verdict"]
    assert found.basis == "published figures; beside it measured in this study"
    seen = "In this study (study made, Synthetic demo): rank_weight: 0.0 instead of rank_weight: 0.3 gives SRCC"
    assert f"{seen} {MINUS}0.0200" in found.found
    assert "(3 seeds), worse." in found.found and "epochs" not in found.found
    assert same(finding("C05", made), settled.loc["C05"])


def test_an_ablation_row_that_changes_more_than_the_parameter_is_not_named(made, settled):
    made.database("toy", "synthetic")
    made.train("main", "toy")
    made.ablation("main", {"group": "l1", "differs": "fusion: last, rank_weight: 0.0"})
    assert same(finding("C10", made), settled.loc["C10"])


@pytest.mark.parametrize(
    ("verdicts", "settles"),
    [
        (("worse", "worse"), "holds"),
        (("better", "worse"), "does not hold"),
        (("worse", "not distinguishable"), "not distinguishable"),
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


def test_a_part_of_koniq_settles_nothing_and_is_named_as_a_part(made, settled):
    made.database("k", "koniq10k")
    made.finish("data_prep", "k", audit={"n": 500, "splits": {"train": {"n": 300}, "test": {"n": 200}}})
    made.train("swin_base", "k")
    rows = [{"group": f"swin_base_{name}", "differs": f"rank_weight: {name[-1]}"} for name in ("l1", "rank03")]
    made.ablation("swin_base", *rows)
    found = finding("D28", made)
    assert found.verdict == settled.loc["D28", "verdict"]
    place = "In this study (study made, KonIQ-10k (500 of 10,073 images))"
    assert place in found.found and "instead of rank_weight: 0.3" in found.found
    own = comparison("made").query("measured")["protocol"].item()
    assert own.startswith("official split 300/200 (500 of 10,073 images); best epoch on the validation set")


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


def test_the_gain_of_choosing_on_the_test_set_is_measured_where_each_epoch_was_tested(made):
    made.database("toy", "synthetic")
    made.train("main", "toy", seeds=(1,))
    history = pd.DataFrame({"val_srcc": [0.5, 0.8, 0.7], "test_srcc": [0.4, 0.70, 0.75]})
    history.to_csv(paths.run_folder("made", "train", "main_s1") / "history.csv", index=False)
    assert "In this study (study made, Synthetic demo): 0.0500 over 1 trainings" in (finding("C18", made).found)


def test_latencies_of_the_same_model_are_named_with_their_hardware(made, settled):
    swin = facts.training("swin_base").backbone
    timed = {"device": "cpu", "batch_size": 1, "mean_ms": 250.0, "std_ms": 4.0, "images_per_second": 4.0}
    timed |= {"precision": "32-true", "compiled": False}
    made._params("complexity", "main", "{}\n")
    counted = [{"run": "a", "backbone": swin, "fusion": "concat"}, {"run": "b", "backbone": swin, "fusion": "last"}]
    others = [{"batch_size": 8}, {"precision": "bf16-mixed"}, {"compiled": True}]
    latency = pd.DataFrame([timed | {"run": "a"}, *(timed | {"run": "a"} | other for other in others)])
    latency = pd.concat([latency, pd.DataFrame([timed | {"run": "b", "mean_ms": 1.0}])])
    made.finish("complexity", "main", complexity=pd.DataFrame(counted), latency=latency)
    found = finding("C25", made)
    assert found.verdict == "not testable here"
    assert found.found.endswith("Measured in study made on A processor, batch 1: 250.0 ms (SD 4.0), 4.0 images/s.")


def test_a_gain_in_srcc_that_plcc_exceeds_is_no_clearer_gain_in_srcc(made):
    made.database("k", "koniq10k")
    made.train("swin_base", "k")
    made.ablation("swin_base", {"group": "swin_base_l1", "differs": "rank_weight: 0.0", "plcc_mean": 0.85})
    found = finding("D43", made)
    assert found.verdict == "does not hold" and found.found.endswith("PLCC +0.0500.")


# the comparison


def test_a_synthetic_study_has_nothing_to_compare_with():
    table = comparison("demo")
    assert table.empty and list(table)[:2] == ["method", "backbone"] and list(table)[-1] == "measured"


def test_measured_and_published_methods_stand_side_by_side_with_their_protocols(made):
    made.database("k", "koniq10k")
    made.database("toy", "synthetic")
    made.train("main", "k", seeds=(1, 2, 3))
    made.train("other", "toy")
    table = comparison("made")
    own = table[table["measured"]]
    assert own[["method", "trained_on", "tested_on", "srcc", "source"]].to_numpy().tolist() == [
        ["main", "KonIQ-10k", "KonIQ-10k", 0.9, "results/made/train"]
    ]
    protocol = "official split; best epoch on the validation set; whole image; mean of 3 seeds"
    assert own["protocol"].item() == protocol
    assert set(table["tested_on"]) == {"KonIQ-10k"} and not table["protocol"].str.contains("expected").any()
    assert list(table["protocol"]) == sorted(table["protocol"]) and (~table["measured"]).sum() > 30


def test_results_on_other_databases_are_means_over_the_seeds_of_a_model(made):
    made.database("k", "koniq10k")
    made.database("wild", "livec\nsplit: all_test")
    made.train("main", "k")
    made._params("cross_dataset", "main", "test_crops: grid\ntest_patches: 9\n")
    row = {"trained_on": "KonIQ-10k", "available": True, "plcc": 0.8, "n": 1162.0}
    wild, own = {"database": "wild", "title": "LIVE In the Wild"}, {"database": "k", "title": "KonIQ-10k"}
    rows = [row | wild | {"model": f"main_s{seed}", "srcc": 0.7 + 0.1 * seed} for seed in (1, 2)]
    absent = {"model": "main_s1", "available": False, "trained_on": "KonIQ-10k"} | wild
    cross = pd.DataFrame([*rows, row | own | {"model": "main_s1", "srcc": 0.5}, absent])
    made.finish("cross_dataset", "main", cross=cross)
    table = comparison("made")
    found = table[table["measured"] & (table["tested_on"] == "LIVE In the Wild")]
    assert found[["method", "backbone"]].to_numpy().tolist() == [["main", "resnet10t"]]
    assert found["srcc"].item() == pytest.approx(0.85)
    assert found["protocol"].item() == "whole database, 1162 images; grid of 9 crops; mean of 2 seeds"
    assert not table["srcc"].eq(0.5).any()


def analysed(made, database, model) -> None:
    """An analysis of one model that weighs the finest scale for good images, and has clear clusters of quality."""
    ends = {"low": 0.1, "high": 0.3}
    parts = [("deep weight against quality", "rises"), ("the claim as a whole", "all parts")]
    tests = pd.DataFrame([{"part": part, "stated": stated} | ends for part, stated in parts])
    tests = tests.assign(model=model, value=0.2, verdict="does not hold")
    space = pd.DataFrame([{"model": model, "of": "quality", "measure": "silhouette", "value": 0.2} | ends])
    other = space.assign(model="hyperiqa_s1", value=0.05, low=0.04, high=0.06)
    made._params("analysis", "main", f"database: {database}\nmodel: {model}\n")
    tables = {"attention": tests, "separation": pd.concat([space, other])}
    made.finish("analysis", "main", analysis={"database": database}, **tables)


def test_an_analysis_on_koniq_settles_what_is_said_of_attention_weights(made):
    made.database("k", "koniq10k")
    made.train("swin_base_attention", "k", seeds=(1,))
    analysed(made, "k", "swin_base_attention_s1")
    found = finding("D46", made)
    assert (found.verdict, found.basis) == ("does not hold", checks.ON_KONIQ)
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


def test_no_sentence_of_a_check_holds_a_typed_number():
    """Figures in the code of the checks would go stale; those that are left name epochs, documents and formats."""
    for name in ("of_models", "of_results", "of_statements"):
        source = (paths.ROOT / "iqa/claims" / f"{name}.py").read_text(encoding="utf-8")
        texts = [re.sub(r"\{[^{}]*\}", "", text) for text in re.findall(r'f"([^"]*)"', source)]
        assert [text for text in texts if re.search(r"\d\.\d|\d{3,}(?!-)", re.sub(r"S00\d|HyperIQA", "", text))] == []
