"""JupyterLab served on loopback and a headless Chromium that drives it, for tests of what a person sees."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from iqa.study.paths import ROOT

TOKEN = "loopback"
HERE = {"127.0.0.1", "localhost"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The browser's program: `IQA_CHROMIUM`, or the first of `BROWSERS` on PATH."""
    return os.environ.get("IQA_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def copy_project(folder: Path) -> Path:
    """A copy of the project whose notebooks, results and cache are its own."""
    ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "*.html", "*.pdf")
    for name in ("iqa", "notebooks", "params", "report"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project), "IQA_CACHE": str(project / "cache")}


@contextmanager
def served(project: Path, home: Path) -> Iterator[str]:
    """Address of a JupyterLab that shows the project, with the options of `make lab` and settings of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = re.findall(r"--LabApp\.app\S+", (ROOT / "Makefile").read_text(encoding="utf-8"))
    own = {"HOME": home, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data"}
    own |= {"JUPYTER_RUNTIME_DIR": home / "runtime", "IPYTHONDIR": home / "ipython"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [option.replace('"', "").replace("$$PWD", str(ROOT)) for option in options]
    command += [f"--ServerApp.{key}={value}" for key, value in {
        "ip": "127.0.0.1", "port": port, "port_retries": 0, "root_dir": project,
    }.items()]  # fmt: skip
    command.append(f"--IdentityProvider.token={TOKEN}")
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment(project) | {key: str(value) for key, value in own.items()}, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}/lab"
            _wait_for(f"{address}?token={TOKEN}", server, home / "server.log")
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


@contextmanager
def browser() -> Iterator[tuple[Any, list[str]]]:
    """A page, and the addresses outside this machine that it asks for, none of which gets an answer."""
    from playwright.sync_api import sync_playwright

    asked: list[str] = []

    def check(route: Any) -> None:
        address = urlsplit(route.request.url)
        if address.hostname in HERE or address.scheme in ("data", "blob", "file"):
            route.continue_()
        else:
            asked.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = program.new_page(viewport={"width": 1400, "height": 1000})
        page.route("**/*", check)
        yield page, asked
        program.close()


def open_notebook(page: Any, address: str, path: str) -> None:
    """Open a notebook, given by its path in the served folder, in a workspace of its own, its kernel ready."""
    page.goto(f"{address}/workspaces/{Path(path).stem}/tree/{path}?reset&token={TOKEN}")
    page.locator(".jp-NotebookPanel:visible .jp-Notebook").wait_for(timeout=60_000)
    page.get_by_text(re.compile(r"Python 3.*\| Idle")).wait_for(timeout=60_000)


def run_all(page: Any, timeout: float = 90) -> None:
    """'Run All Cells' of the Run menu; returns when the last cell is done, and fails where one raised an error."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    done = """() => {
        const cells = [...document.querySelectorAll('.jp-NotebookPanel .jp-CodeCell')];
        const prompts = cells.map(cell => cell.querySelector('.jp-InputPrompt').textContent.trim());
        return cells.length && prompts.every(text => /^\\[\\d+\\]:$/.test(text))
            || document.querySelector('[data-mime-type="application/vnd.jupyter.stderr"] .ansi-red-fg');
    }"""
    page.wait_for_function(done, timeout=1000 * timeout)
    errors = page.locator(".jp-OutputArea-output:has(.ansi-red-fg)")
    assert errors.count() == 0, errors.first.inner_text()


def save(page: Any) -> None:
    """Save the notebook, its outputs included."""
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    page.locator(".jp-mod-dirty").first.wait_for(state="detached", timeout=20_000)
