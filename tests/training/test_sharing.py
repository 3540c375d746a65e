"""Concurrent runs on one machine: which cores and GPUs each gets, and what a cluster is asked for."""

import multiprocessing

import pytest
import tiny
import yaml

from iqa.app import graph, machine
from iqa.app.machine import Resources
from iqa.app.stale import State
from iqa.data.params import DataPrepParams
from iqa.study import param_files, paths
from iqa.study.params import ParameterError
from iqa.training.params import TrainParams

FILES = {
    "data_prep/demo": "scale: 0.1",
    "data_prep/demo_photos": "part: photos\nworkers: 3",
    "train/main": "seeds: [1, 2]\nthreads: 2\nworkers: 4",
    "train/wide": "devices: 2\nworkers: 1",
    "train/cpu": "device: cpu",
    "train/second": "device: cuda:1",
    "train/far": "devices: 4\nnodes: 2",
    "cross_dataset/main": "databases: [demo]",
    "complexity/main": "devices: [cpu]",
}


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Writes the study `toy`, its resources among them; gives its jobs by name."""
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv(machine.RUNS_PER_GPU, raising=False)

    def write(cores=None, cluster=False, resources=None):
        for run, text in FILES.items():
            file = paths.PARAMS / "toy" / f"{run}.yaml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")
        for step in ("data_prep", "train"):
            (paths.PARAMS / "toy" / f"{step}.yaml").write_text(yaml.safe_dump(tiny.NEEDED[step]))
        if resources is not None:
            (paths.PARAMS / "toy" / "resources.yaml").write_text(resources)
        return {f"{job.step}/{job.run}": job for job in graph.jobs("toy", cores=cores, cluster=cluster)}

    return write


def test_a_run_takes_the_cores_of_its_threads_and_workers_in_all_its_processes(study):
    cores = {run: job.cores for run, job in study(cores=64).items()}
    assert cores["train/main_s1"] == 2 + 4 and cores["train/wide"] == 2 * (1 + 1)
    assert cores["train/cpu"] == cores["cross_dataset/main"] == 1


def test_databases_share_the_cores_unless_a_file_says_how_many(study):
    cores = {run: job.cores for run, job in study(cores=8).items()}
    assert (cores["data_prep/demo"], cores["data_prep/demo_photos"]) == (4, 3)


def test_what_measures_time_has_the_machine_for_itself(study):
    assert study(cores=8)["complexity/main"].cores == 8


def test_a_gpu_takes_one_run_unless_told_otherwise(study, monkeypatch):
    assert not any(job.gpus for job in study().values())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    taken = {run: job.gpus for run, job in study().items()}
    assert taken["train/main_s1"] == taken["cross_dataset/main"] == 1 and taken["train/wide"] == 2
    assert taken["train/second"] == 1
    assert taken["train/cpu"] == taken["data_prep/demo"] == 0
    assert machine.gpu_slots() == 2 and machine.gpu_slots(3) == 6


@pytest.mark.parametrize(("runs_per_gpu", "cores"), [(1, 4), (2, 2)])
def test_runs_that_gpus_can_take_at_once_divide_the_cores(study, monkeypatch, runs_per_gpu, cores):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv(machine.RUNS_PER_GPU, str(runs_per_gpu))
    assert study(cores=8)["train/main_s1"].cores == cores


def test_granted_cores_bound_the_workers_and_never_the_threads():
    params = tiny.demo(threads=2, workers=4)
    assert [machine.limit_workers(params, cores).workers for cores in (1, 2, 3, 6, 9)] == [0, 0, 1, 4, 4]
    assert machine.limit_workers(params, 1).threads == 2
    assert machine.limit_workers(tiny.demo(devices=2, workers=4), 6).workers == 2
    assert machine.limit_workers(DataPrepParams(reader="csv"), 3).workers == 3
    assert machine.limit_workers(DataPrepParams(reader="csv", workers=2), 3).workers == 2


def test_a_cluster_is_asked_for_what_the_resources_file_says(study):
    text = "train: {gpus: 1, memory_gb: 16}\ntrain/main: {minutes: 90}\ntrain/main_s2: {memory_gb: 1.5}\n"
    jobs = study(cluster=True, resources=text)
    gpu = {"gpu": 1, "gpu_manufacturer": "nvidia"}
    assert jobs["train/main_s1"].resources(cluster=True) == {"mem_mb": 16384, "runtime": 90} | gpu
    assert jobs["train/main_s2"].resources(cluster=True) == {"mem_mb": 1536, "runtime": 90} | gpu
    default = Resources()
    expected = {"mem_mb": default.memory_gb * 1024, "runtime": default.minutes}
    assert jobs["complexity/main"].resources(cluster=True) == expected
    assert jobs["complexity/main"].cores == 1 and jobs["train/main_s1"].cores == 6


def test_a_training_on_several_nodes_asks_for_a_task_on_each(study):
    asked = study(cluster=True, resources="train/far: {gpus: 4}")["train/far"].resources(cluster=True)
    assert {"nodes": 2, "tasks": 2, "mpi": "srun", "gres": "gpu:4"}.items() <= asked.items()


def test_resources_make_nothing_anew(study):
    study(resources="train: {gpus: 1}")
    params = param_files.load(TrainParams, "toy", "cpu")
    before = State("toy").identity(params)
    study(resources="train: {gpus: 2, minutes: 1}")
    assert State("toy").identity(params) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train/gone: {gpus: 1}", r"resources.yaml: unknown key 'train/gone'; the keys are: .*train/main_s1"),
        ("train: {memory: 4}", r"resources.yaml: key 'train': unknown key 'memory'; .*memory_gb"),
        ("train/cpu: {minutes: long}", r"resources.yaml: key 'train/cpu': key 'minutes': .*'long'"),
        ("train: 4", r"resources.yaml: key 'train': expected lines"),
    ],
)
def test_a_mistake_in_the_resources_names_file_and_key(study, text, message):
    with pytest.raises(ParameterError, match=message):
        study(cluster=True, resources=text)


def test_an_unknown_profile_is_told_with_the_places_tried():
    with pytest.raises(ParameterError, match=r"profiles/pbs nor pbs holds config\.yaml"):
        machine.profile_folder("pbs")
    assert machine.profile_folder("slurm") == machine.profile_folder(str(paths.ROOT / "profiles" / "slurm"))


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-5")
    monkeypatch.setenv(machine.RUNS_PER_GPU, "1")


def test_runs_get_different_gpus_and_give_them_back(two_gpus):
    with machine.claim_gpus(1) as first:
        assert machine.visible_gpus() == first == ["0"]
        with pytest.MonkeyPatch.context() as other:
            other.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-5")
            with machine.claim_gpus(1) as second:
                assert second == ["GPU-5"]
    with machine.claim_gpus(2) as both:
        assert both == ["0", "GPU-5"]
    assert machine.visible_gpus() == ["0", "GPU-5"]


def test_a_run_waits_for_a_gpu_until_the_run_that_has_it_is_gone(two_gpus):
    context = multiprocessing.get_context("fork")
    ready, told = context.Event(), []
    other = context.Process(target=_hold, args=(ready,))
    other.start()
    ready.wait(30)

    def tell(text):  # the other run dies without a farewell
        told.append(text)
        other.kill()

    with machine.claim_gpus(2, tell) as both:
        assert both == ["0", "GPU-5"] and "waiting for 2 of the GPUs 0, GPU-5" in told[0]
    other.join()


def _hold(ready):
    with machine.claim_gpus(1):
        ready.set()
        multiprocessing.Event().wait()


def test_a_gpu_that_is_named_is_taken_by_its_number(two_gpus):
    with machine.claim_gpus(machine.wanted_gpus(tiny.demo(device="cuda:1"))) as taken:
        assert taken == ["GPU-5"] and machine.visible_gpus() == ["0", "GPU-5"]


def test_gpus_are_shared_by_as_many_runs_as_told_the_least_used_first(two_gpus, monkeypatch):
    monkeypatch.setenv(machine.RUNS_PER_GPU, "2")
    taken = []
    contexts = [machine.claim_gpus(1) for _ in range(4)]
    for context in contexts:
        with pytest.MonkeyPatch.context() as other:
            other.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-5")
            taken += context.__enter__()
    assert taken == ["0", "GPU-5", "0", "GPU-5"]
    for context in reversed(contexts):
        context.__exit__(None, None, None)


def test_nothing_is_taken_without_a_gpu_on_a_cluster_or_by_a_run_that_needs_none(two_gpus, monkeypatch):
    with machine.claim_gpus(machine.wanted_gpus(tiny.demo(device="cpu"))) as taken:
        assert taken == []
    monkeypatch.delenv(machine.RUNS_PER_GPU)
    with machine.claim_gpus(1) as taken:
        assert taken == [] and machine.visible_gpus() == ["0", "GPU-5"]


def test_gpus_are_counted_without_loading_torch(tmp_path, monkeypatch):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert machine.visible_gpus() == []
