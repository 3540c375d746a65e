"""Curves that follow a training."""

import IPython.display
import pandas as pd
import pytest

from iqa.show import live
from iqa.show.train import training_curves

KEYS = ("loss", "srcc", "plcc")
HISTORY = pd.DataFrame({"epoch": [1, 2]} | {f"{split}_{key}": [0.5, 0.6] for split in ("train", "val") for key in KEYS})


class Shown:
    """What stands below a cell."""

    def update(self, what):
        self.what = what


@pytest.fixture
def shown(monkeypatch):
    cell = Shown()
    monkeypatch.setattr(IPython.display, "display", lambda *_, **__: cell)
    return cell


def test_curves_are_drawn_anew_after_each_epoch_and_make_room_when_the_training_ends(shown):
    with live.curves(training_curves) as follow:
        follow(HISTORY[:1])
        first = shown.what.data
        follow(HISTORY)
        assert first.startswith(b"\x89PNG") and shown.what.data != first
    assert shown.what.data == ""


def test_curves_of_a_training_that_failed_stay(shown):
    with pytest.raises(KeyError), live.curves(training_curves) as follow:
        follow(HISTORY)
        raise KeyError
    assert shown.what.data.startswith(b"\x89PNG")


def test_a_pipeline_has_no_live_curves(shown, monkeypatch):
    monkeypatch.setenv("IQA_BATCH", "1")
    with live.curves(training_curves) as follow:
        assert follow is None
    assert not hasattr(shown, "what")
