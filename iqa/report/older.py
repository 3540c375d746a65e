"""What results of older versions lack, completed from their parameters, so that accepted results can be reported."""

from typing import Any

from iqa.study.results import read_json, result_file


def complete_architecture(description: dict[str, Any]) -> dict[str, Any]:
    """An `architecture.json` with the words of its fusion and target input, which older files do not have."""
    if all("words" in part for part in description["parts"] if part["name"] in ("fusion", "local")):
        return description
    from iqa.model.architecture import WORDS
    from iqa.model.fusion import FUSIONS
    from iqa.model.hyperiqa import TARGET_INPUTS

    entries = {"fusion": FUSIONS[description["fusion"]], "local": TARGET_INPUTS[description["target_input"]]}
    words = {name: {key: getattr(entry, key) for key in WORDS[name]} for name, entry in entries.items()}
    return description | {"parts": [words.get(part["name"], {}) | part for part in description["parts"]]}


def describe_loss(study: str, run: str) -> dict[str, Any]:
    """What `loss.json` of a training run would hold."""
    from iqa.training.losses import describe
    from iqa.training.params import TrainParams

    values = read_json(study, "train", run, "params")
    params = TrainParams.build(values, str(result_file(study, "train", run, "params.json")))
    return describe(params.terms(), vars(params))
