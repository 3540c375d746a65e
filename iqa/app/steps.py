"""The steps of a study in their order, their notebooks and parameters, and the runs that a name refers to."""

from collections.abc import Container, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from iqa.analysis.params import AblationParams, AnalysisParams, ComplexityParams, CrossDatasetParams
from iqa.data.params import DataPrepParams
from iqa.report.params import ClaimsParams, ReportParams
from iqa.study import param_files, paths, types
from iqa.study.echo import listed, quoted
from iqa.study.params import ParameterError, Params
from iqa.training.params import TrainParams

STEPS: dict[str, type[Params]] = {
    cls.step: cls
    for cls in (
        *(DataPrepParams, TrainParams, AblationParams, ComplexityParams),
        *(CrossDatasetParams, AnalysisParams, ClaimsParams, ReportParams),
    )
}


def notebook(step: str) -> Path:
    """The numbered notebook of a step."""
    found = sorted(paths.NOTEBOOKS.glob(f"[0-9][0-9]_{step}.ipynb"))
    if len(found) != 1:
        raise ParameterError(f"expected one notebook notebooks/NN_{step}.ipynb, found {len(found)}")
    return found[0]


def load(study: str, step: str, run: str, overrides: dict[str, Any] | None = None) -> Params:
    """Typed parameters of a run of any step; errors as of `param_files.load`."""
    return param_files.load(STEPS[step], study, run, overrides)


def all_params(study: str) -> Iterator[Params]:
    """Parameters of every run of a study, in the order of the steps; a run comes after those that it needs.

    Raises:
        ParameterError: the study does not exist, or a parameter file is wrong.
    """
    param_files.check_all_read(study, STEPS)
    for step in STEPS:
        known = param_files.runs_of(study, step)
        runs = {run: param_files.load(STEPS[step], study, run, known=known) for run in known}
        needs = {run: [name for kind, name in params.needs() if kind == step] for run, params in runs.items()}
        yield from (runs[run] for run in TopologicalSorter(needs).static_order())


def has_work(params: Params, ready: Container[tuple[str, str]]) -> bool:
    """Whether a run can compute anything where, of the trainings and databases that it needs, only some are ready."""
    if isinstance(params, AblationParams):
        return any(need in ready for need in params.needs())
    if isinstance(params, CrossDatasetParams):
        runs = [run for runs in params.train_runs().values() for run in runs]
        models = params.checkpoints() or any(("train", run) in ready for run in runs)
        return bool(models) and any(("data_prep", name) in ready for name in params.databases)
    if isinstance(params, AnalysisParams):
        return ("train", params.model) in ready and ("data_prep", params.database) in ready
    return True


def locate(name: str | Path) -> list[tuple[str, str, str]]:
    """`(study, step, run)` of each run that `name` refers to.

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
    named = len(parts) == 3 and path.suffix == ".yaml" and types.NAME.fullmatch(path.stem)
    if not named or parts[1] not in STEPS:
        raise ParameterError(
            f"{quoted(str(name))}: a run is named <study>/<step>/<run>, or by its file "
            f"params/<study>/<step>/<run>.yaml; <step> is one of {', '.join(STEPS)}"
        )
    study, step, _ = parts
    known = param_files.runs_of(study, step)
    found = [run for run, (file, _) in known.items() if run == path.stem or file == path]
    if not found:
        raise ParameterError(
            f"{paths.shown(path)} does not exist; the {step} runs of study '{study}' are: {listed(known)}"
        )
    return [(study, step, run) for run in found]


def select(name: str) -> tuple[str, list[tuple[str, str]]]:
    """A study and those of its runs, `(step, run)`, that `<study>`, `<study>/<step>` or `<study>/<step>/<run>` names.

    Raises:
        ParameterError: there is no such study, step or run.
    """
    study, *rest = Path(name).parts or ("",)
    if len(rest) > 1 or Path(name).suffix == ".yaml":
        places = locate(name)
        return places[0][0], [(step, run) for _, step, run in places]
    known = [(params.step, params.run) for params in all_params(study)]
    if rest and rest[0] not in STEPS:
        raise ParameterError(f"{quoted(name)}: {quoted(rest[0])} is no step; the steps are {', '.join(STEPS)}")
    return study, [place for place in known if not rest or place[0] == rest[0]]
