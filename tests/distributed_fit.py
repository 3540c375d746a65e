"""One of two processes that fit the tiny database: started by tests/test_training.py through torchrun."""

import sys
from pathlib import Path

import tiny

from iqa.training import fit

if __name__ == "__main__":
    fit(tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED), tiny.database(), Path(sys.argv[1]))
