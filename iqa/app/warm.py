"""A process with the libraries loaded, and copies of it, which begin their work at once.

On Linux, `iqa report` starts it where several runs are due on this machine. `python iqa/app/warm.py -m MODULE
ARGUMENTS` does in a copy what Python would do: so the runs are made, and by `iqa.app.engine` their kernels. Where a
copy would not do the same as a new process, as the code was changed meanwhile, a new one takes its place.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

ADDRESS = "IQA_WARM"  # environment variable: where the process takes orders
POLL = 0.05  # seconds
LONGEST = 77  # characters of a folder of `socket_folder`s: macOS takes 103 for the path of a socket, Linux 107
# glibc keeps freed memory, up to 1 GiB, for what comes next: clearing new pages took a third of a training step
KEPT = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
LIBRARIES = ("papermill", "ipykernel.kernelapp", "matplotlib_inline.backend_inline", "torch._dynamo")  # besides `iqa`


def socket_folder() -> tempfile.TemporaryDirectory:
    """A new folder for sockets, of which the whole path must be short."""
    return tempfile.TemporaryDirectory(prefix="iqa-", dir="/tmp" if len(tempfile.gettempdir()) > LONGEST else None)


@contextmanager
def started() -> Iterator[tuple[dict[str, str], int]]:
    """Start the process: what to set in the environment of those who use it, and a descriptor to hand on to them.

    It ends when all copies have ended, and all who hold the descriptor. If it ends before, those who ask are refused.
    """
    with socket_folder() as folder, socket.socket(socket.AF_UNIX) as listening:
        address = os.path.join(folder, "orders")  # noqa: PTH118  (who asks loads no pathlib)
        listening.bind(address)
        listening.listen(socket.SOMAXCONN)
        number = listening.fileno()
        command = [sys.executable, "-m", "iqa.app.warm", str(number)]
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=[number], env=os.environ | KEPT | one_thread
        ) as process:
            listening.close()  # or those who ask a process that has died would wait for its answer
            yield {ADDRESS: address}, process.stdin.fileno()


class Copy:
    """A copy of the process at `ADDRESS` at work; as much of `subprocess.Popen` as is needed.

    Args:
        arguments: of Python: `-m`, the module, and its own.
        session: whether the copy leads a session of its own, which the terminal's signals do not reach.

    Raises:
        OSError: there is no such process.
    """

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str, session: bool = False):
        self.returncode: int | None = None
        self._answers = socket.socket(socket.AF_UNIX)
        self._answers.connect(os.environ[ADDRESS])
        order = json.dumps([arguments, environment, folder, session])
        self._answers.sendall(f"{order}\n".encode())
        self._lines = self._answers.makefile()
        self.pid = int(self._lines.readline() or 0)
        if not self.pid:
            raise OSError("the process with the libraries has ended")

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        if self.returncode is None:
            with _waiting(self._answers) as waiting:
                if waiting.select(0):
                    self.wait()
        return self.returncode

    def wait(self) -> int:
        """Wait for its end; the exit status, that of a killed process where it is not known."""
        if self.returncode is None:
            answer = self._lines.readline()
            if not answer:  # nobody looks after it any longer
                self.send_signal(signal.SIGKILL)
            self.returncode = int(answer or -signal.SIGKILL)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def ask(arguments: list[str]) -> int:
    """Let a copy do what Python does with these arguments, and return its exit status; without one, do it here."""
    try:
        copy = Copy(arguments, dict(os.environ), os.getcwd())  # noqa: PTH109
    except OSError:
        os.execv(sys.executable, [sys.executable, *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the copy, too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: copy.send_signal(number))
    status = copy.wait()
    return status if status >= 0 else 128 - status


def state() -> dict[str, int]:
    """When each file of the code, and the installed packages, were changed."""
    import sysconfig
    from pathlib import Path

    import iqa

    places = [*Path(iqa.__path__[0]).rglob("*.py"), Path(sysconfig.get_path("purelib"))]
    return {str(place): place.stat().st_mtime_ns for place in places}


def load() -> None:
    """Load what runs and their kernels need."""
    import gc
    import pkgutil
    from importlib import import_module

    import iqa

    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # kernels end with this process
    modules = [module.name for module in pkgutil.walk_packages(iqa.__path__, "iqa.")]
    for name in [*modules, *LIBRARIES]:
        import_module(name)
    from iqa.app import steps
    from iqa.study import code

    for step in steps.STEPS:  # every run compares the code with that of earlier results
        with suppress(code.CodeError):
            code.notebook_code(steps.notebook(step))
    gc.freeze()  # copies look through what they make themselves, and share the rest


def _waiting(*files: socket.socket | TextIO) -> selectors.BaseSelector:
    """What tells which of these files can be read; unlike `select.select`, with descriptors of any number."""
    waiting = selectors.PollSelector()
    for file in files:
        waiting.register(file, selectors.EVENT_READ)
    return waiting


def _serve(listening: socket.socket) -> None:
    """Start copies until the input has ended, and they have."""
    before = state()
    load()
    waiting = _waiting(listening, sys.stdin)
    copies: dict[socket.socket, int] = {}
    while copies or sys.stdin in waiting.get_map():
        for ready, _ in waiting.select(POLL if copies else None):
            one = ready.fileobj
            if one is sys.stdin:
                waiting.unregister(sys.stdin)
            elif one is listening:
                connection, _ = listening.accept()
                order = ""
                with suppress(OSError):
                    order = connection.makefile().readline()
                if not order:  # who asked has ended already
                    connection.close()
                    continue
                if pid := os.fork():
                    copies[connection] = pid
                    waiting.register(connection, selectors.EVENT_READ)
                    with suppress(OSError):
                        connection.sendall(f"{pid}\n".encode())
                    continue
                for each in (listening, connection, *copies):
                    each.close()
                _become(before, *json.loads(order))
            else:  # who asked has ended
                os.kill(copies[one], signal.SIGKILL)
        for connection, pid in [*copies.items()]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
                waiting.unregister(connection)
                connection.close()
                del copies[connection]


def _become(
    before: dict[str, int], arguments: list[str], environment: dict[str, str], folder: str, session: bool
) -> NoReturn:
    """Do in this copy what Python does with the arguments, and end it."""
    import atexit
    import runpy
    import traceback

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if session:
        os.setsid()
    if before != state() or environment.get("OMP_NUM_THREADS", "1") != "1":
        os.execv(sys.executable, [sys.executable, *arguments])
    sys.argv = arguments[1:]
    sys.modules.pop(arguments[1], None)
    status: object = 0
    try:
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else 1)  # at once: it takes long to take all libraries apart


if __name__ == "__main__":
    if sys.argv[1] == "-m":
        sys.exit(ask(sys.argv[1:]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)  # at once, as the copies do
