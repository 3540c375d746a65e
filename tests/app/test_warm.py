"""Copies of the process that has the libraries loaded: they do what Python does, and none outlives who asked for it."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

import iqa
from iqa.app import warm

pytestmark = pytest.mark.slow

JOB = """
import json, os, sys, time
from pathlib import Path
torch, threads = sys.modules.get("torch"), Path("/proc", str(os.getppid()), "task")
said = [os.getpid(), sys.argv[2:], Path.cwd().name, os.environ["WORD"], bool(torch)]
said += [bool(torch and torch.cuda.is_initialized()), len(os.listdir(threads)) if threads.is_dir() else 1]
Path(sys.argv[1], "part").write_text(json.dumps(said))
Path(sys.argv[1], "part").rename(Path(sys.argv[1], "said"))
if "wait" in sys.argv:
    time.sleep(100)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The environment of those who ask, and a folder that holds the module `job`."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "job.py").write_text(JOB)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        with warm.started() as (variables, _):
            yield folder, os.environ | variables | {"WORD": "set", "OMP_NUM_THREADS": "1"}


def start(server, *arguments):
    folder, environment = server
    command = [sys.executable, "-I", "-S", warm.__file__, "-m", "job", str(folder), *arguments]
    (folder / "said").unlink(missing_ok=True)
    return subprocess.Popen(command, cwd=folder, env=environment)


def said(server):
    """What the job says once it has begun: its process, arguments, folder, a word, and what was loaded before."""
    give_up = time.monotonic() + 120
    while not (server[0] / "said").exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    return json.loads((server[0] / "said").read_text())


@pytest.mark.parametrize("status", ["0", "3"])
def test_a_copy_does_what_python_does_with_the_libraries_loaded(server, status):
    assert start(server, status).wait(120) == int(status)
    assert said(server)[1:5] == [[status], server[0].name, "set", True]


def test_a_copy_ends_with_the_one_who_asked_for_it(server):
    asked = start(server, "0", "wait")
    copy = psutil.Process(said(server)[0])
    asked.kill()
    copy.wait(60)


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGKILL, None)])
def test_a_signal_reaches_the_copy_and_the_one_who_asked_is_told_how_it_ended(server, number, status):
    asked = start(server, "0", "wait")
    copy = psutil.Process(said(server)[0])
    (asked if status else copy).send_signal(number)
    assert asked.wait(30) == (status or 128 + number)
    assert not copy.is_running()


@pytest.mark.parametrize("changed", [{"OMP_NUM_THREADS": "2"}, {warm.ADDRESS: "/nowhere"}])
def test_other_threads_or_no_such_process_make_a_new_process(server, changed):
    folder, environment = server
    assert start((folder, environment | changed), "4").wait(60) == 4
    assert said(server)[1:5] == [["4"], folder.name, "set", False]


def test_changed_code_makes_a_new_process(monkeypatch, tmp_path):
    monkeypatch.setattr(iqa, "__path__", [str(tmp_path)])
    (tmp_path / "a.py").write_text("1")
    before = warm.state()
    assert warm.state() == before
    os.utime(tmp_path / "a.py", ns=(0, 0))
    assert warm.state() != before
    (tmp_path / "a.py").unlink()
    assert len(warm.state()) == len(before) - 1


def test_what_is_loaded_starts_no_gpu_and_no_thread(server):
    assert start(server, "0").wait(120) == 0
    assert said(server)[5:] == [False, 1]  # in the copy; in the process that it is one of


def test_the_process_works_where_very_many_files_are_open(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 1100  # `select` knows descriptors up to 1023
    if hard != resource.RLIM_INFINITY and hard < 2 * many:
        pytest.skip(f"a process may open {hard} files here")
    with ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * many), hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(many):
            opened.enter_context(Path(os.devnull).open())
        with warm.started() as (variables, descriptor), pytest.MonkeyPatch.context() as patch:
            assert descriptor > 1023
            patch.setenv(warm.ADDRESS, variables[warm.ADDRESS])
            copy = warm.Copy(["-m", "compileall", "-l", str(tmp_path)], dict(os.environ), str(tmp_path))
            assert copy.pid
            while copy.poll() is None:
                time.sleep(0.05)
            assert copy.returncode == 0


@pytest.mark.parametrize("asked", ["before", "after"])
def test_a_process_that_has_died_makes_nobody_wait(server, asked):
    folder, environment = server
    with warm.started() as (variables, _):
        process = max(psutil.Process().children(), key=psutil.Process.create_time)
        assert "iqa.app.warm" in process.cmdline()
        process.suspend() if asked == "before" else process.kill()
        one = start((folder, environment | variables), "0")
        if asked == "before":
            time.sleep(0.5)
            process.kill()
        assert one.wait(60) == 0
