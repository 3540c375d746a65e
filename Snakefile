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
first, report_job = graph.early_report(config["study"], due)  # what the first report of a study waits for
early = [f"{graph.MARKS}/early_report"] if first else []


rule all:
    default_target: True
    input:
        marks,


for job in due:

    rule:
        name:
            job.rule
        input:
            [mark for mark in job.inputs if mark in marks] + (early if job is report_job else []),
        output:
            touch(job.mark),
        params:
            command=job.command,
        priority: job.mark in first
        threads: job.cores
        resources:
            **job.resources(cluster),
        shell:
            f"{machine.CORES}={{threads}} {{params.command}}"


if early:

    rule early_report:
        input:
            [mark for mark in first if mark in marks],
        output:
            touch(early),
        params:
            command=report_job.command,
        priority: 2
        threads: report_job.cores
        resources:
            **report_job.resources(cluster),
        shell:  # if it fails, so does the report at the end, which tells
            f"{machine.CORES}={{threads}} {{params.command}} || true"
