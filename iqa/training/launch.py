"""Training in several processes, on this machine or on the nodes of a cluster."""

import json
import os
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from iqa.study import paths
from iqa.training.fit import fit, log
from iqa.training.params import TrainParams


def launch(params: TrainParams, folder: Path) -> None:
    """Train in several processes: of this machine, or of each node of a SLURM job whose first node this is."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={params.devices}"]
    if params.nodes == 1:
        command += ["--standalone", "-m", "iqa.training.fit", str(folder)]
    else:
        where = f"--rdzv-endpoint={platform.node()}:{_free_port()}"
        meet = ["--rdzv-backend=c10d", where, f"--rdzv-id={params.study}-{params.run}"]
        command += [f"--nnodes={params.nodes}", *meet, "-m", "iqa.training.fit", str(folder)]
        if "SLURM_JOB_ID" in os.environ:
            cores = params.devices * (params.threads + params.workers)
            tasks = [f"--nodes={params.nodes}", f"--ntasks={params.nodes}", "--ntasks-per-node=1", f"-c{cores}"]
            command = ["srun", *tasks, "--kill-on-bad-exit=1", *command]
        else:
            log(folder, f"waiting for {params.nodes - 1} more nodes; start there: {shlex.join(command)}")
    done = subprocess.run(command, check=False, cwd=paths.ROOT)
    if done.returncode:
        raise RuntimeError(f"training with {params.processes()} processes failed; the reason is above and in train.log")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


def _one_of_several(folder: Path) -> None:
    """Train the run of a results folder as one of the processes that `fit` started."""
    params = TrainParams.build(json.loads((folder / "params.json").read_text(encoding="utf-8")), str(folder))
    from iqa.data.prepare import open_database  # a fit itself does not read databases

    opened = {name: open_database(params.study, name) for name in params.databases()}
    fit(params, opened.pop(params.database), folder, opened)
