"""One of two processes that fit tiny databases with some devices and nodes; for tests of the package `training`.

Where an epoch and a batch are named, the second process kills itself before it learns from that batch.
"""

import os
import signal
import sys
from pathlib import Path

import tiny

from iqa.training import fit
from iqa.training.train import train


class Killed(fit.Fit):
    def training_step(self, batch, index):
        if [self.current_epoch, index, self.global_rank] == [*map(int, sys.argv[5:]), 1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, index)


if __name__ == "__main__":
    share = {"devices": int(sys.argv[2]), "nodes": int(sys.argv[3])}
    if sys.argv[5:]:
        fit.Fit, fit.SAVE_EVERY = Killed, 0.0
    others = [tiny.other()] * (sys.argv[4] == "several")
    train(tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED | share), tiny.database(), Path(sys.argv[1]), others=others)
