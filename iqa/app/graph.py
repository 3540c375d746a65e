"""The jobs of a study and their order, executed by Snakemake: what is due, and nothing else."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from iqa.app import machine, steps, warm
from iqa.app.run import ORPHANS, RunFailed
from iqa.app.stale import State, explain
from iqa.data import DataError
from iqa.report.params import ReportParams
from iqa.study import folders, param_files, paths, results
from iqa.study.echo import listed
from iqa.study.params import ParameterError
from iqa.study.results import finished
from iqa.training.params import TrainParams

# Snakemake's own command, which an interrupt while it is imported ends without a traceback
SNAKEMAKE = """
try:
    from iqa.app.graph import Words
    from snakemake.cli import main
    with Words():
        main()
except KeyboardInterrupt:
    raise SystemExit(130)
"""
LOG = ".snakemake/report.log"  # in the study's folder: all that Snakemake says
MARKS = ".snakemake/made"  # folder, in that of the study, of what Snakemake takes for the outputs of its jobs
EARLY = 5  # trainings that are due besides the main one, for the first report of a study not to wait for all of them


@dataclass(frozen=True)
class Job:
    """One run as the graph sees it; paths are relative to the study's results folder.

    Attributes:
        mark: file that Snakemake touches when the run is made; it would remove results before it makes them again.
        due: whether the run is made; ages of files do not count, as they say nothing in folders from elsewhere.
        cores: that its threads and loader workers keep busy.
        gpus: that it takes, on this machine or, for a cluster, on each node.
        memory_mb, minutes: that it asks of a cluster.
        nodes: machines that it runs on together.
    """

    step: str
    run: str
    inputs: list[str]
    mark: str
    due: bool
    cores: int
    gpus: int
    memory_mb: int
    minutes: int
    nodes: int
    command: str

    @property
    def rule(self) -> str:
        """Name of its rule in the Snakefile."""
        return f"{self.step}_{self.run}"

    def resources(self, cluster: bool) -> dict[str, int | str]:
        """What Snakemake is told, in the words of its executors; memory and time count on clusters alone."""
        if not cluster:
            return {"gpu": self.gpus}
        asked: dict[str, int | str] = {"mem_mb": self.memory_mb, "runtime": self.minutes}
        if self.nodes > 1:  # `mpi` leaves it to the run to start a task on each node
            gres = {"gres": f"gpu:{self.gpus}", "tasks_per_gpu": 0} if self.gpus else {}
            return asked | {"nodes": self.nodes, "tasks": self.nodes, "mpi": "srun"} | gres
        return asked | ({"gpu": self.gpus, "gpu_manufacturer": "nvidia"} if self.gpus else {})


def jobs(
    study: str, train: bool = True, cores: int | None = None, cluster: bool = False, state: State | None = None
) -> list[Job]:
    """Every run of a study, in the order of the steps, but for those that are left out (`State.left_out`).

    Args:
        train: False leaves all trainings out; the report shows what is not trained, and what would need it, as not run.
        cores: of this machine, that the runs share; all by default.
        cluster: whether each run is a job of a cluster, with the resources of `params/<study>/resources.yaml`.
        state: of the study, where the caller has read it already.

    Raises:
        ParameterError: the study does not exist, a parameter file is wrong, or a run needs one that is not there.
        DataError: a training needs a database that is not there; says where it can be had.
    """
    state = state or State(study, train)
    if train:
        _check_training_data(state)
    _check_needs(state)
    skipped = state.left_out
    want = machine.resources(study) if cluster else {}
    shares = machine.Machine(None if cluster else cores or os.cpu_count() or 1, list(state.params.values()))
    graph = []
    for (step, run), params in state.params.items():
        if (step, run) in skipped:
            continue
        asked = want.get((step, run), machine.Resources())
        graph.append(
            Job(
                step=step,
                run=run,
                inputs=[_mark(*need) for need in params.needs() if need not in skipped],
                mark=_mark(step, run),
                due=(step, run) in state.due,
                cores=shares.cores(params),
                gpus=asked.gpus if cluster else shares.gpus(params),
                memory_mb=round(asked.memory_gb * 1024),
                minutes=asked.minutes,
                nodes=params.nodes if isinstance(params, TrainParams) else 1,
                command=_command(study, step, run),
            )
        )
    return graph


def early_report(study: str, graph: list[Job]) -> tuple[list[str], Job | None]:
    """What the first report of a study waits for, and its job; nothing where it is there, or soon complete.

    It holds the main training, and the rest as not run. The report is made again when the rest is done.
    """
    due = {(job.step, job.run): job for job in graph if job.due}
    trainings = sum(step == TrainParams.step for step, _ in due)
    for (step, run), job in due.items():
        if step != ReportParams.step or trainings <= EARLY or finished(study, step, run):
            continue
        if main := due.get((TrainParams.step, steps.load(study, step, run).main)):
            return [*main.inputs, main.mark], job
    return [], None


def _command(study: str, step: str, run: str) -> str:
    """The command that makes a run: of Python, or where it can be of a copy of the process with the libraries."""
    script = ["-I", "-S", warm.__file__] if warm.ADDRESS in os.environ else []
    python = shlex.join([sys.executable, *script])
    return f"{python} -m iqa.app.cli run {study}/{step}/{run} --note {_mark(step, run)}.failed"


def _mark(step: str, run: str) -> str:
    return f"{MARKS}/{step}/{run}"


def _check_needs(state: State) -> None:
    """Refuse a run that reads one that the study does not have."""
    for (step, run), params in state.params.items():
        for need in params.needs():
            if need not in state.params:
                file = paths.shown(param_files.params_file(state.study, step, run))
                known = ", ".join(param_files.run_names(state.study, need[0])) or "none"
                lacks = f"params/{state.study}/{need[0]}/ lacks ({known})"
                raise ParameterError(f"{file} needs the {need[0]} run '{need[1]}', which {lacks}")


def _absent(state: State) -> dict[str, str]:
    """Why databases are not there, by their files: once for all splits of one."""
    of = param_files.experiment_of(state.study, "data_prep")
    return {of[name]: reason for name, reason in state.absent.items()}


def _check_training_data(state: State) -> None:
    """Refuse at once what would fail after hours of other work: the report's main model cannot be trained."""
    of, absent = param_files.experiment_of(state.study, "data_prep"), _absent(state)
    needed: dict[str, list[str]] = {}
    for run, names in state.lacking_data.items():
        for name in names:
            needed.setdefault(of[name], []).append(run)
    main = {params.main for params in state.params.values() if isinstance(params, ReportParams)}
    if any(main & set(runs) for runs in needed.values()):
        lines = [
            f"  {name} (to train {', '.join(runs[:3])}{', ...' * (len(runs) > 3)}): {absent[name]}"
            for name, runs in needed.items()
        ]
        others = [f"  {name}: {reason}" for name, reason in absent.items() if name not in needed]
        optional = ["and these would be reported as not available:", *others] if others else []
        raise DataError("\n".join(["databases that this study trains on are not here:", *lines, *optional]))


def report(
    study: str, cores: int | None = None, train: bool = True, profile: str | None = None, runs_per_gpu: int = 1
) -> None:
    """Bring every run of a study and its report up to date: what is due, and nothing else.

    A run that is made again with the same results makes nothing else due; so runs are made until none is due.

    Args:
        cores: how many cores the runs share; all by default. With a profile: how many jobs there are at once.
        train: False trains nothing; what was not trained is reported as not run.
        profile: a folder of `profiles/`, or of one's own, that says how a cluster takes jobs: each run becomes one.
        runs_per_gpu: how many runs share a GPU of this machine.

    Raises:
        ParameterError: there is no such profile.
        RunFailed: a run failed; those that do not depend on it were finished first.
    """
    cluster = None if profile is None else machine.profile_folder(profile)
    home = paths.RESULTS / study
    next(steps.all_params(study), None)  # refuse a study that does not exist before its folder is made
    with _only_one(home) as held:
        recover(home)
        for number in range(len(steps.STEPS)):
            state = State(study, train)
            graph = jobs(study, train, cores, cluster is not None, state)
            due = [job.rule for job in graph if job.due]
            if not number:
                _print_left_out(state)
                if not due:
                    print(f"Nothing to be done: all runs of study '{study}' are up to date.", file=sys.stderr)
            if not graph:
                raise RunFailed(f"nothing of study '{study}' can be made here")
            if not due:
                return
            for job in graph:
                if job.due:
                    _check_free(paths.run_folder(study, job.step, job.run))
            folders.remove(home / MARKS)
            if not _snakemake(study, due, held, cores, train, cluster, runs_per_gpu):
                raise RunFailed(_failures(study, [job for job in graph if job.due]))


def recover(home: Path) -> None:
    """Finish what was killed while the results of a study's runs, in its folder, were put in place."""
    for mark in [*home.glob(f"*/*/{results.COMPLETE}")]:
        place = paths.results_of(mark.parent)
        if held := results.lock(place):
            results.recover(place)
            folders.unlock(held)


def print_due(study: str, train: bool = True) -> None:
    """Print which runs `report` would make, and why."""
    state = State(study, train)
    _print_left_out(state)
    print(explain(state, [(job.step, job.run) for job in jobs(study, train, state=state)]))


def _print_left_out(state: State) -> None:
    """Say what is left out of the graph because it is not there, or has nothing to compute."""
    left = [place for place in state.params if place in state.left_out and not finished(state.study, *place)]
    if trainings := [run for step, run in left if step == "train"]:
        so = f"and are reported so: {listed(trainings)}"
        print(f"{len(trainings)} training runs are not finished, {so}", file=sys.stderr)
    if others := [f"{step}/{run}" for step, run in left if step not in ("train", "data_prep")]:
        print(f"{len(others)} runs have nothing to compute without them: {listed(others)}", file=sys.stderr)
    for name, reason in _absent(state).items():
        print(f"database '{name}' is not available here, and is reported so. {reason}", file=sys.stderr)


def _snakemake(
    study: str,
    due: list[str],
    held: IO[str],
    cores: int | None,
    train: bool,
    cluster: Path | None,
    runs_per_gpu: int,
) -> bool:
    """Let Snakemake make what is due; whether all of it was made."""
    environment = dict(os.environ)
    if cluster is None:
        environment[machine.RUNS_PER_GPU] = str(runs_per_gpu)
        where = ["--cores", str(cores or os.cpu_count() or 1), "--resources", f"gpu={machine.gpu_slots(runs_per_gpu)}"]
    else:
        where = ["--profile", str(cluster), *(["--jobs", str(cores)] if cores else [])]
        # a profile may bring the executor that it names
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(cluster), os.environ.get("PYTHONPATH")]))
    command = [
        *(sys.executable, "-c", SNAKEMAKE, "--snakefile", str(paths.ROOT / "Snakefile")),
        *("--directory", str(paths.RESULTS / study), *where),
        *("--rerun-incomplete", "--keep-going", "--nolock", "--quiet", "rules", "host"),
        *("--config", f"study={study}", f"train={train}", f"cluster={cluster is not None}", f"due={','.join(due)}"),
    ]
    with ExitStack() as stack:
        handed_on = [held.fileno()]  # Snakemake holds it, too: it goes on where this process alone is killed
        if cluster is None and len(due) > 1 and sys.platform == "linux":  # macOS's libraries bear no fork
            more, descriptor = stack.enter_context(warm.started())
            environment |= more
            handed_on.append(descriptor)
        return subprocess.run(command, check=False, env=environment, pass_fds=handed_on).returncode == 0


def _failures(study: str, due: list[Job]) -> str:
    """Which runs failed, each with the message that it left, and which were not made because of them."""
    home = paths.RESULTS / study
    waiting = {job.mark: job for job in due if not (home / job.mark).exists()}
    failed = [job for job in waiting.values() if not waiting.keys() & set(job.inputs)]
    if not failed:
        return f"Snakemake stopped; read why in {paths.shown(home / LOG)}"
    lines = []
    for job in failed:
        name, log = f"{job.step}/{job.run}", paths.work_folder(home / job.step / job.run) / "log.txt"
        read = log if log.is_file() else home / LOG
        words = f"it left no message (killed, or a traceback above); read more in {paths.shown(read)}"
        if (note := home / f"{job.mark}.failed").is_file():
            words = note.read_text(encoding="utf-8").removeprefix(f"{name}: ")
        lines += f"{name} ({paths.shown(param_files.params_file(study, job.step, job.run))}): {words}".splitlines()
    others = [f"{job.step}/{job.run}" for job in waiting.values() if job not in failed]
    without = f"; not made without them: {listed(others, 5)}" if others else ""
    return "\n  ".join([f"{len(failed)} of {len(due)} runs of study '{study}' failed{without}", *lines])


class Words(io.TextIOBase):
    """Takes Snakemake's words off the terminal, into `LOG`, and says how many runs are done; not on a cluster."""

    def __enter__(self) -> None:
        if "--profile" not in sys.argv:
            log = Path(sys.argv[sys.argv.index("--directory") + 1], LOG)
            folders.remove(log)
            log.parent.mkdir(parents=True, exist_ok=True)
            self.log = log.open("w", encoding="utf-8")
            sys.stderr = self

    def write(self, text: str) -> int:
        print(text, end="", file=self.log, flush=True)
        done = re.match(r"(\d+) of (\d+) steps", text)
        if done and done[1] != done[2]:  # the last step is Snakemake's own
            print(f"{done[1]} of {int(done[2]) - 1} runs are done", file=sys.__stderr__)
        return len(text)


def _check_free(place: Path) -> None:
    """Refuse a run that another process makes, such as a child of a pipeline that was killed."""
    held = results.lock(place, wait=ORPHANS)
    if held is None:
        raise RunFailed(results.busy(place))
    held.close()


@contextmanager
def _only_one(home: Path) -> Iterator[IO[str]]:
    """Keeps a second pipeline out of a study's results; unlike Snakemake's own lock, a killed one leaves no lock."""
    held = folders.lock(home / ".lock")
    if held is None:
        raise RunFailed(f"another pipeline is at work in {paths.shown(home)}; wait until it is done")
    with held:
        yield held
