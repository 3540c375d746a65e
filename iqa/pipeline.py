"""Run notebooks with parameter files: one run by itself, or the whole graph of a study through Snakemake."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from iqa import config, gpus, paths
from iqa.config import ParameterError, Params
from iqa.data import DataError
from iqa.results import FIGURE_FORMATS, RECORD, clear, finished, write_json
from iqa.study.code import digest, file_hash, notebook_code, words

TEMPLATE_KINDS = (".csv", ".j2", ".lua", ".css", ".typ", ".bib")
OUTPUTS = {
    "data_prep": ["audit.json", "checks.csv", "database.csv", "mos_histogram.*", "samples.*"],
    "train": [
        *("metrics.json", "history.csv", "predictions.csv", "architecture.json", "loss.json"),
        *("curves.*", "scatter.*", "architecture.*", "before_after.*", "architecture_before.json"),
    ],
    "ablation": ["ablation.csv", "dynamics.csv", "ablation.*", "compare_trainings.*", "scatter_pairs.*"],
    "complexity": [
        *("complexity.csv", "counters.csv", "parts.csv", "latency.csv", "memory.csv", "overview.csv"),
        *("latency.*", "throughput.*", "tradeoff.*"),
    ],
    "cross_dataset": ["cross.csv", "breakdown.csv", "predictions.csv", "eval_results.json", "scatter.*"],
    "analysis": [
        *("analysis.json", "models.csv", "points.csv", "variance.csv", "separation.csv", "bands.csv", "attention.csv"),
        *("errors.csv", "cases.csv", "ceiling.csv", "predictions.csv", "weight_space.*", "attention.*", "errors.*"),
        *("worst.*", "best.*", "quality_maps.*", "feature_maps.*"),
    ],
    "report": ["claims.csv", "published.csv"],
}


NOT_HERE = "not here"
CORES = "IQA_CORES"  # tells a run how many cores the pipeline granted it
CLUSTER_CORES = 4  # for a database whose file does not set `workers`


class RunFailed(RuntimeError):
    """A notebook or the graph stopped with an error; the message says where to read more."""


def notebook(step: str) -> Path:
    """The numbered notebook of a step."""
    found = sorted(paths.NOTEBOOKS.glob(f"[0-9][0-9]_{step}.ipynb"))
    if len(found) != 1:
        raise ParameterError(f"expected one notebook notebooks/NN_{step}.ipynb, found {len(found)}")
    return found[0]


def outputs(params: Params) -> list[Path]:
    """Every file that a run promises, its record last."""
    folder = paths.run_folder(params.study, params.step, params.run)
    names = ["params.json"]
    for name in OUTPUTS[params.step]:
        stem, _, kind = name.partition(".")
        names += [f"{stem}.{figure}" for figure in FIGURE_FORMATS] if kind == "*" else [name]
    files = [folder / name for name in names]
    if isinstance(params, config.CrossDatasetParams) and len(params.models) > 1:
        files += [folder / f"{name}.{figure}" for name in ("heatmap", "compare") for figure in FIGURE_FORMATS]
    if isinstance(params, config.AblationParams) and params.parameter:
        files += [folder / f"sensitivity.{figure}" for figure in FIGURE_FORMATS]
    if isinstance(params, config.ReportParams):
        files += [paths.REPORT / params.study / name for name in ("report.html", "report.pdf")]
        files.append(paths.RESULTS / params.study / "summary.json")
    return [*files, folder / RECORD]


def state(params: Params) -> dict[str, str]:
    """What decides whether a run is up to date: hashes of values, code, data, and of the results that it reads.

    Nothing in it depends on where or when something was made, so results of several machines can lie side by side.
    `NOT_HERE` stands for files and databases that this machine lacks.
    """
    values = params.model_dump()
    found = {"values": digest(values), "code": digest(notebook_code(notebook(params.step), words(values)))}
    found |= {f"{step}/{run}": _made(params.study, step, run) for step, run in params.needs()}
    if isinstance(params, config.DataPrepParams):
        from iqa.data.pixels import PIXELS, pixel_code
        from iqa.data.prepare import fingerprint

        found["data"] = digest(fingerprint(params), *map(pixel_code, PIXELS))
    if isinstance(params, config.TrainParams) and params.weights:
        found["weights"] = _hash_of(params.weights)
    if isinstance(params, config.CrossDatasetParams):
        found |= {f"checkpoint {file}": _hash_of(file) for file in params.checkpoints()}
    if isinstance(params, config.AblationParams):
        found["published"] = file_hash(paths.REPORT / "published.csv")
    if isinstance(params, config.ReportParams):
        files = sorted(file for file in paths.REPORT.iterdir() if file.suffix in TEMPLATE_KINDS)
        found["template"] = digest(*map(file_hash, files))
        found["claims"] = digest(*(file_hash(file) for file in config.all_files("koniq10k", "train")))
    return found


def _made(study: str, step: str, run: str) -> str:
    """The contents of a run's results, as a hash; of a database, which every machine prepares for itself, its data."""
    record = paths.run_folder(study, step, run) / RECORD
    if not record.is_file():
        here = step != "data_prep" or not _absent([config.load(study, step, run)])
        return "not made" if here else NOT_HERE
    return _made_from(record).get("data", "not made") if step == "data_prep" else file_hash(record)


def _hash_of(file: str) -> str:
    path = paths.resolve(file)
    return file_hash(path) if path.is_file() else NOT_HERE


def _absent(found: list[Params]) -> dict[str, str]:
    """Databases that are neither on this machine nor among the results: why, and the remedy, by name."""
    from iqa.data.prepare import absent

    return {
        params.run: reason
        for params in found
        if isinstance(params, config.DataPrepParams)
        and not finished(params.study, params.step, params.run)
        and (reason := absent(params)) is not None
    }


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
    found = list(_all_params(study))
    missing = _absent(found)
    if train:
        _check_training_data(found, missing)
    untrained = set() if train else set(_untrained(found))
    # to prepare a database anew would remove the trainings that were made from it
    kept = set() if train else {name for params in _trained(found) for name in params.databases()}
    names = {(params.step, params.run) for params in found}
    asked = config.resources(study) if cluster else {}
    machine = Machine(None if cluster else cores or os.cpu_count() or 1, found)
    home = paths.RESULTS / study

    def relative(files: list[Path]) -> list[str]:
        return [Path(os.path.relpath(file, home)).as_posix() for file in files]

    graph = []
    due: set[tuple[str, str]] = set()
    for params in found:
        file = paths.shown(config.params_file(study, params.step, params.run))
        for step, run in params.needs():
            if (step, run) not in names:
                known = ", ".join(config.run_names(study, step)) or "none"
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
        fresh = _fresh(params, folder / RECORD)
        want = asked.get((params.step, params.run), config.Resources())
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
                nodes=params.nodes if isinstance(params, config.TrainParams) else 1,
                command=f'"{sys.executable}" -m iqa.cli run {study}/{params.step}/{params.run}',
            )
        )
    return graph


class Machine:
    """How runs beside each other share the machine that they run on.

    Args:
        cores: that all runs share; None on a cluster, where each run has what it asks for.
        found: the runs.
    """

    def __init__(self, cores: int | None, found: list[Params]):
        self.all = cores
        self.slots = 0 if cores is None else gpus.slots()
        self.databases = sum(params.step == "data_prep" for params in found)

    def gpus(self, params: Params) -> int:
        """GPUs, counted as often as one takes a run."""
        want = _wanted(params)
        return min(self.slots, len(want) if isinstance(want, list) else want)

    def cores(self, params: Params) -> int:
        """Cores for the threads and loader workers of a run, not more than its share where GPUs could run others.

        Databases share the cores evenly. What measures time gets all, so that nothing runs beside it.
        """
        if isinstance(params, config.DataPrepParams):
            return params.workers or (CLUSTER_CORES if self.all is None else max(1, self.all // self.databases))
        threads = params.threads * _processes(params) if hasattr(params, "threads") else 1
        if self.all is None:
            return threads + _workers(params)
        if isinstance(params, config.ComplexityParams):
            return self.all
        beside = self.slots // self.gpus(params) if self.gpus(params) else 1
        return min(self.all, threads + _workers(params), max(threads, self.all // beside))


def _processes(params: Params) -> int:
    return params.devices if isinstance(params, config.TrainParams) else 1


def _wanted(params: Params) -> list[int] | int:
    """GPUs that a run uses where there are any: how many, or which one."""
    return gpus.wanted(params.device, _processes(params)) if hasattr(params, "device") else 0


def _workers(params: Params) -> int:
    """Loader workers of all processes on a machine."""
    return params.workers * params.devices if isinstance(params, config.TrainParams) else 0


def within(params: Params, cores: int) -> Params:
    """The parameters with no more workers than `cores` leave beside the threads; their number changes no result."""
    if isinstance(params, config.DataPrepParams):
        return params.model_copy(update={"workers": min(params.workers or cores, cores)})
    if isinstance(params, config.TrainParams):
        left = max(0, cores // params.devices - params.threads)
        return params.model_copy(update={"workers": min(params.workers, left)})
    return params


def _trained(found: list[Params]) -> list[config.TrainParams]:
    """Training runs that are finished."""
    trainings = [params for params in found if isinstance(params, config.TrainParams)]
    return [params for params in trainings if finished(params.study, params.step, params.run)]


def _untrained(found: list[Params]) -> list[str]:
    """Names of the training runs that are not finished."""
    done = {params.run for params in _trained(found)}
    return [params.run for params in found if params.step == "train" and params.run not in done]


def _check_training_data(found: list[Params], missing: dict[str, str]) -> None:
    """Refuse at once what would fail after hours of other work."""
    needed: dict[str, list[str]] = {}
    for params in found:
        if isinstance(params, config.TrainParams) and not finished(params.study, params.step, params.run):
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


def _fresh(params: Params, record: Path) -> bool:
    """Whether nothing lies there that was made from other values, code or data than those of now."""
    made_from = _made_from(record)
    if made_from is None:
        return True
    if isinstance(params, config.DataPrepParams):
        from iqa.data.prepare import absent

        if absent(params) is not None:  # results that were brought here without the images
            return True
    return _agree(state(params), made_from)


def _agree(now: dict[str, str], before: dict[str, str]) -> bool:
    """Whether two states are one, as far as this machine can tell."""
    return now.keys() == before.keys() and all(now[key] in (before[key], NOT_HERE) for key in now)


def _made_from(record: Path) -> dict[str, str] | None:
    """The state that a finished run was made from: empty if the pipeline did not make it, None if it is not there."""
    return json.loads(record.read_text(encoding="utf-8")).get("state", {}) if record.is_file() else None


def _all_params(study: str) -> Iterator[Params]:
    if not (paths.PARAMS / study).is_dir():
        known = ", ".join(sorted(folder.name for folder in paths.PARAMS.iterdir() if folder.is_dir()))
        raise ParameterError(f"params/{study} does not exist; the studies are: {known}")
    for step in config.STEPS:
        for run in config.run_names(study, step):
            yield config.load(study, step, run)


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
    found = list(_all_params(study))
    if not train and (left := _untrained(found)):
        print(f"{len(left)} training runs are not finished, and are reported so: {', '.join(left)}", file=sys.stderr)
    for name, reason in _absent(found).items():
        print(f"database '{name}' is not available here, and is reported so. {reason}", file=sys.stderr)
    home = paths.RESULTS / study
    environment = dict(os.environ)
    if cluster is None:
        environment[gpus.RUNS_PER_GPU] = str(runs_per_gpu)
        where = ["--cores", str(cores or os.cpu_count() or 1), "--resources", f"gpu={gpus.slots(runs_per_gpu)}"]
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


def run(study: str, step: str, name: str, overrides: dict[str, Any] | None = None) -> Path:
    """Execute the notebook of a step with the parameters of one run, and return the run's folder.

    The executed notebook (`notebook.ipynb`) and everything that it prints (`log.txt`) are written while it runs,
    and are there also when it fails. Whatever was made from this run's earlier results is removed.

    Raises:
        ParameterError: a parameter file is wrong.
        RunFailed: a cell of the notebook raised an error.
    """
    params = config.load(study, step, name, overrides)
    folder = paths.run_folder(study, step, name)
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    for dependent in _dependents(study, step, name):
        for output in outputs(dependent):
            output.unlink(missing_ok=True)

    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    threads = str(getattr(params, "threads", 1))
    made_from = state(params)
    if granted := os.environ.get(CORES):
        params = within(params, int(granted))
    os.environ |= {"IQA_BATCH": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    started = time.perf_counter()
    with (folder / "log.txt").open("w", encoding="utf-8", buffering=1) as file_log:
        log = Tee(file_log, f"{step}/{name}")
        log.write(f"{notebook(step).name} with {paths.shown(config.params_file(study, step, name))}\n")
        try:
            with gpus.claimed(_wanted(params), log.write):
                papermill.execute_notebook(
                    notebook(step),
                    folder / "notebook.ipynb",
                    parameters=params.model_dump(),  # all of them: the parameters cell may have been played with
                    kernel_name="python3",
                    cwd=paths.ROOT,
                    progress_bar=False,
                    stdout_file=log,
                    stderr_file=log,
                    start_timeout=300,
                    extra_arguments=["--log-level=CRITICAL"],
                )
        except (PapermillExecutionError, DeadKernelError) as error:
            (folder / RECORD).unlink(missing_ok=True)
            reason = "the kernel died; was there too little memory?"
            if isinstance(error, PapermillExecutionError):
                reason = f"{error.ename}: {error.evalue}"
            log.write(f"failed: {reason}\n")
            place = f"{paths.shown(folder / 'notebook.ipynb')} (log.txt beside it)"
            raise RunFailed(f"{step}/{name}: {reason}\nread more in {place}") from None
        record = folder / RECORD
        known = json.loads(record.read_text(encoding="utf-8"))
        write_json(record, known | {"state": made_from})
        log.write(f"finished in {time.perf_counter() - started:.0f} s\n")
    return folder


def refresh(study: str, step: str, name: str) -> None:
    """Execute the notebook behind a table if its results are not those of now; nothing is trained for it.

    Comparisons and complexity are made anew after a change or when more runs are finished; trainings and evaluations
    only on request.
    """
    if step not in ("ablation", "complexity"):
        return
    params = config.load(study, step, name)
    made_from = _made_from(paths.run_folder(study, step, name) / RECORD)
    if made_from is None or not _agree(state(params), made_from):
        run(study, step, name)


def _dependents(study: str, step: str, run: str) -> list[Params]:
    """Runs that were made from a run's results, directly or not."""
    changed, found = {(step, run)}, []
    for params in _all_params(study):  # steps come in an order in which a run needs only earlier steps
        if changed & set(params.needs()):
            changed.add((params.step, params.run))
            found.append(params)
    return found


class Tee:
    """Writes a run's output to its log and, each line with the run's name, to the terminal."""

    def __init__(self, log: IO[str], name: str):
        self.log = log
        self.name = name

    def write(self, text: str) -> None:
        self.log.write(text)
        for line in text.splitlines():
            if line.strip():
                print(f"[{self.name}] {line}", file=sys.stderr, flush=True)

    def flush(self) -> None:
        self.log.flush()
