"""Parameters of `07_claims` and `08_report`."""

from typing import Annotated, ClassVar

from pydantic import Field

from iqa.study import param_files, paths, types
from iqa.study.param_files import run_names
from iqa.study.params import Params


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
    """`08_report`: regenerate the tables and render the report of a study."""

    step: ClassVar[str] = "report"

    title: types.Text = "HyperIQA and its successors on the embedded demo study"
    notice: types.Text | None = None
    main: types.Name = "main_s1"
    cross: types.Name = "main"
    ablation: types.Name = "main"
    complexity: types.Name = "main"
    analysis: types.Name = "main"
    claims: types.Name = "main"

    def needs(self) -> list[tuple[str, str]]:
        steps = sorted(folder.name for folder in (paths.PARAMS / self.study).iterdir() if folder.is_dir())
        return [(step, run) for step in steps if step != self.step for run in run_names(self.study, step)]

    def files(self) -> list[str]:
        kinds = (".csv", ".j2", ".lua", ".css", ".js", ".htm", ".typ", ".bib")
        return sorted(paths.shown(file) for file in paths.REPORT.iterdir() if file.suffix in kinds)
