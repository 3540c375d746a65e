"""How papermill executes the notebooks: with kernels that are copies where they can be, and few saves."""

import os
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from traitlets.config import Config

from iqa.app import warm
from iqa.study import paths

SAVED_EVERY = 10  # seconds


class Provisioner(LocalProvisioner):
    """Starts a kernel as a copy of the process of `iqa.app.warm`."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        arguments = cmd[cmd.index("-m") :]
        try:
            self.process = warm.Copy(arguments, kwargs["env"], str(paths.ROOT), session=True)
        except OSError:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Engine(NBClientEngine):
    """papermill's own, but for two things.

    It saves now and then while it works, and at the end: not before and after every cell. And its kernels listen to
    files: of kernels that start at once, two may choose one port.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **options: Any) -> None:
        save = nb_man.save
        nb_man.save = lambda **_: (nb_man.now() - nb_man.last_save_time).total_seconds() > SAVED_EVERY and save()
        with warm.socket_folder() as folder:
            how = {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}  # and beside it kernel-ipc-1 to -5
            try:
                super().execute_managed_notebook(nb_man, kernel_name, config=Config(KernelManager=how), **options)
            finally:
                nb_man.save = save


def register() -> str:
    """Make the engine known to papermill, and return its name."""
    if warm.ADDRESS in os.environ:
        factory = KernelProvisionerFactory.instance()
        place = f"{Provisioner.__module__}:{Provisioner.__name__}"
        factory.provisioners["copy"] = EntryPoint("copy", place, factory.GROUP_NAME)
        factory.default_provisioner_name = "copy"
    papermill_engines.register("iqa", Engine)
    return "iqa"
