"""Cores, GPUs and clusters, and how concurrent runs share them."""

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from iqa.analysis.params import ComplexityParams
from iqa.app.steps import STEPS
from iqa.data.params import DataPrepParams
from iqa.study import paths
from iqa.study.param_files import experiments, read_yaml, run_names
from iqa.study.params import Checked, Number, ParameterError, Params, Positive
from iqa.training.params import TrainParams


class Resources(Checked):
    """What a run asks of a cluster, besides cores (its `threads` and `workers`) and `nodes`. It decides no result."""

    step: ClassVar[str] = "resources"

    gpus: Annotated[int, Field(ge=0)] = 0  # on each node
    memory_gb: Annotated[Number, Field(gt=0)] = 8.0  # on each node
    minutes: Positive = 240


def resources(study: str) -> dict[tuple[str, str], Resources]:
    """What each run `(step, run)` of a study asks of a cluster: `params/<study>/resources.yaml`, else the defaults.

    The keys of the file are steps, experiments (`train/<name>`, for all their seeds) and runs (`train/<name>_s1`), each
    with some fields of `Resources`; what is said of fewer runs wins. A change of it makes nothing anew.

    Raises:
        ParameterError: an unknown step, run or field, or a wrong type.
    """
    file = paths.PARAMS / study / "resources.yaml"
    written = read_yaml(file) if file.is_file() else {}
    steps = {step: [(step, run) for run in run_names(study, step)] for step in STEPS}
    named = {f"train/{name}": [("train", run) for run in runs] for name, runs in experiments(study).items()}
    groups = steps | named | {f"{step}/{run}": [(step, run)] for runs in steps.values() for step, run in runs}
    if unknown := written.keys() - groups.keys():
        raise ParameterError(f"{paths.shown(file)}: unknown key '{min(unknown)}'; the keys are: {', '.join(groups)}")
    asked: dict[tuple[str, str], dict[str, Any]] = {run: {} for runs in steps.values() for run in runs}
    for key, runs in groups.items():  # from steps to single runs
        values = written.get(key) or {}
        if not isinstance(values, dict):
            raise ParameterError(f"{paths.shown(file)}: key '{key}': expected lines of 'key: value', not {values!r}")
        Resources.build(values, f"{paths.shown(file)}: key '{key}'")
        for run in runs:
            asked[run] |= values
    return {run: Resources(**values) for run, values in asked.items()}


CORES = "IQA_CORES"  # tells a run how many cores the pipeline granted it
CLUSTER_CORES = 4  # for a database whose file does not set `workers`


class Machine:
    """How runs beside each other share the machine that they run on.

    Args:
        cores: that all runs share; None on a cluster, where each run has what it asks for.
        found: the runs.
    """

    def __init__(self, cores: int | None, found: list[Params]):
        self.all = cores
        self.slots = 0 if cores is None else slots()
        self.databases = sum(params.step == "data_prep" for params in found)

    def gpus(self, params: Params) -> int:
        """GPUs, counted as often as one takes a run."""
        want = wanted_gpus(params)
        return min(self.slots, len(want) if isinstance(want, list) else want)

    def cores(self, params: Params) -> int:
        """Cores for the threads and loader workers of a run, not more than its share where GPUs could run others.

        Databases share the cores evenly. What measures time gets all, so that nothing runs beside it.
        """
        if isinstance(params, DataPrepParams):
            return params.workers or (CLUSTER_CORES if self.all is None else max(1, self.all // self.databases))
        threads = params.threads * processes(params) if hasattr(params, "threads") else 1
        if self.all is None:
            return threads + loader_workers(params)
        if isinstance(params, ComplexityParams):
            return self.all
        beside = self.slots // self.gpus(params) if self.gpus(params) else 1
        return min(self.all, threads + loader_workers(params), max(threads, self.all // beside))


def processes(params: Params) -> int:
    return params.devices if isinstance(params, TrainParams) else 1


def wanted_gpus(params: Params) -> list[int] | int:
    """GPUs that a run uses where there are any: how many, or which one."""
    return gpus_of(params.device, processes(params)) if hasattr(params, "device") else 0


def loader_workers(params: Params) -> int:
    """Loader workers of all processes on a machine."""
    return params.workers * params.devices if isinstance(params, TrainParams) else 0


def within(params: Params, cores: int) -> Params:
    """The parameters with no more workers than `cores` leave beside the threads; their number changes no result."""
    if isinstance(params, DataPrepParams):
        return params.model_copy(update={"workers": min(params.workers or cores, cores)})
    if isinstance(params, TrainParams):
        left = max(0, cores // params.devices - params.threads)
        return params.model_copy(update={"workers": min(params.workers, left)})
    return params


def profile_folder(profile: str) -> Path:
    """The folder of a Snakemake profile, by its name in `profiles/` or by its path.

    Raises:
        ParameterError: it is not there.
    """
    places = [paths.ROOT / "profiles" / profile, paths.resolve(profile)]
    for folder in places:
        if (folder / "config.yaml").is_file():
            return folder
    raise ParameterError(
        f"no profile '{profile}': neither {' nor '.join(paths.shown(p) for p in places)} holds config.yaml"
    )


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


def gpus_of(device: str, processes: int = 1) -> list[int] | int:
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
