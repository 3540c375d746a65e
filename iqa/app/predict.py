"""Scoring of image files for `iqa predict`: no score that was made is lost, however it ends."""

import csv
import io
import math
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace as Options
from typing import Any

import pandas as pd

from iqa import __version__
from iqa.data.crops import CROPS, dense, grid
from iqa.model.image_files import counted, find_images
from iqa.model.memory import keep_freed
from iqa.model.params import change_rule
from iqa.model.predictor import PatchScores, Predictor, Unreadable, load_model
from iqa.report.params import ReportParams
from iqa.show.analysis import quality_map
from iqa.study import param_files, paths, progress, results

COLUMNS = ["image", "score", "spread", "patches", "height", "width", "synthetic"]
FAST = 16  # crops of --fast: a mean within 0.3% of the scale of that over 25 (docs/how-to/score-images.md)
RULE = ("crops", "patches", "seed")
LISTED = 20  # images of a kind that are listed on the terminal; --json has all


class PredictError(ValueError):
    """Images cannot be scored in this way; the message says why."""


@dataclass
class Outcome:
    """What came of the images: a row for each that was scored, and what is lacking."""

    model: Predictor
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)  # `image` and `reason`
    passed: Counter[str] = field(default_factory=Counter)  # files of other types in the folders, by suffix
    not_reached: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)  # what could not be written, and why
    seconds: float = 0.0
    signal: int = 0  # that ended it
    crash: Exception | None = None  # that ended it

    @property
    def status(self) -> int:
        """The exit status, see `iqa predict --help`."""
        return 128 + self.signal if self.signal else 2 * bool(self.errors or self.unwritten)

    def heading(self) -> str:
        """The model and the scale of its scores."""
        synthetic = " (synthetic: no person has rated the images that it learnt from)" * self.model.synthetic
        return f"{self.model.name}{synthetic}: scores from {self.model.scale}"

    def table(self) -> pd.DataFrame:
        """The scores as text, with as many digits as the scale is worth; and a mark where the model is synthetic."""
        scale = self.model.scale
        write = f"{{:.{max(0, 4 - round(math.log10(scale.high - scale.low)))}f}}".format
        table = pd.DataFrame(self.rows, columns=COLUMNS[:4])
        table = table.assign(**{"trained on": "synthetic"} if self.model.synthetic else {})
        names = table["image"].map(_printable)
        return table.assign(image=names, score=table["score"].map(write), spread=table["spread"].map(write)).astype(str)

    def summary(self) -> str:
        """How many images have a score, and how many have none."""
        scored, rate = len(self.rows), len(self.rows) / max(self.seconds, 1e-9)
        without = (
            f"{len(self.errors)} unreadable, {self.passed.total()} passed over, {len(self.not_reached)} not reached"
        )
        return f"{scored} image{'s' * (scored != 1)} in {self.seconds:.1f} s; {without} ({rate:.1f} images per second)"

    def lacking(self) -> str:
        """What has no score and what was not written, for the terminal; empty if there is nothing of the kind."""
        lines = []
        if total := self.passed.total():
            files = "1 file was" if total == 1 else f"{total} files were"
            lines.append(f"iqa: {files} passed over: {counted(self.passed)}")
        unread = ["{image}: {reason}".format(**error) for error in self.errors]
        rest = {"could not be written": self.unwritten, "were not reached": self.not_reached}
        for what, names in ({"could not be read": unread} | rest).items():
            shown = names if names is unread else names[:LISTED]
            lines += [f"iqa: {len(names)} {what}:", *(f"  {_printable(name)}" for name in shown)] if names else []
            lines += [f"  and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
        return "\n".join(lines)


class Sheet:
    """Scores as CSV, a row at a time: the file is whole after each, and an earlier file stays until the first is there.

    What cannot be written is tried again with the next row.
    """

    def __init__(self, file: Path, columns: list[str]):
        self.file, self.columns = file.resolve(), columns
        self.out: io.FileIO | None = None
        self.whole = 0  # bytes of whole rows in the file
        self.waiting = self._line(columns)

    def add(self, row: dict[str, Any]) -> None:
        """Write a row; OSError if it cannot be written now."""
        self.waiting += self._line([row.get(name, "") for name in self.columns])
        self.write()

    def write(self) -> None:
        """Write the rows that wait; OSError if they cannot be written now."""
        part = self.file.with_name(f".{self.file.name}.part")
        out = self.out or part.open("wb", buffering=0)
        try:
            rest = self.waiting
            while rest:
                rest = rest[out.write(rest) :]
            if self.out is None:
                part.replace(self.file)
        except OSError:
            with suppress(OSError):
                out.seek(self.whole)
                out.truncate()
            if self.out is None:
                out.close()
                part.unlink(missing_ok=True)
            raise
        self.out, self.waiting, self.whole = out, b"", self.whole + len(self.waiting)

    def close(self) -> None:
        """Write what waits, down to the disk."""
        self.write()
        if self.out:
            os.fsync(self.out.fileno())
            self.out.close()

    @staticmethod
    def _line(values: list[Any]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue().encode("utf-8")


class Interrupts:
    """Ctrl-C, the end of the terminal and SIGTERM raise KeyboardInterrupt, but not while something is `kept`."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.number, self.keeping = 0, False

    def _note(self, number: int, _: Any) -> None:
        self.number = number
        if not self.keeping:
            raise KeyboardInterrupt

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, they raise KeyboardInterrupt."""
        before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, nothing is interrupted."""
        self.keeping = True
        yield
        self.keeping = False
        if self.number:
            raise KeyboardInterrupt


def predict(options: Options) -> Outcome:
    """Score the images and folders of a command line; the CSV file is written as it goes, the JSON file at the end.

    Raises:
        PredictError, DataError, ModelError, ...: nothing can be done.
    """
    keep_freed()
    passed: Counter[str] = Counter()
    files, refused = find_images(options.images, passed)
    _check(options, files)
    model = load_model(newest_model() if options.model is None else options.model, options.device, options.size)
    how = _how(options, model)
    found = Outcome(model, errors=[_error(error) for error in refused], passed=passed)
    sheet = Sheet(options.csv, COLUMNS + ["map"] * bool(options.map)) if options.csv else None
    interrupts, reached, started = Interrupts(), 0, time.perf_counter()
    maps = Maps(options.map, files) if options.map else None
    scored = model.score_files(files, options.batch_size, options.workers, **how)
    try:
        with interrupts.noted():
            for file, scores in progress.bar(scored, total=len(files), desc="scoring", unit="image"):
                with interrupts.kept():
                    reached += 1
                    if isinstance(scores, Unreadable):
                        found.errors.append(_error(scores))
                        continue
                    about = {"score": scores.score, "spread": scores.spread, "patches": len(scores.scores)}
                    row = {"image": text(file), **about, "height": scores.height, "width": scores.width}
                    row["synthetic"] = model.synthetic
                    if maps:
                        what = f"the map of {text(file)}"
                        row["map"] = attempt(found.unwritten, what, maps.draw, model, file, scores) or ""
                    found.rows.append(row)
                    if sheet:
                        with suppress(OSError):  # tried again
                            sheet.add(row)
    except KeyboardInterrupt:
        if not reached:
            raise
        found.signal = interrupts.number or signal.SIGINT
    except Exception as error:
        if not reached:
            raise
        found.crash = error
    finally:
        scored.close()
    found.seconds = time.perf_counter() - started
    found.not_reached = [text(file) for file in files[reached:]]
    if sheet:
        attempt(found.unwritten, options.csv, sheet.close)
    if options.json:
        attempt(found.unwritten, options.json, results.write_json, options.json.resolve(), _about(found, how, options))
    return found


def newest_model() -> str:
    """The `study/run` of the newest model of `results/` that is not synthetic, a main model of a study if there is one.

    Raises:
        PredictError: there is none; says how to get one.
        ResultsError: the results of a training are damaged.
    """
    found = []
    for file in paths.RESULTS.glob(f"*/train/*/{results.RECORD}"):
        study, run = file.parts[-4], file.parts[-2]
        if not results.read_json(study, "train", run, "metrics")["synthetic"]:
            started = results.read_json(study, "train", run, "record")["started"]
            found.append((run in _main_models(study), started, f"{study}/{run}"))
    if not found:
        raise PredictError(
            "no model of real photographs is trained here; name one with --model: a published checkpoint,\n"
            "or demo/main_s1 to try it (synthetic; `iqa report demo` makes it). To train one of your own:\n"
            "iqa new NAME --images DIR --labels FILE, then iqa report NAME"
        )
    name = max(found)[2]
    print(f"iqa: scores with {name}, the newest model that is not synthetic (another: --model NAME)", file=sys.stderr)
    return name


def _main_models(study: str) -> list[str]:
    """The trainings that reports of a study are about; none where its parameters are not here."""
    runs = param_files.run_names(study, "report") if study in param_files.studies() else []
    return [param_files.load(ReportParams, study, run).main for run in runs]


class Maps:
    """Draws quality maps into a folder, each under a name that is no image's and no other map's."""

    def __init__(self, folder: Path, files: list[Path]):
        self.folder, self.real = folder, Path(os.path.realpath(folder))
        self.taken = {os.path.realpath(file) for file in files}

    def draw(self, model: Predictor, file: Path, scores: PatchScores) -> str:
        """Draw one map, and return its path as text."""
        names = (f"{file.name}{f'-{number}' * (number > 1)}.png" for number in count(1))
        name = next(name for name in names if str(self.real / name) not in self.taken)
        self.taken.add(str(self.real / name))
        part = self.folder / f".{os.getpid()}.part"
        try:
            figure = quality_map(model.rgb(file), scores, model.scale)
            figure.savefig(part, format="png", dpi=150, bbox_inches="tight")
            part.replace(self.folder / name)
        finally:
            part.unlink(missing_ok=True)
        return text(self.folder / name)


def attempt(unwritten: list[str], what: Any, write: Callable, *arguments: Any) -> Any:
    """What `write` returns; where it fails, None, and `what` and the reason are noted as unwritten."""
    try:
        return write(*arguments)
    except Exception as error:  # whatever it is, the scores are not lost for it
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        unwritten.append(f"{what}: {reason}")


def _check(options: Options, files: list[Path]) -> None:
    """Refuse what cannot work before the model is loaded."""
    if options.map and (options.crops or options.patches):
        raise PredictError("--map scores a dense grid of crops; leave out --crops and --patches")
    if options.fast and (options.map or options.crops or options.patches):
        raise PredictError("--fast chooses the crops; leave out --map, --crops and --patches")
    if options.stride and not options.map:
        raise PredictError("--stride belongs to --map")
    written = [file.resolve() for file in (options.csv, options.json) if file]
    if len(set(written)) < len(written):
        raise PredictError(f"{options.csv} cannot be both --csv and --json; name two files")
    if lost := set(map(str, written)).intersection(map(os.path.realpath, files)):
        raise PredictError(f"{min(lost)} is one of the images; name another file to write")
    if options.map:
        try:
            options.map.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=options.map).close()
        except OSError as error:
            reason = error.strerror
            raise PredictError(f"{options.map}: no folder for maps can be made ({reason}); name another") from None


def _how(options: Options, model: Predictor) -> dict[str, Any]:
    """How images are scored, as far as it was asked for: the rest is the model's own rule."""
    how = {key: vars(options)[key] for key in RULE if vars(options)[key] is not None}
    if options.fast and model.options.get("patches", 1) > FAST and "patches" in CROPS[model.options["crops"]].options:
        how |= {"crops": grid.name, "patches": FAST}
    if options.map:
        how = {"crops": dense.name, "stride": options.stride or max(1, model.crop // 4)}
        if how["stride"] > model.crop:
            raise PredictError(f"--stride {options.stride} leaves gaps between crops of {model.crop} pixels")
    return how | {"precision": options.precision}


def _about(found: Outcome, how: dict[str, Any], options: Options) -> dict[str, Any]:
    """What the JSON file holds."""
    model = found.model
    rule = change_rule(model.options, **how)
    used = {key: rule[key] for key in (*RULE, "stride", "precision") if key in rule}
    return {
        "iqa": __version__,
        "model": model.name,
        "synthetic": model.synthetic,
        "scale": vars(model.scale),
        "preparation": {"input": model.input, "size": vars(model.size), "crop": model.crop},
        "settings": used | {"batch_size": options.batch_size, "device": str(model.network.mean.device)},
        "images": found.rows,
        "errors": found.errors,
        "passed_over": dict(found.passed),
        "not_reached": found.not_reached,
    }


def _error(error: Unreadable) -> dict[str, str]:
    return {"image": text(error.image), "reason": text(error.reason)}


def text(path: str | Path) -> str:
    """A path that can be written as UTF-8, even if a file name holds other bytes."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _printable(line: str) -> str:
    """A text that stays on its line, whatever a file name holds."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
