"""A small made-up study: results folders as the steps write them, with figures, for tests of the report.

`python tests/report_fixture.py FOLDER` makes one in FOLDER and renders its report there.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tiny
from notebook_section import run_section

from iqa.analysis import residuals
from iqa.analysis.gathering import Gathered
from iqa.analysis.maps import Maps
from iqa.analysis.params import AblationParams, AnalysisParams
from iqa.model.fusion import FUSIONS
from iqa.model.hyperiqa import TARGET_INPUTS, WORDS
from iqa.report.params import ReportParams
from iqa.show import ablation as show_ablation
from iqa.show import analysis, common, cross_dataset, data_prep, train
from iqa.show import complexity as show_complexity
from iqa.study import paths
from iqa.training import losses
from iqa.training.params import TrainParams

STUDY = "toy"
REPORT_SOURCES = paths.REPORT
TRAINED = ["last_s1", "last_s2", "main_s1", "main_s2"]
DATABASES = ["toy_data", "toy_shifted"]


def build(root: Path, synthetic: bool = True) -> ReportParams:
    """Write params/, results/ and the report's sources under `root`, point `iqa.study.paths` there; what to render."""
    paths.PARAMS, paths.RESULTS, paths.REPORT = root / "params", root / "results", root / "report"
    paths.REPORT.mkdir(parents=True)
    for file in REPORT_SOURCES.iterdir():
        if file.is_file():
            shutil.copy(file, paths.REPORT)
    for place, name in enumerate(DATABASES):
        _data_prep(name, synthetic, shifted=place == 1)
    for place, run in enumerate(TRAINED):
        _train(run, synthetic, seed=place)
    _ablation()
    _complexity()
    _cross()
    _analysis(synthetic)
    _run("claims", "main", {}, {}, {"claims": claims()}, {})
    (paths.run_folder(STUDY, "claims", "main") / "notebook.ipynb").write_text("{}")
    _run("report", "report", {}, {}, {"published": published(measured=not synthetic)}, {})
    return ReportParams(study=STUDY, run="report", title="A toy study with _marks_ & $signs", main="main_s1")


def _data_prep(name: str, synthetic: bool, shifted: bool) -> None:
    rng = np.random.default_rng(len(name))
    splits = ["test"] * 60 if shifted else ["train"] * 300 + ["val"] * 60 + ["test"] * 120
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(splits))], "split": splits})
    table["mos"] = 100 * rng.beta(2.2, 1.8, len(splits))
    counts = table["split"].value_counts()
    audit = {
        "name": name,
        "title": "Toy database" if not shifted else "Toy database, shifted",
        "synthetic": synthetic,
        "low": 0.0,
        "high": 100.0,
        "higher_is_better": True,
        "n": len(splits),
        "splits": {split: {"n": int(counts[split]), "references": int(counts[split] // 6)} for split in counts.index},
        "mos": {"mean": table["mos"].mean(), "std": table["mos"].std(), "min": 1.0, "max": 99.0},
        "mos_std_mean": 8.0,
        "mos_std": {"mean": 8.0, "min": 2.0, "max": 15.0},
        "checks": [
            {"check": check, "here": here, "release": release}
            for check, here, release in (
                ("images", len(splits), None if synthetic else 12_000),
                ("references", len(splits) // 6, None),
                ("stored sizes", 1, None),
                ("images that were enlarged", 0, None),
                ("images that occur in more than one split", 0, None),
                ("images that occur more than once in a split", 0, None),
            )
        ],
        "ceiling_srcc": 0.987 if synthetic else None,
        "citation": "nobody",
        "licence": "MIT",
        "fingerprint": "0123456789abcdef" * 4,
        "bytes": 1000,
        "height": 48,
        "width": 64,
        "warnings": [] if synthetic else ["480 images are here, 12000 are in the release."],
    }
    images = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(8)]
    labels = [f"MOS {12 * i}" for i in range(8)]
    drawn = {"samples": common.sample_images(images, labels), "mos_histogram": data_prep.mos_histogram(table, 0, 100)}
    params = {"reader": "synthetic" if synthetic else ("agiqa3k" if shifted else "biq2021"), "inputs": ["mscn"]}
    _run("data_prep", name, params, {"audit": audit}, {"database": table}, drawn)


def _predictions(seed: int, n: int = 120, noise: float = 9.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    mos = 100 * rng.beta(2.2, 1.8, n)
    return pd.DataFrame(
        {"image": [f"{i}.png" for i in range(n)], "mos": mos, "prediction": mos + rng.normal(0, noise, n)}
    )


def architecture(fusion: str = "concat", target_input: str = "lda") -> dict:
    """The description of a small model."""
    used = FUSIONS[fusion].levels
    channels = {"last": 128, "fpn_cbam": 96}.get(fusion, 240)
    grid = 1 if fusion == "pooled" else 4
    maps = [(4, 16, 24, 24), (8, 32, 12, 12), (16, 64, 6, 6), (32, 128, 3, 3)]
    keys = ("stride", "channels", "height", "width", "fused", "local")
    lda = target_input == "lda"
    registered = {"fusion": FUSIONS[fusion], "local": TARGET_INPUTS[target_input]}
    parts = [
        ("backbone", "resnet10t", [128, 3, 3], 309_696),
        ("fusion", f"{fusion} fusion", [channels, grid, grid], {"attention": 1_234, "fpn_cbam": 98_765}.get(fusion, 0)),
        ("semantic", "semantic features", [48, grid, grid], 64 * channels + 3_184),
        ("hyper", "hyper network", [2_813], 140_233),
        ("local", TARGET_INPUTS[target_input].title, [64], 12_848 if lda else 15_424),
        ("target", "target network", [], 0),
    ]
    return {
        "name": FUSIONS[fusion].title.format(name=fusion) + TARGET_INPUTS[target_input].suffix,
        "backbone": "resnet10t",
        "fusion": fusion,
        "target_input": target_input,
        "input": [3, 96, 96],
        "levels": [
            dict(zip(keys, (*size, level in used, 16 if lda else None), strict=True)) for level, size in enumerate(maps)
        ],
        "parts": [
            dict(zip(("name", "title", "output", "parameters"), part, strict=True))
            | {key: getattr(registered[part[0]], key) for key in WORDS.get(part[0], ())}
            for part in parts
        ],
        "parameters": sum(part[3] for part in parts),
        "semantic_widths": [channels, 64, 48],
        "target_widths": [64, 32, 16, 8, 4, 1],
        "generated_weights": 2_813,
    }


def _train(run: str, synthetic: bool, seed: int) -> None:
    predictions = _predictions(seed)
    epochs = np.arange(1, 13)
    rise = 1 - np.exp(-epochs / 4)
    history = pd.DataFrame({"epoch": epochs, "train_loss": 0.3 * np.exp(-epochs / 5), "val_loss": 0.2 - 0.1 * rise})
    for split, top in (("train", 0.95), ("val", 0.9)):
        history[f"{split}_srcc"], history[f"{split}_plcc"] = top * rise, (top + 0.01) * rise
    srcc = float(predictions["mos"].corr(predictions["prediction"], method="spearman"))
    metrics = {
        "database": "toy_data",
        "split": "test",
        "synthetic": synthetic,
        "n": 120,
        "srcc": srcc,
        "srcc_low": srcc - 0.02,
        "srcc_high": srcc + 0.015,
        "plcc": srcc + 0.01,
        "plcc_low": srcc - 0.01,
        "plcc_high": srcc + 0.02,
        "plcc_fitted": srcc + 0.011,
        "krcc": srcc - 0.18,
        "rmse": 8.87,
        "confidence": 0.95,
        "best_epoch": 12,
        "epochs": 12,
        "seconds": 27.31,
        "parameters": architecture()["parameters"],
        "select_on": "val_srcc",
    }
    trained = TrainParams(input="mscn" if synthetic else "rgb")
    params = trained.model_dump(exclude={"study", "run"})
    drawn = {
        "curves": train.training_curves(history),
        "scatter": train.prediction_scatter(predictions, 0, 100),
        "architecture": train.architecture(architecture()),
        "before_after": train.before_after(architecture("last"), architecture()),
    }
    found = {"metrics": metrics, "architecture": architecture(), "architecture_before": architecture("last")}
    found["loss"] = losses.describe(trained.terms(), params)
    _run("train", run, params, found, {"history": history, "predictions": predictions}, drawn)


def ablation() -> pd.DataFrame:
    """A reference, a variant inside the noise, a worse one, and one with a single seed."""
    rows = [
        ("main", "", 2, 0.951, 0.004, None, "reference"),
        ("last", "fusion: last", 2, 0.948, 0.005, -0.003, "not distinguishable"),
        ("l1", "rank_weight: 0.0", 2, 0.944, 0.006, -0.007, "not distinguishable"),
        ("rgb", "input: rgb", 1, 0.617, None, -0.334, "worse"),
    ]
    frame = pd.DataFrame(rows, columns=["group", "differs", "seeds", "srcc_mean", "srcc_std", "delta", "verdict"])
    frame["runs"] = frame["group"] + "_s1"
    frame["srcc_low"], frame["srcc_high"] = frame["srcc_mean"] - 0.015, frame["srcc_mean"] + 0.012
    frame["plcc_mean"], frame["plcc_std"] = frame["srcc_mean"] + 0.01, 0.004
    frame["delta"] = frame["delta"].fillna(0.0)
    frame["delta_low"], frame["delta_high"] = frame["delta"] - 0.01, frame["delta"] + 0.01
    frame["delta_plcc"], frame["val_srcc_mean"] = frame["delta"], frame["srcc_mean"] + 0.005
    frame["label"] = frame["differs"].where(frame["differs"] != "", "reference")
    frame["p_value"], frame["p_holm"] = [None, 0.31, 0.08, 0.001], [None, 0.31, 0.16, 0.003]
    frame["decision"] = frame["verdict"].map({"worse": "rejected", "not distinguishable": "not adopted"}).fillna("")
    frame["best_on_validation"] = frame["verdict"] == "reference"
    return frame.assign(chosen_on="validation", command="")


def dynamics() -> pd.DataFrame:
    """Twelve epochs of the reference and a variant."""
    rows = [
        {"group": group, "label": label, "differs": differs, "quantity": quantity, "epoch": epoch, "seeds": 2}
        | {"mean": (mean := end * (1 - 0.5**epoch)), "min": mean - 0.01, "max": mean + 0.01}
        for group, label, differs in (("main", "reference", ""), ("last", "fusion: last", "fusion: last"))
        for quantity, end in (("train_loss", 0.2), ("val_loss", 0.2), ("val_srcc", 0.9), ("val_plcc", 0.88))
        for epoch in range(1, 13)
    ]
    return pd.DataFrame(rows)


def claims() -> pd.DataFrame:
    """One claim of each kind of verdict."""
    rows = [
        (
            "C01",
            "S000",
            "A model & its size",
            "18.2M",
            "27.63M parameters.",
            "computed (without data)",
            "does not hold",
        ),
        ("C02", "S001 S002", "A gain of 1_2 %", "+0.01", "SRCC +0.008.", "published figures", "not distinguishable"),
        ("C03", "S003", "Memory", "2.5 GB", "Nothing.", "needs a GPU", "not testable here"),
    ]
    table = pd.DataFrame(rows, columns=["id", "source", "claim", "stated", "found", "basis", "verdict"])
    return table.assign(cell=(table["id"] + " " + table["claim"]).str.replace(" ", "-"))


def published(measured: bool) -> pd.DataFrame:
    """A published method beside a measured one, or no row."""
    rows = [
        ("DeepEns", "CNNs", "BIQ2021", "BIQ2021", "official split", 0.7922, 0.8098, "a repository", False),
        ("main", "resnet10t", "BIQ2021", "BIQ2021", "official split; 2 seeds", 0.951, 0.96, "this study", True),
    ]
    names = ["method", "backbone", "trained_on", "tested_on", "protocol", "srcc", "plcc", "source", "measured"]
    return pd.DataFrame(rows if measured else [], columns=names)


def _ablation() -> None:
    frame, curves = ablation(), dynamics()
    pairs = {"reference": _predictions(0), "fusion: last": _predictions(1)}
    drawn = {"ablation": show_ablation.ablation_forest(frame), "scatter_pairs": show_ablation.scatter_pairs(pairs)}
    drawn["compare_trainings"] = show_ablation.compare_trainings(curves)
    drawn["sensitivity"] = train.prediction_scatter(_predictions(0), 0, 100)
    for run, parameter in (("main", None), ("weight", "rank_weight")):
        params = AblationParams(title="Weight of a term", parameter=parameter).model_dump(exclude={"study", "run"})
        _run("ablation", run, params, {}, {"ablation": frame, "dynamics": curves}, drawn)


def latency() -> pd.DataFrame:
    """Two runs with one image and with eight, in full precision; a third size does not fit."""
    rows = [
        (run, batch, t)
        for run, t0 in (("last_s1", 8.1), ("main_s1", 9.4))
        for batch, t in ((1, t0), (8, 6 * t0), (64, np.nan))
    ]
    frame = pd.DataFrame(rows, columns=["run", "batch_size", "median_ms"]).assign(**MACHINE, compiled=False)
    for name, factor in (("first", 3.1), ("mean", 1.02), ("std", 0.05), ("min", 0.94), ("max", 1.4), ("p95", 1.2)):
        frame[f"{name}_ms"] = frame["median_ms"] * factor
    frame["images_per_second"] = 1000 * frame["batch_size"] / frame["median_ms"]
    frame["passes"] = frame["median_ms"] * 0 + 20
    frame["peak_bytes"] = frame["median_ms"] * 1e6
    too_large = "memory: more than 0.1 GiB, the limit for tensors on the CPU"
    return frame.assign(reason=["" if np.isfinite(value) else too_large for value in frame["median_ms"]])


MACHINE = {"device": "cpu", "hardware": "A processor (R) of some kind, 1 thread", "software": "torch 2.15.0"}
MACHINE |= {"precision": "32-true"}


def complexity() -> pd.DataFrame:
    """Two models of the same backbone."""
    counted = pd.DataFrame({"run": ["last_s1", "main_s1"], "backbone": "resnet10t", "fusion": ["last", "concat"]})
    counted = counted.assign(height=224, width=224, parameters=[474_153, 481_321], trainable_parameters=474_153)
    counted = counted.assign(backbone_parameters=309_696, head_parameters=counted["parameters"] - 309_696)
    macs = {"macs_estimated": 98_765_432, "macs_torch": 98_765_432, "macs_ptflops": 99_000_000, "macs_thop": 98_700_000}
    return counted.assign(generated_weights=2_813, **macs)


def counters() -> pd.DataFrame:
    """What the counters see of two models."""
    rows = [
        ("convolutions", 98_762_732, 98_762_732, 98_762_732, 98_700_000, "thop"),
        ("target network", 2_700, 2_700, 2_700, 0, "thop"),
        ("biases", 0, 0, 234_568, 0, "torch, thop"),
        ("total", 98_765_432, 98_765_432, 99_000_000, 98_700_000, ""),
    ]
    names = ["kind", "macs_estimated", "macs_torch", "macs_ptflops", "macs_thop", "missed_by"]
    return pd.concat([pd.DataFrame(rows, columns=names).assign(run=run) for run in ("last_s1", "main_s1")])


def overview(published: bool = True) -> pd.DataFrame:
    """Cost of two models beside what they reach, one of them not run."""
    costs = complexity()[["run", "backbone", "fusion", "parameters", "macs_torch"]]
    costs = costs.assign(**MACHINE, compiled=False, latency_ms=[8.1, 9.4], images_per_second=[164.6, 141.8])
    costs = costs.assign(batch_size=8, chosen_on="validation", status=["not run", "finished"])
    for name, value in (("srcc", 0.951), ("plcc", 0.96)):
        for end, away in (("", 0.0), ("_low", -0.02), ("_high", 0.015)):
            costs[f"{name}{end}"] = [np.nan, value + away]
        costs[f"published_{name}"] = [0.94, np.nan] if published else np.nan
    protocol = ["official split", ""] if published else ""
    return costs.assign(published_protocol=protocol, published_source=protocol)


def _complexity() -> None:
    named = [("backbone", "resnet10t"), ("fusion", "concat fusion"), ("target", "target network")]
    parts = pd.DataFrame(named, columns=["part", "title"]).assign(run="main_s1", parameters=309_696)
    parts = parts.assign(trainable_parameters=309_696, macs_estimated=98_765_432, macs_torch=98_765_432)
    memory = pd.DataFrame({"run": ["last_s1", "main_s1"]}).assign(**MACHINE, batch_size=8, measure="tensors")
    memory = memory.assign(inference_bytes=2.1e7, training_bytes=6.2e7, reason="")
    tables = {"complexity": complexity(), "latency": latency(), "counters": counters(), "parts": parts}
    tables = {name: frame[["run", *frame.columns.drop("run")]] for name, frame in tables.items()}
    drawn = {"latency": show_complexity.latency(latency()), "throughput": show_complexity.throughput(latency())}
    drawn["tradeoff"] = show_complexity.tradeoff(overview())
    _run("complexity", "main", {}, {}, {**tables, "memory": memory, "overview": overview()}, drawn)


def _cross() -> None:
    predictions = _predictions(7, 60, noise=30)
    model = {"model": "main_s1", "trained_on": "Toy database"}
    row = {**model, "database": "toy_shifted", "title": "Toy database, shifted", "available": True, "n": 60}
    row |= {"reason": None, "srcc": 0.612}
    row |= {"srcc_low": 0.5, "srcc_high": 0.71, "plcc": 0.63, "plcc_low": 0.52, "plcc_high": 0.73}
    for name, value, half in (("plcc_fitted", 0.64, 0.1), ("krcc", 0.44, 0.08), ("rmse", 21.4, 2.5)):
        row |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
    row |= {"ceiling_srcc": 0.991}
    absent = {**model, "database": "elsewhere", "title": "Not downloaded", "available": False, "reason": "no folder"}
    coefficients = {
        key: value for key, value in row.items() if key.startswith(("srcc", "plcc")) and "fitted" not in key
    }
    part = {"model": "main_s1", "database": "toy_shifted", "title": "Toy database, shifted", "n": 30, **coefficients}
    parts = [part | {"by": "distortion", "value": "blur"}, part | {"by": "level", "value": "2"}]
    drawn = {"scatter": cross_dataset.scatter_grid({"Toy database, shifted": (predictions, 0, 100)})}
    frames = {"cross": pd.DataFrame([row, absent]), "breakdown": pd.DataFrame(parts)}
    _run("cross_dataset", "main", {"models": ["main_s1"]}, {}, frames, drawn)


def gathered(attends: bool = True, synthetic: bool = True, n: int = 120) -> Gathered:
    """What a model made of images whose quality lies in the first of 40 weights, and the distortion in the next ones.

    The weight of the deepest scale rises with the quality; the weights of the worst image are even.
    """
    rng = np.random.default_rng(3)
    good = rng.permutation(n) / (n - 1)
    kind, content = np.arange(n) % 3, np.arange(n) // 6
    weights = rng.normal(0, 0.1, (n, 40))
    weights[:, 0] += 3 * good
    weights[np.arange(n), 1 + kind] += 1
    scales = np.stack([(1 - good) / 4] * 3 + [1 - 0.75 * (1 - good)], axis=1) if attends else None
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(n)], "mos": 100 * good, "good": good, "level": np.nan})
    table = table.assign(
        prediction=100 * good + rng.normal(0, 9, n), mos_std=rng.uniform(5, 15, n), height=48, width=64, split="test"
    )
    table = table.assign(residual=table["prediction"] - table["mos"], reference=[f"content {i}" for i in content])
    table = table.assign(distortion=np.array(["blur", "noise", "jpeg"])[kind] if synthetic else "authentic")
    if synthetic:
        table = table.assign(quality=table["mos"] + rng.normal(0, 2, n))
    else:
        table = table.assign(reference=table["image"], mos_std=np.nan)
    return Gathered(table, weights.astype(np.float32), scales)


def look_inside(heading: str, models: dict[str, Gathered], **values: Any) -> dict[str, Any]:
    """What the cells under a heading of `06_analysis` make of models, the first of which is the report's."""
    params = AnalysisParams(**{"resamples": 100, "components": 5} | values)
    options = {"resamples": params.resamples, "confidence": params.confidence, "seed": params.seed}
    names = {
        "params": params,
        "options": options,
        "gathered": models,
        "subject": next(iter(models.values())),
        "waiting": {},
    }
    return run_section("06_analysis.ipynb", heading, **names)


def _analysis(synthetic: bool) -> None:
    """The synthetic study has a run with attention, the real one has none."""
    found = {"main_s1": gathered(False, synthetic), "last_s1": gathered(False, synthetic)}
    found |= {"attention_s1": gathered(True, synthetic)} if synthetic else {}
    table, space = found["main_s1"].table, look_inside("Weight space", found)
    points, variance = space["points"], space["variance"]
    grouped, weighed = look_inside("Errors", found), look_inside("Attention over the scales", found, attention=None)
    errors, bands = grouped["errors"], weighed["in_bands"]
    models = pd.DataFrame({"model": list(found), "fusion": "concat", "weights": 40, "crops": "whole", "n": len(table)})
    frames = {
        "models": models.assign(srcc=0.95, status="finished", command=""),
        "points": points,
        "variance": variance,
        "separation": space["separation"],
        "bands": bands,
        "attention": weighed["claim"],
        "errors": errors,
        "cases": residuals.cases(table, 4),
        "ceiling": look_inside("How far from the ceiling", found, ratings=30)["ceiling"],
        "predictions": table,
    }
    about = {"database": "toy_data", "title": "Toy database", "synthetic": synthetic, "n": len(table), "contents": 20}
    about |= {
        "models": list(found),
        "attends": ["attention_s1"] * synthetic,
        "waiting": {},
        "left_out": grouped["left_out"],
    }
    about |= {"pictured": [{"image": "1.png", "why": "smallest error"}]}
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    shown = [Maps("1.png", image, [np.eye(4), np.eye(8)], ["level 1", "level 2"])]
    page = analysis.cases([image] * 4, residuals.cases(table, 4).iloc[:4])
    drawn = {"weight_space": analysis.weight_space(points, variance), "worst": page, "best": page}
    drawn |= {"attention": analysis.attention(bands), "errors": analysis.errors(table, errors)}
    drawn |= dict.fromkeys(("quality_maps", "feature_maps"), analysis.maps(shown, "bright: high"))
    params = AnalysisParams(ratings=30).model_dump(exclude={"study", "run"})
    _run("analysis", "main", params, {"analysis": about}, frames, drawn)


def _run(step: str, run: str, params: dict, records: dict, frames: dict, drawn: dict) -> None:
    folder = paths.run_folder(STUDY, step, run)
    folder.mkdir(parents=True)
    (paths.PARAMS / STUDY / step).mkdir(parents=True, exist_ok=True)
    (paths.PARAMS / STUDY / step / f"{run}.yaml").touch()
    record = {
        "study": STUDY,
        "step": step,
        "run": run,
        "commit": "94c1dfa0" * 5,
        "dirty": step == "train",
        "versions": {"python": "3.11.2", "torch": "2.15.0", "timm": "1.0.31"},
        "hardware": {"cpu": "A processor (R) of some kind", "cores": 2, "memory_gb": 7.8, "gpu": None},
        "seed": 1 if step == "train" else None,
        "data": {"toy_data": "0123456789abcdef" * 4},
        "started": "2026-11-20T10:11:12+00:00",
        "seconds": 27.3,
        "params": params,
    }
    for name, values in {**records, "params": {"study": STUDY, "run": run, **params}}.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    for name, figure in drawn.items():
        for kind in ("png", "svg"):
            figure.savefig(folder / f"{name}.{kind}", dpi=100, bbox_inches="tight")
    tiny.finish(folder, **record)


if __name__ == "__main__":
    from iqa.report.render import render

    print(render(build(Path(sys.argv[1]), synthetic="real" not in sys.argv)))
