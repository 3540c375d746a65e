"""What the measurements share: cases are timed in turn, shown as a table, and written with the machine they ran on."""

import os
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

from iqa import paths
from iqa.results import commit, hardware, write_json

OUT = paths.ROOT / "benchmarks" / "out"


def alternate(cases: dict[str, Callable[[], int]], rounds: int) -> pd.DataFrame:
    """Time each case once per round, so that what else runs on the machine meets all of them alike.

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
