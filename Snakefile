# The graph of a study: one rule per parameter file. Run it with `make report STUDY=<study>` or `iqa report <study>`.
# `iqa.app.graph.jobs` says which runs are due and `iqa why` tells the reasons; the ages of files do not count
# (`ancient`), as folders may come from other machines. A run writes its record last, so it stands for all outputs.

import sys

sys.path.insert(0, workflow.basedir)

from iqa.app import graph, machine

cluster = config.get("cluster", False)
jobs = graph.jobs(config["study"], config.get("train", True), None if cluster else workflow.cores, cluster)


rule all:
    default_target: True
    input:
        [job.record for job in jobs],


for job in jobs:

    rule:
        name:
            job.rule
        input:
            job.inputs if job.due else [ancient(file) for file in job.inputs],
        output:
            job.record,
        log:
            job.logs,
        params:
            command=job.command,
        threads: job.cores
        resources:
            **job.resources(cluster),
        shell:
            f"{machine.CORES}={{threads}} {{params.command}}"
