# The graph of a study: one rule per parameter file. Run it with `make report STUDY=<study>` or `iqa report <study>`.
# A run is made anew when one of its outputs is missing, when a run that it needs was made anew, or when
# `iqa.pipeline.report` forces it, because its parameter values, the code that it reaches or its data changed.

import sys

sys.path.insert(0, workflow.basedir)

from iqa import pipeline

jobs = pipeline.jobs(config["study"], config.get("train", True))


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
            job.inputs,
        output:
            job.outputs,
        log:
            job.logs,
        params:
            command=job.command,
        threads: job.threads
        shell:
            "{params.command}"
