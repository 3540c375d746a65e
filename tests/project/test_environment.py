"""The three descriptions of the environment agree, and what must import fast does."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from ruamel.yaml import YAML

from iqa.study import paths

PYPROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (paths.ROOT / "requirements.lock").read_text(encoding="utf-8")
CONDA = (paths.ROOT / "environment.yml").read_text(encoding="utf-8")

REQUIRED = ["jupyterlab", "papermill", "torch", "torchvision", "timm", "pandas", "seaborn", "ptflops", "thop"]
STUDY_MODULES = [f"iqa.study.{file.stem}" for file in sorted((paths.ROOT / "iqa" / "study").glob("[a-z]*.py"))]
APP_MODULES = [f"iqa.app.{name}" for name in ("cli", "graph", "machine", "run", "stale", "steps")]
LIGHT_MODULES = ["iqa", *STUDY_MODULES, *APP_MODULES, "iqa.metrics.coefficients", "iqa.training.params"]


def lock_entries() -> list[tuple[Requirement, list[str]]]:
    """Each entry of the lock with its hashes."""
    lines = [line for line in LOCK.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    entries = [line.split("--hash=") for line in lines]
    return [(Requirement(requirement), [value.strip() for value in hashes]) for requirement, *hashes in entries]


ENTRIES = lock_entries()
DIRECT = [Requirement(text) for text in PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]]


def locked_versions(name: str) -> list[str]:
    """Versions of a package in the lock: one, or several with markers of which one applies on a machine."""
    return [
        str(entry.specifier).removeprefix("==")
        for entry, _ in ENTRIES
        if canonicalize_name(entry.name) == canonicalize_name(name)
    ]


@pytest.mark.parametrize("requirement", DIRECT, ids=str)
def test_every_dependency_is_locked_at_a_version_that_satisfies_it(requirement):
    versions = locked_versions(requirement.name)
    assert versions, f"{requirement.name} is not in requirements.lock: run make lock"
    assert all(requirement.specifier.contains(version, prereleases=True) for version in versions), versions


def test_the_lock_pins_exact_versions_with_hashes():
    assert len(ENTRIES) > len(DIRECT)
    for entry, hashes in ENTRIES:
        assert re.fullmatch(r"==[^*,]+", str(entry.specifier)), entry
        assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), entry


@pytest.mark.parametrize("text", [LOCK, CONDA], ids=["requirements.lock", "environment.yml"])
def test_no_address_stands_in_the_descriptions(text):
    assert not re.search(r"\w+://|--(extra-)?index-url|--find-links| @ ", text)


@pytest.mark.parametrize("package", REQUIRED)
def test_the_required_packages_are_there(package):
    assert package in {requirement.name for requirement in DIRECT}
    assert locked_versions(package)


def test_conda_installs_the_same_lock_on_a_python_that_the_package_accepts():
    environment = YAML(typ="safe", pure=True).load(CONDA)
    assert environment["name"] == "iqa"
    assert environment["channels"] == ["conda-forge"]
    python, pip, from_pip = environment["dependencies"]
    assert pip == "pip"
    assert from_pip == {"pip": ["-r requirements.lock"]}
    name, version = python.split("=")
    assert name == "python"
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(version)


def test_the_lock_was_made_for_the_oldest_python_that_the_package_accepts():
    (oldest,) = SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert oldest.operator == ">="
    assert f"--python-version {oldest.version} " in LOCK.split("\n", 2)[1]


def test_the_installed_versions_are_those_of_the_lock():
    differing = []
    for entry, _ in ENTRIES:
        if entry.marker is None or entry.marker.evaluate():
            installed = Version(importlib.metadata.version(entry.name))
            if not entry.specifier.contains(installed, prereleases=True):
                differing.append(f"{entry} (installed: {installed})")
    assert not differing, "not as locked; run make setup"


SLOW = ("torch", "timm", "lightning", "skimage", "sklearn", "matplotlib.pyplot")
TELL = """
import json, sys
from importlib import import_module
loaded = {}
for module in sys.argv[2:]:
    import_module(module)
    loaded[module] = [name for name in sys.argv[1].split(",") if name in sys.modules]
print(json.dumps(loaded))
"""


def test_light_modules_import_without_torch_and_other_slow_packages():
    command = [sys.executable, "-c", TELL, ",".join(SLOW), *LIGHT_MODULES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {module: [] for module in LIGHT_MODULES}
