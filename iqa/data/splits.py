"""Which images are for training, validation and testing: splits drawn with a seed, or read from a file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from iqa.data import DataError
from iqa.data.database import Labels
from iqa.data.files import cells, refuse, same_name
from iqa.data.params import DataPrepParams
from iqa.data.readers import read_csv
from iqa.data.releases import file_of
from iqa.study import paths

SPLITS = ("train", "val", "test")
SKIPPED = "skipped"  # in `database.csv`, in place of the split of an image that was left out
SPELLED_OUT = {"training": "train", "validation": "val", "testing": "test"}


def choose_way(params: DataPrepParams, table: pd.DataFrame) -> str:
    """How the images are split: `file`, `official`, `seeded` or `all_test`."""
    way = params.split or ("file" if params.split_file else "official" if "split" in table else "seeded")
    if way == "official" and "split" not in table:
        raise DataError(f"{file_of(params)}: split 'official', but the label file holds no split; set 'split: seeded'")
    if params.repeat != 1 and way != "seeded":
        raise DataError(f"{file_of(params)}: `repeat` picks a seeded split, this one is '{way}'; set 'split: seeded'")
    return way


def split_images(params: DataPrepParams, table: pd.DataFrame, way: str) -> tuple[pd.Series, str, bool]:
    """The split of each image, a sentence that says how it was made, and whether a seed decided any of it.

    `way` is as `choose_way` returns it.
    """
    rng = np.random.default_rng(params.seed)
    if way == "seeded":
        rng = np.random.default_rng([params.seed, params.repeat])
        split = seeded_split(table["reference"], params.train_fraction, rng)
        rule = (
            f"Seeded split: {params.train_fraction:g} of the references for training, the rest for testing "
            f"(seed {params.seed}, repeat {params.repeat})."
        )
    elif way == "file":
        file = paths.resolve(params.split_file)
        split, rule = read_split(file, table["image"]), f"Split read from {paths.shown(file)}."
    else:
        split = pd.Series("test", table.index) if way == "all_test" else _split_names(table)
        rule = "Every image is for testing." if set(split) == {"test"} else "The split that the label files hold."
    train = split == "train"
    if "val" in set(split) or not train.any() or params.val_fraction == 0:
        return split, rule, way == "seeded"
    references = table["reference"][train].unique()
    held_out = rng.permutation(references)[: round(len(references) * params.val_fraction)]
    split = split.mask(train & table["reference"].isin(held_out), "val")
    rule += f" Of the training references {params.val_fraction:g} are held out for validation."
    return split, rule, True


def seeded_split(reference: pd.Series, train_fraction: float, rng: np.random.Generator) -> pd.Series:
    """`train` or `test` for each image, drawn by reference: no content is in both. Their order does not matter.

    Raises:
        DataError: there are too few references for both.
    """
    references = np.sort(reference.unique())
    count = round(len(references) * train_fraction)
    if not 0 < count < len(references):
        raise DataError(f"a seeded split of {len(references)} reference(s) leaves nothing to train on or to test on")
    drawn = rng.permutation(references)[:count]
    return pd.Series(np.where(reference.isin(drawn), "train", "test"), reference.index)


def read_split(file: Path, images: pd.Series) -> pd.Series:
    """The split of each image from a CSV file with (at least) the columns `image` and `split`.

    A run's `database.csv` is such a file. Names may differ in letter case and in the direction of slashes. Images that
    were skipped there are passed over.

    Raises:
        DataError: the images of the file are not those of the database, or one is listed twice.
    """
    table, shown = read_csv(file, {"image": "image", "split": "split"}), paths.shown(file)
    table = table[table["split"] != SKIPPED]
    keys, wanted = table["image"].fillna("").map(_key), images.map(_key)
    refuse(table["row"][keys.duplicated()], f"{shown}: listed twice", "keep one row")
    split = pd.Series(_split_names(table).to_numpy(), keys)
    refuse(images[~wanted.isin(keys)], f"{shown}: lacks images of the database", "add them")
    refuse(table["row"][~keys.isin(wanted)], f"{shown}: images that the database does not have", "remove them")
    return pd.Series(split[wanted].to_numpy(), images.index)


def _key(image: str) -> str:
    return same_name(image.strip().replace("\\", "/"))


def _split_names(table: pd.DataFrame) -> pd.Series:
    split = table["split"].str.strip().str.lower().replace(SPELLED_OUT)
    refuse(cells(table[~split.isin(SPLITS)], "split"), f"not one of {', '.join(SPLITS)}", "correct the file")
    return split


def write_metas(database: Labels, folder: Path, root: Path | None = None) -> list[Path]:
    """Write one JSON list of `{"image", "score"}` per split, for the reader `metas`; the written files.

    Scores are on the database's own scale. The paths of the images start from `root`, by default the folder of images.

    Raises:
        DataError: the images do not lie inside `root`.
    """
    images, root = database.folder.resolve(), (root or database.folder).resolve()
    if not images.is_relative_to(root):
        raise DataError(f"{paths.shown(images)}: not inside {paths.shown(root)}; give a `root` above the images")
    folder.mkdir(parents=True, exist_ok=True)
    splits = dict(list(database.table.groupby("split")))
    files = {split: folder / f"{database.name}_{split}.json" for split in SPLITS if split in splits}
    for split, file in files.items():
        rows = zip(splits[split]["image"], splits[split]["mos"], strict=True)
        values = [{"image": (images.relative_to(root) / image).as_posix(), "score": mos} for image, mos in rows]
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return list(files.values())
