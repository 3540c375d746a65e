"""One of two processes that fit tiny databases with some devices and nodes; for tests/training/test_training.py."""

import sys
from pathlib import Path

import tiny

from iqa.training.train import train

if __name__ == "__main__":
    share = {"devices": int(sys.argv[2]), "nodes": int(sys.argv[3])}
    others = [tiny.other()] * (sys.argv[4] == "several")
    train(tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED | share), tiny.database(), Path(sys.argv[1]), others=others)
