# What is due of a study: one rule per run. Run it with `make report STUDY=<study>` or `iqa report <study>`.
# `iqa report` says what is due (`iqa why` tells the reasons), so neither files nor their ages count. A rule's output is
# only a mark that its run was made: Snakemake removes outputs before it makes them, and results stay until others are
# complete.

import sys

sys.path.insert(0, workflow.basedir)

from iqa.app import graph, machine

cluster = config.get("cluster", False)
jobs = graph.jobs(config["study"], config.get("train", True), None if cluster else workflow.cores, cluster)
due = [job for job in jobs if job.rule in config["due"].split(",")]
marks = [job.mark for job in due]


rule all:
    default_target: True
    input:
        marks,


for job in due:

    rule:
        name:
            job.rule
        input:
            [mark for mark in job.inputs if mark in marks],
        output:
            touch(job.mark),
        params:
            command=job.command,
        threads: job.cores
        resources:
            **job.resources(cluster),
        shell:
            f"{machine.CORES}={{threads}} {{params.command}}"
