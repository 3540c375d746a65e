"""Copies of the process that has the libraries loaded: they do what Python does, and none outlives who asked for it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import iqa
from iqa.app import warm

pytestmark = pytest.mark.slow

JOB = """
import os, sys, time
from pathlib import Path
print(sys.argv[1:], Path.cwd().name, os.environ["WORD"], "torch" in sys.modules, flush=True)
Path(sys.argv[1]).write_text(str(os.getpid()))
if "wait" in sys.argv:
    time.sleep(100)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The environment of those who ask, and a folder that holds the module `job`."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "job.py").write_text(JOB)
    with warm.started() as (variables, _):
        yield folder, os.environ | variables | {"PYTHONPATH": str(folder), "WORD": "said", "OMP_NUM_THREADS": "1"}


def start(server, *arguments):
    folder, environment = server
    command = [sys.executable, "-I", "-S", warm.__file__, "-m", "job", str(folder / "pid"), *arguments]
    (folder / "pid").unlink(missing_ok=True)
    return subprocess.Popen(command, cwd=folder, env=environment, text=True)


def copy_of(server):
    """The copy at work, once it has begun."""
    give_up = time.monotonic() + 60
    while not (server[0] / "pid").exists() or not (server[0] / "pid").read_text():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return psutil.Process(int((server[0] / "pid").read_text()))


@pytest.mark.parametrize("status", [0, 3])
def test_a_copy_does_what_python_does_with_the_libraries_loaded(server, status, capfd):
    folder, _ = server
    assert start(server, str(status)).wait(120) == status
    assert capfd.readouterr().out == f"{[str(folder / 'pid'), str(status)]} {folder.name} said True\n"


def test_a_copy_ends_with_the_one_who_asked_for_it(server):
    asked = start(server, "0", "wait")
    copy = copy_of(server)
    asked.kill()
    copy.wait(30)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, None)])
def test_a_signal_reaches_the_copy_and_the_one_who_asked_is_told_how_it_ended(server, number, status):
    asked = start(server, "0", "wait")
    copy = copy_of(server)
    (asked if status else copy).send_signal(number)
    assert asked.wait(30) == (status or 128 + number)
    assert not copy.is_running()


def test_other_threads_make_a_new_process(server, capfd):
    folder, environment = server
    start((folder, environment | {"OMP_NUM_THREADS": "2"}), "0").wait(60)
    assert capfd.readouterr().out.endswith(" said False\n")


def test_without_the_process_python_itself_does_it(server, capfd):
    folder, environment = server
    assert start((folder, environment | {warm.ADDRESS: str(folder / "gone")}), "4").wait(60) == 4
    assert capfd.readouterr().out.endswith(" said False\n")


def test_changed_code_makes_a_new_process(monkeypatch, tmp_path):
    monkeypatch.setattr(iqa, "__path__", [str(tmp_path)])
    (tmp_path / "a.py").write_text("1")
    before = warm.state()
    assert warm.state() == before
    os.utime(tmp_path / "a.py", ns=(0, 0))
    assert warm.state() != before
    (tmp_path / "a.py").unlink()
    assert len(warm.state()) == len(before) - 1


def test_what_is_loaded_starts_no_thread_and_no_gpu():
    tell = "from iqa.app import warm; warm.load(); import os, torch; print(torch.cuda.is_initialized())"
    tell += "; print(len(os.listdir('/proc/self/task')))" if Path("/proc/self/task").is_dir() else "; print(1)"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", tell], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "1"]
