"""Train a run: take over a finished fit, go on with a stopped one, or fit anew, in one process or in several."""

from pathlib import Path

import pandas as pd
import torch
from torch import distributed

from iqa.data.cache import contents_hash
from iqa.data.crops import whole
from iqa.data.database import Database
from iqa.data.files import refuse
from iqa.study import folders
from iqa.study.identity import Identity, Reason
from iqa.study.results import EPOCHS
from iqa.training import identity
from iqa.training.fit import AfterEpoch, describe, fit, log, save, write_history
from iqa.training.launch import launch
from iqa.training.params import TrainParams


def train(
    params: TrainParams,
    database: Database,
    folder: Path,
    monitored: dict[str, Database] | None = None,
    after_epoch: AfterEpoch | None = None,
) -> pd.DataFrame:
    """Train, and return the history, one row per epoch.

    `folder` receives `history.csv`, `train.log`, `best.pt` (the model of the best epoch), `last.ckpt` (to go on after
    the last epoch) and, with `save_all_epochs`, `epochs/epoch_NNN.pt`. A fit that was stopped goes on after its last
    epoch, and one that is finished is not repeated, as long as parameters, data, code and versions are the same
    (`iqa.training.identity`); anything else starts anew, and the log says why.

    Args:
        monitored: databases whose test splits are scored after each epoch, by name (`monitor_databases`).
        after_epoch: called with the history after each epoch, in place of a progress bar (of one process); an error
            that it raises ends the fit, which can go on later.

    Raises:
        ValueError: the database has no images to train on, to validate with, or to select on.
        FloatingPointError: the loss is not finite.
        RuntimeError: one of several processes failed.
    """
    monitored = monitored or {}
    _check_splits(params, database, monitored)
    _check_sizes(params, database, monitored)
    data = {data.name: contents_hash(data.fingerprint, params.input) for data in (database, *monitored.values())}
    now = identity.fit_identity(params, data)
    earlier = identity.find_earlier(folder, now)
    launched = distributed.is_torchelastic_launched()
    if not earlier.reasons and earlier.folder != folder and not launched:
        identity.take_over(earlier, folder)
    if earlier.finished:
        history = earlier.state["history"]
        identity.drop_damaged_last(folder, earlier.state)
        print(f"these parameters were already trained here: {len(history)} epochs are taken as they are")
        _update_params(folder, params, now, history)
        return write_history(folder, history)
    resume = not earlier.reasons
    if not launched:
        _begin(params, database, folder, now, resume, earlier.reasons if earlier.state else [])
    if params.processes() > 1 and not launched:
        launch(params, folder, log)
        return pd.DataFrame(identity.read_state(folder)["history"])
    mark = identity.mark(identity.read_state(folder).get("identity", now))
    history = fit(params, database, folder, monitored, after_epoch, mark, resume)
    if not launched or distributed.get_rank() == 0:
        identity.finish(folder, now, history)
    return pd.DataFrame(history)


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


def _update_params(folder: Path, params: TrainParams, now: Identity, history: list[dict[str, float]]) -> None:
    """Write the present parameters into a model that is taken over; those that decide nothing may differ."""
    saved = torch.load(folder / identity.MODEL, map_location="cpu", weights_only=True)
    if saved["params"] != params.model_dump():
        save(saved | describe(params), folder / identity.MODEL)
        identity.finish(folder, now, history)


def _begin(
    params: TrainParams, database: Database, folder: Path, now: Identity, resume: bool, reasons: list[Reason]
) -> None:
    """Log what is done and why, and remove what another fit left."""
    if resume:
        log(folder, f"going on from {identity.LAST}")
        return
    for name in (identity.STATE, identity.LAST, identity.MODEL, identity.LOG, "history.csv", EPOCHS):
        folders.remove(folder / name)
    identity.begin(folder, now)
    for reason in reasons:
        log(folder, f"training anew: {reason}")
    counts = ", ".join(f"{len(database.indices(split)):,} in {split}" for split in ("train", "val"))
    model = f"{params.backbone}, {params.fusion_or_head}, on '{database.name}' ({counts}), seed {params.seed}"
    log(folder, f"{params.run}: {model}")
