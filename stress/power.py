"""Power loss: damage each file that a run leaves, ask what is due, read it, and run again.

Everything must come to an error that names the file, or be made anew; the results are then those of an unbroken run.
"""

from collections.abc import Callable
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stress import project
from stress.kills import NEW, Watched
from stress.project import STUDY, Outcome, Say
from stress.warm import Warm

GROUP = "power loss"
DAMAGES: dict[str, Callable[[bytes, np.random.Generator], bytes | None]] = {
    "empty": lambda content, rng: b"",
    "cut in half": lambda content, rng: content[: len(content) // 2],
    "without its last byte": lambda content, rng: content[:-1],
    "zeros": lambda content, rng: bytes(len(content)),
    "[]": lambda content, rng: b"[]",
    "random bytes": lambda content, rng: rng.bytes(max(20, len(content))),
    "a flipped byte": lambda content, rng: _flipped(content, int(rng.integers(max(1, len(content))))),
    "a folder": lambda content, rng: None,
}
STATE_FILES = {"record.json", "fit.json", "last.ckpt", "best.pt", "history.csv", "metrics.json", "params.json"}
OFTEN, SELDOM = 2, 1  # damages of a state file, and of another one
TOGETHER = 4  # files, none of them state, that are damaged at once
LONGEST = 400  # characters of a message


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :] if content else b"\x55"


def damage(file: Path, how: str, rng: np.random.Generator) -> None:
    """Damage a file in one of `DAMAGES`."""
    content = DAMAGES[how](file.read_bytes(), rng)
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)


def kinds(state: Path) -> dict[str, Path]:
    """One file of each kind in a saved state, relative to it: of pixels and figures any, of runs the first."""
    found: dict[str, Path] = {}
    for file in sorted(file for file in state.rglob("*") if file.is_file()):
        name = file.relative_to(state)
        if name.parts[0] == "report" and name.parts[1] != STUDY:
            continue
        figure = file.suffix in (".png", ".svg", ".pdf", ".tex", ".md") or len(file.name) == 64
        own = f"*{file.suffix}" if figure or name.parts[:2] == ("cache", "hashes") else file.name
        place = name.parts[2] if name.parts[0] == "results" else name.parts[1].rpartition("-")[0]
        found.setdefault(f"{name.parts[0]}/{place}/{own}", name)
    return found


def is_state(name: Path) -> bool:
    """Whether what goes on later depends on a file, so that each damage is tried."""
    return name.name in STATE_FILES or name.parts[0] == "cache" or "unfinished" in str(name)


def judge(done: dict, names: list[Path], normal: str | None = None) -> str:
    """What is wrong with how a command took damaged files."""
    if done["ended"] or "Traceback" in done["err"] + done["out"]:
        return done["ended"] or f"traceback: {done['err'].strip().splitlines()[-1][:200]}"
    if done["status"] == 0:
        return "" if normal in (None, _timeless(done["out"])) else "status 0 with another output"
    words = "\n".join(line for line in done["err"].splitlines() if line.startswith(("iqa:", " ", "read more")))
    if not any(name.name in words or name.parent.name in words for name in names):
        return f"no file named: {words[-200:]}"
    return "" if len(words) <= LONGEST else f"a message of {len(words)} characters"


def _timeless(out: str) -> str:
    return "\n".join(line for line in out.splitlines() if " in " not in line)


def reader(names: list[Path]) -> tuple[str, ...] | None:
    """A command that reads the first of the files."""
    place = names[0].parts
    if place[0] == "cache":
        return ("evaluate", f"{STUDY}/main_s1", "--study", STUDY, "--resamples", "50")
    if place[2:3] == ("train",):
        return ("predict", "data/tiny/0.png", "--model", f"{STUDY}/{place[3].partition('.')[0]}")
    return ("table", "ablation/main", "--study", STUDY) if place[2:3] == ("ablation",) else None


def due(warm: Warm) -> tuple[dict, list[str]]:
    """What `iqa why` answers, and the runs that are due by themselves, not as they read others."""
    done = warm("why", STUDY)
    pairs = pairwise(done["out"].splitlines())
    return done, [line for line, why in pairs if not line.startswith((" ", "Due")) and not why.startswith("  reads ")]


class Loss(NamedTuple):
    """Files of a saved state, relative to it, and how all of them are damaged."""

    state: Path
    names: list[Path]
    how: str


def lose(folder: Path, loss: Loss, unbroken: Path, seed: int, warm_of: dict) -> list[Outcome]:
    """Damage files of a saved state and see what the commands make of it."""
    state, names, how = loss
    warm, faults = warm_of[folder], []
    project.put_back(folder, state)
    if names[0].parts[0] == "cache":  # read by a new fit and a new evaluation
        for run in ("train/main_s1", "cross_dataset/main"):
            project.remove(folder / "results" / STUDY / run)
    command = reader(names) if state == unbroken else None
    if command and command not in warm_of and names[0].parts[0] != "cache":
        warm_of[command] = _timeless(warm(*command)["out"])
    for name in names:
        damage(folder / name, how, np.random.default_rng(seed))
    done, _ = due(warm)
    faults.append(f"iqa why: {judge(done, names)}")
    if command and names[0].parts[0] != "cache":
        faults.append(f"iqa {command[0]}: {judge(warm(*command), names, warm_of[command])}")
    for attempt in count(1):
        _, places = due(warm)
        places = [place for place in places if place != "report/report" or "report" in str(names)]
        if not places:
            break
        if attempt > 3:
            faults.append(f"still due after reruns: {', '.join(places)}")
            break
        answers = [warm("run", f"{STUDY}/{place}") for place in places]
        pairs = zip(places, answers, strict=True)
        faults += [f"iqa run {place}: {judge(done, names)}" for place, done in pairs]
        for name in names if any(done["status"] for done in answers) else []:  # an error that names it: a person would
            project.remove(folder / (name if attempt == 1 else name.parent))
    left_out = {str(name) for name in names if name.name == "last.ckpt"}  # of a training that is finished, as it says
    if other := [name for name in project.differing(folder, unbroken) if name not in left_out]:
        faults.append(f"then other than unbroken: {', '.join(other[:4])}")
    kind = "state files" if is_state(names[0]) else "other results"
    fault = "; ".join(fault for fault in faults if not fault.endswith(": "))
    return [Outcome(GROUP, f"{kind}: {how}", f"{' '.join(map(str, names))}: {how} (seed {seed})", fault)]


def interrupt(folder: Path, kept: Path, state: Path) -> None:
    """Save the state that a training leaves which was killed after its third epoch."""
    project.put_back(folder, kept)
    NEW.prepare(folder)
    run = Watched(folder, NEW, "interrupted")
    steps = folder / "results" / STUDY / "train"
    reached = run.wait_until(lambda _: any("main_s1" in str(file) for file in steps.rglob("epoch_003.pt")))
    assert reached, f"the training to interrupt came to its end: {run.printed[-300:]}"
    project.end(run.token)
    project.save_state(folder, state)


def lose_lock(folder: Path, kept: Path, unbroken: Path, seed: int) -> list[Outcome]:
    """Damage the lock and Snakemake's own files of a study, which a report then goes over."""
    project.put_back(folder, kept)
    outcomes = []
    rng = np.random.default_rng(seed)
    for turn in range(4):
        project.remove(folder / "results" / STUDY / "ablation/main/record.json")
        files = sorted(file for file in (folder / "results" / STUDY).glob("**/.*/**/*") if file.is_file())
        files += sorted(file for file in (folder / "results" / STUDY).rglob("*lock*") if file.is_file())
        how = list(DAMAGES)[int(rng.integers(len(DAMAGES)))] if turn else "nothing"
        for file in files if turn else []:
            damage(file, how, rng)
        process = project.start(folder, "report", STUDY, "--jobs", "1")
        process.wait()
        printed = (folder / "printed.txt").read_text(errors="replace")
        fault = "" if process.returncode == 0 and "Traceback" not in printed else printed[-300:]
        other = project.differing(folder, unbroken)
        fault += f"other than unbroken: {', '.join(other[:4])}" if other else ""
        outcomes.append(Outcome(GROUP, "locks and Snakemake's own", f"{len(files)} files: {how}", fault))
    return outcomes


def run(folders: list[Path], kept: Path, share: float, seed: int, say: Say) -> None:
    """Damage a share of the files of a finished study and of an interrupted training."""
    rng = np.random.default_rng(seed)
    state = kept.parent / "interrupted"
    interrupt(folders[0], kept, state)
    losses: list[Loss] = []
    finished, begun = kinds(kept), kinds(state)
    begun = {kind: name for kind, name in begun.items() if kind not in finished or "train/main_s1" in str(name)}
    for place, found in ((kept, finished), (state, begun)):
        own = [name for name in found.values() if is_state(name) or place == state]
        losses += [Loss(place, [name], how) for name in own for how in rng.permutation(list(DAMAGES))[:OFTEN]]
        others = [name for name in found.values() if name not in own]
        parts = [others[start : start + TOGETHER] for start in range(0, len(others), TOGETHER)]
        losses += [Loss(place, part, how) for part in parts for how in rng.permutation(list(DAMAGES))[:SELDOM]]
    chosen = sorted(rng.permutation(len(losses))[: max(2, round(share * len(losses)))])
    warm_of: dict = {folder: Warm(folder) for folder in folders}
    common = {"unbroken": kept, "warm_of": warm_of}
    todo = [partial(lose, loss=losses[number], seed=seed + int(number), **common) for number in chosen]
    if share >= 0.1:
        todo.insert(0, partial(lose_lock, kept=kept, unbroken=kept, seed=seed))
    project.share_work(folders, todo, say)
    for folder in folders:
        warm_of[folder].close()
