"""A fit that kills itself, without a farewell, in the middle of an epoch; for tests/training/test_training.py."""

import os
import signal
import sys
from pathlib import Path

import tiny

from iqa.training.fit import Fit
from iqa.training.train import train

FOLDER, EPOCH, PLACE = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def killing(method):
    def run(self, *arguments):
        if self.current_epoch == EPOCH:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments)

    return run


setattr(Fit, PLACE, killing(getattr(Fit, PLACE)))
train(tiny.PARAMS.model_copy(update=tiny.RESUMED), tiny.database(), FOLDER)
