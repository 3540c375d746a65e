"""The jobs of a study, through Snakemake."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from iqa.app import machine, steps
from iqa.app.machine import Machine, Resources, profile_folder
from iqa.app.run import RunFailed, run
from iqa.app.stale import absent_databases, agree, is_fresh, made_from, outputs, state
from iqa.data import DataError
from iqa.study import param_files, paths
from iqa.study.params import ParameterError, Params
from iqa.study.results import RECORD, finished
from iqa.training.params import TrainParams


@dataclass(frozen=True)
class Job:
    """One run as the graph sees it; paths are relative to the study's results folder.

    Attributes:
        fresh: False where results lie that were made from other values, code or data than those of now.
        due: whether it is to be made: it is not fresh, an output is missing, or a run that it needs is due. This and
            not the ages of files decides, which say nothing once folders were copied.
        cores: that its threads and loader workers keep busy.
        gpus: that it takes, on this machine or, for a cluster, on each node.
        memory_mb, minutes: that it asks of a cluster.
        nodes: machines that it runs on together.
    """

    step: str
    run: str
    inputs: list[str]
    outputs: list[str]
    logs: list[str]
    fresh: bool
    due: bool
    cores: int
    gpus: int
    memory_mb: int
    minutes: int
    nodes: int
    command: str

    def resources(self, cluster: bool) -> dict[str, int | str]:
        """What Snakemake is told, in the words of its executors; memory and time count on clusters alone."""
        if not cluster:
            return {"gpu": self.gpus}
        asked: dict[str, int | str] = {"mem_mb": self.memory_mb, "runtime": self.minutes}
        if self.nodes > 1:  # `mpi` leaves it to the run to start a task on each node
            gres = {"gres": f"gpu:{self.gpus}", "tasks_per_gpu": 0} if self.gpus else {}
            return asked | {"nodes": self.nodes, "tasks": self.nodes, "mpi": "srun"} | gres
        return asked | ({"gpu": self.gpus, "gpu_manufacturer": "nvidia"} if self.gpus else {})


def jobs(study: str, train: bool = True, cores: int | None = None, cluster: bool = False) -> list[Job]:
    """Every run of a study, in the order of the steps, without the preparation of databases that are not there.

    Args:
        train: False leaves all trainings out, and the data of those that are finished as they are; tables show the
            others as not run.
        cores: of this machine, that the runs share; all by default.
        cluster: whether each run is a job of a cluster, with the resources of `params/<study>/resources.yaml`.

    Raises:
        ParameterError: the study does not exist, a parameter file is wrong, or a run needs one that is not there.
        DataError: a training needs a database that is not there; says where it can be had.
    """
    found = list(all_params(study))
    missing = absent_databases(found)
    if train:
        _check_training_data(found, missing)
    untrained = set() if train else set(_untrained(found))
    # to prepare a database anew would remove the trainings that were made from it
    kept = set() if train else {name for params in _trained(found) for name in params.databases()}
    names = {(params.step, params.run) for params in found}
    asked = machine.resources(study) if cluster else {}
    machine = Machine(None if cluster else cores or os.cpu_count() or 1, found)
    home = paths.RESULTS / study

    def relative(files: list[Path]) -> list[str]:
        return [Path(os.path.relpath(file, home)).as_posix() for file in files]

    graph = []
    due: set[tuple[str, str]] = set()
    for params in found:
        file = paths.shown(param_files.params_file(study, params.step, params.run))
        for step, run in params.needs():
            if (step, run) not in names:
                known = ", ".join(param_files.run_names(study, step)) or "none"
                raise ParameterError(
                    f"{file} needs the {step} run '{run}', which params/{study}/{step}/ lacks ({known})"
                )
        if params.step == "data_prep" and params.run in kept | missing.keys():
            continue
        if params.step == "train" and not train:
            continue
        folder = paths.run_folder(study, params.step, params.run)
        left_out = {("data_prep", name) for name in missing} | {("train", name) for name in untrained}
        needs = [need for need in params.needs() if need not in left_out]
        fresh = is_fresh(params, folder / RECORD)
        want = asked.get((params.step, params.run), Resources())
        if not fresh or due & set(needs) or not all(file.exists() for file in outputs(params)):
            due.add((params.step, params.run))
        graph.append(
            Job(
                step=params.step,
                run=params.run,
                inputs=relative([paths.run_folder(study, *need) / RECORD for need in needs]),
                outputs=relative(outputs(params)),
                logs=relative([folder / "log.txt", folder / "notebook.ipynb"]),
                fresh=fresh,
                due=(params.step, params.run) in due,
                cores=machine.cores(params),
                gpus=want.gpus if cluster else machine.gpus(params),
                memory_mb=round(want.memory_gb * 1024),
                minutes=want.minutes,
                nodes=params.nodes if isinstance(params, TrainParams) else 1,
                command=f'"{sys.executable}" -m iqa.app.cli run {study}/{params.step}/{params.run}',
            )
        )
    return graph


def _trained(found: list[Params]) -> list[TrainParams]:
    """Training runs that are finished."""
    trainings = [params for params in found if isinstance(params, TrainParams)]
    return [params for params in trainings if finished(params.study, params.step, params.run)]


def _untrained(found: list[Params]) -> list[str]:
    """Names of the training runs that are not finished."""
    done = {params.run for params in _trained(found)}
    return [params.run for params in found if params.step == "train" and params.run not in done]


def _check_training_data(found: list[Params], missing: dict[str, str]) -> None:
    """Refuse at once what would fail after hours of other work."""
    needed: dict[str, list[str]] = {}
    for params in found:
        if isinstance(params, TrainParams) and not finished(params.study, params.step, params.run):
            for name in missing.keys() & set(params.databases()):
                needed.setdefault(name, []).append(params.run)
    if needed:
        lines = [
            f"  {name} (to train {', '.join(runs[:3])}{', ...' * (len(runs) > 3)}): {missing[name]}"
            for name, runs in needed.items()
        ]
        others = [f"  {name}: {reason}" for name, reason in missing.items() if name not in needed]
        optional = ["and these would be reported as not available:", *others] if others else []
        raise DataError("\n".join(["databases that this study trains on are not here:", *lines, *optional]))


def all_params(study: str) -> Iterator[Params]:
    if not (paths.PARAMS / study).is_dir():
        known = ", ".join(sorted(folder.name for folder in paths.PARAMS.iterdir() if folder.is_dir()))
        raise ParameterError(f"params/{study} does not exist; the studies are: {known}")
    for step in steps.STEPS:
        for run in param_files.run_names(study, step):
            yield param_files.load(study, step, run)


def report(
    study: str,
    cores: int | None = None,
    extra: list[str] | None = None,
    train: bool = True,
    profile: str | None = None,
    runs_per_gpu: int = 1,
) -> None:
    """Bring every run of a study and its report up to date: what changed, and nothing else.

    Args:
        cores: how many cores the runs share; all by default. With a profile: how many jobs there are at once.
        train: False trains nothing; what was not trained is reported as not run.
        profile: a folder of `profiles/`, or of one's own, that says how a cluster takes jobs: each run becomes one.
        runs_per_gpu: how many runs share a GPU of this machine.
        extra: further arguments for Snakemake, such as `--dry-run`.

    Raises:
        ParameterError: there is no such profile.
        RunFailed: a run failed; those that do not depend on it were finished first.
    """
    cluster = None if profile is None else profile_folder(profile)
    due = [f"{job.step}_{job.run}" for job in jobs(study, train, cores, cluster is not None) if job.due]
    found = list(all_params(study))
    if not train and (left := _untrained(found)):
        print(f"{len(left)} training runs are not finished, and are reported so: {', '.join(left)}", file=sys.stderr)
    for name, reason in absent_databases(found).items():
        print(f"database '{name}' is not available here, and is reported so. {reason}", file=sys.stderr)
    home = paths.RESULTS / study
    environment = dict(os.environ)
    if cluster is None:
        environment[machine.RUNS_PER_GPU] = str(runs_per_gpu)
        where = ["--cores", str(cores or os.cpu_count() or 1), "--resources", f"gpu={machine.slots(runs_per_gpu)}"]
    else:
        where = ["--profile", str(cluster), *(["--jobs", str(cores)] if cores else [])]
        # a profile may bring the executor that it names
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(cluster), os.environ.get("PYTHONPATH")]))
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile")),
        *("--directory", str(home), *where),
        *("--rerun-triggers", "input", "--rerun-incomplete", "--keep-going", "--nolock"),
        *(["--forcerun", *due] if due else []),
        *("--quiet", "rules", "host", *(extra or [])),
        *("--config", f"study={study}", f"train={train}", f"cluster={cluster is not None}"),
    ]
    with _only_one(home):
        if subprocess.run(command, check=False, env=environment).returncode:
            raise RunFailed(f"the report of study '{study}' was not made; the runs that failed are named above")


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Keeps a second pipeline out of a study's results; unlike Snakemake's own lock, a killed one leaves no lock."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFailed(f"another pipeline is at work in {paths.shown(home)}; wait until it is done") from None
        yield


def refresh(study: str, step: str, name: str) -> None:
    """Execute the notebook behind a table if its results are not those of now; nothing is trained for it.

    Comparisons, complexity and claims are made anew after a change or when more runs are finished; trainings and
    evaluations only on request.
    """
    if step not in ("ablation", "complexity", "claims"):
        return
    params = param_files.load(study, step, name)
    made_from = made_from(paths.run_folder(study, step, name) / RECORD)
    if made_from is None or not agree(state(params), made_from):
        run(study, step, name)
