"""A fit that kills itself, without a farewell, in the middle of an epoch; for tests of the package `training`."""

import os
import signal
import sys
from pathlib import Path

import tiny

from iqa.training import fit
from iqa.training.fit import Fit
from iqa.training.train import train

FOLDER, EPOCH, PLACE, *BATCH = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]  # the place: a method of `Fit`


def killing(method):
    def run(self, *arguments):
        if self.current_epoch == EPOCH and (not BATCH or arguments[1] == int(BATCH[0])):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments)

    return run


if BATCH:
    fit.SAVE_EVERY = 0.0
setattr(Fit, PLACE, killing(getattr(Fit, PLACE)))
train(tiny.PARAMS.model_copy(update=tiny.RESUMED), tiny.database(), FOLDER)
