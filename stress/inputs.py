"""Bad inputs: parameters, label files, images, model files, commands; each is refused in words, or rightly accepted.

`inputs.csv` lists parameters and commands, the tables below what has to be made. A case expects `error` (status 1) or
`refused` (status 2: some images), `accepted` (status 0), or `either`; `words` must be in the message.
"""

import csv
import os
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from iqa.app.steps import STEPS
from stress import bad_files, project
from stress.project import STUDY, Outcome, Say
from stress.warm import Warm

GROUP = "inputs"
FOLDER = "inputs"  # of the files that a case makes, in the copy of the project
TABLE = Path(__file__).with_name("inputs.csv")
STATUS = {"error": {1}, "refused": {2}, "accepted": {0}, "either": {0, 1, 2}}
SECONDS, MEMORY = 60, 3000  # that a command may take; MiB
LINES, CHARACTERS = 3, 600  # that a message may have
BAD_NUMBERS = (".nan", ".inf", "-.inf", "-1", "abc", "[1]", "{a: 1}", "null", "yes", "1e999", "'1 '", "!!float x")
BASES = {"data_prep": "demo", "report": "report"}  # the run whose values a bad parameter file starts from
MODEL = ("--model", f"{STUDY}/main_s1", "--device", "cpu")


class Case(NamedTuple):
    """An input: `make` writes it and returns the arguments of `iqa`."""

    kind: str
    name: str
    make: Callable[[Path], list[str]]
    expected: str
    words: tuple[str, ...] = ()


def parameter(step: str, text: bytes, folder: Path) -> list[str]:
    """A parameter file `bad.yaml` that starts from another run's values."""
    base = b"" if b"like" in text else f"like: {BASES.get(step, 'main')}\n".encode()
    (folder / "params" / STUDY / step / "bad.yaml").write_bytes(base + text)
    return ["run", f"{STUDY}/{step}/bad"]


def labels(edit: Callable[[list[list[str]]], str | bytes], folder: Path) -> list[str]:
    """A label file, made from the rows of the good one, and a database that reads it."""
    with (folder / "data" / "tiny" / "labels.csv").open(newline="") as file:
        content = edit(list(csv.reader(file)))
    file = folder / FOLDER / "labels.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return parameter("data_prep", b"labels: inputs/labels.csv\n", folder)


def image(name: str, make: Callable[[Path], Any], folder: Path) -> list[str]:
    """An image file that is scored."""
    make(folder / FOLDER / name)
    return ["predict", f"{FOLDER}/{name}", *MODEL, "--csv", f"{FOLDER}/scores.csv"]


def checkpoint(make: Callable[[Path, Path], Any], folder: Path) -> list[str]:
    """A model file, made from a good one, that scores an image."""
    file = folder / FOLDER / "bad.pt"
    make(folder / "results" / STUDY / "train" / "main_s1" / "best.pt", file)
    return ["predict", "data/tiny/0.png", "--model", f"{FOLDER}/{file.name}", "--device", "cpu"]


def cases() -> Iterator[Case]:
    """All cases, from the tables."""
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            text = row["value"].encode().decode("unicode_escape")
            words = tuple(filter(None, row["words"].split("|")))
            if row["kind"] == "command":
                arguments = shlex.split(text)
                yield Case("commands", row["value"], lambda _, words=arguments: words, row["expected"], words)
            else:
                make = partial(parameter, row["kind"], text.encode("latin-1") + b"\n")
                named = (words or ("bad",)) if row["expected"] == "error" else ()
                yield Case("parameters", f"{row['kind']}: {row['value'][:60]}", make, row["expected"], named)
    for step, cls in STEPS.items():
        numbers = [key for key, value in cls.defaults().items() if type(value) in (int, float)]
        for key, value in ((key, value) for key in numbers for value in BAD_NUMBERS):
            make = partial(parameter, step, f"{key}: {value}\n".encode())
            words = ("bad",) if value.startswith("!!") else (key,)  # of what is no YAML, the file alone is known
            yield Case("numbers", f"{step}: {key}: {value}", make, "error", words)
    for name, (edit, expected, *words) in bad_files.LABELS.items():
        yield Case("labels", name, partial(labels, edit), expected, tuple(words))
    for name, (make_image, expected) in bad_files.IMAGES.items():
        words = (name,) if expected == "refused" else ()
        yield Case("images", name, partial(image, name, make_image), expected, words)
    for name, (make_model, expected, *words) in bad_files.MODELS.items():
        named = ("bad.pt", *words) if expected == "error" else ()
        yield Case("model files", name, partial(checkpoint, make_model), expected, named)


def judge(case: Case, done: dict[str, Any]) -> str:
    """What is wrong with what a command made of a case."""
    if done["ended"]:
        return f"ended after {SECONDS} s" if done["ended"] == "time" else f"took {done['peak']} MiB"
    if "Traceback" in done["out"] + done["err"]:
        return f"traceback: {done['err'].strip().splitlines()[-1][:200]}"
    lines = done["err"].splitlines()  # but for the log of a run and progress bars
    message = [line for line in lines if line.strip() and not line.startswith("[") and "%|" not in line]
    said = " / ".join(message)[:300]
    if done["status"] not in STATUS[case.expected]:
        return f"status {done['status']}, expected {case.expected}: {said}"
    if done["status"] and (len(message) > LINES or len("\n".join(message)) > CHARACTERS):
        return f"a message of {len(message)} lines, {len(' '.join(message))} characters: {said}"
    lacking = [word for word in case.words if word.lower() not in "\n".join(message).lower()]
    return f"the message lacks {', '.join(lacking)}: {said or '(nothing)'}" if lacking else ""


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and size of each file that no command of a case may change."""
    own = {FOLDER, "cache", "printed.out", "printed.err", "printed.txt", "__pycache__", "bad.yaml", "bad", "scratch"}
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in own]
        for name in set(names) - own:
            stat = (Path(place) / name).lstat()
            found[os.path.relpath(Path(place) / name, folder)] = stat.st_mtime_ns, stat.st_size
    return found


def try_cases(folder: Path, chosen: list[Case], kept: Path) -> list[Outcome]:
    """Each case in turn, in one copy of the project."""
    project.put_back(folder, kept)
    warm, outcomes = Warm(folder), []
    place = folder / FOLDER
    before = files_of(folder)
    for case in chosen:
        project.remove(place)
        place.mkdir()
        done = warm(*case.make(folder), seconds=SECONDS, memory=MEMORY)
        fault = judge(case, done)
        for bad in (*(folder / "params" / STUDY).glob("*/bad.yaml"), *(folder / "results" / STUDY).glob("*/*bad*")):
            project.remove(bad)
        after = files_of(folder)
        if changed := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
            fault += f" changes {', '.join(changed[:3])}"
            before = after
        outcomes.append(Outcome(GROUP, case.kind, case.name, fault))
    warm.close()
    return outcomes


def run(folders: list[Path], kept: Path, share: float, seed: int, say: Say) -> None:
    """A share of the cases; of the numbers, which are every number of every step with every bad value, a quarter."""
    rng = np.random.default_rng(seed)
    chosen = [case for case in cases() if rng.random() < share * (0.25 if case.kind == "numbers" else 1)]
    parts = [chosen[start :: 4 * len(folders)] for start in range(4 * len(folders))]
    project.share_work(folders, [partial(try_cases, chosen=part, kept=kept) for part in parts], say)
