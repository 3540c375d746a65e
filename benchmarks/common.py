"""What the benchmarks share: they time cases in turn, print a table, and write it with the machine that it is from."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iqa.study import paths
from iqa.study.results import commit, hardware, write_json

OUT = paths.ROOT / "benchmarks" / "out"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MIB = 2**20 if sys.platform == "darwin" else 2**10  # units of the system's peak memory
LAUNCHER = """
import resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.call(sys.argv[2:])
taken = time.perf_counter() - start
held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(f"{taken} {held}")
sys.exit(code)
"""


def alternate(cases: dict[str, Callable[[], int]], rounds: int) -> pd.DataFrame:
    """Time each case once per round, so that other work on the machine disturbs all of them alike.

    Args:
        cases: functions by name; each does its work once and returns how many items that were. They are called once
            before, unmeasured.
        rounds: how often each is timed.

    Returns:
        One row per case, in their order: `case`; `per_second`, items per second of the clock (median over the rounds);
        `best` and `worst` of the rounds; `cpu_ms`, processor time of this process per item, over its threads, in
        milliseconds (median), which other work on the machine changes little.
    """
    rates: dict[str, list[float]] = {name: [] for name in cases}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for case in cases.values():
        case()
    for _ in range(rounds):
        for name, case in cases.items():
            start, cpu = time.perf_counter(), time.process_time()
            items = case()
            rates[name].append(items / (time.perf_counter() - start))
            times[name].append(1000 * (time.process_time() - cpu) / items)
    found = pd.DataFrame(rates).agg(["median", "max", "min"]).T.set_axis(["per_second", "best", "worst"], axis=1)
    return found.assign(cpu_ms=pd.DataFrame(times).median()).rename_axis("case").reset_index()


def compared(
    what: str, measured: Sequence[float], unit: str, against: str, floor: Sequence[float], goal: str = ""
) -> dict[str, Any]:
    """One row of a table: what was measured, the floor it is held against, and ratio = measured / floor.

    Args:
        what: what was measured.
        measured: of each round.
        unit: of both.
        against: what the floor is.
        floor: of each round, measured beside `measured`.
        goal: what the ratio, or what was measured, should be.

    Returns:
        Medians over the rounds; `ratio` is the median of the rounds' ratios, as other work on the machine disturbs
        both sides of a round alike.
    """
    ratios = np.asarray(measured, dtype=float) / np.asarray(floor, dtype=float)
    return {
        "what": what,
        "measured": float(np.median(measured)),
        "unit": unit,
        "against": against,
        "floor": float(np.median(floor)),
        "ratio": float(np.median(ratios)),
        "goal": goal,
    }


def in_turn(cases: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each case returns, in `rounds` rounds in which all have their turn, after a round that does not count."""
    found: dict[str, list[Any]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            found[name].append(case())
            print(".", end="", flush=True)
    print()
    return {name: values[1:] for name, values in found.items()}


def seconds(work: Callable[[], Any]) -> float:
    """How long a call takes by the clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def environment(bytecode: Path, **variables: str) -> dict[str, str]:
    """This process's environment, in which Python keeps compiled modules in `bytecode`, and further variables.

    So the second start finds them there, as it does for anyone, even where this process may not write any.
    """
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(bytecode)} | variables


def process(command: Sequence[str | Path], **options: Any) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory in MiB that one of its processes held (its resident set).

    A small process starts it and measures: the system counts to a process the memory of the one that started it.

    Raises:
        RuntimeError: it failed; the end of what it printed is in the message.
    """
    with tempfile.NamedTemporaryFile("r") as file:
        launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, file.name, *map(str, command)]
        done = subprocess.run(launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}")
        taken, held = map(float, file.read().split())
    return taken, held / MIB


def report(name: str, settings: dict[str, Any], table: pd.DataFrame, decimals: int = 2) -> None:
    """Print a table of measurements and the machine, and write both to `benchmarks/out/<name>.json`."""
    machine, load = hardware(), os.getloadavg()[0]
    print(table.round(decimals).to_string(index=False, na_rep="-"))
    print(f"{machine['cpu']}, {machine['cores']} cores; load average of the last minute, this included: {load:.1f}")
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{name}.json"
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    write_json(file, {"machine": machine, "load": load, **commit(), "settings": settings, "measured": rows})
    print(f"written to {paths.shown(file)}")
