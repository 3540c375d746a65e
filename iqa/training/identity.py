"""What decides the weights and the history of a training, and whether an earlier fit is the same one."""

import json
from pathlib import Path
from typing import Any

from iqa.study import code, paths
from iqa.study.identity import Identity, Reason, differences, hash_of, versions
from iqa.study.results import write_json
from iqa.training.params import TrainParams

STATE = "fit.json"  # what a fit was made from and, once it is finished, its history and the hash of its model
MODEL = "best.pt"
# the code that trains: a function and what it is called with
ROOTS = ("iqa.training.fit.fit", "iqa.training.params.TrainParams", "iqa.data.database.Database")
NOT_DECIDING = {"study", "run", "dpi", "workers"}  # parameters that change neither weights nor history


def fit_identity(params: TrainParams, data: dict[str, str]) -> Identity:
    """Parameters, code, data, weights and versions that decide a fit.

    Args:
        data: hash of each database that is read, by name; see `iqa.data.cache.contents_hash`.
    """
    by_rule = params.monitor_databases or params.selects_on_test or None in (params.val_crops, params.val_patches)
    return {
        "values": params.model_dump(exclude=NOT_DECIDING | (set() if by_rule else {"test_patches"})),
        "code": code.definitions(*ROOTS, names=params.words()),
        "reads": {f"data_prep/{name}": sha for name, sha in data.items()},
        "files": {file: hash_of(file) for file in params.files()},  # one that is missing is the model's error
        "versions": versions(params.packages),
    }


def read_state(folder: Path) -> dict[str, Any]:
    """What an earlier fit left in `fit.json`; empty where there is none or it is damaged."""
    file = folder / STATE
    try:
        state = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        print(f"{paths.shown(file)} is damaged; the training begins anew", flush=True)
        return {}
    return state if isinstance(state, dict) else {}


def compare(state: dict[str, Any], now: Identity, folder: Path) -> list[Reason]:
    """Why an earlier fit can be neither taken over nor gone on with; empty if it can.

    Args:
        state: of `read_state`.
        now: identity of the fit that is asked for.
    """
    if "identity" not in state:
        return [Reason("record", "it is not known what the earlier training was made from")]
    if "history" in state:
        model = folder / MODEL
        if not model.is_file() or code.file_hash(model) != state["model"]:
            what = "is not the file that the training wrote" if model.is_file() else "is missing"
            return [Reason("output", f"{paths.shown(model)} {what}")]
    return differences(state["identity"], now, TrainParams.defaults())


def accept(params: TrainParams, data: dict[str, str], folder: Path) -> None:
    """Give a finished fit the present identity, so that it is not repeated."""
    state = read_state(folder)
    if "history" in state:
        finish(folder, fit_identity(params, data), state["history"])


def begin(folder: Path, identity: Identity) -> None:
    """Record what a fit that begins is made from."""
    write_json(folder / STATE, {"identity": identity})


def finish(folder: Path, identity: Identity, history: list[dict[str, float]]) -> None:
    """Record that a fit is finished."""
    model = code.file_hash(folder / MODEL)
    write_json(folder / STATE, {"identity": identity, "model": model, "history": history})
