"""Kernels of notebooks that are copies of the process of `iqa.app.warm`, where there is one."""

import os
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from iqa.app import warm
from iqa.study import paths


class Provisioner(LocalProvisioner):
    """Starts a kernel as a copy."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        arguments = cmd[cmd.index("-m") :]
        self.process = warm.Copy(arguments, kwargs["env"], str(paths.ROOT), session=True)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


def use() -> None:
    """Let kernels of this process be copies, where there is a process to be copied."""
    if warm.ADDRESS in os.environ:
        factory = KernelProvisionerFactory.instance()
        place = f"{Provisioner.__module__}:{Provisioner.__name__}"
        factory.provisioners["copy"] = EntryPoint("copy", place, factory.GROUP_NAME)
        factory.default_provisioner_name = "copy"
