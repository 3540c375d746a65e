"""How papermill executes notebooks: with kernels that listen to files of their own."""

import tempfile
from pathlib import Path

import nbformat
import papermill
import pytest

from iqa.app import engine, warm

ASK = """
from ipykernel import get_connection_info
info = get_connection_info(unpack=True)
print(info["transport"], info["ip"])
"""


@pytest.mark.notebook
@pytest.mark.parametrize("length", [warm.LONGEST, warm.LONGEST + 1])
def test_kernels_that_start_at_once_share_no_port_and_leave_nothing(length, tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(f"{name}/".ljust(length, "t"))
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.chdir(tmp_path)
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASK, id="ask")]), "ask.ipynb")
        how = {"kernel_name": "python3", "engine_name": engine.register(), "progress_bar": False}
        done = papermill.execute_notebook("ask.ipynb", "done.ipynb", **how)
        transport, place = done.cells[0].outputs[0].text.split()
        assert transport == "ipc" and len(f"{place}-5") <= 103
        assert Path(place).is_relative_to(folder) == (length == warm.LONGEST)
        assert not Path(place).parent.exists()
