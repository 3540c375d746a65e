"""Fixtures that several test files share."""

import os
import signal
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests run in parallel, one thread each

import pytest

from iqa.study import paths

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell in the background starts its programs so
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than cores, as slow tests wait for Snakemake, SLURM or a browser as often as they compute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + ("not slow" not in config.option.markexpr)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of slow tests come first, so that none of them is left to one process while the others are done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def unchanged_environment():
    """What a test, or the code under it, sets in the environment ends with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights that is not part of the repository."""
    folder = Path(os.environ.get("IQA_SHARED", paths.ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} with real images; name it with IQA_SHARED")
    return folder


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    """Each device that a computation must work on; CUDA where there is one."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param
