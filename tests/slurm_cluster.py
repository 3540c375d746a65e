"""A SLURM of Debian's packages on this machine, for tests: munged, slurmctld and one slurmd per node, on the loopback.

It has its own folder, key and ports, no accounting and no cgroups, and ends with the `with` block.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
MinJobAge=600
SlurmdParameters=config_overrides
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=1,batch_sched_delay=1
KillWait=2
PluginDir={plugins}
{nodes}
PartitionName=work Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Why no SLURM can be started here, or None."""
    missing = [name for name in DAEMONS if program(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurm-wlm, munge)"
    return None if os.getuid() == 0 else "SLURM's daemons are started by root"


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


@contextmanager
def cluster(folder: Path, nodes: int = 1, cpus: int = 4) -> Iterator[dict[str, str]]:
    """Starts a cluster and yields the environment in which its commands work.

    Args:
        folder: where its files go; an empty one.
        nodes: how many, all on this machine.
        cpus: of each node, as SLURM is told; there need not be as many.

    Raises:
        RuntimeError: it did not come up; the message holds the end of its logs.
    """
    names = [f"n{index}" for index in range(nodes)]
    ports = _free_ports(1 + nodes)
    every = f"NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000"
    lines = [f"NodeName={name} {every} Port={port}" for name, port in zip(names, ports[1:], strict=True)]
    plugins = next(Path("/usr/lib").glob("*/slurm-wlm"))
    values = {"folder": folder, "host": socket.gethostname(), "controller": ports[0], "plugins": plugins}
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(nodes="\n".join(lines), **values))
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": f"{folder}:{os.environ['PATH']}"}
    # Snakemake's job steps hide SLURM_CONF from srun, which would look for the configuration of a real cluster
    srun = folder / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {program("srun")} "$@"\n')
    srun.chmod(0o755)
    places = {name: folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
    munge = [f"--{option}={places[name]}" for name, option in zip(places, MUNGE_OPTIONS, strict=True)]
    with ExitStack() as stack:
        _start(stack, environment, "munged", "--foreground", "--force", f"--key-file={key}", *munge)
        _until(places["socket"].exists, "munged made no socket", folder)
        _start(stack, environment, "slurmctld", "-D", "-c")
        for name in names:
            _start(stack, environment, "slurmd", "-D", "-N", name)

        def idle() -> bool:
            shown = subprocess.run(
                ["sinfo", "--noheader", "--Node", "--format=%T"],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            return shown.stdout.split() == ["idle"] * nodes

        _until(idle, "its nodes did not become idle", folder)
        try:
            yield environment
        finally:
            # jobs that are still there would outlive their slurmd
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            _until(lambda: not queue(environment), "jobs did not end", folder)


MUNGE_OPTIONS = ("socket", "pid-file", "log-file", "seed-file")


def queue(environment: dict[str, str], form: str = "%i", states: str = "PD,R,CG") -> list[str]:
    """A line for each job that waits or runs; with `states="all"` for those that ended as well."""
    command = ["squeue", "--noheader", f"--states={states}", f"--format={form}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def _start(stack: ExitStack, environment: dict[str, str], name: str, *arguments: str) -> None:
    """Runs a daemon in the foreground until the stack ends."""
    process = subprocess.Popen(
        [program(name), *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def stop() -> None:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)


def _until(done, problem: str, folder: Path, seconds: float = 60) -> None:
    give_up = time.monotonic() + seconds
    while not done():
        if time.monotonic() > give_up:
            raise RuntimeError(f"SLURM: {problem}\n{_ends_of_logs(folder)}")
        time.sleep(0.2)


def _ends_of_logs(folder: Path) -> str:
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in sorted(folder.glob("*.log")))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]
