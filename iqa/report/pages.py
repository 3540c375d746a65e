"""The executed notebooks of a study as pages with an index: `python -m iqa.report.pages STUDY`."""

import sys
from html import escape
from pathlib import Path

import nbformat

from iqa.report.beside import NOTEBOOK, read_notebook, write_page
from iqa.study import param_files, paths
from iqa.study.results import command_for, finished, read_json


def gallery(study: str) -> Path:
    """Write the notebooks of all finished runs of a study as pages with an index, `report/<study>/gallery/index.html`.

    Runs that are not finished are listed with the command that makes them.
    """
    folder = paths.REPORT / study / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    home = {"home": "index.html", "home_title": "Notebooks"}
    parts = [f"<h1>Notebooks of the study {escape(study)}</h1>"]
    for source in sorted(paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        step, rows = source.stem[3:], []
        for run in param_files.run_names(study, step):
            command, name, page = command_for(study, step, run), escape(run), f"{step}-{run}.html"
            about = f"not run: <code>{escape(command)}</code>"
            if finished(study, step, run):
                body = read_notebook(paths.run_folder(study, step, run) / NOTEBOOK, command)
                write_page(folder / page, f"{study}/{step}/{run}", body, command=command, **home)
                name, record = f'<a href="{page}">{name}</a>', read_json(study, step, run, "record")
                about = f"{record['started'][:10]}, {record['seconds']:,.0f} s"
            rows.append(f"<li>{name} ({about})</li>")
        if rows:
            title, _, rest = nbformat.read(source, as_version=4).cells[0].source.partition("\n\n")
            question = " ".join(rest.partition("\n\n")[0].removeprefix("**Question.** ").split())
            parts.append(f"<h2>{escape(title.strip('# '))}</h2>\n<p>{escape(question)}</p>\n<ul>{''.join(rows)}</ul>")
    write_page(folder / "index.html", f"Notebooks of {study}", "\n".join(parts))
    return folder / "index.html"


if __name__ == "__main__":
    print(paths.shown(gallery(sys.argv[1])))
