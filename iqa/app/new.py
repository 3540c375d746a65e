"""`iqa new`: a study of one's own, from a folder of images and a table of their scores, or from another study.

The data decide what nobody has said. What was found in them and what follows from it is printed. `new_study.yaml.j2`
holds the files of such a study.
"""

import csv
import io
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from iqa.app import machine, steps
from iqa.data.files import same_name, some, what_is_wrong
from iqa.data.readers import read_cells, read_text
from iqa.data.releases import RELEASES
from iqa.data.splits import SPELLED_OUT, SPLITS
from iqa.report.params import ReportParams
from iqa.study import disk, folders, param_files, paths, types
from iqa.study.echo import listed, quoted
from iqa.training.params import TrainParams
from iqa.training.weights import data_config

TEMPLATE = Path(__file__).with_name("new_study.yaml.j2")
CALLED = {  # what columns are called, without capitals and marks; where several fit, the first pattern decides
    "mos": [
        r"mos",
        r"dmos",
        r"d?mos.*|.*mos|meanopinion(score)?",
        r"(mean|avg|average)?(quality|score|rating|grade)s?",
    ],
    "mos_std": [r"(mos|dmos|score|rating|quality)?(std|sd|stdev|stddev|sigma)(mos|dmos|score|rating|quality)?"],
    "split": [r"(data)?(split|set|subset|partition)"],
    "reference": [r"ref(erence)?(image|img|name|id)?|content|scene|original|source(image)?"],
    "distortion": [r"distortion(type|name)?|disttype"],
    "level": [r"(distortion|dist)?(level|severity)"],
}
MARKS = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", " ": "blanks"}  # between cells
NOTHING = {"", "na", "n/a", "nan", "null", "none", "-"}  # what stands where there is no score
SCALES = ((0, 1), (1, 5), (0, 5), (1, 10), (0, 10), (0, 100))  # on which scores are often given
COPIED = {"name", "source", "backbone", "weights", "mean", "std", "epochs", "seeds", "device", "title"}  # of a copy
FEWEST = 20  # images of a study
SMALLEST, ROOM = 64, 12 / 7  # side of a crop; shorter side of the stored images over that of a crop
PATCHES = 5_000  # that a training sees if that is 5 to 20 epochs; on a GPU ten times as many
SMALL, LARGE = "tf_efficientnet_lite0", "resnet50"  # backbones without and with a GPU


class NewError(ValueError):
    """A study that cannot be made so; the message says why, and what to do."""


def start(options: Options) -> None:
    """Write the parameter files of a study to `params/<name>/`, and print what was found and chosen.

    The options are those of the command, None where nothing is said: see `iqa new --help`.

    Raises:
        NewError, ParameterError, BackboneError, ...: the study exists, the one to copy does not, or something does not
            fit; nothing is written.
    """
    given = [key for key, value in vars(options).items() if value is not None]
    if options.source and (alone := sorted(key for key in given if key not in COPIED)):
        raise NewError(f"--{alone[0].replace('_', '-')} has no meaning with --from; leave one out")
    if not options.source and (lacking := [f"--{key}" for key in ("images", "labels") if key not in given]):
        raise NewError(f"{' and '.join(lacking)}: needed; or name a study to copy with --from")
    _check_name(options.name)
    _publish(options.name, _copy(options) if options.source else _new(options))


def _new(options: Options) -> Callable[[Path], None]:
    """What writes the files of a study of one's own."""
    folder, file = (Path(place).expanduser().resolve() for place in (options.images, options.labels))
    table, column = _read_scores(file, folder, options.image_column, options.score_column)
    low, high = _range(table["mos"], options.low, options.high)
    up = options.direction != "lower" if options.direction else not _plain(column).startswith("dmos")
    why = "" if up or options.direction else f", as the column is called '{column}'"
    _say("direction", f"{'higher' if up else 'lower'} scores are better{why} (else: --direction)")
    gpu = bool(machine.visible_gpus()) and options.device != "cpu"
    network, crop, resized = _network(options, LARGE if gpu else SMALL, "imagenet")
    crop, stored = _sizes(folder, table, crop, options.size)
    _try(network, crop)
    here = table[table["here"]]
    train = int((here["split"] == "train").sum()) if "split" in here else round(0.8 * len(here))
    epochs = options.epochs or int(np.clip((10 * PATCHES if gpu else PATCHES) / train, 5, 20))
    seeds, ablation = options.seeds or 2, options.ablation or "head"
    batch, count = max(4, min(32 if gpu else 16, train // 8)), seeds * (1 + (ablation != "none"))
    _say("training", f"{count} trainings (else: --seeds, --ablation), each of {epochs} epochs (else: --epochs)")
    others = {  # databases that are here, and how they are split
        reader: "" if release.splits or release.test_only else "all_test"
        for reader, release in RELEASES.items()
        if release.folder and paths.resolve(release.folder).is_dir()
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        **{"name": options.name, "file": file.name, "folder": _written(folder), "low": low, "high": high, "up": up},
        **{"skip": not table["here"].all(), "train": train, "stored": stored, "filter": resized, "crop": crop},
        **{"others": others, "network": network, "epochs": epochs, "batch": batch, "ablation": ablation, "gpu": gpu},
        **{"seeds": [*range(1, seeds + 1)], "device": options.device or "auto", "threads": min(4, os.cpu_count() or 1)},
        title=options.title or f"Image quality of {options.name}, assessed with HyperIQA",
    )

    def write(made: Path) -> None:
        for part in re.split("(?m)^=== ", text)[1:]:
            place, content = part.split("\n", 1)
            (made / place).parent.mkdir(exist_ok=True)
            (made / place).write_text(content, encoding="utf-8")
        table.drop(columns="here").to_csv(made / "labels.csv", index=False)

    return write


def _copy(options: Options) -> Callable[[Path], None]:
    """What writes the files of a study as those of another one, with some values of its trainings changed.

    A backbone, with its mean and standard deviation, takes the place of that of the report's model in each training
    file that sets that one; experiments with other backbones stay.
    """
    name, source = options.name, options.source
    folder, yaml = param_files.study_folder(source), YAML()
    yaml.width, yaml.default_flow_style = 4096, None
    yaml.indent(sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda made, _: made.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    report = next(params for params in steps.all_params(source) if isinstance(params, ReportParams))
    main = param_files.load(TrainParams, source, report.main)
    files = {file.relative_to(folder).as_posix(): yaml.load(file) or {} for file in sorted(folder.rglob("*.yaml"))}
    trainings = [values for place, values in files.items() if re.match(r"train(/|\.yaml)", place)]
    if options.backbone or options.weights or options.mean or options.std:
        if main.weights and not options.weights:
            raise NewError(f"{source} reads the weights of '{main.backbone}' from a file; give --weights, too")
        network, _, _ = _network(options, main.backbone, "imagenet" if main.pretrained else "none")
        _try(network, main.crop)
        plain = {"backbone_args": {}, "pretrained": False, "weights": None}
        old = {key: value for key, value in plain.items() if getattr(main, key) != value}
        for values in trainings:
            if values.get("backbone") == main.backbone:
                values.update(old | network)
    given = {key: getattr(options, key) for key in ("epochs", "device") if getattr(options, key) is not None}
    seeds = [*range(1, options.seeds + 1)] if options.seeds else None
    for values in [files.setdefault("train.yaml", {}), *trainings]:
        values.update({key: value for key, value in given.items() if key in values or values is files["train.yaml"]})
        values.update({"seeds": seeds} if seeds and "seeds" in values else {})
    for place, values in files.items():
        if place.startswith("report/"):
            values["title"] = options.title or f"{name}: {source} with other parameters"
        if values.get("labels") == f"params/{source}/labels.csv":
            values["labels"] = f"params/{name}/labels.csv"

    def write(made: Path) -> None:
        shutil.copytree(folder, made, dirs_exist_ok=True)
        for place, values in files.items():
            yaml.dump(values, made / place)

    return write


def _check_name(name: str) -> None:
    try:
        place = paths.PARAMS / types.run_name(name)
    except ValueError as error:
        raise NewError(f"{quoted(name)} cannot be the name of a study: {error}") from None
    if same_name(name) in map(same_name, param_files.studies()):
        raise NewError(f"{paths.shown(place)} exists, and is not overwritten; choose another name, or remove it")


def _publish(name: str, write: Callable[[Path], None]) -> None:
    """Put the files of a study in place, unless they do not fit together."""
    place = paths.PARAMS / name
    with disk.publish(place) as made:
        write(made)
    try:
        runs = list(steps.all_params(name))
        if lacking := {need for params in runs for need in params.needs()} - {(each.step, each.run) for each in runs}:
            raise NewError(f"the study would lack the {' run '.join(min(lacking))}, which others of its runs read")
    except Exception:
        folders.remove(place)
        raise
    print(f"\n{paths.shown(place)} is made. Change what you like in its files, then:\n\n    make report STUDY={name}\n")


def _say(what: str, words: str) -> None:
    print(f"{what + ':':<11}{words}", flush=True)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _written(path: Path) -> str:
    """A path as parameter files hold it."""
    return paths.shown(path).replace("$", "$$")


def _read_scores(
    file: Path, folder: Path, image_column: str | None, score_column: str | None
) -> tuple[pd.DataFrame, str]:
    """A row for each image, with the columns of the reader `csv` and `here` (whether it is); the scores' column.

    An image is called by its path in the folder.
    """
    stored, table = _list_images(folder), _read_table(file)
    for column in {image_column, score_column} - {None, *table}:
        raise NewError(f"{file.name} has no column {quoted(column)}; its columns are: {listed(table)}")
    fits = {column: [_fits(stored, cell) for cell in table[column]] for column in table}
    image = image_column or max(fits, key=lambda column: sum(map(bool, fits[column])))
    total = len(set().union(*stored.values()))
    if not any(fits[image]):
        which = f"column '{image_column}'" if image_column else "no column"
        raise NewError(f"none of the {total} images of {folder} stands in {which} of {file.name}; correct one of these")
    if several := [
        f"{cell}: {listed(found)}" for cell, found in zip(table[image], fits[image], strict=True) if found[1:]
    ]:
        raise NewError(f"names in '{image}' that fit several images: {some(several)}; write folder and ending, too")
    numbers = {column: found for column in table if column != image and (found := _numbers(table[column])) is not None}
    score = score_column or _called("mos", [*numbers]) or _only(numbers)
    if score not in numbers:
        problem = (
            f"column '{score}' holds other than numbers" if score else "which column holds the scores is not clear"
        )
        raise NewError(f"{file.name}: {problem}; name one with --score-column; those of numbers are: {listed(numbers)}")
    _say("image", f"column '{image}'; {total} images are in {paths.shown(folder)}")
    _say("score", f"column '{score}' (else: --score-column)")
    scores = pd.DataFrame({"image": table[image], "mos": numbers[score], "here": list(map(bool, fits[image]))})
    scores["image"] = [found[0] if found else cell for found, cell in zip(fits[image], table[image], strict=True)]
    used = {image: "image", score: "mos"}
    for name in [*CALLED][1:]:
        column = _called(name, [column for column in table if column not in used])
        values = table.get(column) if name in ("split", "reference", "distortion") else numbers.get(column)
        if name == "split" and column:
            values = values.str.strip().str.lower().replace(SPELLED_OUT | {"valid": "val", "dev": "val"})
            values = values if {"train", "test"} <= set(values) <= set(SPLITS) else None
        if values is not None:
            used[column], scores[name] = name, values
    known = [f"{name} from '{column}'" for column, name in used.items() if column not in (image, score)]
    _say("also", f"{listed(known)}; not used: {listed(column for column in table if column not in used)}")
    return _one_row_each(scores), score


def _one_row_each(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores without rows that have none, and with the mean of several ratings of an image."""
    if (empty := scores["mos"].isna()).any():
        _say("left out", f"{empty.sum()} rows without a score: {some(scores['image'][empty])}")
    scores = scores[~empty].reset_index(drop=True)
    repeated = scores["image"].duplicated(keep=False)
    if repeated.mean() > 0.5:  # a row for each rating
        rows = scores.groupby("image", sort=False)
        scores = rows.first().assign(mos=rows["mos"].mean(), mos_std=rows["mos"].std()).reset_index()
        _say("ratings", f"{rows.size().median():g} rows for most images, whose mean is the score")
    elif repeated.any():
        names = some(scores["image"][repeated].unique())
        raise NewError(f"images that are listed more than once: {names}; keep one row of each")
    if len(missing := scores["image"][~scores["here"]]):
        _say("missing", f"{len(missing)} of the listed images, which the report will name: {some(missing)}")
    if scores["here"].sum() < max(FEWEST, len(missing)):
        there = f"{scores['here'].sum()} of the {len(scores)} listed images are there"
        raise NewError(f"{there}; at least {FEWEST}, and half of them, are needed")
    return scores


def _list_images(folder: Path) -> dict[str, list[str]]:
    """The images of a folder and its subfolders by what a table may call them: with or without folder, and ending."""
    if not folder.is_dir():
        raise NewError(f"{folder}: no such folder; name that of the images with --images")
    Image.init()
    stored: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("*")):
        place = file.relative_to(folder)
        hidden = any(part.startswith((".", "__MACOSX")) for part in place.parts)
        if file.suffix.lower() in Image.EXTENSION and not hidden and file.is_file():
            for name in {place.as_posix(), place.with_suffix("").as_posix(), place.name, place.stem}:
                stored.setdefault(same_name(name), []).append(place.as_posix())
    return stored


def _fits(stored: dict[str, list[str]], cell: str) -> list[str]:
    """The images that a cell names; folders at its beginning may be others than here."""
    parts = same_name(cell.strip().replace("\\", "/")).split("/")
    names = ("/".join(parts[place:]) for place in range(len(parts)))
    found = next((stored[name] for name in names if name in stored), [])
    return [cell] if cell in found else found


def _read_table(file: Path) -> pd.DataFrame:
    """The cells of a table as text, whatever stands between them; columns without a name are called by their number."""
    if problem := what_is_wrong(file):
        raise NewError(f"{file} {problem}")
    rows: list[list[str]] = []
    if file.suffix.lower() in (".xlsx", ".xlsm", ".xls"):
        rows, between = read_cells(file).fillna("").to_numpy().tolist(), "a workbook"
    else:
        text, between = read_text(file), ""
        for mark, words in MARKS.items():
            found = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True)
            cells = [[cell.strip() for cell in row] for row in found if any(map(str.strip, row))]
            width, count = Counter(map(len, cells)).most_common(1)[0] if cells else (0, 0)
            if not rows and width > 1 and count > 0.9 * len(cells):
                rows, between = cells, f"{words} between the cells"
    rows = rows[next((number for number, row in enumerate(rows) if sum(map(bool, row)) > 1), len(rows)) :]
    if not rows:
        raise NewError(f"{file}: holds no table with images and scores; save it as CSV, with a row for each image")
    header = not any(re.fullmatch(r"-?\d+([.,]\d+)?", cell) for cell in rows[0])
    names = [cell if header and cell else f"column {number}" for number, cell in enumerate(rows[0], start=1)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise NewError(f"{file}: column '{twice[0]}' stands twice; keep one")
    if long := [number for number, row in enumerate(rows, start=1) if len(row) > len(names)]:
        raise NewError(f"{file}: row {long[0]} has more cells than the first; quote cells that hold a comma")
    table = pd.DataFrame(rows[header:], columns=names, dtype=str).fillna("")
    _say("table", f"{file.name}: {len(table)} rows, {between}")
    return table.loc[:, (table != "").any()]


def _numbers(cells: pd.Series) -> pd.Series | None:
    """Cells as numbers, with points or commas before the decimals, if they are numbers; NaN where one is empty."""
    cells = cells.mask(cells.str.lower().isin(NOTHING))
    for written in (cells, cells.str.replace(",", ".")):
        numbers = pd.to_numeric(written, errors="coerce")
        if cells.notna().any() and (np.isfinite(numbers) | cells.isna()).all():
            return numbers
    return None


def _called(name: str, columns: list[str]) -> str | None:
    """The column that is called as such columns are."""
    fits = (column for pattern in CALLED[name] for column in columns if re.fullmatch(pattern, _plain(column)))
    return next(fits, None)


def _only(numbers: dict[str, pd.Series]) -> str | None:
    """The one column of numbers that does not just count the rows, and is not called as other columns are."""
    counting = {column for column, values in numbers.items() if (values.diff().iloc[1:] == 1).all()}
    rest = [
        column for column in numbers if column not in counting and not any(_called(name, [column]) for name in CALLED)
    ]
    return rest[0] if len(rest) == 1 else None


def _range(mos: pd.Series, low: float | None, high: float | None) -> tuple[float, float]:
    """The ends of the scale, by what is given or else by the scores."""
    least, most = float(mos.min()), float(mos.max())
    if least == most:
        raise NewError(f"all scores are {least:g}; name the column that holds them with --score-column")
    usual = next((scale for scale in SCALES if scale[0] <= least and most <= scale[1]), None)
    bottom, top = usual or (math.floor(least), math.ceil(most))
    bottom, top = bottom if low is None else low, top if high is None else high
    if bottom > least or top < most:
        raise NewError(
            f"scores from {least:g} to {most:g} are not within {bottom:g} to {top:g}; correct --low and --high"
        )
    _say("range", f"scores from {least:g} to {most:g}, on a scale from {bottom:g} to {top:g} (else: --low, --high)")
    return bottom, top


def _network(options: Options, backbone: str, weights: str) -> tuple[dict[str, Any], int, str]:
    """What a backbone decides: parameters of a training, the side of its crops, and how images are resized for it.

    Args:
        backbone, weights: where the options say nothing.
    """
    backbone, weights = options.backbone or backbone, options.weights or weights
    config = data_config(backbone)
    values: dict[str, Any] = {"backbone": backbone}
    if backbone.startswith("swin"):
        values["backbone_args"] = {"strict_img_size": False}  # images of any size
    if weights == "imagenet":
        if not config:
            raise NewError(f"timm has no weights of {quoted(backbone)}; choose another --backbone, or set --weights")
        values["pretrained"], words = True, "timm's weights, which it downloads when the first training starts"
    elif weights == "none":
        words = "trained from scratch, for which few images are not enough"
    else:
        values["weights"], words = _written(Path(weights).expanduser().resolve()), f"weights of {Path(weights).name}"
    for key in ("mean", "std"):
        values[key] = list(getattr(options, key) or config.get(key, [0.5] * 3))
    whose = "as given" if options.mean and options.std else "as timm has it for this backbone (else: --mean, --std)"
    _say("backbone", f"{backbone} (else: --backbone), {words} (else: --weights)")
    _say("input", f"mean {values['mean']}, standard deviation {values['std']}, {whose}")
    filter = "bilinear" if config.get("interpolation") == "bilinear" else "lanczos"  # which is nearest to bicubic
    return values, config.get("input_size", (3, 224, 224))[-1], filter


def _sizes(folder: Path, table: pd.DataFrame, crop: int, size: int | None) -> tuple[int, int | None]:
    """The side of the crops, and the shorter side of the stored images; None where they keep their own size."""
    sides, broken = [], []
    for row in table.index[table["here"]]:
        try:
            with Image.open(folder / table["image"][row]) as image:
                sides.append(image.size)
        except Exception:  # whatever a damaged file makes of it
            broken.append(row)
    if broken:
        table.loc[broken, "here"] = False
        _say("unreadable", f"{len(broken)} images, which the report will name: {some(table['image'][broken])}")
    if len(sides) < FEWEST:
        raise NewError(f"{len(sides)} images can be read; at least {FEWEST} are needed")
    usual = int(np.quantile(np.min(sides, axis=1), 0.05))  # few smaller ones are enlarged
    crop = min(crop, (size or usual) // 32 * 32)
    if crop < SMALLEST:
        raise NewError(f"a shorter side of {size or usual} pixels is too small: {SMALLEST} are needed")
    largest, kinds = round(crop * ROOM / 32) * 32, Counter(sides)
    stored = size or (None if len(kinds) == 1 and usual < largest + 32 else min(largest, usual // 32 * 32))
    (width, height), count = kinds.most_common(1)[0]
    kept = f"stored with a shorter side of {stored} (else: --size)" if stored else "stored as they are (else: --size)"
    _say("sizes", f"{count} of {len(sides)} images are {width}x{height}; {kept}; crops of {crop}")
    return crop, stored


def _try(network: dict[str, Any], crop: int) -> None:
    """Refuse a network that cannot be built, whose weights do not fit, or that does not take the crops."""
    import torch

    from iqa.model.backbone import Backbone
    from iqa.model.params import ModelParams

    params = ModelParams.build({key: network[key] for key in network.keys() & ModelParams.model_fields}, "iqa new")
    with torch.no_grad():
        Backbone(params, weights=network.get("weights")).eval()(torch.zeros(1, 3, crop, crop))
