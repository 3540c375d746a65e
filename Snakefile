# The graph of a study: one rule per parameter file. Run it with `make report STUDY=<study>` or `iqa report <study>`.
# A run is made anew when `iqa.app.graph.jobs` says that it is due; the ages of files do not count (`ancient`), as folders
# may come from other machines.

import sys

sys.path.insert(0, workflow.basedir)

from iqa import pipeline

cluster = config.get("cluster", False)
jobs = pipeline.jobs(config["study"], config.get("train", True), None if cluster else workflow.cores, cluster)


# every output of every run, so that one which is missing is made again even where the report looks newer
rule all:
    default_target: True
    input:
        [job.outputs for job in jobs],


for job in jobs:

    rule:
        name:
            f"{job.step}_{job.run}"
        input:
            job.inputs if job.due else [ancient(file) for file in job.inputs],
        output:
            job.outputs,
        log:
            job.logs,
        params:
            command=job.command,
        threads: job.cores
        resources:
            **job.resources(cluster),
        shell:
            f"{pipeline.CORES}={{threads}} {{params.command}}"
