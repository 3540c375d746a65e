"""Parameters of `07_claims` and `08_report`."""

from typing import ClassVar

from iqa.study import paths
from iqa.study.param_files import run_names
from iqa.study.params import Name, Params


class ReportParams(Params):
    """`07_report`: regenerate the tables and render the report of a study."""

    step: ClassVar[str] = "report"

    title: str = "HyperIQA and its successors on the embedded demo study"
    main: Name = "main_s1"
    cross: Name = "main"
    ablation: Name = "main"
    complexity: Name = "main"
    analysis: Name = "main"

    def needs(self) -> list[tuple[str, str]]:
        steps = sorted(folder.name for folder in (paths.PARAMS / self.study).iterdir() if folder.is_dir())
        return [(step, run) for step in steps if step != self.step for run in run_names(self.study, step)]

    def files(self) -> list[str]:
        kinds = (".csv", ".j2", ".lua", ".css", ".typ", ".bib")
        return sorted(paths.shown(file) for file in paths.REPORT.iterdir() if file.suffix in kinds)
