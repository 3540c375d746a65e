"""Execute one notebook with the parameters of one run."""

import ast
import builtins
import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from iqa.app import machine, steps, warm
from iqa.app.stale import State
from iqa.data import DataError, prepare
from iqa.data.params import DataPrepParams
from iqa.study import disk, param_files, paths, results
from iqa.study.echo import listed
from iqa.study.params import ParameterError, Params
from iqa.study.results import RECORD, write_json
from iqa.training.identity import MODEL, NOT_DECIDING
from iqa.training.params import TrainParams, source_run
from iqa.training.weights import mismatches

ORPHANS = 5.0  # seconds that the kernel of a killed run takes to notice it, and to end


class RunFailed(RuntimeError):
    """A notebook or the graph stopped with an error; the message says where to read more."""


def run(study: str, step: str, name: str, overrides: dict[str, Any] | None = None) -> Path:
    """Execute the notebook of a step with the parameters of one run, and return the run's folder.

    The run works in `<run>.unfinished`, where the executed notebook (`notebook.ipynb`) and everything that it prints
    (`log.txt`) are written while it runs, and stay when it fails. Earlier results stay as they are until all new ones
    are complete. What was made from them stays, too, and is due.

    Raises:
        ParameterError: a parameter file or the notebook is wrong, an override names another run or would replace a
            trained model, or a file to read is not there.
        ResultsError: the run that this one starts from is not trained.
        DataError: a database cannot be read.
        RunFailed: another process makes this run, or a cell of the notebook raised an error.
        DiskError: the disk is full.
    """
    params = steps.load(study, step, name, overrides)
    place = paths.run_folder(study, step, name)
    notebook = steps.notebook(step)
    _check_inputs(params, overrides or {})
    _check_notebook(notebook, params)
    _check_model(params, overrides or {}, place)
    state = State(study, train=False)  # what is not trained makes nothing out of date
    identity = state.identity(params)
    out_of_date = state.out_of_date_needs(params)
    held = results.lock(place, wait=ORPHANS)
    if held is None:
        raise RunFailed(results.busy(place))
    with held, disk.full_disk_explained(place):
        _execute(params, notebook, out_of_date)
        work = paths.work_folder(place)
        record = results.parse_record(work / RECORD)
        if record is None:
            raise RunFailed(f"{paths.shown(notebook)} wrote no {RECORD}; its last cell has to call `finish`")
        results.write_record(work / RECORD, record | {"identity": identity})
        results.put_in_place(place)
    return place


def _execute(params: Params, notebook: Path, out_of_date: dict[str, list[str]]) -> None:
    """Execute a notebook in the working folder of its run."""
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from iqa.app import engine

    step, name = params.step, params.run
    work = results.open_work(paths.run_folder(params.study, step, name))
    if out_of_date:  # a report tells its readers
        write_json(work / "out_of_date.json", out_of_date)
    threads = str(getattr(params, "threads", 1))
    if granted := os.environ.get(machine.CORES):
        params = machine.limit_workers(params, int(granted))
    os.environ |= warm.KEPT | {"IQA_BATCH": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    started = time.perf_counter()
    with (work / "log.txt").open("w", encoding="utf-8", buffering=1) as file_log:
        log = Tee(file_log, f"{step}/{name}")
        log.write(f"{notebook.name} with {paths.shown(param_files.params_file(params.study, step, name))}\n")
        try:
            with machine.claim_gpus(machine.wanted_gpus(params), log.write):
                papermill.execute_notebook(
                    notebook,
                    work / "notebook.ipynb",
                    parameters=params.model_dump(),  # all of them: the parameters cell may have been played with
                    kernel_name="python3",
                    engine_name=engine.register(),
                    cwd=paths.ROOT,
                    progress_bar=False,
                    stdout_file=log,
                    stderr_file=log,
                    start_timeout=300,
                    extra_arguments=["--log-level=CRITICAL"],
                )
        except (PapermillExecutionError, RuntimeError) as error:  # the second one: the kernel died
            reason = "the kernel died; was there too little memory?"
            if isinstance(error, PapermillExecutionError):
                reason = f"{error.ename}: {error.evalue}" if hasattr(builtins, error.ename) else error.evalue
            if os.strerror(errno.ENOSPC) in reason:
                raise disk.disk_full(work) from None
            file_log.write(f"failed: {reason}\n")  # the terminal gets it below
            read = f"read more in {paths.shown(work / 'notebook.ipynb')} (log.txt beside it)"
            kept = "\nits earlier results are as they were" if results.finished(params.study, step, name) else ""
            raise RunFailed(f"{step}/{name}: {reason}\n{read}{kept}") from None
        log.write(f"finished in {time.perf_counter() - started:.0f} s\n")


def _check_inputs(params: Params, overrides: dict[str, Any]) -> None:
    """Refuse what cannot work before any earlier result is removed."""
    if moved := overrides.keys() & {"study", "run"}:
        raise ParameterError(f"-p {min(moved)}: a run writes to its own folder; name the run that you mean instead")
    file = paths.shown(param_files.params_file(params.study, params.step, params.run))
    if isinstance(params, TrainParams):
        if source := source_run(params.start_from, params.study):
            results.result_file(source[0], "train", source[1], MODEL)
        for text in mismatches(params):
            print(f"[{params.step}/{params.run}] warning: {text}", file=sys.stderr)
    if lacking := [name for name in params.files() if not paths.resolve(name).is_file()]:
        raise ParameterError(f"{file}: {lacking[0]} is not there; correct its path, or bring the file there")
    if isinstance(params, DataPrepParams):
        if reason := prepare.absent(params):
            raise DataError(reason)
        prepare.fingerprint(params)  # reads labels and images


def _check_notebook(notebook: Path, params: Params) -> None:
    """Refuse a notebook that would not take all parameters: papermill runs it with its own values."""
    file = paths.shown(notebook)
    remedy = f"correct it, or restore it with: git checkout {file}"
    try:
        cells = json.loads(notebook.read_bytes())["cells"]
        tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        code = ["".join(cell["source"]) for cell in tagged if cell["cell_type"] == "code"]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ParameterError(f"{file} is no notebook; {remedy}") from None
    if len(code) != 1 or len(tagged) != 1:
        raise ParameterError(f"{file}: {len(tagged)} cells have the tag `parameters`, not one code cell; {remedy}")
    try:
        names = {node.id for node in ast.walk(ast.parse(code[0])) if isinstance(node, ast.Name)}
    except SyntaxError as error:
        raise ParameterError(f"{file}: line {error.lineno} of the parameters cell: {error.msg}; {remedy}") from None
    if lacking := sorted(type(params).model_fields.keys() - names):
        raise ParameterError(f"{file}: the parameters cell lacks {listed(lacking, 3)}; {remedy}")


def _check_model(params: Params, overrides: dict[str, Any], place: Path) -> None:
    """Refuse to replace a trained model because of values that no file holds."""
    if not isinstance(params, TrainParams):
        return
    written = steps.load(params.study, params.step, params.run).model_dump()
    changed = [key for key in overrides if key not in NOT_DECIDING and written[key] != params.model_dump()[key]]
    for folder in (place, paths.work_folder(place)):
        if changed and (folder / MODEL).is_file():
            raise ParameterError(
                f"-p {changed[0]}: {paths.shown(folder)} holds a trained model, which another value would replace; "
                f"write it to a file of its own, params/{params.study}/train/<name>.yaml, or remove that folder"
            )


def refresh(study: str, step: str, name: str) -> None:
    """Execute the notebook behind a table if its results are not those of now; nothing is trained for it.

    Comparisons, complexity and claims are made anew after a change or when more runs are finished; trainings and
    evaluations only on request.
    """
    if step in ("ablation", "complexity", "claims"):
        state = State(study, train=False)
        if (step, name) not in state.left_out and state.reasons(state.params[step, name]):
            run(study, step, name)


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
