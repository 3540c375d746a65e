"""A database of a few small images in memory, for tests of training and scoring; and the record of a made-up run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iqa.analysis.gathering import Gathered
from iqa.data.database import Database
from iqa.study import param_files
from iqa.study.code import file_hash
from iqa.study.results import RECORD
from iqa.training.params import TrainParams

# what a parameter file of a step has to say, as nothing else does
NEEDED: dict[str, dict[str, Any]] = {
    "data_prep": {"reader": "synthetic"},
    "train": {"database": "demo", "backbone": "resnet10t", "lr": 2e-3},
    "cross_dataset": {"databases": ["demo"]},
    "analysis": {"database": "demo"},
}
DEMO = param_files.load(TrainParams, "demo", "main_s1").model_dump(exclude={"study", "run"})


def demo(**changes: Any) -> TrainParams:
    """The parameters of the demo's main run, with some of them changed."""
    return TrainParams(**DEMO | changes)


# a model and a schedule that take a second
PARAMS = demo(
    backbone_args={"stem_width": 4, "channels": [8, 8, 8, 8], "zero_init_last": False},
    crop=64,
    batch_size=8,
    epochs=3,
    semantic_widths=[16],
    semantic_channels=8,
    target_widths=[64, 16, 8],
    device="cpu",
)


# what two processes must reach as one does: no statistics of a batch, which each has of its own share
DISTRIBUTED = {"freeze_batch_norm": True, "rank_weight": 0.5, "loss": "l1 + plcc"}
# what makes a resumed fit depend on more than its weights
RESUMED = {"dropout": 0.3, "rank_weight": 0.3, "schedule": "cosine", "patience": 9, "save_all_epochs": True}


def database(
    images: int = 40, sizes: tuple[tuple[int, int], ...] = ((72, 96),), low=0.0, high=100.0, up=True
) -> Database:
    """Noise whose strength the MOS tells: the first half to train, the next quarter to validate, the rest to test."""
    generator = np.random.default_rng(0)
    quality = generator.permutation(images) / (images - 1)
    pixels = []
    for number, value in enumerate(quality):
        noise = generator.normal(0, 8 + 60 * (1 - value), (*sizes[number % len(sizes)], 3))
        pixels.append(np.clip(128 + noise, 0, 255).astype(np.uint8))
    split = np.repeat(["train", "val", "test"], [images // 2, images // 4, images - images // 2 - images // 4])
    names = [f"{number}.png" for number in range(images)]
    scores = low + (quality if up else 1 - quality) * (high - low)
    table = pd.DataFrame({"image": names, "mos": scores, "mos_std": np.nan, "split": split, "reference": names})
    table = table.assign(distortion="noise", level=np.nan)
    return Database(
        name="tiny",
        title="Tiny",
        table=table,
        folder=Path(),
        low=low,
        high=high,
        higher_is_better=up,
        synthetic=True,
        release_images=None,
        citation="",
        licence="",
        source="",
        stores={"mscn": pixels},
        fingerprint=f"tiny {images} {sizes} {low} {high} {up}",
    )


def other() -> Database:
    """Another one on a scale from 1 to 5, where lower is better."""
    return replace(database(24, low=1.0, high=5.0, up=False), name="small", title="Small")


def finish(folder: Path, **record: Any) -> None:
    """Write, or write anew, the record of a finished run, with the hashes of the files that are in its folder."""
    file = folder / RECORD
    known = json.loads(file.read_text()) if file.is_file() else {}
    outputs = {output.name: file_hash(output) for output in folder.iterdir() if output != file}
    file.write_text(json.dumps(known | record | {"outputs": outputs}))


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
