"""Execute one notebook with one parameter file."""

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from iqa.app import machine
from iqa.app.graph import all_params
from iqa.app.machine import CORES, wanted_gpus, within
from iqa.app.stale import outputs, state
from iqa.study import param_files, paths
from iqa.study.params import ParameterError, Params
from iqa.study.results import RECORD, clear, write_json


class RunFailed(RuntimeError):
    """A notebook or the graph stopped with an error; the message says where to read more."""


def notebook(step: str) -> Path:
    """The numbered notebook of a step."""
    found = sorted(paths.NOTEBOOKS.glob(f"[0-9][0-9]_{step}.ipynb"))
    if len(found) != 1:
        raise ParameterError(f"expected one notebook notebooks/NN_{step}.ipynb, found {len(found)}")
    return found[0]


def run(study: str, step: str, name: str, overrides: dict[str, Any] | None = None) -> Path:
    """Execute the notebook of a step with the parameters of one run, and return the run's folder.

    The executed notebook (`notebook.ipynb`) and everything that it prints (`log.txt`) are written while it runs,
    and are there also when it fails. Whatever was made from this run's earlier results is removed.

    Raises:
        ParameterError: a parameter file is wrong.
        RunFailed: a cell of the notebook raised an error.
    """
    params = param_files.load(study, step, name, overrides)
    folder = paths.run_folder(study, step, name)
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    for dependent in dependents(study, step, name):
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
        log.write(f"{notebook(step).name} with {paths.shown(param_files.params_file(study, step, name))}\n")
        try:
            with machine.claimed(wanted_gpus(params), log.write):
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


def dependents(study: str, step: str, run: str) -> list[Params]:
    """Runs that were made from a run's results, directly or not."""
    changed, found = {(step, run)}, []
    for params in all_params(study):  # steps come in an order in which a run needs only earlier steps
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
