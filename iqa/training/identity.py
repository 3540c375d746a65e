"""What decides the weights and the history of a training, and whether an earlier fit is the same one."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from iqa.study import code, folders, paths
from iqa.study.hashes import is_intact, seal
from iqa.study.identity import PARTS, Identity, Reason, differences, hash_of, versions
from iqa.study.results import EPOCHS, write_json
from iqa.training.params import TrainParams, is_open

STATE = "fit.json"  # what a fit was made from and, once it is finished, its history and the hash of its model
MODEL = "best.pt"
LAST = "last.ckpt"  # to go on from
LOG = "train.log"
# the code that trains: a function and what it is called with
ROOTS = ("iqa.training.fit.fit", "iqa.training.params.TrainParams", "iqa.data.database.Database")
SHARE = "iqa.training.train.take_share"  # trains where a share of the images is asked for
STARTED = ("iqa.model.checkpoints.read", "iqa.model.tensors.fill")  # and that reads the weights to start from
NOT_DECIDING = {"study", "run", "dpi", "workers"}  # parameters that change neither weights nor history


def fit_identity(params: TrainParams, data: dict[str, str]) -> Identity:
    """Parameters, code, data, weights and versions that decide a fit.

    Args:
        data: hash of each database that is read, by name; see `iqa.data.cache.contents_hash`.
    """
    roots = ROOTS + (SHARE,) * (params.train_share < 1) + STARTED * bool(params.start_from)
    by_rule = params.monitor_databases or params.selects_on_test or None in (params.val_crops, params.val_patches)
    return {
        "values": params.model_dump(exclude=NOT_DECIDING | params.unread | (set() if by_rule else {"test_patches"})),
        "code": code.definitions(*roots, names=params.words()),
        "reads": {f"data_prep/{name}": sha for name, sha in data.items()},
        "files": {file: hash_of(file) for file in params.files()},  # one that is missing is the model's error
        "versions": versions(params.packages),
    }


class State(TypedDict):
    """What `fit.json` holds; all but identity and checksum once the fit is finished."""

    identity: NotRequired[dict[str, dict[str, Any]]]
    model: NotRequired[str]  # hash
    others: NotRequired[dict[str, str]]  # hashes of the models of all epochs, and of `last.ckpt`
    history: NotRequired[list[dict[str, int | float]]]
    check: NotRequired[str]


STATES = TypeAdapter(State)


class Earlier(NamedTuple):
    """A fit that was begun earlier, and why it can be neither taken over nor gone on with; no reasons if it can."""

    folder: Path
    state: State
    reasons: list[Reason]
    extended: bool = False  # whether it is finished, and more epochs are asked for

    @property
    def finished(self) -> bool:
        return "history" in self.state and not self.reasons and not self.extended


def read_state(folder: Path) -> State:
    """What an earlier fit left in `fit.json`; empty where there is none or it is damaged."""
    file = folder / STATE
    try:
        state = STATES.validate_json(file.read_bytes())
        if is_intact(dict(state)):
            return state
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        pass
    print(f"{paths.shown(file)} is damaged; it is not used", flush=True)
    return {}


def find_earlier(folder: Path, now: Identity) -> Earlier:
    """The earlier fit that helps most: of the working folder, or of the results that it is to replace.

    Args:
        now: identity of the fit that is asked for.
    """
    found = []
    for place in dict.fromkeys((folder, paths.results_of(folder))):
        state = read_state(place)
        found.append(_compare(state, now, place))
    return min(found, key=lambda fit: (bool(fit.reasons), not fit.finished, not fit.state))


def _compare(state: State, now: Identity, folder: Path) -> Earlier:
    if state.get("identity", {}).keys() != PARTS or ("history" in state) != ("model" in state):
        return Earlier(folder, state, [Reason("record", "it is not known what the earlier training was made from")])
    before = state["identity"]
    longer = goes_on(before["values"], now["values"])
    if longer:
        before = with_epochs(before, now["values"]["epochs"])
    if reasons := differences(before, now, TrainParams.defaults()):
        return Earlier(folder, state, explain_length(reasons, before, now))
    extended = longer and "history" in state and not _ended_early(state, folder)
    if "history" in state:
        files = state.get("others", {}) | {MODEL: state["model"]}
        if extended:
            files.setdefault(LAST, "")
        else:
            files.pop(LAST, None)  # nothing goes on from it
        lost = [name for name, sha in files.items() if _hash(folder / name) != sha]
        what = "is not the file that the training wrote"
    else:
        last = _load(folder / LAST, state)
        epochs = len(last["history"]) if last else 0
        every = range(1, epochs + 1) if now["values"]["save_all_epochs"] else ()
        files = [*[MODEL] * bool(epochs), *(f"{EPOCHS}/epoch_{epoch:03}.pt" for epoch in every)]
        lost = [LAST] * (not last) + [name for name in files if not _load(folder / name, state)]
        what = "is damaged, or of another training"
    for place in (folder / name for name in lost[:1]):
        reasons.append(Reason("output", f"{paths.shown(place)} {what if place.exists() else 'is missing'}"))
    return Earlier(folder, state, reasons, extended)


def goes_on(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a fit with these values can be gone on with to reach more epochs, as if it had been to reach them."""
    return before["epochs"] < now["epochs"] and is_open(now["schedule"])


def explain_length(reasons: list[Reason], before: Identity, now: Identity) -> list[Reason]:
    """Why a fit is due, with what becomes of the epochs that there are where more are asked for."""
    text, schedule = "", now["values"]["schedule"]
    if goes_on(before["values"], now["values"]):
        text = f"; it goes on from {LAST}" if len(reasons) == 1 else ""
    elif before["values"]["epochs"] < now["values"]["epochs"]:
        text = f"; schedule '{schedule}' spans all epochs: to go on from this model, use `start_from` in another file"
    rises = "parameter epochs:"
    return [replace(each, text=each.text + text) if each.text.startswith(rises) else each for each in reasons]


def with_epochs(identity: Identity, epochs: int) -> Identity:
    """The identity of the same fit with another number of epochs."""
    return identity | {"values": identity["values"] | {"epochs": epochs}}


def _ended_early(state: State, folder: Path) -> bool:
    """Whether a finished fit ended by `patience`, and not because it had reached its number of epochs."""
    if len(state["history"]) < state["identity"]["values"]["epochs"]:
        return True
    last = _content(folder / LAST)
    return any(part.get("stopped_epoch") for part in last["callbacks"].values()) if last else False


def _hash(file: Path) -> str | None:
    return code.file_hash(file) if file.is_file() else None


def mark(identity: Identity) -> str:
    """What the model and the checkpoint of a fit carry, however long it is, to be told from those of another one."""
    return code.digest(with_epochs(identity, 0))


def _load(file: Path, state: State) -> dict[str, Any] | None:
    """A model or checkpoint; None where it is not whole, or was not written by this fit."""
    content = _content(file)
    return content if content and content.get("fit") == mark(state["identity"]) else None


def _content(file: Path) -> dict[str, Any] | None:
    """What a model or checkpoint holds; None where it is not whole."""
    from iqa.model.tensors import CheckpointError, load  # here, as it loads torch

    try:
        content = load(file, mmap=True)
    except CheckpointError:
        return None
    return content if isinstance(content, dict) else None


def take_over(earlier: Earlier, folder: Path) -> None:
    """Bring an earlier fit into another folder; its large files are linked, and nobody changes them in place."""
    names = [MODEL, LAST, LOG, *(f"{EPOCHS}/{file.name}" for file in (earlier.folder / EPOCHS).glob("*.pt")), STATE]
    for name in names:
        source, target = earlier.folder / name, folder / name
        folders.remove(target)
        if source.is_file():
            target.parent.mkdir(exist_ok=True)
            try:
                (shutil.copyfile if name == LOG else os.link)(source, target)
            except OSError:  # not every file system has links
                shutil.copyfile(source, target)


def drop_damaged_last(folder: Path, state: State) -> None:
    """Remove the checkpoint of a finished fit if it is damaged: nothing will go on from it."""
    last, sha = folder / LAST, state.get("others", {}).get(LAST)
    if sha and last.exists() and _hash(last) != sha:
        folders.remove(last)
        print(f"{paths.shown(last)} is damaged; it is left out, as the training is finished", flush=True)


def accept(params: TrainParams, data: dict[str, str], folder: Path) -> None:
    """Give a finished fit the present identity, so that it is not repeated."""
    state = read_state(folder)
    if "history" in state:
        finish(folder, fit_identity(params, data), state["history"])


def begin(folder: Path, identity: Identity) -> None:
    """Record what a fit that begins is made from."""
    write_json(folder / STATE, seal({"identity": identity}), durable=True)


def finish(folder: Path, identity: Identity, history: list[dict[str, float]]) -> None:
    """Record that a fit is finished."""
    model = code.file_hash(folder / MODEL)
    files = [folder / LAST, *sorted((folder / EPOCHS).glob("*.pt"))]
    others = {file.relative_to(folder).as_posix(): code.file_hash(file) for file in files if file.is_file()}
    state = {"identity": identity, "model": model, "others": others, "history": history}
    write_json(folder / STATE, seal(state), durable=True)
