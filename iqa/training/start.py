"""The weights of a trained model, for a training that starts from them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from iqa.data.database import Database
from iqa.model.predictor import load_model
from iqa.study import paths
from iqa.study.echo import quoted
from iqa.study.results import result_file
from iqa.training.params import TrainParams, source_run


class StartError(ValueError):
    """A model that a training cannot start from; the message says why, and what to do."""


def load_start(params: TrainParams, databases: Sequence[Database]) -> dict[str, Tensor]:
    """The weights of the model that `start_from` names, by the names of its tensors.

    Architecture and kind of input must be those of the training, and its databases stored in the size and colours in
    which the model saw its images. What the network gives is on 0..1, where 1 is best, whatever the database's scale.

    Raises:
        StartError: they are not, or the scores of the model do not rise with quality.
        ResultsError: the run is not finished.
        ModelError, CheckpointError: the file holds no model that can be read.
    """
    source = source_run(params.start_from, params.study)
    file = result_file(source[0], "train", source[1], "best.pt") if source else paths.resolve(params.start_from)
    model = load_model(file, "cpu")
    if model.scale.uncalibrated:
        raise StartError(f"start_from: {params.start_from} is uncalibrated: {model.scale.uncalibrated}; name another")
    wanted, given = model.network.params.model_dump() | {"input": model.input}, params.model_dump()
    keys = [key for key in wanted if key not in params.free and _plain(wanted[key]) != _plain(given[key])]
    if differing := _listed(wanted, given, keys):
        raise StartError(f"start_from: {params.start_from} is another model; set as it has them: {differing}")
    for database in databases:
        seen, stored = vars(model.size), vars(database.size)
        keys = ["height", "width", "keep_aspect", "filter", "colours"] if model.size.height else ["colours"]
        if differing := _listed(seen, stored, [key for key in keys if seen[key] != stored[key]]):
            place = f"database '{database.name}' is not stored as {model.name} saw its images"
            raise StartError(f"{place}; set in its parameter file under data_prep: {differing}")
    return model.network.state_dict()


def _plain(value: Any) -> Any:
    """A value; of a network's name the part without that of timm's weights."""
    return value.split(".")[0] if isinstance(value, str) else value


def _listed(wanted: dict[str, Any], given: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}: {quoted(wanted[key])} (not {quoted(given[key])})" for key in keys)
