"""The report: complete, traceable, reproducible, and absent when something is missing."""

import html
import json
import re
import shutil
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from urllib.parse import unquote

import finished
import notebook_section
import numpy as np
import pandas as pd
import pypandoc
import pytest
import tiny

from iqa.analysis.baselines import BASELINES, COLUMNS
from iqa.analysis.evaluation import COEFFICIENTS
from iqa.report import appendix
from iqa.report.appendix import Tables
from iqa.report.beside import Beside
from iqa.report.params import TEXTS, ReportParams
from iqa.report.reader import Reader, ReportError, Sourced
from iqa.report.render import Writer, _fill, _to_html, _to_pdf, render, texts
from iqa.show import ablation, complexity, tables
from iqa.show.tables import Interval
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.training import losses

pytestmark = pytest.mark.slow

SECTIONS = ["Abstract", "Introduction", "Method", "Data", "Results", "Controls and ablation", "Cost", "Generalisation"]
SECTIONS += ["Inside the model", "Published results", "Claims of the documents", "Discussion", "Conclusion"]
SECTIONS += ["Reproducibility statement", "References", "Appendix: further tables and figures"]
SECTIONS += ["Appendix: further comparisons", "Appendix: published values", "Appendix: all claims"]
SECTIONS += ["Appendix: parameters and runs"]
BARE = [name for name in SECTIONS if name.split()[0] not in ("Controls", "Cost", "Generalisation", "Inside", "Claims")]
BARE = [name for name in BARE if name not in ("Appendix: further comparisons", "Appendix: all claims")]
BESIDE = {"index.html", "report.html", "report.pdf", "tables", "notebooks", "files"}
PUBLISHED = {"method": ["DeepEns", "main"], "srcc": [0.7922, 0.951], "measured": [False, True]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with the results of the smoke study, to which published values and a second comparison are added."""
    root = tmp_path_factory.mktemp("made") / "project"
    finished.copy_sources(root)
    finished.put_results(root)
    results = root / "results" / "smoke"
    pd.DataFrame(PUBLISHED).reindex(columns=pd.read_csv(results / "report/report/published.csv").columns).to_csv(
        results / "report/report/published.csv", index=False
    )
    shutil.copytree(results / "ablation/main", results / "ablation/weight")
    (root / "params/smoke/ablation/weight.yaml").write_text("title: Weight of the ranking term, λ & $x_1$\n")
    return root


@pytest.fixture(scope="module")
def copies(made, tmp_path_factory):
    return tmp_path_factory.mktemp("copies")


@pytest.fixture
def study(made, copies, monkeypatch):
    """Parameters of the report of a copy, in which `iqa.study.paths` looks."""
    for name in ("params", "results", "report"):
        (copies / name).mkdir(exist_ok=True)
        finished.restore(copies / name, made / name)
        monkeypatch.setattr(paths, name.upper(), copies / name)
    return param_files.load(ReportParams, "smoke", "report")


@pytest.fixture(scope="module")
def built(made):
    """The report as HTML, and its paths."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("params", "results", "report"):
            patch.setattr(paths, name.upper(), made / name)
        outputs = render(param_files.load(ReportParams, "smoke", "report"))
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


def words(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


def take_away(*files):
    """Make results as if an older version had made them, which did not write these files."""
    for file in files:
        result(file).unlink()
        tiny.finish(result(file).parent)


def narrative(params, folder):
    """The filled template on one line, without the sources of its numbers and the marks of Markdown."""
    text = re.sub(
        r'\{\.num title="[^"]*"\}', "", _fill(Tables(params, Reader("smoke")), folder, Beside("smoke", folder))
    )
    return re.sub(r"\s+", " ", re.sub(r"[\[\]\\`*]", "", text))


def result(name):
    return paths.RESULTS / "smoke" / name


def change(name, old, new):
    """Change a text in a result, as if its run had written it so."""
    text = result(name).read_text()
    assert old in text
    result(name).write_text(text.replace(old, new))
    tiny.finish(result(name).parent)


def change_json(name, **values):
    result(name).write_text(json.dumps(json.loads(result(name).read_text()) | values))
    tiny.finish(result(name).parent)


def change_rows(name, function):
    function(pd.read_csv(result(name))).to_csv(result(name), index=False)
    tiny.finish(result(name).parent)


# --- the whole report, rendered once


def test_report_has_every_section_and_no_unfilled_template(built):
    assert headings(built[0]) == SECTIONS
    assert "{{" not in built[0] and "{%" not in built[0]


def test_pdf_and_html_and_summary_exist(built):
    assert built[1]["pdf"].read_bytes().startswith(b"%PDF")
    assert {path.name for path in built[1]["html"].parent.iterdir()} == BESIDE
    assert json.loads(built[1]["summary"].read_text())["study"] == "smoke"


def test_every_marked_number_names_its_file_and_key_and_value(built):
    titles = Resources(built[0]).titles
    kept = finished.KEPT
    srcc = json.loads((kept / "train/main_s1/metrics.json").read_text())["srcc"]
    mean = pd.read_csv(kept / "ablation/main/ablation.csv").set_index("group").loc["last", "srcc_mean"]
    latency = pd.read_csv(kept / "complexity/main/latency.csv")["median_ms"].iloc[0]
    assert f"results/smoke/train/main_s1/metrics.json : srcc = {srcc}" in titles
    assert f"results/smoke/ablation/main/ablation.csv : last, srcc_mean = {mean}" in titles
    assert f"results/smoke/complexity/main/latency.csv : main_s1 (row 1), median_ms = {latency}" in titles
    assert "results/smoke/data_prep/demo/audit.json : splits.train.n = 120" in titles
    for title in titles:
        file, key, value = re.fullmatch(r"(results/smoke/\S+) : (.+) = (\S+)", title).groups()
        assert key and value != "nan" and (paths.RESULTS.parent / file).is_file()


def test_no_missing_value_is_written_as_a_number(built):
    assert not re.search(r"\b(nan|None|inf)\b", words(built[0]))


def test_each_claim_leads_to_its_section_in_the_executed_notebook(built):
    table = pd.read_csv(finished.KEPT / "claims/main/claims.csv")
    for name, cell in table.set_index("id")["cell"].items():
        (address,) = set(re.findall(rf'<a\s+href="([^"]*)"[^>]*>{name}</a>', built[0]))
        file, _, anchor = unquote(address).partition("#")
        assert file == "notebooks/claims-main.html" and anchor == cell


def test_html_loads_nothing_from_elsewhere(built):
    loaded = Resources(built[0]).loaded
    assert loaded and all(address.startswith("data:") for address in loaded)
    assert "@import" not in built[0] and not re.search(r"url\(\s*['\"]?http", built[0])
    assert "<math" in built[0]


def test_all_that_a_report_and_its_notebooks_link_to_lies_in_its_folder(built):
    home = built[1]["html"].parent
    pages = {home / "index.html", *home.glob("notebooks/*.html"), built[1]["html"]}
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    for page, text in texts.items():
        for address in set(re.findall(r'<a\s[^>]*?href="([^"]*)"', text)):
            file, _, anchor = unquote(html.unescape(address)).partition("#")
            if (
                address.startswith(("https://doi.org/", "https://jmlr.org/papers/", "https://www.jstor.org/"))
                and page == built[1]["html"]
            ):
                continue
            target = (page.parent / file).resolve() if file else page
            assert target.is_file() and target.is_relative_to(home), address
            assert not anchor or target not in texts or f'id="{anchor}"' in texts[target] or target != page, address
    assert "url=report.html" in texts[home / "index.html"]


def test_every_table_and_figure_leads_to_its_notebook_parameters_numbers_and_command(built):
    captions = re.findall(r"<(?:fig)?caption[^>]*>(.*?)</(?:fig)?caption>", built[0], re.S)
    assert len(captions) > 40
    for caption in captions:
        (source,) = re.findall(r'<span\s+class="source"[^>]*>(.*?)</span>', caption, re.S)
        assert re.search(r"(CSV|JSON)</a>", source) and "iqa run smoke/" in source, source
        step = re.search(r"iqa run smoke/(\w+)/", source)[1]
        assert step == "report" or ("notebooks/" in source and "files/params/" in source), source


def test_the_file_of_every_number_lies_beside_the_report(built):
    home = built[1]["html"].parent
    for title in Resources(built[0]).titles:
        assert (home / "files" / title.partition(" : ")[0]).is_file()


def test_no_program_but_the_one_of_the_report_may_run(built):
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", built[0], re.S)
    allowed = b64encode(sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{allowed}'" in html.unescape(built[0])
    for page in built[1]["html"].parent.glob("notebooks/*.html"):
        text = page.read_text()
        assert "script-src" not in text and "default-src 'none'" in html.unescape(text)
        assert not re.search(r'(src|href)="https?:', text)


def test_the_page_of_a_notebook_is_made_again_only_if_the_notebook_or_its_look_changed(study, tmp_path):
    def page() -> str:
        beside = Beside("smoke", tmp_path / "earlier")
        address = beside.notebook("train", "main_s1")
        beside.write(tmp_path / "new")
        shutil.copytree(tmp_path / "new", tmp_path / "earlier", dirs_exist_ok=True)
        return (tmp_path / "new" / address).read_text()

    notebook = paths.run_folder("smoke", "train", "main_s1") / "notebook.ipynb"
    first = page()
    marked = first.replace("</main>", "<!-- kept --></main>")
    (tmp_path / "earlier/notebooks/train-main_s1.html").write_text(marked)
    assert page() == marked
    notebook.write_text(json.dumps(json.loads(notebook.read_text()) | {"metadata": {"changed": True}}))
    assert page() != marked
    notebook.write_text("{")
    with pytest.raises(ReportError, match=r"notebook.ipynb is no notebook .*iqa run smoke/train/main_s1"):
        page()


def test_a_report_links_to_no_notebook_that_is_not_there(study, tmp_path):
    (paths.run_folder("smoke", "train", "main_s1") / "notebook.ipynb").unlink()
    source = Beside("smoke", tmp_path).figure("train/main_s1/curves.svg")
    assert "notebooks/" not in source and "[CSV](files/results/smoke/train/main_s1/history.csv)" in source


WIDE = (
    """# Summary {.unnumbered}

# Results

| Name of a network_with_parts | SRCC | PLCC | KRCC | RMSE | Verdict | What a reader has to know of it |
|:--|--:|--:|--:|--:|:--|:--|
"""
    + "| a | 0.906 \\[0.885, 0.925\\] | 0.906 \\[0.885, 0.925\\] | 0.9 | 0.9 | not distinguishable | many words |\n"
    * 12
)
WIDE += ': Caption [[CSV](a.csv)]{.source file="tables/a.csv"} {#tab:a}\n'


def test_the_pdf_has_contents_and_names_files_and_sets_tables_by_their_contents(tmp_path):
    (tmp_path / "a.md").write_text("---\ntitle: T\nsubtitle: S\nrunning: R\n---\n\n" + WIDE)
    _to_pdf(tmp_path / "a.md", tmp_path / "a.pdf")
    source = (tmp_path / "a.typ").read_text().partition("[Summary]")[2]
    assert source.index("#contents") < source.index("= Results") < source.index("#continued")
    assert "#source[`tables/a.csv`]" in source and "a.csv)" not in source.replace("`", "")
    assert "\\[0.885,\N{NO-BREAK SPACE}0.925\\]" in source.replace("~", "\N{NO-BREAK SPACE}")
    widths = [float(width) for width in re.search(r"columns: \(([^)]*)\)", source)[1].replace("%", "").split(",")]
    assert 95 < sum(widths) <= 100.5 and widths[1] == widths[2] > 12 > widths[3]


def test_synthetic_data_are_labelled_and_cited(built):
    text = words(built[0])
    assert "The data of this study are synthetic." in text and "say nothing about photographs" in text
    assert "Dead Leaves Model" in text and "BIQ2021: a large" not in text


def test_summary_gives_main_and_cross_results(built):
    summary, kept = (
        json.loads(built[1]["summary"].read_text()),
        json.loads((finished.KEPT / "summary.json").read_text()),
    )
    del summary["commit"], kept["commit"]
    assert summary == kept


def test_verdicts_are_given_in_words(built):
    text = words(built[0])
    delta = tables.number(pd.read_csv(finished.KEPT / "ablation/main/ablation.csv")["delta"].iloc[1], "+.3f")
    assert "Trained with one seed only" in text and f"fusion: last ({delta})" in text
    assert "Better than the reference" not in text


def test_the_inside_of_the_model_is_described_with_its_numbers(built):
    text, titles = words(built[0]), Resources(built[0]).titles
    assert "The images are synthetic" in text
    assert "A linear probe recognises the distortion better than chance." in text
    assert any("analysis/main/separation.csv : main_s1 (row 2), value = " in title for title in titles)
    assert any("analysis/main/ceiling.csv : simulated, srcc = " in title for title in titles)
    assert "For these synthetic images the noise-free quality is known" in text
    assert "Not grouped by size: the same for all images (192 x 256)." in text
    assert "named as attention in params/smoke/analysis/main.yaml" in text


def test_every_table_is_written_as_csv_markdown_and_latex(built):
    folder = built[1]["html"].parent / "tables"
    stems = {file.stem for file in folder.iterdir()}
    assert {"ablation_main", "ablation_weight", "main", "claims", "provenance", "published"} <= stems
    for stem in stems:
        assert {file.suffix for file in folder.glob(f"{stem}.*")} == {".csv", ".md", ".tex"}
        assert r"\toprule" in (folder / f"{stem}.tex").read_text()
    numbers, kept = pd.read_csv(folder / "ablation_main.csv"), pd.read_csv(finished.KEPT / "ablation/main/ablation.csv")
    assert numbers["SRCC"].tolist() == kept["srcc_mean"].tolist()
    assert numbers["SRCC, low"].tolist() == kept["srcc_low"].tolist()
    assert "18.2M" in (folder / "claims.md").read_text()
    assert r"λ \& \$x\_1\$" in (folder / "ablation_weight.tex").read_text()


def test_a_page_shows_every_column_of_the_tables_that_it_splits(built):
    folder, text = built[1]["html"].parent / "tables", words(built[0])
    for name in ("ablation_main", "overview", "complexity", "counters"):
        titles = [title for title in pd.read_csv(folder / f"{name}.csv") if not title.endswith((", low", ", high"))]
        assert [title for title in titles if title not in text] == []


def test_two_builds_are_byte_identical(built, study):
    for name, path in render(study).items():
        assert path.read_bytes() == built[1][name].read_bytes(), name


# --- a study with less, and a study's own words


def headings(page):
    found = re.findall(r"<h1[^>]*>(.*?)</h1>", page, re.S)
    return [re.sub(r"<[^>]+>", "", heading).strip("0123456789 \n") for heading in found[1:]]


def leave_out(*steps):
    """Take the parameter files and results of steps away, and the claims from the report."""
    for step in steps:
        shutil.rmtree(paths.PARAMS / "smoke" / step)
        shutil.rmtree(paths.RESULTS / "smoke" / step)
    (paths.PARAMS / "smoke/report/report.yaml").write_text("title: A study of my own\n")
    return param_files.load(ReportParams, "smoke", "report")


def test_a_study_of_one_training_has_the_chapters_that_it_can_have(study):
    outputs = render(leave_out("ablation", "complexity", "cross_dataset", "analysis", "claims"))
    page = outputs["html"].read_text()
    assert headings(page) == BARE
    text = words(page)
    assert "One training. No comparison of trainings" in text and "One database. No result on another" in text
    assert "demo study" not in text and "claims" not in outputs and "tables/claims.csv" not in outputs
    assert json.loads(outputs["summary"].read_text())["cross"] == []


@pytest.mark.parametrize("step", ["ablation", "complexity", "cross_dataset", "analysis", "claims"])
def test_a_study_without_one_of_the_steps_has_a_report(study, tmp_path, step):
    markdown = _fill(Tables(leave_out(step), Reader("smoke")), tmp_path, Beside("smoke", tmp_path))
    (tmp_path / "report.md").write_text(markdown)
    _to_html(tmp_path / "report.md", tmp_path / "report.html", [])
    page = (tmp_path / "report.html").read_text()
    chapter = {"complexity": "Cost", "cross_dataset": "Generalisation", "analysis": "Inside the model"}
    chapter |= {"claims": "Claims of the documents", "ablation": "Appendix: further comparisons"}
    assert chapter[step] not in headings(page) and ("Claims of the documents" not in headings(page))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cross: far", "cross: params/smoke/cross_dataset/far.yaml does not exist (main); add it, or change cross"),
        ("ablation: far", "ablation: params/smoke/ablation/far.yaml does not exist (main, weight)"),
        ("claims: true", "claims: params/smoke/claims/main.yaml does not exist (none)"),
    ],
)
def test_a_chapter_of_a_run_that_the_study_does_not_have_is_refused(study, line, message):
    shutil.rmtree(paths.PARAMS / "smoke/claims")
    (paths.PARAMS / "smoke/report/report.yaml").write_text(f"{line}\n")
    with pytest.raises(ParameterError, match=re.escape(message)):
        param_files.load(ReportParams, "smoke", "report").chapters()


def write_text(name, text):
    folder = paths.PARAMS / "smoke/text"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_a_study_says_in_its_chapters_what_it_alone_has_to_say(study, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", paths.PARAMS.parent)
    before = study.files()
    number = '{{ num("train/main_s1/metrics.json", "n", ".0f") }}'
    for name in TEXTS:
        write_text(f"{name}.md", f"My {name} of {number} images{{{{ ' and ' ~ params.study }}}} [@he2016resnet].\n")
    text = narrative(study, tmp_path)
    chapters = {"abstract": "Abstract", "introduction": "Introduction", "data": "Data", "discussion": "Discussion"}
    for name, chapter in chapters.items():
        told = f"My {name} of 72 images and smoke @he2016resnet."
        assert told in re.split(r" # [A-Z]", text.partition(f"# {chapter} {{")[2])[0]
    assert set(study.files()) - set(before) == {f"params/smoke/text/{name}.md" for name in TEXTS}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{{ num("train/main_s1/metrics.json", "nope") }}',
            "results/smoke/train/main_s1/metrics.json has no key 'nope'",
        ),
        ("{{ unknown_thing }}", "'unknown_thing' is undefined"),
        ("{% if %}", "Expected an expression"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("see [@nobody1999]", "citation nobody1999 not found"),
        ("see [](#fig:nowhere)", "nothing has the label '#fig:nowhere'"),
        ("![x](nothing.svg)", "nothing.svg"),
    ],
)
def test_an_error_in_a_text_of_a_study_names_file_and_line(study, line, message, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", paths.PARAMS.parent)
    write_text("data.md", f"One.\n\n{line}\n")
    shorten('{% include "text/data.md" %}')
    with pytest.raises(ReportError) as found:
        render(study)
    assert str(found.value).startswith("params/smoke/text/data.md, line 3: ") and message in str(found.value)


def test_a_text_that_the_report_does_not_read_is_refused(study):
    write_text("methods.md", "Mine.")
    with pytest.raises(
        ParameterError, match=r"params/smoke/text/methods\.md: .*abstract\.md, introduction\.md, data\.md"
    ):
        study.files()


# --- what it says of other results


def test_rated_data_are_not_called_synthetic_and_cite_their_database(study, tmp_path):
    for file in [*result("").glob("*/*/*.json"), *result("").glob("*/*/*.csv")]:
        text = file.read_text().replace('"synthetic": true', '"synthetic": false')
        text = text.replace('"reader": "synthetic"', '"reader": "biq2021"')
        file.write_text(text.replace("Synthetic", "Rated").replace("synthetic,", "rated,"))
    change_rows("analysis/main/ceiling.csv", lambda rows: rows.assign(reason=["", "", "no true quality is known"]))
    for folder in {file.parent for file in result("").glob("*/*/*.json")}:
        tiny.finish(folder)
    text = narrative(study, tmp_path)
    assert "images rated by people" in text and "@ahmed2021biq" in text and "@lee2001deadleaves" not in text
    assert re.findall(r".{40}synthetic.{40}", text, re.IGNORECASE) == []


BETTER = "A model that costs seconds is better than the network here."
OPEN = "The network is not shown to be better than a model that costs seconds."


def put_baselines(**verdicts: str) -> None:
    """Results of simple baselines on the main run's database, with their verdicts."""
    metrics = json.loads(result("train/main_s1/metrics.json").read_text())
    same = {"database": metrics["database"], "title": "T", "trained_on": "T", "available": True}
    same |= {key: value for key, value in metrics.items() if key.startswith(tuple(COEFFICIENTS)) or key == "n"}
    ends = {"delta": -0.25, "delta_low": -0.3, "delta_high": -0.2, "p_value": 0.01, "p_holm": 0.02}
    rows = [same | {"model": "main_s1", "label": "main_s1", "kind": "model", "verdict": "reference"}]
    for name, verdict in verdicts.items():
        kind = "baseline" if name in BASELINES else "checkpoint"
        row = {"model": name, "label": f"The {name}", "kind": kind, "verdict": verdict}
        lacking = {"available": False, "reason": "not run: no weights", "database": metrics["database"], "title": "T"}
        rows.append(row | (lacking if verdict == "not run" else same | ends))
        if kind == "baseline":
            rows.append(rows[-1] | {"database": "demo_photos", "title": "Photographs"})
    words = {"words": "maps [@hoerl1970ridge]", "note": "Random."}
    about = [{"name": name, "title": f"The {name}"} | words for name in BASELINES]
    folder = result("cross_dataset/main/cross.csv").parent
    pd.DataFrame(rows).reindex(columns=COLUMNS).to_csv(folder / "baselines.csv", index=False)
    (folder / "baselines.json").write_text(json.dumps({"model": "main_s1", "database": "demo", "baselines": about}))
    tiny.finish(folder)


@pytest.mark.parametrize(
    ("verdicts", "said", "conclusion"),
    [
        (
            {"nss_svr": "worse", "ridge": "worse"},
            "main_s1 is better than The nss_svr (SRCC: -0.250 -0.300, -0.200) and The ridge (",
            None,
        ),
        (
            {"nss_svr": "better", "ridge": "worse", "published.pth": "worse"},
            "main_s1 is better than The ridge (SRCC: -0.250 -0.300, -0.200) and The published.pth (",
            BETTER,
        ),
        ({"nss_svr": "better"}, "main_s1 is worse than The nss_svr (", BETTER),
        ({"ridge": "not distinguishable"}, "main_s1 is not distinguishable from The ridge (", OPEN),
        ({"nss_svr": "worse", "ridge": "not run"}, "Not run: The ridge (no weights).", None),
        ({"nss_svr": "worse", "published.pth": "better"}, "main_s1 is worse than The published.pth (", None),
    ],
)
def test_simple_baselines_are_told_by_what_the_paired_test_found(study, tmp_path, verdicts, said, conclusion):
    put_baselines(**verdicts)
    text = re.sub(r"SRCC -?\d\.\d+, difference", "SRCC:", narrative(study, tmp_path).replace(tables.MINUS, "-"))
    assert text.count(said) == 1
    concluded = [3 * (conclusion == each) for each in (BETTER, OPEN)]  # in abstract, chapter and conclusion
    assert [text.count(each) for each in (BETTER, OPEN)] == concluded
    assert "The nss_svr takes maps @hoerl1970ridge. Random." in text
    assert text.count("| The ridge |") == 3 * ("ridge" in verdicts)  # in the two main tables and the cross table
    compared = [verdict for name, verdict in verdicts.items() if name in BASELINES and verdict != "not run"]
    assert f"Of {len(compared)} comparisons with one of them" in text


def test_a_report_without_baselines_is_as_before(study, tmp_path):
    take_away(
        *(f"cross_dataset/main/{name}" for name in ("baselines.csv", "baselines.json", "baseline_predictions.csv"))
    )
    text = narrative(study, tmp_path)
    assert "Simple baselines" not in text and "SRCC difference" not in text.partition("# Controls")[0]
    assert "No model that costs seconds was scored" in text


def test_twins_and_copies_of_training_images_are_told_with_the_result_without_them(study, tmp_path):
    text = narrative(study, tmp_path)
    assert "saved again under another name" not in text
    part = {
        f"{name}{end}": value for name in ("srcc", "plcc") for end, value in (("", 0.4), ("_low", 0.3), ("_high", 0.5))
    }
    metrics = json.loads(result("train/main_s1/metrics.json").read_text())
    change_json("train/main_s1/metrics.json", without_twins={"n": metrics["n"] - 7, **part})
    change_rows("cross_dataset/main/cross.csv", lambda rows: rows.assign(copies=[3] * len(rows)))
    text = narrative(study, tmp_path)
    assert "Of the test images, 7 are photographs that are among the training or validation images, too" in text
    text = text.replace("\\", "")
    assert f"the other {metrics['n'] - 7:,} reach SRCC 0.400 0.300, 0.500 and PLCC 0.400 0.300, 0.500" in text
    assert re.search(r"Of \d+ test images of [^,]+, 3 are copies of images that the model was trained on", text)
    change_json("train/main_s1/metrics.json", without_twins={"n": 5})
    assert "Without them" not in narrative(study, tmp_path)


def ablation_rows(*verdicts):
    """The reference, and a copy of the other group for each verdict."""

    def function(frame):
        rows = frame.iloc[[0] + [1] * len(verdicts)].reset_index(drop=True)
        return rows.assign(verdict=["reference", *verdicts])

    return function


def test_other_verdicts_and_no_variants_are_told_too(study, tmp_path):
    change_rows("ablation/main/ablation.csv", ablation_rows("better", "worse", "not distinguishable"))
    text = narrative(study, tmp_path)
    assert "Better than the reference: fusion: last" in text and "Worse than the reference: fusion: last" in text
    assert "Not distinguishable from the reference" in text and "would have been seen" not in text
    limits = {"detectable": [np.nan, 0.021, 0.034, 0.034], "margin": 0.01}
    rows = ablation_rows("not distinguishable", "not distinguishable", "equivalent")
    change_rows("ablation/main/ablation.csv", lambda frame: rows(frame).assign(**limits))
    text = narrative(study, tmp_path)
    assert "Differences above 0.021 to 0.034, depending on the group, would have been seen." in text
    assert "| not distinguishable (differences above 0.021 would have been seen) |" in text
    assert (
        "all but differences within ±0.01 are excluded: fusion: last" in text
        and "| equivalent (within ±0.01) |" in text
    )
    change_rows("ablation/main/ablation.csv", ablation_rows())
    assert "no variants" in narrative(study, tmp_path)


def test_a_comparison_over_splits_tells_medians_and_how_it_was_tested(study, tmp_path):
    assert "Wilcoxon" not in (plain := narrative(study, tmp_path)) and "mean over seeds" in plain
    over = {"splits": 10, "srcc_median": 0.8765, "plcc_median": 0.8643, "srcc_low": 0.85, "srcc_high": 0.9}
    change_rows("ablation/main/ablation.csv", lambda rows: ablation_rows("not distinguishable")(rows).assign(**over))
    text = narrative(study, tmp_path).replace("\\", "")
    assert "over 10 random splits by content main reaches a median SRCC of 0.876 and a median PLCC of 0.864" in text
    assert "(quartiles of the SRCC: 0.850 and 0.900)" in text and "mean over seeds, in brackets" not in text
    assert text.count("signed-rank test over the splits") == 1
    assert "median over splits, in brackets their quartiles" in text and "| SRCC, median |" in text
    assert "lie inside the noise of splits" in text and "Other seeds" not in text


def test_the_splits_of_one_database_stand_once_in_the_tables_of_data(study):
    assert Tables(study, Reader("smoke")).splits == {}
    with (paths.PARAMS / "smoke/data_prep/demo.yaml").open("a") as file:
        file.write("split: seeded\nrepeats: 1..3\n")
    for file in (paths.PARAMS / "smoke/train").glob("*.yaml"):
        file.write_text(file.read_text().replace("seeds:", "repeats:") + "seed: 4\n")
    listed = Tables(study.model_copy(update={"main": "main_r1"}), Reader("smoke"))
    assert listed.splits == {"Synthetic demo": 3} and listed.shown == ["demo_r1", "demo_photos"]
    (paths.PARAMS / "smoke/train/last.yaml").write_text("repeats: 1..2\n")
    experiments = listed["experiments"].set_index("Experiment")
    assert experiments.loc["last"].tolist() == ["1", "database demo_r1 to demo_r2"]


def test_results_over_several_trainings_say_what_their_intervals_cover(study, tmp_path):
    text = narrative(study, tmp_path)
    assert "main was trained with one seed only" in text and "one training; the interval covers contents only" in text
    several = {"seeds": 3, "covers": "contents and trainings", "command": "iqa run smoke/train/main_s4"}
    change_rows("cross_dataset/main/cross.csv", lambda rows: rows.assign(**several))
    change_rows("ablation/main/ablation.csv", lambda rows: rows.assign(seeds=3, srcc_std=0.01))
    text = narrative(study, tmp_path)
    assert text.count("The mean of 3 trainings of main is SRCC") == 2
    assert "mean of 3 trainings; the interval covers contents and trainings" in text
    assert "Not all seeds of main are trained; make the others with iqa run smoke/train/main_s4." in text


def test_a_group_that_was_not_run_stands_in_the_table_with_its_command(study, tmp_path):
    def without_results(frame):
        empty = frame.select_dtypes("number").columns
        return frame.assign(**dict.fromkeys(empty, np.nan)).assign(
            seeds=0, verdict="not run", command="iqa run smoke/train/main smoke/train/last", differs=frame["differs"]
        )

    change_rows("ablation/main/ablation.csv", without_results)
    text = narrative(study, tmp_path)
    assert "not run: iqa run smoke/train/main smoke/train/last" in text and "Not run yet: fusion: last." in text
    assert "| reference | – |" in text and not re.search(r"\bnan\b", text), re.findall(r"reference.{60}", text)  # noqa: RUF001


def test_results_that_were_accepted_are_counted_with_their_reasons(study, tmp_path):
    assert "Accepted" not in narrative(study, tmp_path)
    for name, reasons in (("train/main_s1", ["old", "only_names changed"]), ("train/last_s1", ["only_names changed"])):
        change_json(f"{name}/record.json", accepted=[{"because": because, "on": "2026-11-26"} for because in reasons])
    change_json("claims/main/record.json", accepted=[{"because": "a | b", "on": "2026-11-26"}])
    text = narrative(study, tmp_path)
    assert re.search(r"Accepted results\. 3 of the \d+ runs behind this report were made from other code", text)
    assert "for these reasons: a | b (1 run) and only_names changed (2 runs)" in text
    table = Tables(study, Reader("smoke"))["provenance"].set_index("Run")["Accepted on"]
    assert table["last_s1"] == "2026-11-26" and table["demo"] is None


def test_results_that_are_out_of_date_are_named_with_the_command_that_renews_them(study, tmp_path):
    assert "out of date" not in narrative(study, tmp_path)
    file = result("report/report/out_of_date.json")
    one = {"train/main_s1": ["parameter lr: 0.1 -> 0.5", "code: x_y has changed"]}
    file.write_text(json.dumps(one))
    text = narrative(study, tmp_path)
    assert "1 of the results in this report is out of date: it is not known to be what the present code" in text
    assert (
        "with iqa report smoke. Out of date: train/main_s1 (parameter lr: 0.1 -> 0.5, and one more reason). :::" in text
    )
    file.write_text(json.dumps(one | {"ablation/main": ["code: x_y has changed"]}))
    text = narrative(study, tmp_path)
    assert (
        "2 of the results in this report are out of date" in text and "ablation/main (code: x_y has changed)." in text
    )


def test_trainings_that_are_not_finished_are_named(study, tmp_path):
    result("train/last_s1/record.json").unlink()
    wanted = "One training run of this study is not finished, and stands in its tables as not run: last_s1."
    assert wanted in narrative(study, tmp_path)


def test_trainings_of_several_machines_and_versions_are_told(study, tmp_path):
    assert "were made in different places" not in narrative(study, tmp_path)
    record = json.loads(result("train/last_s1/record.json").read_text())
    change_json("train/last_s1/record.json", machine="node 7", versions=record["versions"] | {"torch": "2.16.0"})
    text, torch = narrative(study, tmp_path), record["versions"]["torch"]
    assert f"machine node 7 and somewhere; torch 2.16.0 and {torch}. Equal" in text
    assert "| node 7 |" in text


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"loss": "l2 + 0.5*plcc", "rank_weight": 0.0}, "mean squared error plus a distance of Pearson"),
        ({"loss": "fidelity", "optimizer": "adam", "schedule": "step"}, "divided by ten in steps"),
        ({"select_on": "test_srcc"}, "was chosen on the test images"),
        ({"hypernet_epochs": 1}, "After one epoch the hyper network was frozen"),
        ({"color_jitter": 0.2, "input": "rgb"}, "alters the quality that is to be judged"),
    ],
)
def test_the_method_says_how_the_main_run_was_trained(study, tmp_path, params, text):
    values = json.loads(result("train/main_s1/params.json").read_text()) | params
    terms = tiny.demo(loss=values["loss"], rank_weight=values["rank_weight"]).terms()
    change_json("train/main_s1/loss.json", **losses.describe(terms, values))
    change_json("train/main_s1/params.json", **params)
    assert text in narrative(study, tmp_path)


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        ("holds", "it holds on these images"),
        ("does not hold", "it does not hold on these images"),
        ("not distinguishable", "it can be neither confirmed nor refuted"),
    ],
)
def test_the_verdict_on_attention_weights_is_worded_with_care(study, tmp_path, whole, text):
    seen = notebook_section.look_inside("Attention over the scales", {"main_s1": tiny.gathered()}, bands=5)
    tests = seen["claim"]
    tests.loc[tests["part"] == "the claim as a whole", "verdict"] = whole
    change_rows("analysis/main/attention.csv", lambda _: tests)
    change_rows("analysis/main/bands.csv", lambda _: seen["in_bands"])
    assert f"For main_s1 {text}" in narrative(study, tmp_path)


def test_a_run_with_attention_that_is_not_trained_is_named_with_its_command(study, tmp_path):
    change_json("analysis/main/analysis.json", waiting={"attention_s1": "iqa run smoke/train/attention_s1"})
    text = narrative(study, tmp_path)
    assert "attention_s1 is not run; make it with: iqa run smoke/train/attention_s1" in text


def test_the_abstract_warns_of_what_checks_of_the_predictions_found(study, tmp_path):
    take_away(*(f"{run}/sanity.csv" for run in ("train/main_s1", "analysis/main", "cross_dataset/main")))
    assert "Correlations hide" not in narrative(study, tmp_path)
    assert "older version, which did not check the predictions" in narrative(study, tmp_path)
    found = {"check": "plateau", "group": "gaussian_blur", "n": 33, "of": 84, "p_value": 0.002, "found": True}
    checks = pd.DataFrame([found, {"check": "ties", "group": "all", "n": 0, "of": 504, "found": False}])
    checks["words"] = ["predicted as 26.3 to 26.7, rated 10 to 62 (1.2 expected)", ""]
    parts = {"by": "distortion", "value": "gaussian_blur", "n": 84, "srcc": 0.7, "srcc_low": 0.6, "srcc_high": 0.8}
    parts = pd.DataFrame([parts | {f"{name}{end}": 0.5 for name in ("plcc", "bias") for end in ("", "_low", "_high")}])
    for name, rows in (("main_s1/sanity", checks), ("main_s1/breakdown", parts)):
        rows.to_csv(result(f"train/{name}.csv"), index=False)
    checks.assign(model="main_s1").to_csv(result("analysis/main/sanity.csv"), index=False)
    checks.assign(model="main_s1", title="Far").to_csv(result("cross_dataset/main/sanity.csv"), index=False)
    for folder in ("train/main_s1", "analysis/main", "cross_dataset/main"):
        tiny.finish(result(folder))
    text = narrative(study, tmp_path)
    assert "33 of the 84 test images with gaussian\\_blur, predicted as 26.3 to 26.7" in text.replace("_", "\\_")
    assert "| nothing (ties)" in text and "Far | plateau" in text
    assert "0.700 0.600, 0.800" in text


def test_test_images_that_were_monitored_are_shown_with_a_warning(study, tmp_path):
    assert "Nothing may be chosen" not in narrative(study, tmp_path)
    result("ablation/main/monitored.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    row = {"group": "main", "label": "reference", "quantity": "test_srcc", "epoch": 7, "seeds": 1, "mean": 0.4321}
    change_rows("ablation/main/dynamics.csv", lambda rows: pd.concat([rows, pd.DataFrame([row])]))
    text = narrative(study, tmp_path)
    assert "Nothing may be chosen by these numbers" in text and "| 7 | 0.432 |" in text


def test_a_study_without_ratings_says_what_they_would_need(study, tmp_path):
    reason = "the database gives no deviation of the ratings"
    change_rows("analysis/main/ceiling.csv", lambda rows: rows.assign(reason=["", *[reason] * (len(rows) - 1)]))
    assert f"The ceiling was not simulated: {reason}." in narrative(study, tmp_path)


# --- texts that were read are shown as they are, and nothing in them is obeyed

HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1)) ![y](file:///etc/passwd)"
HOSTILE += " `a` | b $\\input{/etc/passwd}$ \\input{x} {{7*7}} {% raw %} *b* [@nobody1999] ^[note] [](#fig:nowhere)"
HOSTILE += " <!-- c --> &lt;b&gt;"
HOSTILE += ' ```{=html}\n\n# heading\n\n:::\n\n::: {onclick=x}\n\x1b[31m \u202e {.num title="x"} #let a = 1'
FREE = {  # keys and columns whose texts are shown, and decide nothing
    *("title", "warnings", "hardware", "software", "id", "claim", "stated", "found", "basis", "source", "cell"),
    *("value", "distortion", "reason", "differs", "label", "trained_on", "missed_by", "method"),
    *("because", "machine", "commit", "torch", "python", "protocol", "left_out", "size", "cpu", "on"),
}


def poison(value, key=""):
    """The same values, with markup at the end of each text that is shown."""
    if isinstance(value, dict):
        return {name: poison(item, name if name in FREE or key not in FREE else key) for name, item in value.items()}
    if isinstance(value, list):
        return [poison(item, key) for item in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) and key in FREE else value


def poison_results():
    for file in set(result("").glob("*/*/*.json")) - set(result("").glob("*/*/loss.json")):
        file.write_text(json.dumps(poison(json.loads(file.read_text()))))
    for file in result("").glob("*/*/*.csv"):
        frame = pd.read_csv(file)
        frame.assign(**{name: poison(frame[name].tolist(), name) for name in frame}).to_csv(file, index=False)
    for folder in {file.parent for file in result("").glob("*/*/*.json")}:
        tiny.finish(folder)


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_markup_in_results_is_shown_and_not_obeyed(study, monkeypatch, built):
    poison_results()
    monkeypatch.setattr(appendix, "absent", lambda _: {"gone": (f"Gone {HOSTILE}", f"it is gone {HOSTILE}")})
    result("report/report/out_of_date.json").write_text(json.dumps({f"a/b {HOSTILE}": [HOSTILE]}))
    outputs = render(study.model_copy(update={"title": f"Title {HOSTILE}"}))
    page, before = outputs["html"].read_text(), Elements(built[0]).found
    found = Elements(page).found
    for tag in ("script", "iframe", "object", "embed", "form", "base", "meta", "link", "h1"):
        assert [each for each, _ in found].count(tag) == [each for each, _ in before].count(tag), tag
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]
    for tag, attributes in found:
        address = attributes.get("href") or attributes.get("src") or ""
        assert not address.startswith(("javascript:", "file:")) and (tag != "img" or address.startswith("data:"))
    text = words(page)
    assert text.count("{{7*7}}") > 50 and "\x1b" not in page and "49}}" not in text and "nobody1999" in text
    for kind in ("a/b", "Gone", "it is gone", "Title", "AMD EPYC, 1 thread", "Images of KonIQ-10k"):
        assert f"{kind} &lt;script&gt;" in text, kind
    folder = outputs["html"].parent / "tables"
    for file in folder.glob("*.tex"):
        assert not re.search(r"(?<!\\)\\(input|let)\b", file.read_text()), file
    for file in folder.glob("*.md"):
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in file.read_text().splitlines()}
        assert len(cells) == 1, file


def test_words_that_the_code_was_registered_with_may_hold_formulas_and_citations_alone(study, tmp_path):
    writer = Writer(Reader("smoke"), tmp_path, Beside("smoke", tmp_path))
    assert writer.words(r"as $\Phi$ says [@liu2017rankiqa], *not* <b> [x](y)") == (
        r"as $\Phi$ says [@liu2017rankiqa], \*not\* \<b\> \[x\](y)"
    )
    for formula in ("a $ b", "a\n\nb", "a ` b"):
        with pytest.raises(ReportError, match="a formula is one line"):
            writer.tex(formula)
    assert writer.code("a`b\n c") == "`a'b c`"


@pytest.mark.parametrize(
    "text", ["- a", "+ a", ": a", "::: a", "# a", "> a", "| a", "% a", "  - a", "a_b", "= a", "~~~"]
)
def test_a_text_that_was_read_is_the_same_when_it_is_compared_and_escaped_when_it_is_written(text):
    read = texts({"a": [text]})["a"][0]
    assert read == text and f"{read!s}" == str(read)
    shown = pypandoc.convert_text(str(read), "html", format="markdown").strip()
    assert html.unescape(shown) == f"<p>{text.strip()}</p>"


def test_the_page_forbids_all_programs_but_its_own_and_addresses(built):
    policies = [
        values["content"] for tag, values in Elements(built[0]).found if "content-security" in str(values).lower()
    ]
    assert len(policies) == 1 and policies[0].startswith("default-src 'none'")
    assert re.search(r"; script-src 'sha256-[^' ;]+'$", policies[0])


# --- what stops the build

BROKEN = {
    "number": ("train/main_s1/metrics.json", '"best_epoch"', '"other"', "metrics.json has no key 'best_epoch'"),
    "value": ("train/main_s1/metrics.json", '"seconds": ', '"seconds": null, "s": ', "'seconds' holds no value"),
    "column": (
        "cross_dataset/main/cross.csv",
        "krcc",
        "kendall",
        "table 'cross.*' needs 'krcc', which .*cross.csv lacks",
    ),
    "audit": ("data_prep/demo_photos/audit.json", '"higher_is_better"', '"x"', "no key 'higher_is_better'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_missing_number_stops_the_build_and_is_named(study, case):
    name, old, new, message = BROKEN[case]
    change(name, old, new)
    with pytest.raises(ReportError, match=message):
        render(study)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/main_s1/curves.svg", "train/main_s1/curves.svg is missing; make it again"),
        ("ablation/main/ablation.csv", "ablation/main/ablation.csv is missing; make it again"),
        ("claims/main/claims.csv", "claims/main/claims.csv is missing; make it again"),
        ("claims/main/notebook.ipynb", "claims/main/notebook.ipynb is missing; make it again"),
    ],
)
def test_a_missing_file_stops_the_build_with_its_remedy(study, name, message):
    result(name).unlink()
    step, run, _ = name.split("/")
    with pytest.raises(ReportError, match=f"results/smoke/{message} with: iqa run smoke/{step}/{run}"):
        render(study)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train/main_s1/metrics.json", "", "cannot be read (Expecting value"),
        ("train/main_s1/metrics.json", '{"srcc": 0.5, "plcc', "cannot be read (Unterminated string"),
        ("train/main_s1/metrics.json", "[1, 2]", "holds no JSON object"),
        ("train/main_s1/metrics.json", '{"database": "demo", "synthetic": true, "srcc": NaN}', "has no key"),
        ("cross_dataset/main/cross.csv", "", "cannot be read (No columns to parse"),
        ("cross_dataset/main/cross.csv", "model\n", "cross.csv has no row 0"),
        ("cross_dataset/main/cross.csv", "a,b\n1,2\n1,2,3,4\n", "cannot be read (Error tokenizing data"),
        ("analysis/main/analysis.json", b"\xff\xfe", "cannot be read ('utf-8' codec"),
        ("report/report/out_of_date.json", "{", "cannot be read (Expecting property name"),
    ],
)
def test_a_result_that_says_nothing_stops_the_build_and_is_named(study, name, content, message):
    result(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    tiny.finish(result(name).parent)
    with pytest.raises(ReportError, match=f"results/smoke/.*{re.escape(message)}") as found:
        render(study)
    assert len(str(found.value).splitlines()) == 1


def shorten(*additions):
    """A template of few words, so that it is rendered in a second."""
    (paths.REPORT / "report.md.j2").write_text("\n\n".join(["---\ntitle: T\n---", "# Question", *additions]))


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("See [@nobody1999].", "nobody1999"),
        ("See [](#fig:nowhere).", "#fig:nowhere"),
        ("![x](nothing.svg)", "nothing.svg"),
        ("{{ unknown_thing }}", "unknown_thing"),
        ("{{ tables.unknown_table }}", "unknown_table"),
        ("{% if %}", "line"),
        ("{{ figure('train/main_s1/scatter.svg', 'fig:a', 'one') }}\n" * 2, "fig:a"),
    ],
)
def test_a_fault_in_the_template_stops_the_build_and_is_named(study, addition, message):
    shorten(addition)
    with pytest.raises(ReportError, match=re.escape(message)):
        render(study)


def test_a_failed_build_leaves_the_report_of_before_as_it_was(study):
    shorten()
    outputs = render(study)
    before = {path: path.read_bytes() for path in outputs.values()}
    shorten("[@nobody1999]")
    with pytest.raises(ReportError):
        render(study)
    assert {path: path.read_bytes() for path in outputs.values()} == before
    assert {path.name for path in (paths.REPORT / "smoke").iterdir()} == BESIDE


def test_a_trial_is_written_to_its_own_folder_and_leaves_the_studys_report_alone(study):
    shorten("{{ params.title }}")
    outputs = render(study)
    before = {path: path.stat().st_mtime_ns for path in outputs.values()}
    trial = study.model_copy(update={"run": "scratch", "title": "A trial"})
    folder = paths.run_folder("smoke", "report", "scratch")
    shutil.copytree(paths.run_folder("smoke", "report", "report"), folder)
    found = render(trial)
    assert all(path.is_relative_to(folder) for path in found.values()) and (folder / "tables" / "main.csv").is_file()
    assert "A trial" in found["html"].read_text()
    assert before == {path: path.stat().st_mtime_ns for path in outputs.values()}


# --- tables and cells


def test_one_table_is_made_alone(study):
    found, folder = Tables(study, Reader("smoke")), paths.REPORT / "smoke/tables"
    files = found.write(["ablation/weight"], folder)
    assert [file.name for file in files] == ["ablation_weight.csv", "ablation_weight.md", "ablation_weight.tex"]
    assert set(files) <= set(folder.iterdir())
    assert found.of_run("ablation/weight") == ("ablation", "weight") and found.of_run("provenance")[0] == "report"
    assert found.titles["cross"] == "Other databases" and found.titles["ablation/weight"].startswith("Weight of")
    with pytest.raises(ReportError, match="the report of 'smoke' has no table 'nothing': databases, audits"):
        found["nothing"]


def test_a_database_that_is_absent_has_a_row_of_dashes(study, monkeypatch):
    found = {"demo_photos": ("Photographs", "not downloaded")}
    monkeypatch.setattr(appendix, "absent", lambda _: found)
    listed = Tables(study, Reader("smoke"))
    shown = tables.rounded(listed["databases"])
    assert shown["Database"].tolist() == ["Synthetic demo", "Photographs (not available)"]
    assert set(shown.iloc[1, 1:]) == {tables.DASH} and len(listed["audits"]) == 1


def test_numbers_keep_their_source_through_tables(study):
    table = ablation.ablation_table(Reader("smoke").rows("ablation/main/ablation.csv"))
    cell = table["SRCC"].iloc[1]
    assert isinstance(cell.low, Sourced) and "last, srcc_low" in cell.low.source
    assert isinstance(table["PLCC"].iloc[0], Sourced)


def test_cells_are_rounded_when_shown():
    assert tables.cell(Interval(0.8991, 0.88, 0.9149)) == "0.899 [0.880, 0.915]"
    assert tables.cell(412_345, ".2fM") == "0.41"
    assert tables.cell(12_345.0, ",.0f") == "12,345"
    assert tables.cell(None) == tables.cell(float("nan")) == tables.cell("") == tables.DASH
    assert tables.cell(-0.25, ".2f") == tables.MINUS + "0.25"
    row = {"run": "a", "backbone": "resnet50", "fusion": "last", "parameters": 25_557_032, "backbone_parameters": 1}
    row |= {"trainable_parameters": 4, "head_parameters": 2, "generated_weights": 3, "macs_torch": 4_111_514_624}
    shown = tables.rounded(complexity.complexity_table(pd.DataFrame([row])))
    assert shown["Parameters (M)"].tolist() == ["25.56"] and shown["GMACs, torch"].tolist() == ["4.112"]


def test_results_of_an_older_version_are_reported_with_the_words_that_they_lack(study, tmp_path):
    text = narrative(study, tmp_path)
    folder = paths.RESULTS / "smoke" / "train" / "main_s1"
    for name in ("architecture", "architecture_before"):
        parts = json.loads((folder / f"{name}.json").read_text())["parts"]
        kept = ("name", "title", "output", "parameters")
        change_json(f"train/main_s1/{name}.json", parts=[{key: part[key] for key in kept} for part in parts])
    (folder / "loss.json").unlink()
    with pytest.raises(ReportError, match=r"loss\.json is missing"):  # as long as the record says that it was written
        narrative(study, tmp_path)
    record = json.loads((folder / "record.json").read_text())
    del record["outputs"]["loss.json"]
    (folder / "record.json").write_text(json.dumps(record))
    assert narrative(study, tmp_path) == text
