"""A study on a real SLURM, which the test starts: a job for each run, and what is repeated after one was killed."""

import os
import shutil
import signal
import subprocess
import time

import finished
import pandas as pd
import pytest
from ruamel.yaml import YAML
from slurm_cluster import cluster, lacking, queue
from test_pipeline import EVERY_RUN, Project

from iqa.data.prepare import open_database
from iqa.study import param_files, paths
from iqa.study.results import RunFolder
from iqa.training.params import TrainParams
from iqa.training.train import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.notebook,
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
]

HANG = """
import time
from pathlib import Path
while run == "b_s1" and Path("hang").exists():
    time.sleep(0.1)
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """The environment of a running SLURM of two nodes, of which one takes the jobs that need no more."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    with cluster(folder, nodes=2) as environment:
        for name in ("SLURM_CONF", "PATH"):
            monkeypatch.setenv(name, environment[name])
        yield environment


def profile(folder):
    """The profile that comes with the project, for a cluster without accounting whose jobs take seconds."""
    values = YAML(typ="safe").load(paths.ROOT / "profiles" / "slurm" / "config.yaml")
    values |= {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 1, "latency-wait": 5}
    values |= {"seconds-between-status-checks": 1}
    folder.mkdir()
    YAML(typ="safe").dump(values, folder / "config.yaml")
    return str(folder)


def records(project):
    found = {run: project.results(run) / "record.json" for run in EVERY_RUN}
    return {run: file.read_text() for run, file in found.items() if file.is_file()}


def test_after_a_job_was_killed_its_run_alone_is_repeated_and_what_needs_it(slurm, tmp_path):
    project = Project(tmp_path / "project")
    project.write_notebook("train", more=HANG)
    project.write("resources", "train: {memory_gb: 1, minutes: 7}\nreport: {minutes: 3}")
    (project.folder / "hang").touch()
    command = ("report", "toy", "--profile", profile(tmp_path / "profile"))

    process = project.start(*command)
    others = EVERY_RUN - {"train/b_s1", "ablation/main", "report/report"}
    try:
        begun = project.results("train/b_s1.unfinished/log.txt")
        wait_for(lambda: others <= records(project).keys() and begun.is_file() and len(queue(slurm)) == 1, process)
        job, *asked = queue(slurm, "%i %k %l %m %C")[0].split()
        assert asked == ["rule_train_b_s1", "7:00", "1G", "1"]
        subprocess.run(["scancel", "--signal=KILL", "--full", job], env=slurm, check=True)
        out, err = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 1 and "train_b_s1" in out + err, out + err
    first = records(project)
    assert first.keys() == others

    (project.folder / "hang").unlink()
    project.report(*command)
    second = records(project)
    assert {run for run in second if first.get(run) != second[run]} == EVERY_RUN - others
    assert (project.folder / "report" / "toy" / "report.html").is_file()


def test_a_training_on_two_nodes_is_one_job_and_reaches_the_metrics_of_one_process(slurm, tmp_path):
    project = Project(tmp_path / "project")
    shutil.rmtree(project.folder / "params")
    for name in ("01_data_prep.ipynb", "02_train.ipynb"):
        shutil.copy(paths.NOTEBOOKS / name, project.folder / "notebooks")
    project.write("data_prep/demo", "reader: synthetic\ninputs: [rgb, mscn]\nscale: 0.1")
    demo = (paths.ROOT / "params/demo/train.yaml").read_text(encoding="utf-8").replace("crop: 96", "crop: 64")
    project.write("train", f"{demo}epochs: 2\nfreeze_batch_norm: true")  # of statistics, each process has its own
    project.write("train/two", "nodes: 2")
    project.call("run", "toy/data_prep/demo")
    with finished.inside(project.folder):
        params = param_files.load(TrainParams, "toy", "two").model_copy(update={"run": "one", "nodes": 1})
        one = train(params, open_database("toy", "demo"), RunFolder(params).path)
    project.report("report", "toy", "--profile", profile(tmp_path / "profile"))
    two = pd.read_csv(project.results("train/two/history.csv"))
    ranks = [column for column in one if "srcc" in column]  # turn where rounding parts two equal predictions
    for columns, tolerance in ((one.columns.difference([*ranks, "seconds"]), 1e-3), (ranks, 1e-2)):
        pd.testing.assert_frame_equal(one[columns], two[columns], rtol=tolerance, atol=tolerance)
    assert queue(slurm, "%k %D", states="all") == ["rule_train_two 2"]


def wait_for(done, process):
    give_up = time.monotonic() + 400
    while not done():
        assert process.poll() is None and time.monotonic() < give_up, process.communicate()
        time.sleep(0.2)
