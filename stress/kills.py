"""Kill runs at random moments, run them again until they are done, and compare with an unbroken run.

Half of the moments are uniform over the duration of an unbroken run, the others follow a change of the results folder,
so that writing is hit often. A chain is some kills of the same run, then a run to its end.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from stress import project
from stress.project import STUDY, Outcome, Say

GROUP = "kills"
WAYS = {  # how a run is killed; the first is what a power cut does
    "kill -9 of all": 3,
    "kill -9 of the parent alone": 3,
    "kill -9 of its group": 2,
    "kill -9 of a child": 1,
    "SIGTERM to the parent": 1,
    "SIGTERM to its group": 1,
    "SIGINT to its group": 2,
}
PATIENCE = 180  # seconds until a signalled run and its children have ended
TRAIN = f"{STUDY}/train/main_s1"


class Target(NamedTuple):
    """What is killed: a command, what is prepared before it, how many kills of a hundred it gets."""

    title: str
    arguments: tuple[str, ...]
    change: tuple[str, str] = ("", "")  # a parameter file, and a line that is added to it, or takes the place of one
    removed: tuple[str, ...] = ()  # results and caches that are removed
    kills: int = 4

    def prepare(self, folder: Path) -> None:
        for name, text in project.PARAMS.items():
            changed = text
            if name == self.change[0]:
                key = self.change[1].partition(":")[0]
                changed = re.sub(rf"(?m)^(\{{\}}|{key}: .*)\n", "", text) + self.change[1]
            (folder / "params" / STUDY / name).write_text(changed)
        for name in self.removed:
            project.remove(folder / name)


def _again(step: str, line: str, run: str = "main", kills: int = 4) -> Target:
    """A run whose parameter has changed, so that old results lie there."""
    change = (f"{step}/{run}.yaml", line)
    return Target(f"{step}, over old results", ("run", f"{STUDY}/{step}/{run}"), change, kills=kills)


NEW = Target("train, new", ("run", TRAIN), removed=(f"results/{STUDY}/train/main_s1",), kills=16)
OLD = Target("train, over old results", ("run", TRAIN), ("train/main.yaml", "lr: 0.003\n"), kills=16)
CROSS = ("cross_dataset/main.yaml", "resamples: 1001\n")
TARGETS = (
    Target("iqa report, over old results", ("report", STUDY, "--jobs", "2"), CROSS, kills=9),
    *(NEW, OLD, NEW, OLD),
    Target("data_prep, new", ("run", f"{STUDY}/data_prep/demo"), ("data_prep/demo.yaml", "dpi: 41\n"), ("cache",)),
    _again("analysis", "cases: 3\n"),
    _again("cross_dataset", "resamples: 1001\n"),
    _again("claims", "confidence: 0.9\n"),
    _again("ablation", "resamples: 201\n"),
    _again("complexity", "repeats: 3\n", kills=3),
    _again("report", "title: Other\n", "report"),
)


class Watched:
    """A started command whose changes of the results folder are counted."""

    def __init__(self, folder: Path, target: Target, token: str):
        self.folder, self.token = folder, token
        self.begun = time.monotonic()
        self.changes = 0
        self._seen = self._look()
        self.process = project.start(folder, *target.arguments, STRESS_TOKEN=token)

    def _look(self) -> set:
        found = set()
        places = [str(self.folder / "results" / STUDY)]
        for place in places:
            try:
                for entry in os.scandir(place):
                    stat = entry.stat(follow_symlinks=False)
                    found.add((entry.path, stat.st_mtime_ns, stat.st_size))
                    if entry.is_dir(follow_symlinks=False) and entry.name != ".snakemake":
                        places.append(entry.path)
            except FileNotFoundError:
                continue
        return found

    def wait_until(self, reached: Callable[["Watched"], bool]) -> bool:
        """Poll until a moment is reached; False if the command has ended before."""
        while not reached(self):
            if self.process.poll() is not None:
                return False
            seen = self._look()
            self.changes += seen != self._seen
            self._seen = seen
            time.sleep(0.004)
        return True

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def printed(self) -> str:
        return (self.folder / "printed.txt").read_text(errors="replace")


def kill(run: Watched, way: str, rng: np.random.Generator) -> str:
    """Kill a run in one of `WAYS`, wait for its end, and return what went wrong."""
    number = signal.SIGKILL if way.startswith("kill -9") else signal.Signals[way.partition(" ")[0]]
    try:
        if way.endswith("of all"):
            project.end(run.token)
        elif way.endswith("group"):
            os.killpg(run.process.pid, number)
        elif way.endswith("child"):
            children = psutil.Process(run.process.pid).children(recursive=True)
            (children[rng.integers(len(children))] if children else run.process).send_signal(number)
        else:
            run.process.send_signal(number)
        run.process.wait(PATIENCE)
    except psutil.NoSuchProcess:
        return ""
    except subprocess.TimeoutExpired:
        return "it did not end"
    return "it ends with a traceback" if "Traceback (most recent" in run.printed else ""


def second(folder: Path, target: Target, token: str) -> str:
    """Start the command again beside children that go on; it may work only when they have ended."""
    left = project.alive(token)
    if not left:
        return ""
    other = Watched(folder, target, f"{token}-second")
    fault, deadline = "", time.monotonic() + PATIENCE
    while (left := project.alive(token)) and time.monotonic() < deadline and not fault:
        at_work = [process for process in project.alive(other.token) if works(process)]
        if at_work and project.alive(token):
            fault = f"a second one works beside living children ({name_of(left[0])})"
        if other.process.poll() is not None:
            words = other.printed.strip()
            if other.process.returncode != 1 or "Traceback" in words:
                fault = f"refused with status {other.process.returncode}: {words[-200:]}"
            time.sleep(0.1)
    if left and not fault:
        fault = f"children go on without end: {name_of(left[0])}"
    for left_over in (token, other.token):
        project.end(left_over)
    other.process.wait()
    return fault


def works(process: psutil.Process) -> bool:
    """Whether a process executes a notebook or a graph."""
    return "ipykernel" in name_of(process) or "snakemake" in name_of(process)


def name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[1:5])
    except psutil.Error:
        return ""


def kill_often(folder: Path, kept: Path, target: Target, kills: int, seed: int) -> list[Outcome]:
    """Measure an unbroken run of a target, then kill it in chains until it was hit `kills` times."""
    rng = np.random.default_rng(seed)
    unbroken = folder.parent / f"unbroken-{seed}"
    _reset(folder, kept, target)
    run = Watched(folder, target, f"unbroken-{seed}")
    run.wait_until(lambda _: False)
    if run.process.returncode:
        return [Outcome(GROUP, target.title, "the unbroken run", run.printed[-500:])]
    length, changes = run.seconds, run.changes
    project.save_state(folder, unbroken)
    outcomes, hits, tries = [], 0, 0
    while hits < kills and tries < 3 * kills:
        _reset(folder, kept, target)
        old = {file for file in (folder / "results" / STUDY).glob("*/*/record.json")}
        history = []
        for _ in range(rng.integers(2, 6)):
            tries += 1
            way = rng.choice(list(WAYS), p=np.array(list(WAYS.values())) / sum(WAYS.values()))
            moment, reached = _moment(rng, length, changes)
            run = Watched(folder, target, f"{seed}-{tries}")
            if run.wait_until(reached) and hits < kills:
                hits += 1
                faults = [kill(run, way, rng), second(folder, target, run.token)]
                faults += project.broken_records(folder)
                faults += [f"{file.relative_to(folder)} is lost" for file in old if not file.is_file()]
                history.append(f"{way} {moment}")
                case = f"seed {seed}, kill {hits}: {history[-1]}"
                outcomes.append(Outcome(GROUP, target.title, case, "; ".join(filter(None, faults))))
            run.process.wait()
            project.end(run.token)
        outcomes.append(_finish(folder, unbroken, target, f"seed {seed}: {', then '.join(history)}"))
    return outcomes


def _reset(folder: Path, kept: Path, target: Target) -> None:
    project.put_back(folder, kept)
    target.prepare(folder)


def _moment(rng: np.random.Generator, length: float, changes: int) -> tuple[str, Callable[[Watched], bool]]:
    if changes and rng.random() < 0.6:
        number, delay, since = int(rng.integers(1, changes + 1)), rng.uniform(0, 0.03), []

        def reached(run: Watched) -> bool:
            if run.changes >= number and not since:
                since.append(time.monotonic())
            return bool(since) and time.monotonic() - since[0] >= delay

        return f"{1000 * delay:.0f} ms after change {number} of {changes}", reached
    moment = rng.uniform(0, length)
    return f"at {moment:.1f} s of {length:.1f}", lambda run: run.seconds >= moment


def _finish(folder: Path, unbroken: Path, target: Target, case: str) -> Outcome:
    """Run to the end; the results must be those of the unbroken run."""
    process = project.start(folder, *target.arguments)
    process.wait()
    fault = ""
    if process.returncode:
        fault = f"the rerun fails: {(folder / 'printed.txt').read_text(errors='replace').strip()[-300:]}"
    elif faults := project.differing(folder, unbroken) + project.broken_records(folder):
        fault = f"other than unbroken: {', '.join(faults[:4])}"
    return Outcome(GROUP, f"{target.title}: results after the rerun", case, fault)


def run(folders: list[Path], kept: Path, share: float, seed: int, say: Say) -> None:
    """All targets, one worker per copy of the project; of a small share only trainings."""

    def work(number: int, folder: Path) -> list[Outcome]:
        target = TARGETS[number]
        return kill_often(folder, kept, target, max(1, round(share * target.kills)), 1000 * seed + number)

    chosen = range(len(TARGETS)) if share >= 0.1 else range(1, 3)
    project.share_work(folders, [partial(work, number) for number in chosen], say)
