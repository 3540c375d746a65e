"""What became slower than the table that was accepted last, beyond noise: `python -m benchmarks.compare [--accept]`.

The measurements in `benchmarks/out` are compared with `benchmarks/table.json`, row by row: the ratio to a floor that
was measured beside it, or else, on the same machine, processor time and memory. Seconds of the clock are not compared,
nor is what was measured with other settings. A row is slower if the least of its rounds lies above the most of those of
the table by more than 5%; where there was one round only, which does not show the noise, by more than 25%.

The exit status is 1 if a row is slower. `--accept` makes the measurements the new table.
"""

import json
import re
import sys
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import common
from benchmarks.__main__ import BENCHMARKS
from iqa.study import paths
from iqa.study.disk import write_whole

TABLE = paths.ROOT / "benchmarks" / "table.json"
MARGIN, MARGIN_ONCE = 0.05, 0.25  # of several rounds, and of one
LOADED = 0.1  # share of the cores, kept busy by others, from which on a measurement is not accepted
SAME = ("cpu", "cores", "gpu")  # what makes two machines the same
Measured = dict[str, dict[str, Any]]  # what each benchmark wrote, by its name


def measured() -> Measured:
    """What the benchmarks wrote last."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(common.OUT.glob("*.json"))}


def rows(found: Measured) -> pd.DataFrame:
    """The rows of all benchmarks with what is compared: `cost`, of which less is better, its spread, and its unit."""
    tables = [pd.DataFrame(part["measured"]).assign(benchmark=name) for name, part in found.items()]
    table = pd.concat(tables, ignore_index=True)
    for name, end in (("least", "_low"), ("cost", ""), ("most", "_high")):
        table[name] = table[f"ratio{end}"].astype(float).fillna(table[f"value{end}"])
    rates = table["unit"].str.endswith("/s") | table["unit"].str.endswith("/CPU s")
    table.loc[rates, ["most", "cost", "least"]] = 1 / table.loc[rates, ["least", "cost", "most"]].to_numpy()
    return table.assign(by=table["unit"].where(table["ratio"].isna(), "ratio"))


def judge(before: Measured, now: Measured) -> pd.DataFrame:
    """The rows of both with a `verdict`: slower, quicker or same, or why they are not compared."""
    both = rows(before).merge(rows(now), on=["benchmark", "what"], how="outer", suffixes=("_before", ""))
    once = (both["least"] == both["most"]) | (both["least_before"] == both["most_before"])
    margin = 1 + np.where(once, MARGIN_ONCE, MARGIN)
    shared = before.keys() & now.keys()
    moved = [name for name in shared if any(before[name]["machine"][key] != now[name]["machine"][key] for key in SAME)]
    changed = [name for name in shared if _settings(before[name]) != _settings(now[name])]
    by_value = both["by"] != "ratio"
    verdicts = {
        "new": both["unit_before"].isna(),
        "gone": both["unit"].isna(),
        "measured with other settings": both["benchmark"].isin(changed) | (both["by"] != both["by_before"]),
        "seconds of the clock": by_value & ~both["by"].astype(str).str.contains("CPU|MiB"),
        "measured on another machine": by_value & both["benchmark"].isin(moved),
        "slower": both["least"] > both["most_before"] * margin,
        "quicker": both["most"] * margin < both["least_before"],
    }
    return both.assign(
        change=both["cost"] / both["cost_before"] - 1,
        verdict=np.select(list(verdicts.values()), list(verdicts), "same"),
    )


def _settings(part: dict[str, Any]) -> dict[str, Any]:
    """What decides the values of rows; lists say which rows there are."""
    return {key: value for key, value in part["settings"].items() if key != "rounds" and not isinstance(value, list)}


def told(table: pd.DataFrame) -> str:
    """The rows that are slower, quicker, new or gone, and how many there are of each verdict."""
    lines = []
    for verdict in ("slower", "quicker", "new", "gone"):
        for each in table[table["verdict"] == verdict].itertuples():
            change = f": {each.change:+.0%} ({each.by})" if verdict in ("slower", "quicker") else ""
            lines.append(f"{verdict}: {each.benchmark}, {each.what}{change}")
    counts = ", ".join(f"{number} {verdict}" for verdict, number in table["verdict"].value_counts().items())
    return "\n".join([*lines, f"{len(table)} rows: {counts}"])


def refuse(before: Measured, now: Measured) -> list[str]:
    """Why measurements should not be accepted."""
    lacking = [name for name in {*BENCHMARKS, *before} if name not in now]
    loaded = [name for name, part in now.items() if part["load"] > LOADED * part["machine"]["cores"]]
    reasons = [f"not measured: {', '.join(sorted(lacking))}"] if lacking else []
    return reasons + ([f"others kept the machine busy meanwhile: {', '.join(loaded)}"] if loaded else [])


def accept(before: Measured, now: Measured) -> None:
    """Write the table, a row a line; what was not measured now stays as it is."""
    text = json.dumps(before | now, indent=1, allow_nan=False)
    write_whole(TABLE, re.sub(r"\{[^{}]*\}", lambda inner: " ".join(inner[0].split()), text) + "\n")


def main() -> int:
    """Compare, or accept; the exit status."""
    options = common.arguments(__doc__, accept=False, force=False)
    before, now = json.loads(TABLE.read_text()) if TABLE.is_file() else {}, measured()
    if not now:
        sys.exit(f"{paths.shown(common.OUT)} holds no measurement; make bench")
    table = judge(before, now) if before else pd.DataFrame(columns=["verdict"])
    print(told(table) if before else f"{paths.shown(TABLE)} is not there yet; --accept writes it")
    if not options.accept:
        return int((table["verdict"] == "slower").any())
    if (reasons := refuse(before, now)) and not options.force:
        print("\n".join(["not accepted:", *reasons, "measure again (make bench), or accept all the same: --force"]))
        return 2
    accept(before, now)
    print(f"accepted: {paths.shown(TABLE)}; commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
