"""Executed notebooks as HTML pages that need no network and run no program: `python -m iqa.report.pages STUDY`."""

import html
import sys
from pathlib import Path

import nbformat

from iqa.study import param_files, paths
from iqa.study.disk import write_whole
from iqa.study.results import command_for, finished, read_json

NOTEBOOK = "notebook.ipynb"
PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<body>
{body}
</body>
</html>
"""
LOOK = """
body { display: block; max-width: 64rem; }
.dataframe { border: 0; }
pre { background: var(--soft); border-radius: 4px; padding: .5rem .8rem; overflow-x: auto; font-size: .82rem; }
.output_stdout pre, .output_stream pre { background: none; border-left: 3px solid var(--rule); border-radius: 0; }
.output_png img, .output_svg svg { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
.prompt, .anchor-link { display: none; }
"""


def write(notebook: Path, target: Path) -> None:
    """Write an executed notebook as a page.

    Raises:
        ValueError: it is no notebook.
    """
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    try:
        content = nbformat.read(notebook, as_version=4)
    except Exception as error:  # whatever a damaged file makes of a reader
        raise ValueError(f"{paths.shown(notebook)} is no notebook ({error}); make it again") from None
    exporter = HTMLExporter(template_name="basic", embed_images=True, preprocessors=[CoalesceStreamsPreprocessor])
    body, _ = exporter.from_notebook_node(content)
    _write_page(target, content.cells[0].source.splitlines()[0].strip("# "), body)


def _write_page(target: Path, title: str, body: str) -> None:
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    colours = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n.highlight {{ background: none; }}\n"
    style = (paths.REPORT / "style.css").read_text(encoding="utf-8") + LOOK + colours
    write_whole(target, PAGE.format(title=html.escape(title), style=style, body=body))


def gallery(study: str) -> Path:
    """Write the notebooks of all finished runs of a study as pages with an index, `report/<study>/gallery/index.html`.

    Runs that are not finished are listed with the command that makes them.
    """
    folder = paths.REPORT / study / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>Notebooks of the study {html.escape(study)}</h1>"]
    for source in sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        step, rows = source.stem[3:], []
        for run in param_files.run_names(study, step):
            about = f"not run: <code>{html.escape(command_for(study, step, run))}</code>"
            name = html.escape(run)
            if finished(study, step, run):
                write(paths.run_folder(study, step, run) / NOTEBOOK, folder / f"{step}-{run}.html")
                name = f'<a href="{step}-{run}.html">{name}</a>'
                record = read_json(study, step, run, "record")
                about = f"{record['started'][:10]}, {record['seconds']:,.0f} s"
            rows.append(f"<li>{name} ({about})</li>")
        if rows:
            title, question = _head(source)
            parts.append(f"<h2>{html.escape(title)}</h2>\n<p>{html.escape(question)}</p>\n<ul>{''.join(rows)}</ul>")
    _write_page(folder / "index.html", f"Notebooks of {study}", "\n".join(parts))
    return folder / "index.html"


def _head(notebook: Path) -> tuple[str, str]:
    """The title of a notebook, and the question that it answers."""
    title, _, rest = nbformat.read(notebook, as_version=4).cells[0].source.partition("\n\n")
    return title.strip("# "), " ".join(rest.partition("\n\n")[0].removeprefix("**Question.** ").split())


if __name__ == "__main__":
    print(paths.shown(gallery(sys.argv[1])))
