"""Train a run: take over a finished fit, go on with a stopped one, or fit anew, in one process or in several."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import distributed

from iqa.data.cache import contents_hash
from iqa.data.crops import whole
from iqa.data.database import Database
from iqa.data.files import refuse
from iqa.study import folders
from iqa.study.identity import Identity
from iqa.study.progress import bar, tqdm
from iqa.study.results import EPOCHS
from iqa.training import identity
from iqa.training.fit import AfterEpoch, describe, fit, log, save, write_history
from iqa.training.launch import launch
from iqa.training.params import TrainParams
from iqa.training.start import load_start

SHARED = 1  # tells the draw of a share from other draws with the same seed


def train(
    params: TrainParams,
    database: Database,
    folder: Path,
    monitored: dict[str, Database] | None = None,
    after_epoch: AfterEpoch | None = None,
    others: Sequence[Database] = (),
    bar: Callable[..., tqdm] = bar,
) -> pd.DataFrame:
    """Train, and return the history, one row per epoch.

    `folder` receives `history.csv`, `train.log`, `best.pt` (the model of the best epoch), `last.ckpt` (the state to go
    on from, after each epoch and every ten minutes) and, with `save_all_epochs`, `epochs/epoch_NNN.pt`. A fit that was
    stopped goes on from there, to the same bits, and one that is finished is not repeated, as long as parameters, data,
    code and versions are the same (`iqa.training.identity`); anything else starts anew, and the log says why. One that
    is finished is extended if `epochs` alone has risen, and no rate of the epochs before depends on their number
    (`params.is_open`).

    Args:
        monitored: databases whose test splits are scored after each epoch, by name (`monitor_databases`).
        after_epoch: called with the history after each epoch (of one process); an error that it raises ends the fit,
            which can go on later.
        others: further databases to train on (`with_databases`).
        bar: makes what shows the progress (of one process).

    Raises:
        ValueError: a database has no images to train on, to validate with, or to select on.
        StartError, ModelError, CheckpointError, ResultsError: the model of `start_from` cannot be used.
        FloatingPointError: the loss is not finite.
        MemoryError: the memory of a GPU ended; the epochs before are kept.
        RuntimeError: one of several processes failed.
    """
    monitored = monitored or {}
    database, others = take_share(database, params), [take_share(each, params) for each in others]
    for each in (database, *others):
        _check_splits(params, each, monitored)
        _check_sizes(params, each, monitored)
    read = (database, *others, *monitored.values())
    data = {data.name: contents_hash(data.fingerprint, params.input) for data in read}
    now = identity.fit_identity(params, data)
    earlier = identity.find_earlier(folder, now)
    launched = distributed.is_torchelastic_launched()
    if not earlier.reasons and earlier.folder != folder and not launched:
        identity.take_over(earlier, folder)
    if earlier.finished:
        history = earlier.state["history"]
        identity.drop_damaged_last(folder, earlier.state)
        print(f"these parameters were already trained here: {len(history)} epochs are taken as they are")
        if _update_params(folder, params):
            identity.finish(folder, now, history)
        return write_history(folder, history)
    resume = not earlier.reasons
    start = load_start(params, (database, *others)) if params.start_from and not resume else None
    if not launched:
        _begin(params, (database, *others), folder, now, earlier)
    if params.processes() > 1 and not launched:
        launch(params, folder, log)
        return pd.DataFrame(identity.read_state(folder)["history"])
    mark = identity.mark(identity.read_state(folder).get("identity", now))
    history = fit(params, database, folder, monitored, after_epoch, mark, resume, start, others, bar)
    if not launched or distributed.get_rank() == 0:
        _update_params(folder, params)
        identity.finish(folder, now, history)
    return pd.DataFrame(history)


def take_share(database: Database, params: TrainParams) -> Database:
    """The database with the share `train_share` of its training contents; images of the others are `unused`.

    The seed orders the contents, and the first of them are taken: a smaller share is a part of every larger one, and
    runs of another seed learn from other images. Validation and test images stay.
    """
    if params.train_share == 1:
        return database
    table, train = database.table, database.table["split"] == "train"
    contents = np.sort(table.loc[train, "reference"].unique())
    ordered = np.random.default_rng([params.seed, SHARED]).permutation(contents)
    kept = ordered[: max(1, round(params.train_share * len(ordered)))]
    split = table["split"].mask(train & ~table["reference"].isin(kept), "unused")
    return replace(database, table=table.assign(split=split))


def _check_splits(params: TrainParams, database: Database, monitored: dict[str, Database]) -> None:
    needed = [(database, "train"), (database, "val"), *((other, "test") for other in monitored.values())]
    needed += [(database, "test")] if params.selects_on_test else []
    for data, split in needed:
        if not len(data.indices(split)):
            remedy = "; see `val_fraction`" if split == "val" else ""
            raise ValueError(f"database '{data.name}' has no images in split '{split}'{remedy}")


def _check_sizes(params: TrainParams, database: Database, monitored: dict[str, Database]) -> None:
    """That crops fit into the images that they are cut from."""
    needed = [(database, ("train",) if params.test_crops == whole.name else ("train", "val", "test"))]
    needed += [(other, ("test",)) for other in monitored.values() if params.test_crops != whole.name]
    for data, splits in needed:
        small = []
        for index in sorted(index for split in splits for index in data.indices(split)):
            height, width = data.pixels(index, params.input).shape[:2]
            if min(height, width) < params.crop:
                small.append(f"{data.table['image'][index]} ({height}x{width})")
        problem = f"database '{data.name}': images (height x width) are smaller than the crop of {params.crop}"
        remedy = "set a smaller `crop`, or `height` and `width` of the database to enlarge them"
        refuse(small, problem, remedy)


def _update_params(folder: Path, params: TrainParams) -> bool:
    """Write the present parameters into a model of other ones, which decide nothing of it; whether there are some."""
    saved = torch.load(folder / identity.MODEL, map_location="cpu", weights_only=True)
    differs = saved["params"] != params.model_dump()
    if differs:
        save(saved | describe(params), folder / identity.MODEL)
    return differs


def _begin(
    params: TrainParams, databases: Sequence[Database], folder: Path, now: Identity, earlier: identity.Earlier
) -> None:
    """Log what is done and why, and remove what another fit left."""
    if not earlier.reasons:
        before = earlier.state["identity"]
        longer = f" to {params.epochs} epochs" * (before["values"]["epochs"] < params.epochs)
        log(folder, f"going on from {identity.LAST}{longer}")
        identity.begin(folder, identity.with_epochs(before, params.epochs))
        return
    reasons = earlier.reasons if earlier.state else []
    for name in (identity.STATE, identity.LAST, identity.MODEL, identity.LOG, "history.csv", EPOCHS):
        folders.remove(folder / name)
    identity.begin(folder, now)
    for reason in reasons:
        log(folder, f"training anew: {reason}")
    counts = [
        f"'{data.name}' ({len(data.indices('train')):,} in train, {len(data.indices('val')):,} in val)"
        for data in databases
    ]
    model = f"{params.backbone}, {params.fusion_or_head}, on {' and '.join(counts)}, seed {params.seed}"
    model += f", starting from {params.start_from}" * bool(params.start_from)
    log(folder, f"{params.run}: {model}")
