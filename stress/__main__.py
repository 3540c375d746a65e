"""Prove that nothing is lost and nothing is silently wrong: `python -m stress [kills power inputs scores soak]`.

The groups work in copies of the project in a temporary folder; results of this checkout are not touched. The table of
what was tried and what survived is printed and written to `stress/out/`, with every case. The exit status is 1 if
anything did not survive.
"""

import argparse
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import pandas as pd

from iqa.study import paths
from stress import project
from stress.warm import Warm

GROUPS = ("kills", "power", "inputs", "scores", "soak")
OUT = paths.ROOT / "stress" / "out"
WORKERS = 2


def prepare(folder: Path, workers: int) -> tuple[list[Path], Path]:
    """Copies of the project, and the saved state of a finished study."""
    folders = [folder / f"project{number}" for number in range(workers)]
    for copy in folders:
        project.make(copy)
    warm = Warm(folders[0])
    for step, runs in project.runs().items():
        for run in runs:
            done = warm("run", f"{project.STUDY}/{step}/{run}")
            if done["status"]:
                sys.exit(f"stress: the unbroken study fails: {done['err'][-2000:]}")
    warm.close()
    project.save_state(folders[0], folder / "finished")
    return folders, folder / "finished"


def table(outcomes: list[project.Outcome]) -> pd.DataFrame:
    """How much was tried and survived, a row for each group and kind."""
    frame = pd.DataFrame(outcomes, columns=project.Outcome._fields)
    rows = frame.assign(survived=frame["fault"] == "").groupby(["group", "kind"], sort=False)["survived"]
    return rows.agg(tried="size", survived="sum").reset_index()


def markdown(outcomes: list[project.Outcome]) -> str:
    """The table, and what did not survive."""
    faults = [f"- {case.group}, {case.kind}: {case.case}\n  {case.fault}" for case in outcomes if case.fault]
    return "\n".join([table(outcomes).to_markdown(index=False), "", *faults, ""])


def main() -> int:
    """Run the groups; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (all)")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases, for a shorter run (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides moments and damages (%(default)s)")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no group {min(unknown)}; the groups are {', '.join(GROUPS)}")
    print(f"seed {options.seed}, share {options.share:g}", flush=True)
    outcomes: list[project.Outcome] = []

    def say(new: list[project.Outcome]) -> None:
        outcomes.extend(new)
        for case in new:
            print(f"{'FAILED' if case.fault else 'ok'}  {case.kind}: {case.case}  {case.fault}", flush=True)

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stress-", ignore_cleanup_errors=True) as name:
        folders, kept = prepare(Path(name), WORKERS)
        for group in options.groups or GROUPS:
            print(f"== {group} (after {time.monotonic() - begun:.0f} s)", flush=True)
            import_module(f"stress.{group}").run(folders, kept, options.share, options.seed, say)
    OUT.mkdir(exist_ok=True)
    pd.DataFrame(outcomes).to_csv(OUT / "cases.csv", index=False)
    (OUT / "stress.md").write_text(markdown(outcomes))
    print(markdown(outcomes))
    survived = sum(not case.fault for case in outcomes)
    print(f"{survived} of {len(outcomes)} survived; seed {options.seed}, {time.monotonic() - begun:.0f} s")
    return int(survived < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
