"""Snakemake's Kubernetes executor for pods that mount the volume on which the checkout, its .venv and the results lie.

The executor `kubernetes` copies files of each job through an object store; here every pod sees the same files.
"""

import shlex

from snakemake_executor_plugin_kubernetes import Executor as OverObjectStore
from snakemake_executor_plugin_kubernetes import ExecutorSettings
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(OverObjectStore):
    """Starts each job in the folder of results, not in a scratch folder of the pod."""

    def format_job_exec(self, job: JobExecutorInterface) -> str:
        return f"cd {shlex.quote(str(self.workflow.workdir_init))} && {super().format_job_exec(job)}"
