"""The `iqa` command tells mistakes plainly."""

import pytest

from iqa import __version__, cli, paths


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and __version__ in capsys.readouterr().out


def test_a_file_that_is_no_run_is_told_what_a_run_is(capsys):
    assert cli.main(["run", "README.md"]) == 1
    assert "params/<study>/<step>/<run>.yaml" in capsys.readouterr().err


def test_an_unknown_study_is_told(capsys):
    assert cli.main(["report", "nothing"]) == 1
    assert "params/nothing does not exist" in capsys.readouterr().err


def test_a_database_that_is_not_there_is_told_with_where_to_get_it(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "real" / "data_prep"
    folder.mkdir(parents=True)
    (folder / "biq2021.yaml").write_text("reader: biq2021\nfolder: nowhere\n")
    monkeypatch.setattr(paths, "PARAMS", tmp_path)
    assert cli.main(["report", "real"]) == 1
    message = capsys.readouterr().err
    assert "nowhere" in message and "nisarahmedrana/BIQ2021" in message and "folder" in message


def test_a_variable_that_is_not_set_is_named():
    with pytest.raises(paths.PathError, match="IQA_NOT_SET is not set"):
        paths.resolve("$IQA_NOT_SET/data")
