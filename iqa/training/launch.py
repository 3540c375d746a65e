"""Training in several processes, on this machine or on the nodes of a cluster."""

import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from iqa.study import paths
from iqa.training.params import TrainParams

WORKER = "iqa.app.worker"  # the module that each process runs


def launch(params: TrainParams, folder: Path, log: Callable[[Path, str], None]) -> None:
    """Train in several processes: of this machine, or of each node of a SLURM job whose first node this is.

    torchrun starts them as `python -m iqa.app.worker RUN_FOLDER`; SLURM starts torchrun on each of its nodes.

    Args:
        folder: the run's results folder, which holds its `params.json`.
        log: called with the folder and a line for `train.log`.

    Raises:
        RuntimeError: a process failed.
    """
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={params.devices}"]
    if params.nodes == 1:
        command += ["--standalone"]
    else:
        with socket.socket() as free:
            free.bind(("", 0))
            where = f"--rdzv-endpoint={platform.node()}:{free.getsockname()[1]}"
        name = f"--rdzv-id={params.study}-{params.run}"
        command += [f"--nnodes={params.nodes}", "--rdzv-backend=c10d", where, name]
    command += ["-m", WORKER, str(folder)]
    if params.nodes > 1 and "SLURM_JOB_ID" in os.environ:
        cores = params.devices * (params.threads + params.workers)
        tasks = [f"--nodes={params.nodes}", f"--ntasks={params.nodes}", "--ntasks-per-node=1", f"-c{cores}"]
        command = ["srun", *tasks, "--kill-on-bad-exit=1", *command]
    elif params.nodes > 1:
        log(folder, f"waiting for {params.nodes - 1} more nodes; start there: {shlex.join(command)}")
    if subprocess.run(command, check=False, cwd=paths.ROOT).returncode:
        raise RuntimeError(f"training with {params.processes()} processes failed; the reason is above and in train.log")
