"""The report: complete, traceable, reproducible, and absent when something is missing."""

import json
import re
import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas as pd
import pytest
import report_fixture
import tiny

from iqa.report import appendix
from iqa.report.appendix import Tables
from iqa.report.reader import Reader, ReportError, Sourced
from iqa.report.render import _fill, render
from iqa.show import ablation, complexity, tables
from iqa.show.tables import Interval
from iqa.study import paths
from iqa.training import losses
from iqa.training.params import TrainParams

SECTIONS = [
    "Summary",
    "Question",
    "Method",
    "Data",
    "Main result",
    "Ablation",
    "Complexity",
    "Cross-database evaluation",
    "Inside the model",
]
SECTIONS += ["Published methods", "Claims, and what holds", "Appendix: further comparisons", "Provenance", "References"]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A synthetic and a real toy study, built once; a test that changes something works on a copy."""
    roots = {kind: tmp_path_factory.mktemp(kind) / "root" for kind in ("synthetic", "real")}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PARAMS", "RESULTS", "REPORT"):
            patch.setattr(paths, name, getattr(paths, name))
        params = {kind: report_fixture.build(root, synthetic=kind == "synthetic") for kind, root in roots.items()}
    return roots, params


@pytest.fixture
def study(studies, tmp_path, monkeypatch):
    """`study(kind)` copies a toy study, points `iqa.study.paths` to the copy, and returns its report's parameters."""

    def prepare(kind="synthetic"):
        root = tmp_path / kind
        shutil.copytree(studies[0][kind], root)
        for name in ("params", "results", "report"):
            monkeypatch.setattr(paths, name.upper(), root / name)
        return studies[1][kind]

    return prepare


@pytest.fixture(scope="module")
def built(studies):
    """The synthetic study's report as HTML, and its paths."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("params", "results", "report"):
            patch.setattr(paths, name.upper(), studies[0]["synthetic"] / name)
        outputs = render(studies[1]["synthetic"])
        yield outputs["html"].read_text(), outputs


class Resources(HTMLParser):
    """Addresses that a browser would load, and titles of marked numbers."""

    def __init__(self, html):
        super().__init__()
        self.loaded, self.titles = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "link", "img", "iframe", "source", "object"):
            self.loaded += [values[name] for name in ("src", "href", "data") if values.get(name)]
        if values.get("class") == "num":
            self.titles.append(values["title"])


def change(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    if file.is_relative_to(paths.RESULTS):
        tiny.finish(file.parent)


def test_report_has_every_section_and_no_unfilled_template(built):
    headings = re.findall(r"<h1[^>]*>(.*?)</h1>", built[0], re.S)
    found = [re.sub(r"<[^>]+>", "", heading).strip("0123456789 \n") for heading in headings]
    assert found[1:] == SECTIONS
    assert "{{" not in built[0] and "{%" not in built[0]


def test_pdf_and_html_and_summary_exist(built):
    assert built[1]["pdf"].read_bytes().startswith(b"%PDF")
    assert {path.name for path in built[1]["html"].parent.iterdir()} == {"report.html", "report.pdf", "tables"}
    assert json.loads(built[1]["summary"].read_text())["study"] == "toy"


def test_every_marked_number_names_its_file_and_key_and_value(built):
    titles = Resources(built[0]).titles
    srcc = json.loads((paths.RESULTS / "toy/train/main_s1/metrics.json").read_text())["srcc"]
    assert f"results/toy/train/main_s1/metrics.json : srcc = {srcc}" in titles
    assert "results/toy/ablation/main/ablation.csv : last, srcc_mean = 0.948" in titles
    assert "results/toy/complexity/main/latency.csv : main_s1 (row 4), median_ms = 9.4" in titles
    assert "results/toy/data_prep/toy_data/audit.json : splits.train.n = 300" in titles
    for title in titles:
        file, key, value = re.fullmatch(r"(results/toy/\S+) : (.+) = (\S+)", title).groups()
        assert key and value and (paths.RESULTS.parent / file).is_file()


def test_each_claim_leads_to_its_section_in_the_executed_notebook(built):
    executed = paths.run_folder("toy", "claims", "main") / "notebook.ipynb"
    for name, cell in report_fixture.claims().set_index("id")["cell"].items():
        (address,) = re.findall(rf'<a\s+href="([^"]*)"[^>]*>{name}</a>', built[0])
        file, _, anchor = unquote(address).partition("#")
        assert (built[1]["html"].parent / file).resolve() == executed and anchor == cell


def test_html_loads_nothing_from_elsewhere(built):
    loaded = Resources(built[0]).loaded
    assert loaded and all(address.startswith("data:") for address in loaded)
    assert "@import" not in built[0] and not re.search(r"url\(\s*['\"]?http", built[0])
    assert "<math" in built[0]


def test_two_builds_are_byte_identical(built, study):
    outputs = render(study())
    for name, path in outputs.items():
        assert path.read_bytes() == built[1][name].read_bytes(), name


def test_synthetic_data_are_labelled_and_real_data_are_not(built, study):
    synthetic = built[0]
    assert "The data of this study are synthetic." in synthetic
    assert "say nothing about photographs" in re.sub(r"\s+", " ", synthetic)
    outputs = render(study("real"))
    assert "synthetic" not in outputs["html"].read_text().lower()
    assert json.loads(outputs["summary"].read_text())["synthetic"] is False


def test_citations_follow_the_data(built, study):
    assert "Dead Leaves Model" in built[0] and "BIQ2021" not in built[0]
    real = render(study("real"))["html"].read_text()
    assert "Dead Leaves Model" not in real and "BIQ2021" in real


def test_summary_gives_main_and_cross_results(built):
    summary = json.loads(built[1]["summary"].read_text())
    assert summary["synthetic"] is True and summary["commit"] == "94c1dfa0" * 5
    main = summary["main"]
    assert (main["run"], main["database"], main["n"]) == ("main_s1", "toy_data", 120)
    assert main["srcc_low"] < main["srcc"] < main["srcc_high"] and main["seconds"] == 27.31
    here, absent = summary["cross"]
    assert (here["database"], here["srcc"], here["n"], here["available"]) == ("toy_shifted", 0.612, 60, True)
    assert (absent["srcc"], absent["n"], absent["available"]) == (None, None, False)


def test_verdicts_are_told_in_words(built):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", built[0]))
    assert "Not distinguishable from the reference" in text
    assert "fusion: last (−0.003) and rank_weight: 0.0 (−0.007)" in text  # noqa: RUF001
    assert "Worse than the reference: input: rgb" in text
    assert "Better than the reference" not in text


def test_other_verdicts_and_no_variants_build_too(study):
    params = study()
    file = paths.RESULTS / "toy/ablation/main/ablation.csv"
    rows = pd.read_csv(file)
    rows.loc[1, "verdict"], rows.loc[2, "verdict"] = "better", "one seed only"
    rows.to_csv(file, index=False)
    tiny.finish(file.parent)
    html = render(params)["html"].read_text()
    assert "Better than the reference" in html and "one seed only" in html
    rows.iloc[:1].to_csv(file, index=False)
    tiny.finish(file.parent)
    assert "no variants" in render(params)["html"].read_text()


BROKEN = {
    "number": ("train/main_s1/metrics.json", '"best_epoch"', '"other"', "metrics.json has no key 'best_epoch'"),
    "value": ("train/main_s1/metrics.json", '"seconds": 27.31', '"seconds": null', "'seconds' holds no value"),
    "column": ("cross_dataset/main/cross.csv", "krcc", "kendall", "cross.csv has no column 'krcc'"),
    "audit": ("data_prep/toy_shifted/audit.json", '"higher_is_better"', '"x"', "no key 'higher_is_better'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_missing_number_stops_the_build_and_is_named(study, case):
    params = study()
    file, old, new, message = BROKEN[case]
    change(paths.RESULTS / "toy" / file, old, new)
    with pytest.raises(ReportError, match=message):
        render(params)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("train/main_s1/curves.svg", "train/main_s1/curves.svg is missing; make it again"),
        ("ablation/main/ablation.csv", "ablation/main/ablation.csv is missing; make it again"),
        ("complexity/main/record.json", "complexity/main holds no finished run; make it"),
        ("claims/main/claims.csv", "claims/main/claims.csv is missing; make it again"),
        ("claims/main/notebook.ipynb", "claims/main/notebook.ipynb is missing; make it again"),
    ],
)
def test_a_missing_file_stops_the_build_with_its_remedy(study, file, message):
    params = study()
    (paths.RESULTS / "toy" / file).unlink()
    step, run, _ = file.split("/")
    with pytest.raises(ReportError, match=f"results/toy/{message} with: iqa run toy/{step}/{run}"):
        render(params)


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("See [@nobody1999].", "nobody1999"),
        ("See [](#fig:nowhere).", "#fig:nowhere"),
        ("![x](nothing.svg)", "nothing.svg"),
        ("{{ unknown_thing }}", "unknown_thing"),
        ("{{ tables.unknown_table }}", "unknown_table"),
        ("{% if %}", "line"),
        ("{{ figure(main ~ '/scatter.svg', 'fig:scatter', 'twice') }}", "fig:scatter"),
    ],
)
def test_a_fault_in_the_template_stops_the_build_and_is_named(study, addition, message):
    params = study()
    change(paths.REPORT / "report.md.j2", "# Question\n", f"# Question\n\n{addition}\n")
    with pytest.raises(ReportError, match=re.escape(message)):
        render(params)


def test_a_failed_build_leaves_no_old_report(study):
    params = study()
    outputs = render(params)
    change(paths.REPORT / "report.md.j2", "# Question\n", "# Question\n\n[@nobody1999]\n")
    with pytest.raises(ReportError):
        render(params)
    assert not any(path.exists() for path in outputs.values())
    assert list((paths.REPORT / "toy").iterdir()) == []


def test_a_trial_is_written_to_its_own_folder_and_leaves_the_studys_report_alone(study):
    params = study()
    outputs = render(params)
    before = {path: path.stat().st_mtime_ns for path in outputs.values()}
    trial = params.model_copy(update={"run": "scratch", "title": "A trial"})
    folder = paths.run_folder("toy", "report", "scratch")
    shutil.copytree(paths.run_folder("toy", "report", "report"), folder)
    found = render(trial)
    assert all(path.is_relative_to(folder) for path in found.values()) and (folder / "tables" / "main.csv").is_file()
    assert "A trial" in found["html"].read_text()
    assert before == {path: path.stat().st_mtime_ns for path in outputs.values()}


def test_every_table_is_written_as_csv_markdown_and_latex(built):
    folder = built[1]["html"].parent / "tables"
    stems = {file.stem for file in folder.iterdir()}
    assert stems == {file.stem for file in folder.glob("*.csv")} and {"ablation_main", "main", "claims"} <= stems
    for stem in stems:
        assert {file.suffix for file in folder.glob(f"{stem}.*")} == {".csv", ".md", ".tex"}
    numbers = pd.read_csv(folder / "ablation_main.csv")
    assert numbers["SRCC"].iloc[1] == 0.948 and numbers["SRCC, low"].iloc[1] == pytest.approx(0.933)
    assert r"\toprule" in (folder / "claims.tex").read_text() and "18.2M" in (folder / "claims.md").read_text()


def test_one_table_is_made_alone(study):
    params = study()
    found = Tables(params, Reader("toy"))
    files = found.write("ablation/weight", appendix.table_folder("toy"))
    assert [file.name for file in files] == ["ablation_weight.csv", "ablation_weight.md", "ablation_weight.tex"]
    assert set(files) <= set(appendix.table_folder("toy").iterdir())
    assert found.of_run("ablation/weight") == ("ablation", "weight") and found.titles["cross"] == "Other databases"
    with pytest.raises(ReportError, match="the report of 'toy' has no table 'nothing': databases, audits"):
        found["nothing"]


def test_trainings_that_are_not_finished_are_told(study):
    params = study()
    (paths.RESULTS / "toy/train/last_s2/record.json").unlink()
    text = re.sub(r"\s+", " ", render(params)["html"].read_text())
    assert "1 training runs of this study are not finished" in text and "last_s2" in text


def test_trainings_of_several_machines_and_versions_are_told(study, tmp_path):
    params = study()
    assert "were made in different places" not in _fill(params, Reader("toy"), tmp_path)
    file = paths.RESULTS / "toy/train/last_s1/record.json"
    record = json.loads(file.read_text())
    record |= {"machine": "node 7", "versions": record["versions"] | {"torch": "2.16.0"}}
    file.write_text(json.dumps(record))
    text = _fill(params, Reader("toy"), tmp_path)
    assert "different places: machine node 7 and not named; torch 2.16.0 and 2.15.0. Equal" in " ".join(text.split())
    assert "| node 7 |" in text


def test_a_group_that_was_not_run_stands_in_the_table_with_its_command(study):
    params = study()
    file = paths.RESULTS / "toy/ablation/main/ablation.csv"
    rows = pd.read_csv(file).astype(object)
    numbers = [name for name in rows if isinstance(rows[name].iloc[3], float) and name != "seeds"]
    rows.loc[3, [*numbers, "decision"]] = None
    rows.loc[3, ["seeds", "verdict", "command"]] = [0, "not run", "iqa run toy/train/rgb"]
    rows.to_csv(file, index=False)
    tiny.finish(file.parent)
    text = re.sub(r"<[^>]+>|\s+", " ", render(params)["html"].read_text())
    assert "not run: iqa run toy/train/rgb" in text and "Not run yet" in text


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"loss": "l2 + 0.5*plcc", "rank_weight": 0.0}, "mean squared error plus a distance of Pearson"),
        ({"loss": "fidelity", "optimizer": "adam", "schedule": "step"}, "divided by ten in steps"),
        ({"select_on": "test_srcc"}, "was chosen on the test images"),
        ({"hypernet_epochs": 1}, "learned in the first 1 epochs alone"),
        ({"color_jitter": 0.2, "input": "rgb"}, "alters the quality that is to be judged"),
    ],
)
def test_the_method_says_how_the_main_run_was_trained(study, params, text):
    found = study()
    file = paths.RESULTS / "toy/train/main_s1/params.json"
    values = json.loads(file.read_text()) | params
    file.write_text(json.dumps(values))
    terms = TrainParams(loss=values["loss"], rank_weight=values["rank_weight"]).terms()
    file.with_name("loss.json").write_text(json.dumps(losses.describe(terms, values)))
    tiny.finish(file.parent)
    html = re.sub(r"<[^>]+>", "", render(found)["html"].read_text())
    assert text in re.sub(r"\s+", " ", html)


def words(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def test_the_inside_of_the_model_is_told_with_its_numbers(built):
    text, titles = words(built[0]), Resources(built[0]).titles
    assert "The images are synthetic" in text and "For attention_s1 it holds on these images." in text
    assert any("analysis/main/separation.csv : main_s1 (row 1), value = " in title for title in titles)
    assert any("analysis/main/ceiling.csv : simulated, srcc = " in title for title in titles)
    assert "For these synthetic images the noise-free quality is known" in text
    assert "Not grouped by level: not known for this database." in text


def test_a_study_without_attention_and_ratings_says_what_they_would_need(study):
    text = words(render(study("real"))["html"].read_text())
    assert "named as attention in params/toy/analysis/main.yaml" in text
    assert "The ceiling was not simulated: the database gives no deviation of the ratings." in text
    assert "not available: the database shows no content twice" in text


@pytest.mark.parametrize(
    ("whole", "text"),
    [("does not hold", "it does not hold on these images"), ("not distinguishable", "neither confirmed nor refuted")],
)
def test_the_verdict_on_attention_weights_is_worded_with_care(study, whole, text):
    params = study()
    file = paths.RESULTS / "toy/analysis/main/attention.csv"
    rows = pd.read_csv(file)
    rows.loc[rows["part"] == "the claim as a whole", "verdict"] = whole
    rows.to_csv(file, index=False)
    tiny.finish(file.parent)
    assert text in words(render(params)["html"].read_text())


def test_a_run_with_attention_that_is_not_trained_is_told_with_its_command(study):
    params = study("real")
    file = paths.RESULTS / "toy/analysis/main/analysis.json"
    waiting = {"waiting": {"attention_s1": "iqa run toy/train/attention_s1"}}
    file.write_text(json.dumps(json.loads(file.read_text()) | waiting))
    tiny.finish(file.parent)
    assert "attention_s1 is not run; make it with: iqa run toy/train/attention_s1" in words(
        render(params)["html"].read_text()
    )


def test_numbers_keep_their_source_through_tables(study):
    study()
    reader = Reader("toy")
    table = ablation.ablation_table(reader.rows("ablation/main/ablation.csv"))
    cell = table["SRCC"].iloc[1]
    assert isinstance(cell.low, Sourced) and "last, srcc_low" in cell.low.source
    assert isinstance(table["SD of seeds"].iloc[0], Sourced)


def test_cells_are_rounded_when_shown():
    assert tables.cell(Interval(0.8991, 0.88, 0.9149)) == "0.899 [0.880, 0.915]"
    assert tables.cell(412_345, ".2fM") == "0.41"
    assert tables.cell(12_345.0, tables.COUNT) == "12,345"
    assert tables.cell(None) == tables.cell(float("nan")) == tables.DASH
    assert tables.cell(-0.25, ".2f") == tables.MINUS + "0.25"
    shown = tables.rounded(complexity.complexity_table(_complexity()))
    assert shown["Parameters (M)"].tolist() == ["25.56"] and shown["GMACs, torch"].tolist() == ["4.112"]


def _complexity():
    row = {"run": "a", "backbone": "resnet50", "fusion": "last", "parameters": 25_557_032, "backbone_parameters": 1}
    row |= {
        "trainable_parameters": 4,
        "head_parameters": 2,
        "generated_weights": 3,
        "macs_torch": 4_111_514_624,
        "macs_ptflops": 1,
        "macs_thop": 1,
    }
    return pd.DataFrame([row])
