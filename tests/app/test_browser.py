"""What a person sees: notebooks in JupyterLab and the report, in a browser that reaches nothing but this machine."""

import json
import re
import shutil
from pathlib import Path

import finished
import lab
import pytest

from iqa.app.widgets import Playground, Trainer
from iqa.study import code

pytestmark = [pytest.mark.slow, pytest.mark.notebook]

if lab.chromium() is None:
    pytest.skip("no Chromium: name its program with IQA_CHROMIUM, or put one on PATH", allow_module_level=True)
pytest.importorskip("playwright", reason="playwright is not installed")


def change(file: Path, **values: str) -> None:
    """Set parameters in a notebook's parameters cell."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    (cell,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    text = "".join(cell["source"])
    for name, value in values.items():
        text, found = re.subn(rf"^{name} = \S+", f"{name} = {value}", text, flags=re.MULTILINE)
        assert found == 1, name
    cell["source"] = text.splitlines(keepends=True)
    file.write_text(json.dumps(notebook), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one finished training of the small study."""
    folder = lab.copy_project(tmp_path_factory.mktemp("lab") / "project")
    (folder / "elsewhere").mkdir()
    shutil.move(folder / "notebooks" / "90_playground.ipynb", folder / "elsewhere")
    change(folder / "elsewhere" / "90_playground.ipynb", study='"smoke"', epochs="1")
    change(folder / "notebooks" / "02_train.ipynb", study='"smoke"', epochs="2", crop="64")
    with finished.inside(folder):
        trainer = Trainer(Playground("smoke", "smoke/main_s1"), saved="main_s1", run="main_s1", epochs=2)
        trainer.train.click()
        trainer.thread.join()
    assert trainer.status.value.startswith("done"), trainer.message.value
    return folder


@pytest.fixture(scope="module")
def served(project, tmp_path_factory):
    with lab.served(project, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture
def browser():
    with lab.browser() as (page, asked):
        yield page, asked
    assert asked == [], "something was asked for outside this machine"


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: code.file_hash(file) for file in folder.iterdir()}


def outputs(file: Path) -> list[dict]:
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_the_playground_runs_in_any_folder_and_follows_a_slider(project, served, browser):
    page, _ = browser
    results = project / "results" / "smoke" / "train" / "main_s1"
    before = hashes(results)
    lab.open_notebook(page, served, "elsewhere/90_playground.ipynb")
    lab.run_all(page)
    scores, pictures = page.locator(".iqa-scores"), page.locator("img.widget-image")
    first = scores.inner_text(), pictures.nth(1).get_attribute("src")
    assert "smoke/main_s1" in first[0]
    handle = page.locator(".iqa-level .noUi-handle").first
    for _ in range(25):
        handle.press("ArrowRight")
    page.get_by_text("gaussian_blur 4.5").wait_for(timeout=20_000)
    assert scores.inner_text() != first[0] and pictures.nth(1).get_attribute("src") != first[1]
    assert page.locator(".iqa-error").count() == 0
    assert page.locator(".jp-toast-message, .Toastify__toast").count() == 0  # no question about news

    page.get_by_role("button", name="train", exact=True).click()
    page.get_by_text("done: results/smoke/train/playground").wait_for(timeout=60_000)
    assert "this training, 1 epoch" in page.locator(".iqa-comparison").inner_text()
    assert hashes(results) == before


def test_an_image_can_be_dropped_in_and_what_is_none_is_told(served, browser):
    page, _ = browser
    lab.open_notebook(page, served, "elsewhere/90_playground.ipynb")
    lab.run_all(page)
    page.get_by_role("button", name="drop", exact=True).click()
    make = """name => {
        const canvas = document.createElement('canvas'), data = new DataTransfer();
        canvas.width = canvas.height = 120;
        const bytes = Uint8Array.from(atob(canvas.toDataURL().split(',')[1]), c => c.charCodeAt(0));
        data.items.add(new File([name == 'bad.png' ? 'no image' : bytes], name, {type: 'image/png'}));
        return data;
    }"""
    for name, shown in (("bad.png", "bad.png: this is no image"), ("good.png", "120x120 pixels")):
        page.locator(".iqa-drop").dispatch_event("drop", {"dataTransfer": page.evaluate_handle(make, name)})
        page.get_by_text(shown).wait_for(timeout=20_000)
    assert page.locator(".iqa-error").count() == 0


def test_a_training_shows_a_live_bar_and_saving_it_makes_the_pipeline_repeat_nothing(project, served, browser):
    page, _ = browser
    file, results = project / "notebooks" / "02_train.ipynb", project / "results" / "smoke" / "train"
    before, made_by = hashes(results / "main_s1"), code.notebook_code(file)
    lab.open_notebook(page, served, "notebooks/02_train.ipynb")
    lab.run_all(page)
    bar = page.locator(".jp-OutputArea-output:has(.widget-hprogress)").last.text_content()
    assert re.search(r"epoch\s2/2:\s+100%", bar), bar
    lab.save(page)
    assert sum("image/png" in output.get("data", {}) for output in outputs(file)) == 3
    assert not any(output.get("name") == "stderr" for output in outputs(file))
    assert code.notebook_code(file) == made_by
    assert (results / "scratch" / "record.json").is_file() and hashes(results / "main_s1") == before


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    project = tmp_path_factory.mktemp("report") / "project"
    finished.copy_sources(project)
    finished.put_results(project)
    return finished.render_report(project)


def test_the_report_needs_no_network(report, browser):
    page, _ = browser
    noted, asked = [], []
    page.on("console", lambda message: noted.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: noted.append(str(error)))
    page.on("request", lambda request: asked.append(request.url.split(",")[0]))
    page.goto(report.as_uri())
    assert [address for address in asked if not address.startswith("data:")] == [report.as_uri()]
    sizes = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(sizes) > 3 and all(sizes)
    assert noted == []


def test_a_number_tells_where_it_comes_from_by_pointer_keyboard_and_tap(report, browser):
    page, _ = browser
    page.goto(report.as_uri())
    panel, numbers = page.locator(".panel"), page.locator("[id='tab:main'] .num")
    source = "results/smoke/train/main_s1/metrics.json"
    numbers.nth(1).hover()
    panel.wait_for()
    assert "n = " in panel.inner_text() and source in panel.inner_text() and "notebook" in panel.inner_text()
    page.keyboard.press("Escape")
    assert panel.count() == 0
    numbers.first.focus()
    page.keyboard.press("ArrowRight")
    assert numbers.nth(1).get_attribute("aria-expanded") == "true" and numbers.nth(1).get_attribute("tabindex") == "0"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('href')") == f"files/{source}"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "num" and panel.count() == 0
    numbers.nth(2).click()
    assert panel.count() == 1
    page.locator("h1.title").click()
    assert panel.count() == 0
    stops = page.evaluate("[...document.querySelectorAll('.num, .files')].filter(each => each.tabIndex == 0).length")
    assert 20 < stops < page.locator(".num").count() / 4


def test_long_tables_are_sorted_and_filtered_and_the_contents_follow(report, browser):
    page, _ = browser
    page.goto(report.as_uri())
    table = page.locator("[id='tab:claims-all']")
    rows, title = table.locator("tbody tr:visible"), table.locator("th").nth(2)
    every, first = rows.count(), rows.first.inner_text()
    title.get_by_role("button").click()
    names = table.locator("tbody td:nth-child(3)").all_inner_texts()
    assert title.get_attribute("aria-sort") == "ascending" and names[0] == min(names)
    title.get_by_role("button").click()
    title.get_by_role("button").click()
    assert title.get_attribute("aria-sort") is None and rows.first.inner_text() == first
    page.locator(".tools:has(+ [id='tab:claims-all']) input").fill("ranking loss")
    assert 0 < rows.count() < every
    page.evaluate("document.getElementById('sec:data').scrollIntoView({behavior: 'instant'})")
    page.locator("#TOC [aria-current]", has_text="Data").wait_for()


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_its_window(report, browser, width):
    page, _ = browser
    page.set_viewport_size({"width": width, "height": 844})
    for file in (report, *report.parent.glob("notebooks/*.html")):
        page.goto(file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, file.name
    page.goto((report.parent / "index.html").as_uri())
    page.wait_for_url(report.as_uri())
    assert page.locator("#TOC details").get_attribute("open") == (None if width < 1000 else "")
