"""Parameters of `07_claims` and `08_report`."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from iqa.study import param_files, paths, types
from iqa.study.param_files import run_names
from iqa.study.params import ParameterError, Params

TEXT_FOLDER = "text"  # in that of a study's parameters: what its report says in words of its own
TEXTS = ("abstract", "introduction", "data", "discussion")
MAIN = "main"  # the run that a chapter has where none is named


class ClaimsParams(Params):
    """`07_claims`: settle the claims of the documents by models, arithmetic, published figures and the study's results.

    Args:
        models: the study whose training files regenerate the documents' models.
        database: title of the database that the documents tested on; measurements on another settle no claim.
        test_images: how many of its images they tested on.
        size: height and width of their crops, in pixels.
        confidence: of the bound of differences between published figures.
    """

    step: ClassVar[str] = "claims"

    models: types.Name = "koniq10k"
    database: types.Text = "KonIQ-10k"
    test_images: Annotated[int, Field(gt=3, le=10_000_000)] = 2010
    size: types.Size = 224
    confidence: types.Share = 0.95

    def needs(self) -> list[tuple[str, str]]:
        read = ("data_prep", "train", "ablation", "complexity", "cross_dataset", "analysis")
        return [(step, run) for step in read for run in run_names(self.study, step)]

    def files(self) -> list[str]:
        trainings = param_files.all_files(self.models, "train")
        return ["report/claims.csv", "report/published.csv", *map(paths.shown, trainings)]


class ReportParams(Params):
    """`08_report`: regenerate the tables and render the report of a study.

    Args:
        notice: what the report says first, in bold.
        main: training run of the main result.
        cross, ablation, complexity, analysis: the run of that step that has a chapter; a study without runs of a step
            has no such chapter.
        claims: whether the report has the claims of the documents, which `params/<study>/claims/` then settles.
    """

    step: ClassVar[str] = "report"

    title: types.Text = "HyperIQA and its successors"
    notice: types.Text | None = None
    main: types.Name = "main_s1"
    cross: types.Name = "main"
    ablation: types.Name = "main"
    complexity: types.Name = "main"
    analysis: types.Name = "main"
    claims: bool = False

    def chapters(self) -> dict[str, str]:
        """The run of each step that has a chapter, by step; an empty name where the study has no run of the step.

        Raises:
            ParameterError: a run is named that the study does not have, or claims are wanted that nothing settles.
        """
        named = {"ablation": self.ablation, "complexity": self.complexity, "cross_dataset": self.cross}
        named |= {"analysis": self.analysis} | ({"claims": MAIN} if self.claims else {})
        found = {"claims": ""}
        for step, run in named.items():
            known = run_names(self.study, step)
            if run not in known and (known or run != MAIN or step == "claims"):
                file, key = f"params/{self.study}/{step}/{run}.yaml", step.removesuffix("_dataset")
                here = ", ".join(known) or "none"
                raise ParameterError(
                    f"params/{self.study}/report/: {key}: {file} does not exist ({here}); add it, or change {key}"
                )
            found[step] = run if known else ""
        return found

    def needs(self) -> list[tuple[str, str]]:
        folders = (paths.PARAMS / self.study).iterdir()
        steps = sorted(folder.name for folder in folders if folder.is_dir() and folder.name != TEXT_FOLDER)
        return [(step, run) for step in steps if step != self.step for run in run_names(self.study, step)]

    def texts(self) -> list[Path]:
        """The texts of a study's own, `params/<study>/text/*.md`.

        Raises:
            ParameterError: a file there is none that the report reads.
        """
        files = sorted((paths.PARAMS / self.study / TEXT_FOLDER).glob("[!.]*"))
        known = [f"{name}.md" for name in TEXTS]
        for file in files:
            if file.name not in known:
                raise ParameterError(
                    f"{paths.shown(file)}: the report does not read this file; rename it: {', '.join(known)}"
                )
        return files

    def files(self) -> list[str]:
        kinds = (".csv", ".j2", ".lua", ".css", ".js", ".htm", ".typ", ".bib")
        files = [file for file in paths.REPORT.iterdir() if file.suffix in kinds]
        return sorted(paths.shown(file) for file in [*files, *self.texts()])
