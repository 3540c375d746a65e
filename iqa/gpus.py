"""Which GPUs of this machine a run takes, so that runs beside each other do not share one unless told to."""

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

RUNS_PER_GPU = "IQA_RUNS_PER_GPU"  # set by the pipeline for the runs that it starts on its own machine
DEVICES = Path("/dev")


def visible() -> list[str]:
    """The GPUs that programs may use, as `CUDA_VISIBLE_DEVICES` names them; found without loading torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    found = [file.name for file in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", file.name)]
    return [str(index) for index in range(len(found))]


def slots(runs_per_gpu: int | None = None) -> int:
    """How many runs can have a GPU at once; without the argument as many as the pipeline was told."""
    return len(visible()) * (runs_per_gpu or int(os.environ.get(RUNS_PER_GPU, 1)))


def wanted(device: str, processes: int = 1) -> list[int] | int:
    """What a `device` parameter asks for: how many GPUs, or the number of the one that it names."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cuda"):
        return 0
    return [int(index)] if index else processes


@contextmanager
def claimed(want: list[int] | int, tell: Callable[[str], object] = print) -> Iterator[list[str]]:
    """Takes GPUs for a run, and gives them back at its end, however it ends; waits until they are free.

    Each GPU has as many places as `IQA_RUNS_PER_GPU` says; without that variable, or without a GPU, nothing is taken.
    Where the run may have any GPU, `CUDA_VISIBLE_DEVICES` names those that it got.
    """
    known, places = visible(), int(os.environ.get(RUNS_PER_GPU, 0))
    named = isinstance(want, list)
    choice = [known[index] for index in want if index < len(known)] if named else known
    count = len(choice) if named else min(want, len(known))
    if not places or not count:
        yield []
        return
    folder = Path(tempfile.gettempdir()) / f"iqa-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        told = False
        while len(taken := _take(folder, choice, count, places, stack)) < count:
            if not told:
                tell(f"waiting for {count} of the GPUs {', '.join(choice)}: other runs have them\n")
                told = True
            time.sleep(1)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        if not named:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
        try:
            yield taken
        finally:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            if before is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _take(folder: Path, choice: list[str], count: int, places: int, stack: ExitStack) -> list[str]:
    """The GPUs whose lock was got: `count` of them, the least used first, or none."""
    with ExitStack() as mine:
        taken: list[str] = []
        for place in range(places):
            for gpu in choice:
                if gpu in taken or len(taken) == count:
                    continue
                lock = mine.enter_context((folder / f"{gpu.replace('/', '_')}.{place}").open("w"))
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                taken.append(gpu)
        if len(taken) < count:
            return []
        stack.push(mine.pop_all())
        return taken
