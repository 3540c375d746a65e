"""One of two processes that fit tiny databases with some devices and nodes; for tests of the package `training`.

torchrun starts it as a program; `fit_together` starts both, without the seconds in which each loads the libraries.
Where an epoch and a batch are named, the second process kills itself before it learns from that batch.
"""

import os
import signal
import socket
import sys
from multiprocessing.connection import wait
from pathlib import Path

import killed_fit
import tiny

from iqa.training import fit
from iqa.training.train import train


def fit_together(*arguments: object) -> list[int | None]:
    """Let two processes of this machine do `main`, and end the other where one of them failed: their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    told |= {"TORCHELASTIC_RUN_ID": "tests"}  # by which it is known that a process is one of several
    both = [
        killed_fit.CONTEXT.Process(target=_start, args=(told | {"RANK": rank, "LOCAL_RANK": rank}, *arguments))
        for rank in range(2)
    ]
    for process in both:
        process.start()
    running = list(both)
    while running:
        wait([process.sentinel for process in running])
        if any(process.exitcode for process in both):
            for process in running:
                process.kill()
        for process in running:
            process.join(0.1)
        running = [process for process in running if process.exitcode is None]
    return [process.exitcode for process in both]


def _start(environment: dict[str, object], *arguments: object) -> None:
    os.environ.update({name: str(value) for name, value in environment.items()})
    main(*map(str, arguments))


class Killed(fit.Fit):
    kill: tuple[int, ...] = ()

    def training_step(self, batch, index):
        if (self.current_epoch, index, self.global_rank) == (*self.kill, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(batch, index)


def main(folder: str, devices: str, nodes: str, databases: str, *kill: str) -> None:
    share = {"devices": int(devices), "nodes": int(nodes)}
    if kill:
        Killed.kill = tuple(map(int, kill))
        fit.Fit, fit.SAVE_EVERY = Killed, 0.0
    others = [tiny.other()] * (databases == "several")
    train(tiny.PARAMS.model_copy(update=tiny.DISTRIBUTED | share), tiny.database(), Path(folder), others=others)


if __name__ == "__main__":
    main(*sys.argv[1:])
