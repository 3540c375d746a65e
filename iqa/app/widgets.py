"""The widgets of the interactive notebook `90_playground`; what they show is computed by `iqa.app.playground`.

A slider that is dragged sends its next position when the kernel is done with the one before, and only the last one of
those in between; so no stale work queues up. Errors are shown in the page, and the widgets go on working.
"""

import html
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import pandas as pd
from ipywidgets import HTML, Button, Checkbox, Dropdown, HBox, Layout, VBox

from iqa.analysis import evaluation
from iqa.app import playground
from iqa.app.playground import Assessment, Subject
from iqa.data.crops import CROPS
from iqa.data.database import Database
from iqa.data.params import DataPrepParams
from iqa.data.prepare import absent, open_database
from iqa.model.fusion import FUSIONS
from iqa.model.params import PATCHES
from iqa.model.predictor import ModelError, Predictor, load_model
from iqa.show import ablation, live
from iqa.show.tables import ends
from iqa.study import param_files, paths
from iqa.study.progress import Lines
from iqa.study.results import RunFolder, command_for, finished, read_table
from iqa.training.params import TrainParams

PAGE = 12  # images on a page of the gallery
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
def show_errors(message: HTML) -> Iterator[None]:
    """Show an error in the page; the traceback of a callback would be lost in JupyterLab's log."""
    message.value = ""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, ValueError | RuntimeError | OSError) else f"{type(error).__name__}: "
        text = html.escape(f"{kind}{error}")
        message.value = f'<div class="iqa-error" style="color: #B3261E; line-height: 18px">{text}</div>'


@cache
def cached_database(study: str, name: str) -> Database:
    """A database of a study, opened once."""
    return open_database(study, name)


def cached_model(source: str | Path) -> Predictor:
    """A model, read again when its file has changed; on the CPU, which scores single images as quickly as a GPU."""
    path = paths.resolve(source)
    return _load_model(str(path if path.exists() else source), path.stat().st_mtime if path.is_file() else 0.0)


@cache
def _load_model(source: str, changed: float) -> Predictor:
    return load_model(source, "cpu")


def _available(study: str) -> list[str]:
    """Databases of a study that are on this machine."""
    names = param_files.run_names(study, "data_prep") if study in param_files.studies() else []
    return [name for name in names if absent(param_files.load(DataPrepParams, study, name)) is None]


def _field(kind: Callable, label: str, width: int = 302, label_width: int = 82, **settings: Any) -> Any:
    style = {"description_width": f"{label_width}px"}
    return kind(description=label, layout=Layout(width=f"{width}px"), style=style, **settings)


def _row(*children: widgets.Widget, **layout: str) -> HBox:
    return HBox(children, layout=Layout(flex_flow="row wrap", align_items="flex-start", **layout))


def _column(title: str, *children: widgets.Widget) -> VBox:
    return VBox([HTML(f"<b>{title}</b>"), *children], layout=Layout(width="314px"))


class Picture(VBox):
    """A picture below its caption, with `extra` widgets below it; three of the default width fit beside each other."""

    def __init__(self, *extra: widgets.Widget, width: int = 304, height: int = 420):
        self.caption = HTML()
        layout = Layout(width=f"{width}px", max_height=f"{height}px", object_fit="contain")
        self.image = widgets.Image(layout=layout)
        super().__init__([self.caption, self.image, *extra], layout=Layout(width=f"{width + 10}px"))

    def show(self, caption: str, png: bytes) -> None:
        """Show a PNG file with a caption in HTML."""
        self.caption.value = f'<div style="font-size: 12px; line-height: 16px; min-height: 34px">{caption}</div>'
        self.image.value = png
        self.set_visible(True)

    def set_visible(self, visible: bool) -> None:
        self.layout.display = "" if visible else "none"


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
        self._paused = False
        self.message, self.numbers = HTML(), HTML()
        self.numbers.add_class("iqa-scores")
        self.before, self.now, self.maps = Picture(), Picture(), (Picture(), Picture())
        controls = _row(self._image_controls(), self._distortion_controls(), self._model_controls())
        self.box = VBox([controls, self.message, _row(self.before, self.now, *self.maps), self.numbers])
        self.refresh()
        self._choose()

    def _image_controls(self) -> VBox:
        options = ["photograph", "database", "file", "drop"]
        self.source = widgets.ToggleButtons(options=options, style={"button_width": "auto"})
        self.photograph = _field(Dropdown, "photograph", options=playground.PHOTOGRAPHS, value="chelsea")
        self.database = _field(Dropdown, "database", options=[NONE, *_available(self.study)])
        self.image = _field(Dropdown, "image")
        self.path = _field(widgets.Text, "file", continuous_update=False, placeholder="path of an image")
        self.upload = widgets.FileUpload(accept="image/*", description="choose a file", layout=Layout(width="302px"))
        rules = [("as in each model's test", ""), *((name, name) for name in CROPS)]  # None would be shown as a blank
        self.crops = _field(Dropdown, "scored are", options=rules)
        self.patches = _field(widgets.IntSlider, "patches", value=PATCHES, min=1, max=64)
        dropped = VBox([HTML(DROP), self.upload])
        dropped.add_class("iqa-upload")
        pages = widgets.Stack([self.photograph, VBox([self.database, self.image]), self.path, dropped])
        widgets.link((self.source, "index"), (pages, "selected_index"))
        self.database.observe(self._list_images, "value")
        for widget in (self.source, self.photograph, self.image, self.path, self.upload):
            widget.observe(self._choose, "value")
        for widget in (self.crops, self.patches):
            widget.observe(self._update, "value")
        return _column("Image", self.source, pages, self.crops, self.patches)

    def _distortion_controls(self) -> VBox:
        self.distortions: list[tuple[Dropdown, widgets.FloatSlider]] = []
        for name in ("gaussian_blur", NONE):
            kind = _field(Dropdown, "distortion", options=[NONE, *playground.DISTORTIONS], value=name)
            level = _field(widgets.FloatSlider, "level", value=2.0, max=5, step=0.1, readout_format=".1f")
            level.add_class("iqa-level")
            self.distortions.append((kind, level))
            for widget in (kind, level):
                widget.observe(self._update, "value")
        return _column("Distortions, one after the other", *(widget for pair in self.distortions for widget in pair))

    def _model_controls(self) -> VBox:
        self.model, self.other = _field(Dropdown, "model"), _field(Dropdown, "beside")
        self.checkpoint = _field(widgets.Text, "checkpoint", continuous_update=False, placeholder="path of a .pt, .pth")
        self.with_map = Checkbox(True, description="quality map", indent=False, layout=Layout(width="105px"))
        self.stretch = Checkbox(False, description="own colours", indent=False, layout=Layout(width="115px"))
        self.stretch.tooltip = "the colours span the map's own scores instead of the whole scale"
        self.checkpoint.observe(self._add_checkpoint, "value")
        for widget in (self.with_map, self.stretch, self.model, self.other):
            widget.observe(self._update, "value")
        checks = HBox([self.with_map, self.stretch], layout=Layout(margin="0 0 0 82px"))
        return _column("Model", self.model, self.other, self.checkpoint, checks)

    # --- what can be chosen

    @contextmanager
    def _pause_updates(self) -> Iterator[None]:
        """Several widgets are set, and one update follows."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def refresh(self) -> None:
        """List the trained models anew; those that are chosen stay chosen."""
        models = {name: str(file) for name, file in playground.trained_models().items()} | self.extra
        model, other = self.model.label, self.other.label
        with self._pause_updates():
            self.model.options = list(models.items())
            self.other.options = [(NONE, ""), *models.items()]
            if models:
                self.model.label = next(name for name in (model, self.preferred, *models) if name in models)
            self.other.label = other if other in models else NONE

    def _add_checkpoint(self, change: dict) -> None:
        if source := change["new"].strip():
            with show_errors(self.message):
                self.extra[f"{Path(source).name} ({cached_model(source).name})"] = source
                self.refresh()
                self.model.value = source

    def _list_images(self, _: dict) -> None:
        with show_errors(self.message), self._pause_updates():
            self.image.options = []
            if self.database.value != NONE:
                self.message.value = "opening the database ..."
                table = cached_database(self.study, self.database.value).table
                table = table[table["split"] == "test"].sort_values("mos", kind="stable")
                names = (f"{mos:.4g}  {image}" for mos, image in zip(table["mos"], table["image"], strict=True))
                self.image.options = list(zip(names, map(int, table.index), strict=True))
                self.image.index = 0
        if self.image.options:
            self._choose()

    def show(self, database: str, index: int) -> None:
        """Choose an image of a database, without a distortion, and score it as in the test of the model."""
        with self._pause_updates():
            self.crops.value = ""
            self.source.value, self.database.value = "database", database
            self.image.value = index
            for _, level in self.distortions:
                level.value = 0.0
        self._choose()

    # --- what is shown

    def _choose(self, _: Any = None) -> None:
        """Open the chosen image and show its scores."""
        if self._paused:
            return
        with show_errors(self.message):
            self.subject = None
            self._undistorted.clear()
            self.subject = self._open()
        if self.subject is not None:
            self._update()
        elif not self.message.value:
            self.message.value = "nothing is chosen yet; below is the previous image"

    def _open(self) -> Subject | None:
        if self.source.value == "photograph":
            return playground.photograph(self.photograph.value)
        if self.source.value == "database" and self.image.value is not None:
            return playground.of_database(cached_database(self.study, self.database.value), self.image.value)
        if self.source.value == "file" and self.path.value.strip():
            return playground.of_file(self.path.value.strip(), self.longest)
        if self.source.value == "drop" and self.upload.value:
            (file,) = self.upload.value
            return playground.of_upload(file["name"], bytes(file["content"]), self.longest)
        return None

    def _update(self, _: Any = None) -> None:
        """Distort and score the image, and show pictures and scores."""
        if self._paused or self.subject is None:
            return
        with show_errors(self.message):
            if self.model.value is None:
                command = command_for(*self.preferred.replace("/", "/train/").split("/"))
                raise ModelError(f"no model is trained yet: make one with `{command}`, or train one below")
            steps = [(kind.value, level.value) for kind, level in self.distortions if kind.value != NONE]
            image = playground.distort(self.subject.image, steps)
            how = {"crops": self.crops.value or None}
            if how["crops"] and "patches" in CROPS[how["crops"]].options:
                how["patches"] = self.patches.value
            sources = {self.model.label: self.model.value, self.other.label: self.other.value}
            models = {name: cached_model(source) for name, source in sources.items() if source}
            before = {name: self._score_undistorted(model, how) for name, model in models.items()}
            how["with_map"] = self.with_map.value
            now = {name: playground.assess(model, image, **how) for name, model in models.items()}
            done = ", ".join(f"{name} {level:.1f}" for name, level in steps if level > 0) or "no distortion"
            about = f"<b>{html.escape(self.subject.name)}</b><br>{html.escape(self.subject.about)}"
            self.before.show(about, playground.png(self.subject.image))
            self.before.set_visible(len(models) < 2 or not self.with_map.value)
            self.now.show(f"<b>scored</b><br>{done}", playground.png(image))
            self._show_maps(now)
            self.numbers.value = playground.numbers({name: (now[name], before[name]) for name in models})

    def _score_undistorted(self, model: Predictor, how: dict[str, Any]) -> Assessment:
        """Score the undistorted image, once for each model and choice of crops."""
        key = (id(model), *how.values())
        if key not in self._undistorted:
            self._undistorted[key] = playground.assess(model, self.subject.image, **how, with_map=False)
        return self._undistorted[key]

    def _show_maps(self, scores: dict[str, Assessment]) -> None:
        for picture in self.maps:
            picture.set_visible(False)
        for picture, (name, scored) in zip(self.maps, scores.items(), strict=False):
            if scored.local is not None:
                drawn = scored.local, scored.scale, self.stretch.value
                caption = f"<b>map of {html.escape(name)}</b>{playground.colour_bar(*drawn)}"
                picture.show(caption, playground.png(playground.map_picture(*drawn)))


class Gallery:
    """The images of a database, sorted by the error of the playground's model; `box` is the widget to display."""

    def __init__(self, lab: Playground, database: str):
        self.lab = lab
        self.table: pd.DataFrame | None = None
        names = _available(lab.study)
        self.database = _field(Dropdown, "database", options=names, value=database if database in names else None)
        self.order = _field(Dropdown, "order", options=list(playground.ORDERS))
        self.page = _field(widgets.IntSlider, "page", value=1, min=1, max=1, continuous_update=False)
        self.score = Button(description="score it now", layout=Layout(display="none"))
        self.message, self.title = HTML(), HTML()
        buttons = [Button(description="look at it", layout=Layout(width="150px")) for _ in range(PAGE)]
        for place, button in enumerate(buttons):
            button.on_click(lambda _, place=place: self._look(place))
        self.slots = [Picture(button, width=150, height=113) for button in buttons]
        controls = _row(self.database, self.order, self.page)
        self.box = VBox([controls, self.title, self.message, self.score, _row(*self.slots)])
        self.score.on_click(self._score_now)
        for widget in (self.order, self.page):
            widget.observe(self._show_page, "value")
        for widget in (self.database, lab.model):
            widget.observe(self._read, "value")
        self._read()

    @property
    def _data(self) -> Database:
        return cached_database(self.lab.study, self.database.value)

    def _read(self, _: Any = None) -> None:
        """Read the predictions of the chosen model on the chosen database."""
        self.table, self.page.value, self.score.layout.display = None, 1, "none"
        with show_errors(self.message):
            model = self.lab.model.label
            if self.database.value is None or model is None:
                raise ValueError(f"no {'model is trained' if model is None else 'database of the study is here'} yet")
            if model.split("/")[0] == self.lab.study and model not in self.lab.extra:
                self.table = playground.predictions(model, self.database.value)
            if self.table is None:
                self.score.layout.display = ""
                raise ValueError(f"there are no saved predictions of {model} on '{self.database.value}'")
        self._show_page()

    def _score_now(self, _: Any) -> None:
        with show_errors(self.message):
            self.message.value = "scoring ..."
            self.table = evaluation.score(cached_model(self.lab.model.value), self._data)
            self.score.layout.display = "none"
        self._show_page()

    def _show_page(self, change: dict | None = None) -> None:
        self.title.value = ""
        for slot in self.slots:
            slot.set_visible(False)
        if self.table is None:
            return
        with show_errors(self.message):
            self.sorted = playground.by_error(self.table, self.order.value, self._data.higher_is_better)
            self.page.max = -(-len(self.sorted) // PAGE)
            if change and change["owner"] is self.order:
                self.page.value = 1
            start = PAGE * (self.page.value - 1)
            rows = list(self.sorted.iloc[start : start + PAGE].itertuples())
            note = " (synthetic, rated by simulated observers)" if self._data.synthetic else ""
            label = playground.SYNTHETIC * cached_model(self.lab.model.value).synthetic
            self.title.value = (
                f"<b>{html.escape(self.lab.model.label)}</b>{label} on {html.escape(self._data.title)}{note}: images "
                f"{start + 1} to {start + len(rows)} of {len(self.sorted)}"
            )
            for slot, row in zip(self.slots, rows, strict=False):
                distortion = "" if pd.isna(row.distortion) else html.escape(f"{row.distortion} {row.level:g}")
                numbers = f"{row.prediction:.1f} for {row.mos:.1f} (<b>{row.error:+.1f}</b>)"
                caption = f'<span title="{html.escape(row.image)}">{numbers}<br>{distortion}</span>'
                slot.show(caption, playground.thumbnail(self._data.folder / row.image))

    def _look(self, place: int) -> None:
        with show_errors(self.message):
            row = self.sorted.iloc[PAGE * (self.page.value - 1) + place]
            table = self._data.table
            (index,) = table.index[table["image"] == row["image"]]
            self.lab.show(self.database.value, int(index))


class Stopped(Exception):
    """The training was stopped on the page."""


TRAINED = "fusion loss rank_weight rank_margin optimizer schedule lr weight_decay batch_size crop epochs seed"


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
        first = self.start.model_dump() | {"epochs": epochs}
        self.entries = {name: _entry(name, first[name]) for name in TRAINED.split()}
        self.train = Button(description="train", button_style="primary")
        self.stop = Button(description="stop", disabled=True)
        self.progress = widgets.FloatProgress(min=0, max=epochs, layout=Layout(width="240px"))
        self.message, self.status, self.result = HTML(), HTML(), HTML()
        self.result.add_class("iqa-comparison")
        self.curves = widgets.Image(layout=Layout(width="940px", display="none"))
        self.curves.add_class("iqa-curves")  # dark where JupyterLab is
        buttons = HBox([self.train, self.stop, self.progress, self.status])
        entries = _row(*self.entries.values(), width="940px")
        self.box = VBox([entries, buttons, self.message, self.curves, self.result])
        self.thread: threading.Thread | None = None
        self._stopping = False
        self.train.on_click(self._begin)
        self.stop.on_click(self._halt)

    def _begin(self, _: Any) -> None:
        with show_errors(self.message):
            values = {name: widget.value for name, widget in self.entries.items()} | {"run": self.run}
            params = TrainParams.build(self.start.model_dump() | values, "training parameters")
            self._stopping = False
            self.train.disabled, self.stop.disabled = True, False
            self.progress.value, self.progress.max = 0, params.epochs
            self.status.value, self.result.value = "the first epoch ...", ""
            # in a thread, so that the sliders above go on working
            self.thread = threading.Thread(target=self._fit, args=(params,), daemon=True)
            self.thread.start()

    def _halt(self, _: Any) -> None:
        self._stopping, self.stop.disabled = True, True
        self.status.value = "stops after this epoch ..."

    def _fit(self, params: TrainParams) -> None:
        from iqa.training.train import train

        with show_errors(self.message):
            try:
                out = RunFolder(params)
                data = cached_database(params.study, params.database)
                history = train(params, data, out.path, after_epoch=self._after_epoch, bar=self._bar)
                self._draw(history)
                self._compare(out, data, history)
                self.status.value = f"done: {out}"
            except Stopped:
                self.status.value = "stopped; `train` with the same values goes on"
        self.train.disabled, self.stop.disabled = False, True

    def _bar(self, tell: Callable, **options: Any) -> Lines:
        """What shows within an epoch how far it is; `tell` would write it to the log."""

        def show(line: str) -> None:
            self.progress.value = shown.n / shown.total * self.progress.max
            if not self._stopping:
                self.status.value = html.escape(line)

        shown = Lines(tell=show, every=1, **options)
        return shown

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
        self.curves.value = live.png(ablation.compare_trainings(playground.dynamics(histories)))
        self.curves.layout.display = ""
        self.progress.value = len(history)

    def _compare(self, out: RunFolder, data: Database, history: pd.DataFrame) -> None:
        """Test the new model, save what `02_train` saves of its test, and compare it with the saved run."""
        study = self.lab.study
        predicted = evaluation.score(cached_model(out.path / "best.pt"), data)
        predictions = {f"this training, {len(history)} epochs": predicted}
        note = f"To compare, make the saved run: `{command_for(study, 'train', self.saved)}`"
        if finished(study, "train", self.saved):
            saved, note = read_table(study, "train", self.saved, "predictions"), "Another seed would change both."
            if list(saved["image"]) == list(predicted["image"]):
                predictions[f"{self.saved}, saved"] = saved
            else:
                note = f"{self.saved} was tested on other images, so that the numbers of the two do not compare."
        compared = playground.compare(predictions, data)
        out.save_table("predictions", predicted)
        about = {"database": data.name, "split": "test", "synthetic": data.synthetic, "epochs": len(history)}
        out.save_json("metrics", about | compared.iloc[0][["n", *ends("srcc"), *ends("plcc")]].to_dict())
        out.finish(data={data.name: data.fingerprint})
        self.result.value = f"{playground.comparison_table(compared)}<p>{html.escape(note)}</p>"
        self.lab.refresh()


def _entry(name: str, value: Any) -> widgets.Widget:
    """The widget for a training parameter."""
    choices = tuple(FUSIONS) if name == "fusion" else typing.get_args(TrainParams.model_fields[name].annotation)
    if choices and isinstance(value, str) and value in choices:
        return _field(Dropdown, name, 308, 100, options=choices, value=value)
    kinds: dict[type, Callable] = {int: widgets.IntText, float: widgets.FloatText, str: widgets.Text}
    return _field(kinds[type(value)], name, 308, 100, value=value)
