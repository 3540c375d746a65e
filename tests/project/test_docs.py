"""What README, CONTRIBUTING and the pages of `docs/` name is there, and the generated pages are those of the code."""

import ast
import json
import os
import re
from importlib import import_module
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from docs import generate
from iqa import __version__
from iqa.app.machine import Resources
from iqa.study import paths

GENERATED = [f"docs/reference/{name}.md" for name in generate.PAGES]
DOCUMENTS = {
    file.relative_to(paths.ROOT).as_posix(): file.read_text(encoding="utf-8")
    for file in [
        *(paths.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md", "report/README.md")),
        *sorted((paths.ROOT / "docs").rglob("*.md")),
    ]
}
WRITTEN = [name for name in DOCUMENTS if name not in GENERATED]
MADE = (
    "report/demo/",
    "tests/smoke_results/",
    "report/mine/",
    "params/mine",
    "benchmarks/out",
)  # by a command
YAML_KEYS = {"seeds", "repeats", "like", *generate.STEPS}


def outside_code(text: str) -> str:
    """A document without its code: fenced and indented blocks, and code in lines."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    text = re.sub(r"(?m)^    .*$", "", text)
    return re.sub(r"`[^`\n]*`", "code", text)


def links(name: str) -> list[str]:
    """Targets of the links and pictures of a document that lead to no other site."""
    targets = re.findall(r"\]\(([^()\s]+)\)", outside_code(DOCUMENTS[name]))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(name: str) -> set[str]:
    """The anchors that forges give to the headings of a document."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^ *```.*?^ *```$", "", DOCUMENTS[name]))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_of(name: str, target: str) -> str:
    """The file that a link leads to, seen from the project's root."""
    path = target.partition("#")[0]
    return os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name  # noqa: PTH118, PTH120


def blocks(name: str) -> list[str]:
    """The indented blocks of a document."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", DOCUMENTS[name])
    found = re.findall(r"(?m)(?<=\n\n)((?: {4,}.*\n|\n(?= {4}))+)", text + "\n")
    return [re.sub(r"(?m)^ {4,7}", "", block) for block in found]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_to_files_and_headings_that_are_there(name):
    for target in links(name):
        page, anchor = page_of(name, target), target.partition("#")[2]
        assert (paths.ROOT / page).exists(), target
        assert not anchor or anchor in anchors(page), target


def test_every_page_is_in_the_index():
    listed = {page_of("docs/README.md", target) for target in links("docs/README.md")}
    assert [name for name in DOCUMENTS if name.startswith("docs/") and name not in {*listed, "docs/README.md"}] == []


def test_the_readme_fits_on_a_few_screens():
    assert len(DOCUMENTS["README.md"].splitlines()) <= 120


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_those_of_the_code(name):
    page = DOCUMENTS[f"docs/reference/{name}.md"]
    assert page.split() == generate.page(name).split(), "renew it: .venv/bin/python -m docs.generate"


def test_the_tables_of_databases_say_what_is_needed_of_a_release():
    row = next(
        line for line in DOCUMENTS["docs/reference/databases.md"].splitlines() if line.startswith("| `koniq10k` |")
    )
    assert {"10,073", "`1024x768/` or `512x384/`", "1 to 100, high is best"} <= set(row.split(" | "))
    assert "official 7,058 / 1,000 / 2,015" in row


@pytest.mark.parametrize("parameter, said", [
    ("rank_weight", "| number from 0 to 1e+06 | weight of the pairwise ranking loss"),
    ("fusion", "| `last`, `pooled_last`, `concat`, `attention`, `pooled`, `fpn_cbam` |"),
    ("precision", "| `32-true`, `bf16-mixed`, `fp16-mixed` |"),
    ("test_patches", "| whole number, 1 to 100,000 |"),
    ("val_crops", "`uniform`, none |"),
    ("memory_gb", "| `8.0` | number from 1e-06 to 1e+06 | on each node |"),
])  # fmt: skip
def test_the_table_of_parameters_says_what_each_may_be(parameter, said):
    rows = [line for line in DOCUMENTS["docs/reference/parameters.md"].splitlines() if f"| `{parameter}` |" in line]
    assert any(said in row for row in rows), rows


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_names_are_there(name):
    folders = "iqa|tests|report|notebooks|params|profiles|benchmarks|docs"
    named = re.findall(rf"(?<![\w./:-])((?:{folders})/[\w./-]*\w/?)(?![\w<*-])", DOCUMENTS[name])
    assert [file for file in named if not file.startswith(MADE) and not (paths.ROOT / file).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_modules_and_functions_that_a_document_names_are_there(name):
    for dotted in set(re.findall(r"\biqa(?:\.[a-z]\w*)+(?:\.[A-Z]\w*)?(?![\w/])", DOCUMENTS[name])):
        module, _, attribute = dotted.rpartition(".")
        try:
            import_module(dotted)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), attribute), dotted


@pytest.mark.parametrize("name", WRITTEN)
def test_commands_and_targets_that_a_document_names_exist(name):
    commands = re.findall(r"(?m)^## iqa ([a-z]+)$", DOCUMENTS["docs/reference/commands.md"])
    assert set(re.findall(r"(?:`|\.venv/bin/|\$ )iqa ([a-z]+)", DOCUMENTS[name])) <= set(commands)
    targets = re.findall(r"(?m)^([a-z-]+):.*## ", (paths.ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(re.findall(r"(?m)(?:`|^    )make ([a-z-]+)", DOCUMENTS[name])) <= set(targets)


@pytest.mark.parametrize("name", WRITTEN)
def test_options_that_a_document_gives_to_a_command_exist(name):
    for command, rest in re.findall(r"(?m)\.venv/bin/iqa ([a-z]+)([^`\n|]*)", DOCUMENTS[name]):
        known = DOCUMENTS["docs/reference/commands.md"].partition(f"## iqa {command}\n")[2].partition("\n## ")[0]
        unknown = [option for option in re.findall(r"(?<= )--?[a-z][a-z-]*", rest) if option not in known]
        assert unknown == [], f"iqa {command}{rest}"


@pytest.mark.parametrize("name", WRITTEN)
def test_parameters_in_the_examples_of_a_document_exist(name):
    known = YAML_KEYS | set(Resources.model_fields)
    known |= {key for _, dotted in generate.STEPS.values() for key in generate.find(dotted).model_fields}
    for block in blocks(name):
        if re.match(r"(#.*\n)*[a-z_]+(/[a-z_]+)?: ", block):
            keys = {key.partition("/")[0] for key in YAML(typ="safe").load(block)}
            assert keys <= known, block


def test_python_in_the_documents_is_python():
    for text in DOCUMENTS.values():
        for code in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", text):
            ast.parse(re.sub(rf"(?m)^{re.match(' *', code)[0]}", "", code))


def test_environment_variables_are_told():
    sources = [file.read_text(encoding="utf-8") for file in sorted((paths.ROOT / "iqa").rglob("*.py"))]
    named = {name for text in sources for name in re.findall(r'"(IQA_[A-Z_]+)"', text)} - {"IQA_PYTORCH"}
    assert {name for name in named if f"`{name}`" not in DOCUMENTS["docs/reference/environment-variables.md"]} == set()


def test_studies_that_are_listed_are_there():
    listed = re.findall(r"(?m)^\| `([\w-]+)` \|", DOCUMENTS["docs/reference/studies.md"])
    assert listed and all((paths.PARAMS / study).is_dir() for study in listed)


def test_the_workflow_calls_what_is_there_with_actions_that_cannot_change():
    text = (paths.ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    jobs = YAML(typ="safe").load(text)["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name) for name in used)
    assert os.access(paths.ROOT / ".ci" / "run", os.X_OK) and {"run": ".ci/run"} in jobs["checks"]["steps"]


def test_the_machine_for_the_browser_is_set_up_by_make():
    folder = paths.ROOT / ".devcontainer"
    machine = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    assert machine["postCreateCommand"] == "make setup" and ":1-3.11" in machine["image"]
    settings = json.loads((folder / "jupyter_server_config.json").read_text(encoding="utf-8"))["ServerApp"]
    allowed = re.compile(settings["allow_origin_pat"])
    assert allowed.match("https://some-name-8888.app.github.dev") and not allowed.match("https://evil.example")


def test_the_citation_names_this_version():
    citation = YAML(typ="safe").load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__ and citation["license"] == "MIT"
    assert Path(paths.ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
