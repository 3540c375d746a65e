"""A fit that kills itself, without a farewell, in the middle of an epoch; for tests of the package `training`."""

import multiprocessing
import os
import signal
from pathlib import Path

import tiny

from iqa.training import fit
from iqa.training.fit import Fit
from iqa.training.train import train

CONTEXT = multiprocessing.get_context("forkserver")  # copies of a process that has loaded the libraries once
CONTEXT.set_forkserver_preload(["iqa.training.train"])


def kill_fit(folder: Path, epoch: int, place: str, *batch: int) -> None:
    """Begin a fit in another process, which dies in an epoch, and a batch, at a place: a method of `Fit`."""
    process = CONTEXT.Process(target=_fit, args=(folder, epoch, place, *batch))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _fit(folder: Path, epoch: int, place: str, *batch: int) -> None:
    method = getattr(Fit, place)

    def run(self, *arguments):
        if self.current_epoch == epoch and (not batch or arguments[1] == batch[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments)

    if batch:
        fit.SAVE_EVERY = 0.0
    setattr(Fit, place, run)
    train(tiny.PARAMS.model_copy(update=tiny.RESUMED), tiny.database(), folder)
