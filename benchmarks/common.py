"""What the benchmarks share: to measure cases in turn, to print a table, and to write it with the machine."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import psutil

from iqa.study import paths
from iqa.study.identity import versions
from iqa.study.results import PACKAGES, commit, hardware, write_json

OUT = paths.ROOT / "benchmarks" / "out"
MIB = 2**20 if sys.platform == "darwin" else 2**10  # units of the system's peak memory
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
sys.exit(code)
"""


class Cost(NamedTuple):
    """What some work took."""

    cpu: float  # seconds of processor time, over all threads and processes
    peak: float  # the most memory in MiB that one process held (its resident set)
    added: float = 0.0  # of it, MiB that the process did not hold before


def arguments(doc: str, **defaults: Any) -> argparse.Namespace:
    """The options of a benchmark: `--name` for each keyword, with its default's type.

    Of a list or tuple there can be several; a tuple holds all that can be chosen. True, False and None are switches.
    """
    shown = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=doc.splitlines()[0], formatter_class=shown)
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is None or isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=default, help=" ")
        elif isinstance(default, list | tuple):
            choices = default if isinstance(default, tuple) else None
            kind = type(default[0])
            parser.add_argument(option, nargs="+", type=kind, choices=choices, default=list(default), help=" ")
        else:
            parser.add_argument(option, type=type(default), default=default, help=" ")
    return parser.parse_args()


def in_turn(cases: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each case returns, in `rounds` rounds in which all have their turn, after a round that does not count.

    So other work on the machine disturbs all of them alike.
    """
    found: dict[str, list[Any]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            found[name].append(case())
            print(".", end="", flush=True)
    print()
    return {name: values[1:] for name, values in found.items()}


def spent(work: Callable[[], Any], device: str = "cpu") -> float:
    """Seconds that a call takes: of processor time of this process; for a GPU, of the clock."""
    read = clock(device)
    start = read()
    work()
    return read() - start


def clock(device: str = "cpu") -> Callable[[], float]:
    """What `spent` reads; other work on the machine changes processor time little."""
    if device == "cpu":
        return time.process_time

    def read() -> float:
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()

    return read


def unit(device: str = "cpu") -> str:
    """The unit of `spent`."""
    return "CPU s" if device == "cpu" else "s"


def row(
    what: str, values: Sequence[float], unit: str, against: str = "", floor: Sequence[float] = (), goal: str = ""
) -> dict[str, Any]:
    """One row of a table: what was measured and, if it is held against a floor, ratio = measured / floor.

    Args:
        what: was measured; the name by which the row is found again.
        values: of each round.
        unit: of both; more is better where it ends in `/s` or `/CPU s`.
        against: what the floor is.
        floor: of each round, measured beside `values`.
        goal: a condition on `value` or `ratio`, such as `ratio < 1.5`.

    Returns:
        Medians over the rounds, and least and most; `ratio` is the median of the rounds' ratios, as other work on the
        machine disturbs both sides of a round alike.
    """
    ratios = np.divide(values, floor) if len(floor) else []
    found = {"what": what, **_spread("value", values), "unit": unit, "against": against}
    return found | _spread("ratio", ratios) | {"goal": goal}


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    ends = [float(of(values)) for of in (np.median, np.min, np.max)] if len(values) else [None] * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def environment(bytecode: Path, **variables: str) -> dict[str, str]:
    """This process's environment, in which Python keeps compiled modules in `bytecode`, and further variables.

    So the second start finds them there, as it does for anyone, even where this process may not write any.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(bytecode)} | variables


def process(command: Sequence[str | Path], **options: Any) -> Cost:
    """What a command takes, with all processes that it starts.

    A small process starts it and measures: the system counts to a process the memory of the one that started it.

    Raises:
        RuntimeError: it failed; the end of what it printed is in the message.
    """
    with tempfile.NamedTemporaryFile("r") as file:
        launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, file.name, *map(str, command)]
        done = subprocess.run(launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}")
        cpu, peak = map(float, file.read().split())
    return Cost(cpu, peak / MIB)


def fresh(work: Callable, *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def cost(work: Callable[[], Any]) -> Cost:
    """What a call takes in this process, its threads included."""
    if CLEAR.is_file():
        CLEAR.write_text("5")  # forget the most memory that was held so far
    before = _memory("VmRSS")
    cpu, peak = spent(work), _memory("VmHWM")
    return Cost(cpu, peak, max(1.0, peak - before))


def _memory(entry: str) -> float:
    """MiB that this process holds (`VmRSS`) or has held at most (`VmHWM`); on other systems than Linux, the latter."""
    if STATUS.is_file():
        return float(STATUS.read_text().split(f"{entry}:")[1].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB


def _worked() -> np.ndarray:
    """Seconds: of the clock, that the machine's cores have worked, and of these for this process and its children."""
    cores = psutil.cpu_times()
    idle = cores.idle + getattr(cores, "iowait", 0) + getattr(cores, "guest", 0) + getattr(cores, "guest_nice", 0)
    return np.array([time.perf_counter(), sum(cores) - idle, sum(os.times()[:4])])


STARTED = _worked()


def report(name: str, options: argparse.Namespace, rows: list[dict[str, Any]], **more: Any) -> None:
    """Print a table of rows and the machine, and write both to `benchmarks/out/<name>.json`.

    `load` is how many cores other processes kept busy in the meantime.
    """
    machine = hardware()
    passed, all_work, own = _worked() - STARTED
    load = round(max(0.0, all_work - own) / passed, 2)
    print(pd.DataFrame(rows).dropna(axis=1, how="all").round(3).to_string(index=False, na_rep="-"))
    print(f"{machine['cpu']}, {machine['cores']} cores, of which others kept {load:.1f} busy; {passed:.0f} s")
    OUT.mkdir(parents=True, exist_ok=True)
    file, facts = OUT / f"{name}.json", {"machine": machine, "load": load, "seconds": round(passed)}
    facts |= {"versions": versions(PACKAGES) | {"python": sys.version.split()[0]}, **commit()}
    write_json(file, facts | {"settings": vars(options) | more, "measured": rows})
    print(f"written to {paths.shown(file)}")
