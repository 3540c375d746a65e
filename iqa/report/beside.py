"""What lies beside a report and is linked from it: files that it names, parameters, and executed notebooks as pages.

All addresses are relative to the report's folder, which so can be served from any place.
"""

import shutil
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import jinja2

from iqa.report.reader import ReportError
from iqa.study import param_files, paths
from iqa.study.code import file_hash
from iqa.study.disk import write_whole
from iqa.study.results import command_for

NOTEBOOK = "notebook.ipynb"
PAGE = "notebook.html.j2"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LEADING = '<!DOCTYPE html>\n<meta charset="utf-8">\n<title>Report</title>\n'
LEADING += '<meta http-equiv="refresh" content="0; url=report.html">\n<a href="report.html">Report</a>\n'
# files of the numbers behind figures that have another name
FIGURES = {"before_after": "architecture.json", "curves": "history.csv", "best": "cases.csv", "worst": "cases.csv"}
FIGURES |= {"compare": "cross.csv", "heatmap": "cross.csv", "throughput": "latency.csv", "tradeoff": "overview.csv"}
FIGURES |= {"compare_trainings": "dynamics.csv", "monitored": "dynamics.csv", "weight_space": "points.csv"}
FIGURES |= dict.fromkeys(("feature_maps", "quality_maps", "scatter"), "predictions.csv")
FIGURES |= {"mos_histogram": "database.csv", "samples": "database.csv", "attention": "bands.csv"}
FIGURES |= {"scatter_pairs": "ablation.csv", "sensitivity": "ablation.csv"}


class Beside:
    """Links from a report to what lies beside it, which `write` puts there.

    Args:
        study: the study of the report.
        place: the report's folder, in which pages of an earlier report may be that are still right.
    """

    def __init__(self, study: str, place: Path):
        self.study, self.place = study, place
        self.files: dict[str, Path] = {}
        self.notebooks: dict[str, tuple[str, str]] = {}

    def file(self, name: str) -> str | None:
        """The address of a file that is named as in the report, `results/<study>/...`; None if it is not there."""
        top, _, rest = name.partition("/")
        tops = {"results": paths.RESULTS, "params": paths.PARAMS, "report": paths.REPORT}
        if top not in tops or not (tops[top] / rest).is_file():
            return None
        self.files[name] = tops[top] / rest
        return f"files/{quote(name)}"

    def parameters(self, step: str, run: str) -> str | None:
        """The address of a run's parameter file."""
        file = param_files.params_file(self.study, step, run)
        return self.file(f"params/{file.relative_to(paths.PARAMS).as_posix()}")

    def notebook(self, step: str, run: str) -> str | None:
        """The address of the page of a run's executed notebook; None if there is none (yet)."""
        if step == "report" or not (paths.run_folder(self.study, step, run) / NOTEBOOK).is_file():
            return None
        self.notebooks[f"{step}-{run}"] = step, run
        return f"notebooks/{quote(step)}-{quote(run)}.html"

    def source(self, step: str, run: str, shown: str, numbers: dict[str, str | None]) -> str:
        """A small line of Markdown on where a table or figure comes from; the PDF has the file's name alone.

        Args:
            shown: the file as it is named.
            numbers: addresses of files with the numbers, by title.
        """
        addresses = {"notebook": self.notebook(step, run), "parameters": self.parameters(step, run)} | numbers
        links = [f"[{title}]({address})" for title, address in addresses.items() if address]
        links.append(f"`{command_for(self.study, step, run)}`")
        return f'[{" · ".join(links)}]{{.source file="{shown}"}}'

    def table(self, run: str, file: str) -> str:
        """The line for a table of a run, `<step>/<run>`, whose file lies in `tables/` or is one of the run's."""
        numbers = {"CSV": self.file(file)}
        if file.startswith("tables/"):
            numbers = {"CSV": quote(file), "LaTeX": quote(file.removesuffix(".csv") + ".tex")}
        return self.source(*run.split("/"), file, numbers)

    def figure(self, file: str) -> str:
        """The line for a figure of a run's folder, such as `train/main_s1/curves.svg`."""
        step, run, name = file.split("/")
        stem = name.rpartition(".")[0]
        numbers = f"results/{self.study}/{step}/{run}/{FIGURES.get(stem, f'{stem}.csv')}"
        kind = numbers.rpartition(".")[2].upper()
        return self.source(step, run, f"results/{self.study}/{file}", {kind: self.file(numbers)})

    def write(self, folder: Path) -> list[Path]:
        """Write all that was linked to, and `index.html`, which leads to the report; the files."""
        (folder / "notebooks").mkdir(parents=True, exist_ok=True)
        pages = {folder / "notebooks" / f"{name}.html": place for name, place in self.notebooks.items()}
        for page, place in pages.items():
            self._write_page(*place, page)
        files = {folder / "files" / name: file for name, file in self.files.items()}
        for copy, file in files.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        write_whole(folder / "index.html", LEADING)
        return [*pages, *files, folder / "index.html"]

    def _write_page(self, step: str, run: str, output: Path) -> None:
        """A notebook as a page; that of an earlier report if it was made of the same."""
        notebook = paths.run_folder(self.study, step, run) / NOTEBOOK
        parts = [(paths.REPORT / name).read_text(encoding="utf-8") for name in (PAGE, "style.css")]
        params, command = self.parameters(step, run), command_for(self.study, step, run)
        made_of = [file_hash(notebook), *parts, version("nbconvert"), params or ""]
        key = sha256(" ".join(made_of).encode()).hexdigest()
        earlier = self.place / "notebooks" / output.name
        if earlier.is_file() and key in earlier.read_text(encoding="utf-8")[:200]:
            shutil.copyfile(earlier, output)
        else:
            about = {"home": "../report.html", "home_title": "Report", "params": params and f"../{params}", "key": key}
            write_page(output, f"{self.study}/{step}/{run}", read_notebook(notebook, command), command=command, **about)


def read_notebook(notebook: Path, command: str) -> str:
    """An executed notebook as HTML, its pictures inside it.

    Raises:
        ReportError: it is none; names the command that makes it.
    """
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    try:
        exporter = HTMLExporter(template_name="basic", preprocessors=[CoalesceStreamsPreprocessor])
        return exporter.from_filename(str(notebook))[0]
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, KeyError, AttributeError) as error:
        what = f"{paths.shown(notebook)} is no notebook ({type(error).__name__})"
        raise ReportError(f"{what}; make it again with: {command}") from None


def write_page(output: Path, name: str, body: str, **about: str | None) -> None:
    """Write HTML as a page that runs no program and asks for nothing, in the frame of `notebook.html.j2`.

    Args:
        name: its title.
        about: of an executed notebook, how it is made (`command`), the address of its parameters (`params`), and the
            page that leads to it (`home`, `home_title`).
    """
    from pygments.formatters import HtmlFormatter

    template, style = ((paths.REPORT / file).read_text(encoding="utf-8") for file in (PAGE, "style.css"))
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    style = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{style}"
    page = jinja2.Template(template).render(about, name=name, body=body, style=style, policy=POLICY)
    write_whole(output, page)
