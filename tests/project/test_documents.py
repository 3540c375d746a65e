"""What README, CONTRIBUTING and the other documents name is there."""

import re
from importlib import import_module

import pytest

from iqa.app import cli
from iqa.study import paths

DOCUMENTS = {
    name: (paths.ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "results/README.md", "report/README.md")
}
MADE = ("report/demo/", "tests/smoke_results/")  # by a command


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_a_document_names_are_there(name):
    folders = "iqa|tests|report|notebooks|params|profiles|benchmarks"
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


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_targets_that_a_document_names_exist(name):
    for command in set(re.findall(r"(?:`|\.venv/bin/|\$ )iqa ([a-z]+)", DOCUMENTS[name])):
        assert cli.main([command, "--help"]) == 0, command
    targets = re.findall(r"(?m)^([a-z-]+):.*## ", (paths.ROOT / "Makefile").read_text(encoding="utf-8"))
    assert set(re.findall(r"(?:`|    )make ([a-z-]+)", DOCUMENTS[name])) <= set(targets)
