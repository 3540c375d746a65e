"""Execute one notebook with the parameters of one run."""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from iqa.app import machine, steps
from iqa.app.stale import State
from iqa.data import DataError, prepare
from iqa.data.params import DataPrepParams
from iqa.study import param_files, paths
from iqa.study.params import ParameterError, Params
from iqa.study.results import RECORD, clear, write_json


class RunFailed(RuntimeError):
    """A notebook or the graph stopped with an error; the message says where to read more."""


def run(study: str, step: str, name: str, overrides: dict[str, Any] | None = None) -> Path:
    """Execute the notebook of a step with the parameters of one run, and return the run's folder.

    The executed notebook (`notebook.ipynb`) and everything that it prints (`log.txt`) are written while it runs,
    and are there also when it fails. What was made from this run's earlier results stays, and is due.

    Raises:
        ParameterError: a parameter file is wrong, an override names another run, or a file to read is not there.
        DataError: a database cannot be read.
        RunFailed: a cell of the notebook raised an error.
    """
    params = steps.load(study, step, name, overrides)
    _check_inputs(params, overrides or {})
    notebook = steps.notebook(step)
    state = State(study)
    identity = state.identity(params)
    out_of_date = state.out_of_date_needs(params)
    folder = paths.run_folder(study, step, name)
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    if out_of_date:  # a report tells its readers
        write_json(folder / "out_of_date.json", out_of_date)

    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    threads = str(getattr(params, "threads", 1))
    if granted := os.environ.get(machine.CORES):
        params = machine.limit_workers(params, int(granted))
    os.environ |= {"IQA_BATCH": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    started = time.perf_counter()
    with (folder / "log.txt").open("w", encoding="utf-8", buffering=1) as file_log:
        log = Tee(file_log, f"{step}/{name}")
        log.write(f"{notebook.name} with {paths.shown(param_files.params_file(study, step, name))}\n")
        try:
            with machine.claim_gpus(machine.wanted_gpus(params), log.write):
                papermill.execute_notebook(
                    notebook,
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
        write_json(record, json.loads(record.read_text(encoding="utf-8")) | {"identity": identity})
        log.write(f"finished in {time.perf_counter() - started:.0f} s\n")
    return folder


def _check_inputs(params: Params, overrides: dict[str, Any]) -> None:
    """Refuse what cannot work before any earlier result is removed."""
    if moved := overrides.keys() & {"study", "run"}:
        raise ParameterError(f"-p {min(moved)}: a run writes to its own folder; name the run that you mean instead")
    file = paths.shown(param_files.params_file(params.study, params.step, params.run))
    if lacking := [name for name in params.files() if not paths.resolve(name).is_file()]:
        raise ParameterError(f"{file}: {lacking[0]} is not there; correct its path, or bring the file there")
    if isinstance(params, DataPrepParams):
        if reason := prepare.absent(params):
            raise DataError(reason)
        prepare.fingerprint(params)  # reads labels and images


def refresh(study: str, step: str, name: str) -> None:
    """Execute the notebook behind a table if its results are not those of now; nothing is trained for it.

    Comparisons, complexity and claims are made anew after a change or when more runs are finished; trainings and
    evaluations only on request.
    """
    if step in ("ablation", "complexity", "claims"):
        state = State(study)
        if state.reasons(state.params[step, name]):
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
