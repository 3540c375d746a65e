"""One of several processes that share a training: `python -m iqa.app.worker RUN_FOLDER`, started by torchrun."""

import json
import sys
from pathlib import Path

from iqa.data.prepare import open_database
from iqa.study import paths, results
from iqa.training.params import TrainParams
from iqa.training.train import train


def main(folder: Path) -> None:
    """Train the run of a results folder together with the other processes."""
    held = results.lock(paths.results_of(folder), alone=False)  # noqa: F841  (until this process ends)
    params = TrainParams.build(json.loads((folder / "params.json").read_text(encoding="utf-8")), str(folder))
    opened = {name: open_database(params.study, name) for name in params.databases()}
    monitored = {name: opened[name] for name in params.monitor_databases}
    others = [opened[name] for name in params.with_databases]
    train(params, opened[params.database], folder, monitored, others=others)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
