"""The widgets of the interactive notebook `90_playground`; what they show is computed by `iqa.app.playground`.

A slider that is dragged sends its next position when the kernel is done with the one before, and only the last one of
those in between; so no stale work queues up. What goes wrong is told in the page, and the widgets go on working.
"""

import html
import io
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
from ipywidgets import Layout

from iqa.app import playground
from iqa.app.playground import Assessment, Steps, Subject
from iqa.data.crops import CROPS
from iqa.data.database import Database
from iqa.data.params import DataPrepParams
from iqa.data.prepare import absent, open_database
from iqa.model.fusion import FUSIONS
from iqa.model.predictor import ModelError, Predictor, load_model
from iqa.show import ablation
from iqa.study import param_files, paths
from iqa.study.results import RunFolder, command_for, finished, read_table
from iqa.training.params import TrainParams

PICTURE = 304  # width of a picture in pixels; three of them fit beside each other in JupyterLab
SLOTS = 12  # images on a page of the gallery
NONE = "none"
# ipywidgets' upload button opens a dialogue and takes no drops: what is dropped here is handed to it as if chosen there
DROP = """
<div class="iqa-drop" style="border: 1px dashed #8A8F98; border-radius: 4px; padding: 14px 0; text-align: center"
  ondragover="event.preventDefault()"
  ondrop="event.preventDefault(); event.stopPropagation();
    const files = event.dataTransfer.files, proto = HTMLInputElement.prototype, click = proto.click;
    proto.click = function() { this.files = files; this.dispatchEvent(new Event('change')); };
    try { this.closest('.iqa-upload').querySelector('button').click(); } finally { proto.click = click; }"
>drop an image here, or</div>
"""


@contextmanager
def told(message: widgets.HTML) -> Iterator[None]:
    """Shows an error in the page: a traceback of a callback would be lost in JupyterLab's log."""
    message.value = ""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, ValueError | RuntimeError | OSError) else f"{type(error).__name__}: "
        text = html.escape(f"{kind}{error}")
        message.value = f'<div class="iqa-error" style="color: #B3261E; line-height: 18px">{text}</div>'


@cache
def _opened(study: str, name: str) -> Database:
    return open_database(study, name)


@cache
def _loaded(source: str, changed: float) -> Predictor:
    return load_model(source, "cpu")


def _model(source: str | Path) -> Predictor:
    """A model, read again where its file has changed; on the CPU, where single images are as quick."""
    path = paths.resolve(source)
    return _loaded(str(path if path.exists() else source), path.stat().st_mtime if path.is_file() else 0.0)


def _available(study: str) -> list[str]:
    """Databases of a study that are on this machine."""
    names = param_files.run_names(study, "data_prep")
    return [name for name in names if absent(param_files.load(DataPrepParams, study, name)) is None]


def _wide(widget: widgets.Widget, label: str, width: int = 302, label_width: int = 82) -> widgets.Widget:
    widget.description, widget.layout = label, Layout(width=f"{width}px")
    widget.style.description_width = f"{label_width}px"
    return widget


def _picture(width: int = PICTURE) -> tuple[widgets.HTML, widgets.Image, widgets.VBox]:
    caption, image = widgets.HTML(), widgets.Image(layout=Layout(width=f"{width}px", max_height="420px"))
    image.layout.object_fit = "contain"
    return caption, image, widgets.VBox([caption, image], layout=Layout(width=f"{width + 10}px"))


def _caption(text: str) -> str:
    return f'<div style="font-size: 12px; line-height: 16px; min-height: 34px">{text}</div>'


def _column(title: str, *children: widgets.Widget) -> widgets.VBox:
    head = widgets.HTML(f"<b>{title}</b>")
    return widgets.VBox([head, *children], layout=Layout(width="314px"))


class Playground:
    """One image, distorted, cropped and scored by one or two models; `box` is the widget to display.

    Args:
        study: whose databases can be chosen.
        model: `study/run` that is shown first, if it is trained.
        longest: images of files are shrunk to this many pixels, so that a change shows at once; None leaves them.
    """

    def __init__(self, study: str, model: str, longest: int | None = 512):
        self.study, self.preferred, self.longest = study, model, longest
        self.subject: Subject | None = None
        self.extra: dict[str, str] = {}  # checkpoints that were named on the page
        self._undistorted: dict[tuple, Assessment] = {}
        self._still = False  # several widgets are being set, and one update follows
        self._make_controls()
        self.message, self.about, self.numbers = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.numbers.add_class("iqa-scores")
        self.before, self.now, self.maps = _picture(), _picture(), (_picture(), _picture())
        pictures = [self.before[2], self.now[2], self.maps[0][2], self.maps[1][2]]
        self.box = widgets.VBox(
            [
                widgets.HBox([self._image_column(), self._distortion_column(), self._model_column()], layout=_WRAP),
                self.message,
                widgets.HBox(pictures, layout=_WRAP),
                self.numbers,
            ]
        )
        self.refresh()
        self._choose()

    def _make_controls(self) -> None:
        self.source = widgets.ToggleButtons(options=["photograph", "database", "file", "drop"])
        self.source.style.button_width = "auto"
        self.photograph = _wide(widgets.Dropdown(options=playground.PHOTOGRAPHS, value="chelsea"), "photograph")
        self.database = _wide(widgets.Dropdown(options=[NONE, *_available(self.study)]), "database")
        self.image = _wide(widgets.Dropdown(), "image")
        self.path = _wide(widgets.Text(continuous_update=False, placeholder="path of an image"), "file")
        self.upload = widgets.FileUpload(accept="image/*", multiple=False, description="choose a file")
        self.distortions = [self._distortion("gaussian_blur", 2.0), self._distortion(NONE, 2.0)]
        self.crops = _wide(widgets.Dropdown(options=list(CROPS), value="grid"), "scored are")
        self.patches = _wide(widgets.IntSlider(25, 1, 64), "patches")
        self.with_map = widgets.Checkbox(True, description="quality map", indent=False, layout=Layout(width="105px"))
        self.own = widgets.Checkbox(False, description="own colours", indent=False, layout=Layout(width="115px"))
        self.own.tooltip = "the colours span the map's own scores instead of the whole scale"
        self.model, self.other = (_wide(widgets.Dropdown(), label) for label in ("model", "beside"))
        self.checkpoint = _wide(
            widgets.Text(continuous_update=False, placeholder="path of a .pt or .pth"), "checkpoint"
        )
        for widget in (self.source, self.photograph, self.image, self.path, self.upload):
            widget.observe(self._choose, "value")
        self.database.observe(self._list_images, "value")
        self.checkpoint.observe(self._add_checkpoint, "value")
        levels = [widget for pair in self.distortions for widget in pair]
        for widget in (*levels, self.crops, self.patches, self.with_map, self.own, self.model, self.other):
            widget.observe(self._update, "value")

    @staticmethod
    def _distortion(name: str, level: float) -> tuple[widgets.Dropdown, widgets.FloatSlider]:
        chosen = _wide(widgets.Dropdown(options=[NONE, *playground.DISTORTIONS], value=name), "distortion")
        slider = _wide(widgets.FloatSlider(level, min=0, max=5, step=0.1, readout_format=".1f"), "level")
        slider.add_class("iqa-level")
        return chosen, slider

    def _image_column(self) -> widgets.VBox:
        dropped = widgets.VBox([widgets.HTML(DROP), self.upload])
        dropped.add_class("iqa-upload")
        self.upload.layout.width = "302px"
        pages = [self.photograph, widgets.VBox([self.database, self.image]), self.path, dropped]
        self.pages = widgets.Stack(pages, selected_index=0)
        return _column("Image", self.source, self.pages, self.crops, self.patches)

    def _distortion_column(self) -> widgets.VBox:
        return _column("Distortions, one after the other", *(part for pair in self.distortions for part in pair))

    def _model_column(self) -> widgets.VBox:
        checks = widgets.HBox([self.with_map, self.own], layout=Layout(margin="0 0 0 82px"))
        return _column("Model", self.model, self.other, self.checkpoint, checks)

    # --- what can be chosen

    def refresh(self) -> None:
        """List the trained models anew; those that are chosen stay chosen."""
        found = {name: str(file) for name, file in playground.trained_models().items()} | self.extra
        model, other = self.model.label, self.other.label
        with self._quiet():
            self.model.options = list(found.items())
            self.other.options = [(NONE, ""), *found.items()]
            if found:
                self.model.label = next(name for name in (model, self.preferred, *found) if name in found)
            self.other.label = other if other in found else NONE

    def _add_checkpoint(self, change: dict) -> None:
        if not change["new"].strip():
            return
        with told(self.message):
            source = change["new"].strip()
            name = _model(source).name
            self.extra[f"{Path(source).name} ({name})"] = source
            self.refresh()
            self.model.value = source

    def _list_images(self, _: dict) -> None:
        with told(self.message), self._quiet():
            self.image.options = []
            if self.database.value != NONE:
                self.message.value = "opening the database ..."
                data = _opened(self.study, self.database.value)
                rows = data.table[data.table["split"] == "test"].sort_values("mos", kind="stable")
                self.image.options = [
                    (f"{row.mos:.4g}  {row.image}", int(index))
                    for index, row in zip(rows.index, rows.itertuples(), strict=True)
                ]
                self.image.index = 0
        if self.image.options:
            self._choose()

    def show(self, database: str, index: int) -> None:
        """Choose an image of a database, undistorted by the page, and score it as the model's own test images are."""
        with self._quiet():
            options = _model(self.model.value).options
            self.crops.value = options.get("crops", self.crops.value)
            self.patches.value = options.get("patches", self.patches.value)
            self.source.value, self.database.value = "database", database
            self.image.value = index
            for _, level in self.distortions:
                level.value = 0.0
        self._choose()

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self._still = self._still, True
        try:
            yield
        finally:
            self._still = before

    # --- what follows from it

    def _choose(self, _: Any = None) -> None:
        """Take up the image that is chosen."""
        self.pages.selected_index = self.source.index
        if self._still:
            return
        with told(self.message):
            self.subject = None
            self._undistorted.clear()
            self.subject = self._chosen()
        if self.subject is not None:
            self._update()
        elif not self.message.value:
            self.message.value = "nothing is chosen yet; below is the image before"

    def _chosen(self) -> Subject | None:
        if self.source.value == "photograph":
            return playground.photograph(self.photograph.value)
        if self.source.value == "database" and self.image.value is not None:
            return playground.of_database(_opened(self.study, self.database.value), self.image.value)
        if self.source.value == "file" and self.path.value.strip():
            return playground.of_file(self.path.value.strip(), self.longest)
        if self.source.value == "drop" and self.upload.value:
            (file,) = self.upload.value
            return playground.of_upload(file["name"], bytes(file["content"]), self.longest)
        return None

    def _update(self, _: Any = None) -> None:
        """Score the image as it is chosen and distorted now, and show what was found."""
        if self._still or self.subject is None:
            return
        with told(self.message):
            if self.model.value is None:
                study, _, run = self.preferred.partition("/")
                raise ModelError(
                    f"no model is trained yet: make one with `{command_for(study, 'train', run)}`, or train one below"
                )
            steps = [(name.value, level.value) for name, level in self.distortions if name.value != NONE]
            image = playground.distort(self.subject.image, steps)
            how = {"crops": self.crops.value, "patches": self.patches.value}
            chosen = {self.model.label: self.model.value}
            if self.other.value:
                chosen[self.other.label] = self.other.value
            models = {name: _model(source) for name, source in chosen.items()}
            found = {name: playground.assess(model, image, **how, with_map=self.with_map.value)
                     for name, model in models.items()}  # fmt: skip
            before = {name: self._of_undistorted(model, how) for name, model in models.items()}
            self._show(image, steps, found, before)

    def _of_undistorted(self, model: Predictor, how: dict[str, Any]) -> Assessment:
        key = (id(model), *how.values())
        if key not in self._undistorted:
            self._undistorted[key] = playground.assess(model, self.subject.image, **how, with_map=False)
        return self._undistorted[key]

    def _show(self, image: Any, steps: Steps, found: dict[str, Assessment], before: dict) -> None:
        subject = self.subject
        caption, picture, box = self.before
        box.layout.display = "none" if len(found) > 1 and self.with_map.value else ""
        caption.value = _caption(f"<b>{html.escape(subject.name)}</b><br>{html.escape(subject.about)}")
        picture.value = playground.png(subject.image)
        caption, picture, _ = self.now
        done = ", ".join(f"{name} {level:.1f}" for name, level in steps if level > 0) or "no distortion"
        caption.value = _caption(f"<b>scored</b><br>{done}")
        picture.value = playground.png(image)
        for (caption, picture, box), name in zip(self.maps, [*found, None], strict=False):
            local = found[name].local if name else None
            box.layout.display = "none" if local is None else ""
            if local is not None:
                scale = found[name].scale
                bar = playground.colour_bar(local, scale, self.own.value)
                caption.value = _caption(f"<b>map of {html.escape(name)}</b>{bar}")
                picture.value = playground.png(playground.map_picture(local, scale, self.own.value))
        self.numbers.value = playground.numbers({name: (found[name], before[name]) for name in found})


_WRAP = Layout(flex_flow="row wrap", align_items="flex-start")


class Gallery:
    """The images of a database, sorted by the error of the playground's model; `box` is the widget to display."""

    def __init__(self, lab: Playground, database: str):
        self.lab = lab
        self.table: pd.DataFrame | None = None
        names = _available(lab.study)
        first = database if database in names else None
        self.database = _wide(widgets.Dropdown(options=names, value=first), "database")
        self.order = _wide(widgets.Dropdown(options=list(playground.ORDERS)), "order")
        self.page = _wide(widgets.IntSlider(1, 1, 1, continuous_update=False), "page")
        self.score = widgets.Button(description="score it now", layout=Layout(display="none"))
        self.message, self.title = widgets.HTML(), widgets.HTML()
        self.slots = [self._slot(place) for place in range(SLOTS)]
        controls = widgets.HBox([self.database, self.order, self.page], layout=_WRAP)
        grid = widgets.HBox([slot[2] for slot in self.slots], layout=_WRAP)
        self.box = widgets.VBox([controls, self.title, self.message, self.score, grid])
        self.score.on_click(self._score_now)
        self.page.observe(self._turn, "value")
        self.order.observe(self._sort, "value")
        for widget in (self.database, lab.model):
            widget.observe(self._read, "value")
        self._read()

    def _slot(self, place: int) -> tuple[widgets.HTML, widgets.Image, widgets.VBox]:
        text, image = widgets.HTML(), widgets.Image(layout=Layout(width="150px", height="113px"))
        image.layout.object_fit = "contain"
        button = widgets.Button(description="look at it", layout=Layout(width="150px"))
        button.on_click(lambda _: self._look(place))
        return text, image, widgets.VBox([image, text, button], layout=Layout(width="160px", margin="0 0 8px 0"))

    def _read(self, _: Any = None) -> None:
        """Take up the predictions of the chosen model on the chosen database."""
        self.table = None
        self.score.layout.display = "none"
        with told(self.message):
            if self.database.value is None:
                raise ValueError(f"study '{self.lab.study}' has no database on this machine")
            model = self.lab.model.label
            if model is None:
                raise ModelError("no model is trained yet")
            if model.split("/")[0] == self.lab.study and model not in self.lab.extra:
                self.table = playground.predictions(model, self.database.value)
            if self.table is None:
                self.score.layout.display = ""
                raise ValueError(f"there are no saved predictions of {model} on '{self.database.value}'")
        self._sort()

    def _score_now(self, _: Any) -> None:
        with told(self.message):
            self.message.value = "scoring ..."
            data = _opened(self.lab.study, self.database.value)
            self.table = playground.test_predictions(_model(self.lab.model.value), data)
            self.score.layout.display = "none"
        self._sort()

    def _sort(self, _: Any = None) -> None:
        if self.table is not None:
            with told(self.message):
                data = _opened(self.lab.study, self.database.value)
                self.sorted = playground.by_error(self.table, self.order.value, data.higher_is_better)
                self.page.max = -(-len(self.sorted) // SLOTS)
                self.page.value = 1
        self._turn()

    def _turn(self, _: Any = None) -> None:
        """Show the page."""
        if self.table is None:
            self.title.value = ""
            for _, _, box in self.slots:
                box.layout.display = "none"
            return
        with told(self.message):
            data = _opened(self.lab.study, self.database.value)
            start = SLOTS * (self.page.value - 1)
            rows = list(self.sorted.iloc[start : start + SLOTS].itertuples())
            kind = " (synthetic, rated by simulated observers)" if data.synthetic else ""
            self.title.value = (
                f"<b>{html.escape(self.lab.model.label)}</b> on {html.escape(data.title)}{kind}: images "
                f"{start + 1} to {start + len(rows)} of {len(self.sorted)}"
            )
            for _, _, box in self.slots[len(rows) :]:
                box.layout.display = "none"
            for (text, image, box), row in zip(self.slots, rows, strict=False):
                box.layout.display = ""
                image.format, image.value = "jpeg", playground.thumbnail(data.folder / row.image)
                known = "" if pd.isna(row.distortion) else f"{row.distortion} {row.level:g}"
                text.value = (
                    f'<div style="font-size: 12px; line-height: 16px" title="{html.escape(row.image)}">'
                    f"{row.prediction:.1f} for {row.mos:.1f} (<b>{row.error:+.1f}</b>)<br>{html.escape(known)}</div>"
                )

    def _look(self, place: int) -> None:
        with told(self.message):
            data = _opened(self.lab.study, self.database.value)
            row = self.sorted.iloc[SLOTS * (self.page.value - 1) + place]
            (index,) = data.table.index[data.table["image"] == row["image"]]
            self.lab.show(self.database.value, int(index))


class Stopped(Exception):
    """The training was stopped on the page."""


TRAINED = (
    *("fusion", "loss", "rank_weight", "rank_margin", "optimizer", "schedule", "lr", "weight_decay"),
    *("batch_size", "crop", "epochs", "seed"),
)


class Trainer:
    """Parameters of a training, a fit with live curves, and a comparison with a saved run; `box` is the widget.

    Args:
        lab: lists the new model when it is trained.
        saved: training run of the lab's study that gives the first values, and that is compared with.
        run: name of the run that is written, a folder of results/<study>/train/.
        epochs: of the fit, at first.
    """

    def __init__(self, lab: Playground, saved: str, run: str, epochs: int):
        self.lab, self.saved, self.run = lab, saved, run
        self.start = param_files.load(TrainParams, lab.study, saved)
        assert isinstance(self.start, TrainParams)
        first = self.start.model_dump() | {"epochs": epochs}
        self.entries = {name: _wide(_entry(name, first[name]), name, 308, 100) for name in TRAINED}
        self.train = widgets.Button(description="train", button_style="primary")
        self.stop = widgets.Button(description="stop", disabled=True)
        self.progress = widgets.IntProgress(min=0, max=epochs, layout=Layout(width="240px"))
        self.message, self.status, self.result = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.result.add_class("iqa-comparison")
        self.curves = widgets.Image(layout=Layout(width="940px", display="none"))
        buttons = widgets.HBox([self.train, self.stop, self.progress, self.status])
        rows = widgets.HBox(list(self.entries.values()), layout=Layout(flex_flow="row wrap", width="940px"))
        self.box = widgets.VBox([rows, buttons, self.message, self.curves, self.result])
        self.thread: threading.Thread | None = None
        self._stopping = False
        self.train.on_click(self._begin)
        self.stop.on_click(self._halt)

    def _begin(self, _: Any) -> None:
        with told(self.message):
            values = {name: widget.value for name, widget in self.entries.items()}
            params = playground.train_params(values, self.start, self.run)
            self._stopping = False
            self.train.disabled, self.stop.disabled = True, False
            self.progress.value, self.progress.max = 0, params.epochs
            self.status.value, self.result.value = "the first epoch ...", ""
            # a thread of its own, so that the sliders above go on working
            self.thread = threading.Thread(target=self._work, args=(params,), daemon=True)
            self.thread.start()

    def _halt(self, _: Any) -> None:
        self._stopping, self.stop.disabled = True, True
        self.status.value = "stops after this epoch ..."

    def _work(self, params: TrainParams) -> None:
        from iqa.training.train import train

        with told(self.message):
            try:
                out = RunFolder(params)
                data = _opened(params.study, params.database)
                history = train(params, data, out.path, after_epoch=self._after_epoch)
                self._draw(history)
                self._compare(out, data, history)
                self.status.value = f"done: {out}"
            except Stopped:
                self.status.value = "stopped; `train` with the same values goes on"
        self.train.disabled, self.stop.disabled = False, True

    def _after_epoch(self, history: pd.DataFrame) -> None:
        self._draw(history)
        last = history.iloc[-1]
        self.status.value = (
            f"epoch {len(history)} of {self.progress.max}: loss {last['train_loss']:.4f}, "
            f"validation SRCC {last['val_srcc']:.3f}, {last['seconds']:.1f} s"
        )
        if self._stopping:
            raise Stopped

    def _draw(self, history: pd.DataFrame) -> None:
        histories = {"this training": history}
        if finished(self.lab.study, "train", self.saved):
            saved = read_table(self.lab.study, "train", self.saved, "history")
            histories[f"{self.saved}, saved ({len(saved)} epochs)"] = saved
        stream = io.BytesIO()
        ablation.compare_trainings(playground.dynamics(histories)).savefig(stream, format="png", dpi=140)
        self.curves.value, self.curves.layout.display = stream.getvalue(), ""
        self.progress.value = len(history)

    def _compare(self, out: RunFolder, data: Database, history: pd.DataFrame) -> None:
        """Test the new model, keep what was found as `02_train` does, and show it beside the saved run."""
        study = self.lab.study
        predicted = playground.test_predictions(_model(out.path / "best.pt"), data)
        tables = {f"this training, {len(history)} epochs": predicted}
        if finished(study, "train", self.saved):
            tables[f"{self.saved}, saved"] = read_table(study, "train", self.saved, "predictions")
        table, verdict = playground.agreement(tables)
        out.save_table("predictions", predicted)
        about = {"database": data.name, "split": "test", "synthetic": data.synthetic, "epochs": len(history)}
        out.save_json("metrics", about | table.iloc[0].drop("label").to_dict())
        out.finish(data={data.name: data.fingerprint})
        missing = (
            "" if len(tables) > 1 else f"To compare, make the saved run: `{command_for(study, 'train', self.saved)}`"
        )
        self.result.value = playground.agreement_table(table, data) + f"<p>{html.escape(verdict or missing)}</p>"
        self.lab.refresh()


def _entry(name: str, value: Any) -> widgets.Widget:
    """The widget for a training parameter."""
    choices = tuple(FUSIONS) if name == "fusion" else typing.get_args(TrainParams.model_fields[name].annotation)
    if choices and isinstance(value, str) and value in choices:
        return widgets.Dropdown(options=choices, value=value)
    kinds: dict[type, Callable] = {int: widgets.IntText, float: widgets.FloatText, str: widgets.Text}
    return kinds[type(value)](value=value)
