"""Time and memory: what is measured describes its own sample, and what cannot be measured is a row."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch import nn

from iqa.analysis import complexity, speed
from iqa.analysis.params import ComplexityParams
from iqa.analysis.speed import OverLimit
from iqa.model import memory
from iqa.study.params import ParameterError

QUICK = ComplexityParams(
    height=64,
    width=64,
    devices=["cpu"],
    precisions=["32-true"],
    batch_sizes=[1, 2],
    warmup=1,
    repeats=4,
    memory_batch=2,
)


def speeds(model, params):
    rows = [row for setting in speed.settings(params) for row in speed.speeds(model, setting, params)]
    return pd.DataFrame(rows, columns=speed.SPEEDS)


def memories(model, params):
    rows = [speed.memory(model, setting, params) for setting in speed.settings(params, compiled=[False])]
    return pd.DataFrame(rows, columns=speed.MEMORIES)


@pytest.fixture(scope="module")
def model():
    return complexity.build(tiny.demo())


def changed(**values) -> ComplexityParams:
    return QUICK.model_copy(update=values)


def test_latency_describes_its_own_sample(model, device):
    found = speeds(model, changed(devices=[device]))
    assert found["batch_size"].tolist() == [1, 2] and (found["reason"] == "").all() and (found["passes"] == 4).all()
    for row in found.to_dict("records"):
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p95_ms"] <= row["max_ms"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch_size"] / row["mean_ms"])
        assert row["hardware"] and row["software"].startswith("torch ") and row["peak_bytes"] > 0


def test_warm_up_does_not_count_and_long_passes_are_fewer(monkeypatch):
    clock = iter(np.cumsum([0, 9, 0, 9, 0, *[1, 0] * 20]))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    done = []
    found = speed.timing(lambda: done.append(1), 2, torch.device("cpu"), warmup=2, repeats=20, seconds=2.5)
    assert found["first_ms"] == 9000 and found["mean_ms"] == found["max_ms"] == 1000 and found["std_ms"] == 0
    assert found["passes"] == speed.LEAST == 3 and len(done) == 5 and found["images_per_second"] == 2


def test_each_precision_is_measured_on_each_device(model):
    found = speeds(model, changed(precisions=["32-true", "bf16-mixed"], batch_sizes=[1]))
    assert found["precision"].tolist() == ["32-true", "bf16-mixed"] and (found["reason"] == "").all()


def test_bf16_computes_in_bf16(model):
    seen = []
    hook = model.semantic.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    speeds(model, changed(precisions=["32-true", "bf16-mixed"], batch_sizes=[1]))
    hook.remove()
    assert seen[0] == torch.float32 and seen[-1] == torch.bfloat16


def test_a_batch_that_does_not_fit_is_a_row_and_ends_the_setting(model):
    one = speeds(model, changed(batch_sizes=[1]))["peak_bytes"].iloc[0]
    found = speeds(model, changed(until_full=True, memory_gb=float(one) * 3 / speed.GIB, seconds=60.0))
    assert (found["reason"].iloc[:-1] == "").all() and found["images_per_second"].iloc[:-1].notna().all()
    last = found.iloc[-1]
    assert last["reason"].startswith("memory: more than") and np.isnan(last["mean_ms"])
    assert last["batch_size"] == 2 * found["batch_size"].iloc[-2]


def test_memory_that_ends_inside_a_backbone_is_told_as_such(model):
    x = torch.zeros(1, 3, 64, 64)
    with torch.inference_mode(), pytest.raises(OverLimit, match="memory: more than"):
        speed.peak_memory(lambda: model.backbone(x), model, 0, x)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nTried"), RuntimeError("can't allocate memory: tried")]
)
def test_an_allocation_that_fails_is_a_row_too(model, monkeypatch, error):
    def fail(*_arguments, **_named):
        raise error

    monkeypatch.setattr(speed, "peak_memory", fail)
    assert speeds(model, QUICK)["reason"].tolist() == [f"memory: {str(error).splitlines()[0]}"]
    reasons = memories(model, QUICK)["reason"].tolist()
    assert reasons == [f"training: memory: {str(error).splitlines()[0]}"]


def test_an_error_of_another_kind_stays_one(model, monkeypatch):
    def fail(*_arguments, **_named):
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(speed, "peak_memory", fail)
    for measure in (speeds, memories):
        with pytest.raises(RuntimeError, match="sizes do not match"):
            measure(model, QUICK)


def test_an_operator_that_takes_no_such_large_batch_ends_the_setting_too(model, monkeypatch):
    def fail_with_two(_run, _model, _limit, pixels):
        if len(pixels) == 2:
            raise RuntimeError("input tensor must fit into 32-bit index math")
        return 1

    monkeypatch.setattr(speed, "peak_memory", fail_with_two)
    found = speeds(model, QUICK)
    assert found["reason"].tolist() == ["", "error: input tensor must fit into 32-bit index math"]


def test_a_pass_that_would_take_too_long_is_not_started(model):
    found = speeds(model, changed(batch_sizes=[1, 10**6], seconds=1.0))
    assert found["reason"].iloc[0] == "" and found["reason"].iloc[1].startswith("time: a pass would take about")


def test_a_device_that_is_not_there_is_a_row(model):
    params = changed(devices=["cpu", "cuda:99"], batch_sizes=[1])
    for found in (speeds(model, params), memories(model, params)):
        assert found["reason"].tolist() == ["", "this machine has no device cuda:99"]


def test_a_machine_that_cannot_compile_is_a_row(model, monkeypatch):
    def cannot(_model):
        def run(_pixels):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nat length")

        return run

    monkeypatch.setattr(torch, "compile", cannot)
    found = speeds(model, changed(compiled=[True, False], batch_sizes=[1]))
    assert found["compiled"].tolist() == [False, True]
    assert found["reason"].tolist() == ["", "torch.compile: InvalidCxxCompiler: No working C++ compiler found"]


def test_peak_memory_is_that_of_the_tensors_that_live_at_once():
    layer = nn.Linear(100, 1000, bias=False)  # 400,000 bytes
    x = torch.zeros(50, 100)  # 20,000 bytes

    def run():
        for _ in range(3):
            y = layer(x)  # 200,000 bytes, those of the round before still alive
            del y

    with torch.inference_mode():
        assert speed.peak_memory(run, layer, float("inf"), x) == 400_000 + 20_000 + 200_000
        with pytest.raises(OverLimit, match="memory: more than"):
            speed.peak_memory(run, layer, 600_000, x)


def test_views_take_no_memory_of_their_own():
    layer = nn.Linear(10, 10, bias=False)
    x = torch.zeros(10, 10)
    assert speed.peak_memory(lambda: x.t().reshape(10, 10).t()[2:], layer, float("inf"), x) == 800


def test_training_needs_gradients_averages_and_activations_besides(model):
    (row,) = memories(model, QUICK).to_dict("records")
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    assert row["reason"] == "" and row["training_bytes"] > row["inference_bytes"] + 3 * weights
    assert row["inference_bytes"] > weights and not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_memory_is_the_same_on_every_run(model):
    first, second = (memories(model, QUICK) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_the_limit_is_a_parameter_or_follows_from_what_is_available():
    assert speed.memory_limit(2) == 2 * speed.GIB
    assert 0 < speed.memory_limit(None) <= float("inf")


@pytest.mark.parametrize(("most", "expected"), [("1000", 0.6 * (1000 - (600 - 100))), ("max", 0.6 * 1e4)])
def test_the_limit_of_a_container_counts_without_the_files_that_its_memory_caches(
    most, expected, tmp_path, monkeypatch
):
    for name, text in {"max": most, "current": "600", "stat": "anon 300\ninactive_file 100"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    assert speed.memory_limit(None) == expected


def test_all_devices_are_the_cpu_and_a_gpu_of_each_kind(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: ["A", "B", "A"][index])
    assert speed.devices(["all"]) == [torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)]
    assert speed.devices(["cpu", "cpu"]) == [torch.device("cpu")]


def test_batch_sizes_must_rise():
    with pytest.raises(ParameterError, match="'batch_sizes' must rise"):
        ComplexityParams.build({"batch_sizes": [8, 1]}, "a file")
