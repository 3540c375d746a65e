"""Two processes that fit tiny databases together, on one node or two; for tests of the package `training`.

What torchrun does is done here in copies of a process that has loaded the libraries.
"""

import os
import signal
import socket
from pathlib import Path

import killed_fit
import tiny

from iqa.training import fit
from iqa.training.train import train


def fit_together(folder: Path, nodes: int, databases: str = "one", kill: tuple[int, int] | None = None) -> list[int]:
    """Train in two processes on so many nodes, all on this machine.

    Args:
        kill: epoch and batch before which the second process kills itself.

    Returns:
        The exit code of each node.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = f"127.0.0.1:{free.getsockname()[1]}"
    agents = [
        killed_fit.CONTEXT.Process(target=_start, args=(meet, folder, nodes, databases, kill)) for _ in range(nodes)
    ]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()
    return [agent.exitcode for agent in agents]


def _start(meet: str, folder: Path, nodes: int, databases: str, kill: tuple[int, int] | None) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    how = {"start_method": "fork", "monitor_interval": 0.1, "max_restarts": 0, "local_addr": "127.0.0.1"}
    how |= {"run_id": "tests", "rdzv_backend": "c10d", "rdzv_endpoint": meet}
    elastic_launch(LaunchConfig(nodes, nodes, 2 // nodes, **how), _fit)(folder, nodes, databases, kill)


def _fit(folder: Path, nodes: int, databases: str, kill: tuple[int, int] | None) -> None:
    class Killed(fit.Fit):
        def training_step(self, batch, index):
            if (self.current_epoch, index, self.global_rank) == (*kill, 1):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().training_step(batch, index)

    if kill:
        fit.Fit, fit.SAVE_EVERY = Killed, 0.0
    params = tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED | {"devices": 2 // nodes, "nodes": nodes})
    train(params, tiny.database(), folder, others=[tiny.other()] * (databases == "several"))
