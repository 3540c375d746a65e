"""A process that has imported everything and forks a child for each command, so that a command takes its work alone.

`python -m stress.warm` in a copy of the project reads one JSON object a line: `arguments` of `iqa`, most `seconds` and
`memory` (MiB) that it may take. It answers with `status` (None: it was ended), `out`, `err`, `ended` ("time",
"memory" or ""), and `peak` (MiB). Notebooks are executed in the child itself, without a kernel.
"""

import io
import json
import os
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from stress.project import environment

MIB = 2**20


class Warm:
    """A warm process in a copy of the project: call it with the arguments of `iqa`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stress.warm"],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, seconds: float = 120, memory: float = 4096) -> dict[str, Any]:
        request = {"arguments": [str(argument) for argument in arguments], "seconds": seconds, "memory": memory}
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def execute_here(notebook: Path, output: Path, parameters: dict[str, Any], **_: Any) -> None:
    """In place of `papermill.execute_notebook`: the same cells in this process."""
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell
    from papermill.exceptions import PapermillExecutionError

    content = nbformat.read(notebook, 4)
    shell = InteractiveShell.instance()
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None  # a kernel writes them to the notebook
    for number, cell in enumerate(cell for cell in content.cells if cell.cell_type == "code"):
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        with redirect_stdout(io.StringIO()):  # a kernel's output is in the notebook
            done = shell.run_cell(source)
        if error := done.error_before_exec or done.error_in_exec:
            nbformat.write(content, output)
            raise PapermillExecutionError(number, number, source, type(error).__name__, str(error), [])
        if "parameters" in cell.metadata.get("tags", []):
            shell.user_ns.update(parameters)
    nbformat.write(content, output)


def child(arguments: list[str], out: Path, err: Path) -> None:
    """Run the command in this forked process, which ends with its status."""
    os.setsid()
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr, sys.stdin = (os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1), io.StringIO())
    status = 70
    try:
        from iqa.app.cli import main

        status = main(arguments)
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def watch(pid: int, seconds: float, memory: float) -> tuple[int | None, str, float]:
    """Wait for a child: its status, by which limit it was ended, and its peak memory in MiB."""
    begun, peak, ended, process = time.monotonic(), 0.0, "", psutil.Process(pid)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return (None if ended else os.waitstatus_to_exitcode(status)), ended, round(peak)
        peak = max(peak, process.memory_info().rss / MIB)
        late = time.monotonic() - begun > seconds
        if late or peak > memory:
            ended = "time" if late else "memory"
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)


def main() -> None:
    """Import everything, then serve commands until the input ends."""
    import iqa

    for module in pkgutil.walk_packages(iqa.__path__, "iqa."):
        import_module(module.name)
    import papermill

    papermill.execute_notebook = execute_here
    out, err = Path("printed.out"), Path("printed.err")
    for line in sys.stdin:
        request = json.loads(line)
        if not (pid := os.fork()):
            child(request["arguments"], out, err)
        status, ended, peak = watch(pid, request["seconds"], request["memory"])
        printed = {"out": out.read_text(errors="replace"), "err": err.read_text(errors="replace")}
        print(json.dumps({"status": status, "ended": ended, "peak": peak} | printed), flush=True)


if __name__ == "__main__":
    main()
