"""Cores, GPUs and clusters, and how concurrent runs share them."""

import fcntl
import os
import re
import tempfile
import time
from collections import ChainMap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, product
from pathlib import Path
from typing import ClassVar

from iqa.analysis.params import ComplexityParams
from iqa.app.steps import STEPS
from iqa.data.params import DataPrepParams
from iqa.study import paths, types
from iqa.study.echo import quoted
from iqa.study.param_files import experiment_of, read_yaml
from iqa.study.params import Checked, ParameterError, Params
from iqa.training.params import TrainParams

CORES = "IQA_CORES"  # tells a run how many cores the pipeline granted it
CLUSTER_CORES = 4  # for a database whose file does not set `workers`
RUNS_PER_GPU = "IQA_RUNS_PER_GPU"  # set by the pipeline for the runs that it starts on its own machine
VISIBLE = "CUDA_VISIBLE_DEVICES"
DEVICES = Path("/dev")


class Resources(Checked):
    """What a run asks of a cluster, besides cores (its `threads` and `workers`) and `nodes`. It changes no result."""

    step: ClassVar[str] = "resources"

    gpus: types.Natural = 0  # on each node
    memory_gb: types.Factor = 8.0  # on each node
    minutes: types.Positive = 240


def resources(study: str) -> dict[tuple[str, str], Resources]:
    """What each run `(step, run)` of a study asks of a cluster: `params/<study>/resources.yaml`, else the defaults.

    The keys of the file are steps, experiments (`train/<name>`, for all its runs) and runs (`train/<name>_s1`), each
    with some fields of `Resources`; the more specific key wins. No run becomes due when the file changes.

    Raises:
        ParameterError: an unknown step, run or field, or a wrong type.
    """
    file = paths.PARAMS / study / "resources.yaml"
    written, shown = read_yaml(file) if file.is_file() else {}, paths.shown(file)
    keys = {  # from single runs to steps
        (step, run): (f"{step}/{run}", f"{step}/{experiment}", step)
        for step in STEPS
        for run, experiment in experiment_of(study, step).items()
    }
    known = dict.fromkeys([*STEPS, *chain(*keys.values())])
    for key, values in written.items():
        if key not in known:
            raise ParameterError(f"{shown}: unknown key {quoted(key)}; the keys are: {', '.join(known)}")
        if not isinstance(values, dict | None):
            raise ParameterError(f"{shown}: key '{key}': expected lines of 'key: value', not {quoted(values)}")
        Resources.build(values or {}, f"{shown}: key '{key}'")
    return {run: Resources(**ChainMap(*(written.get(name) or {} for name in names))) for run, names in keys.items()}


def profile_folder(profile: str) -> Path:
    """The folder of a Snakemake profile, by its name in `profiles/` or by its path.

    Raises:
        ParameterError: it is not there.
    """
    folders = [paths.ROOT / "profiles" / profile, paths.resolve(profile)]
    for folder in folders:
        if (folder / "config.yaml").is_file():
            return folder
    tried = " nor ".join(map(paths.shown, folders))
    raise ParameterError(f"no profile '{profile}': neither {tried} holds config.yaml")


class Machine:
    """How many cores and GPUs each of several concurrent runs gets.

    Args:
        cores: that all runs share; None on a cluster, where each run gets what it asks for.
        runs: parameters of all of them.
    """

    def __init__(self, cores: int | None, runs: list[Params]):
        self.all = cores
        self.slots = 0 if cores is None else gpu_slots()
        self.databases = sum(params.step == "data_prep" for params in runs)

    def gpus(self, params: Params) -> int:
        """GPUs of this machine that a run takes; one that is shared counts for each of its runs."""
        wanted = wanted_gpus(params)
        return min(self.slots, len(wanted) if isinstance(wanted, list) else wanted)

    def cores(self, params: Params) -> int:
        """Cores for the threads and loader workers of a run, at most its share where GPUs can take other runs.

        Databases share the cores evenly. A run that measures time gets all cores, so that no other runs meanwhile.
        """
        if isinstance(params, DataPrepParams):
            return params.workers or (CLUSTER_CORES if self.all is None else max(1, self.all // self.databases))
        processes, workers = (params.devices, params.workers) if isinstance(params, TrainParams) else (1, 0)
        threads = getattr(params, "threads", 1) * processes
        wanted = threads + workers * processes
        if self.all is None:
            return wanted
        if isinstance(params, ComplexityParams):
            return self.all
        gpus = self.gpus(params)
        return min(self.all, wanted, max(threads, self.all // (self.slots // gpus if gpus else 1)))


def limit_workers(params: Params, cores: int) -> Params:
    """The parameters with at most as many workers as `cores` leave besides the threads; this changes no result."""
    if isinstance(params, DataPrepParams):
        return params.model_copy(update={"workers": min(params.workers or cores, cores)})
    if isinstance(params, TrainParams):
        left = max(0, cores // params.devices - params.threads)
        return params.model_copy(update={"workers": min(params.workers, left)})
    return params


def visible_gpus() -> list[str]:
    """The GPUs that programs may use, named as in `CUDA_VISIBLE_DEVICES`; torch is not loaded for it."""
    if (names := os.environ.get(VISIBLE)) is not None:
        return [name.strip() for name in names.split(",") if name.strip() not in ("", "-1")]
    files = [file for file in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", file.name)]
    return [str(index) for index in range(len(files))]


def gpu_slots(runs_per_gpu: int | None = None) -> int:
    """How many runs can have a GPU at once; `runs_per_gpu` is that of the pipeline by default."""
    return len(visible_gpus()) * (runs_per_gpu or int(os.environ.get(RUNS_PER_GPU, 1)))


def wanted_gpus(params: Params) -> list[int] | int:
    """How many GPUs a run uses if there are any, or the number of the one that its `device` names, in a list."""
    kind, _, index = getattr(params, "device", "cpu").partition(":")
    if kind not in ("auto", "cuda"):
        return 0
    return [int(index)] if index else getattr(params, "devices", 1)


@contextmanager
def claim_gpus(wanted: list[int] | int, tell: Callable[[str], object] = print) -> Iterator[list[str]]:
    """Wait until GPUs are free, take them for a run, and give them back at its end, however it ends.

    Each GPU takes as many runs as `IQA_RUNS_PER_GPU` says; without that variable, or without a GPU, none is taken.
    For a run that may have any GPU, `CUDA_VISIBLE_DEVICES` names those that it got.

    Args:
        wanted: how many GPUs, or the numbers of certain ones.
        tell: called once with a message if the run has to wait.
    """
    known, places = visible_gpus(), int(os.environ.get(RUNS_PER_GPU, 0))
    named = isinstance(wanted, list)
    choice = [known[index] for index in wanted if index < len(known)] if named else known
    count = len(choice) if named else min(wanted, len(known))
    if not places or not count:
        yield []
        return
    folder = Path(tempfile.gettempdir()) / f"iqa-gpus-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    with ExitStack() as locks:
        if not (taken := _lock_gpus(folder, choice, count, places, locks)):
            tell(f"waiting for {count} of the GPUs {', '.join(choice)}: other runs have them\n")
        while not taken:
            time.sleep(1)
            taken = _lock_gpus(folder, choice, count, places, locks)
        if not named:
            before = {VISIBLE: os.environ[VISIBLE]} if VISIBLE in os.environ else {}
            locks.callback(os.environ.update, before)
            locks.callback(os.environ.pop, VISIBLE, None)
            os.environ[VISIBLE] = ",".join(taken)
        yield taken


def _lock_gpus(folder: Path, choice: list[str], count: int, places: int, locks: ExitStack) -> list[str]:
    """Lock `count` GPUs until `locks` is closed, the least used first; none if there are fewer."""
    taken: list[str] = []
    with ExitStack() as files:
        for place, gpu in product(range(places), choice):
            if gpu not in taken and len(taken) < count:
                file = files.enter_context((folder / f"{gpu.replace('/', '_')}.{place}").open("w"))
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    taken.append(gpu)
        if len(taken) < count:
            return []
        locks.push(files.pop_all())
    return taken
