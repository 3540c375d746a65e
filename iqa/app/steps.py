"""The steps of a study, in their order, and the runs that a name refers to."""

from pathlib import Path

from iqa.analysis.params import AblationParams, AnalysisParams, ComplexityParams, CrossDatasetParams
from iqa.data.params import DataPrepParams
from iqa.report.params import ClaimsParams, ReportParams
from iqa.study import paths
from iqa.study.param_files import runs_of
from iqa.study.params import ParameterError, Params
from iqa.training.params import TrainParams

STEPS: dict[str, type[Params]] = {
    cls.step: cls
    for cls in (
        *(DataPrepParams, TrainParams, AblationParams, ComplexityParams),
        *(CrossDatasetParams, AnalysisParams, ClaimsParams, ReportParams),
    )
}


def locate(name: str | Path) -> list[tuple[str, str, str]]:
    """`(study, step, run)` of each run that is meant.

    Args:
        name: `<study>/<step>/<run>`, the same with the name of an experiment for all its runs, or the path of a
            parameter file `params/<study>/<step>/<run>.yaml`.

    Raises:
        ParameterError: there is no such run.
    """
    path = Path(name)
    by_path = path.suffix == ".yaml" or path.is_absolute()
    path = path.resolve() if by_path else paths.PARAMS / f"{name}.yaml"
    parts = path.relative_to(paths.PARAMS).parts if path.is_relative_to(paths.PARAMS) else ()
    if len(parts) != 3 or path.suffix != ".yaml" or parts[1] not in STEPS:
        raise ParameterError(
            f"{name}: a run is named <study>/<step>/<run>, or by its file params/<study>/<step>/<run>.yaml; "
            f"<step> is one of {', '.join(STEPS)}"
        )
    study, step, _ = parts
    known = runs_of(study, step)
    found = [run for run, (file, _) in known.items() if run == path.stem or file == path]
    if not found:
        names = ", ".join(known) or "none"
        raise ParameterError(f"{paths.shown(path)} does not exist; the {step} runs of study '{study}' are: {names}")
    return [(study, step, run) for run in found]
