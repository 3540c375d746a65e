"""Score image files with a trained model: an image gets the same score whatever is scored beside it.

    model = iqa.load_model("demo/main_s1")
    model.score("photo.jpg")  # on model.scale
    model.quality_map("photo.jpg").per_pixel()
    model.score(images)  # a tensor (B, 3, H, W), RGB on 0..1: scores (B,) that can be differentiated, as in a loss

1. A file is decoded to 8-bit RGB (`iqa.data.pixels.decode`: EXIF orientation, grey, palette, CMYK, transparency over
   white, 16 bits, first of several frames). Floating-point pixels cannot be read. Its colour profile is applied if that
   was done in the training.
2. It is brought to the size at which the model was trained, by the same filter. Where a side is then still shorter than
   a crop, the image is enlarged, its aspect kept, until it just covers one (one resampling for both).
3. It becomes the model's kind of input, `rgb` or `mscn`.
4. Patches are cut (`iqa.model.scoring.patch_positions`), and their scores averaged in double precision.

Matrix products are computed in blocks, so a score can depend, in its last bits, on the place of a patch in its batch.
Therefore a forward pass holds patches of one image only, in their order. With the same batch size a score is the same
to the bit on one machine; another batch size changes it by less than 1e-5 of the scale's range. Random crops follow
from the seed and the image's pixels alone.
"""

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.nn import functional

from iqa.data import DataError
from iqa.data.colours import to_srgb
from iqa.data.crops import dense
from iqa.data.params import Crops, Input
from iqa.data.pixels import PIXELS, REACH, Undecodable, decode, resize, rgb
from iqa.data.sizes import Colours, Size
from iqa.model import checkpoints
from iqa.model.hyperiqa import HyperIQA
from iqa.model.memory import Live, available, is_lacking
from iqa.model.params import SCORING, ModelParams, change_rule, describe_rule
from iqa.model.scoring import Window, choose_device, patch_positions, score_patches
from iqa.model.tensors import fill, load
from iqa.study import paths
from iqa.study.results import result_file
from iqa.study.types import Positive, Precision

NO_MEMORY = "there is not enough memory for so many pixels; score crops of it (--crops grid), or a smaller copy"
AHEAD = 2**25  # pixels of the images that are prepared at once
HELD = 15  # bytes that a pixel takes while it is prepared
WATCHED = 2**21  # pixels of a forward pass from which its memory is watched

BEYOND = 0.5  # by how much floats on 0..1 may lie outside, as those of networks do

ImageLike = str | Path | Image.Image | np.ndarray


def smooth_mscn(image: Tensor) -> Tensor:
    """`iqa.data.pixels.mscn` without rounding, so that it can be differentiated: (B, 3, H, W), from 0..1 to 0..1."""
    padded, side = functional.pad(image, [REACH] * 4, mode="reflect"), 2 * REACH + 1
    mean = functional.avg_pool2d(padded, side, 1)
    variance = functional.avg_pool2d(padded**2, side, 1) - mean**2
    value = (image - mean) / (variance.clip(min=1e-10).sqrt() + 0.04)
    return (value * 40 + 128).clip(0, 255) / 255


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {"rgb": lambda image: image, "mscn": smooth_mscn}


class ModelError(ValueError):
    """A model that cannot be used; the message says why."""


class Unreadable(DataError):
    """An image file that cannot be scored, and the reason."""

    def __init__(self, image: str | Path, reason: str):
        super().__init__(f"{image}: {reason}")
        self.image = image
        self.reason = reason


@dataclass(frozen=True)
class Scale:
    """The range and direction of scores.

    A loss such as PLCC does not see the scale: the scores of its network have an order, but no zero and no unit. A line
    that rises, fitted to the validation images, maps them to the scale. Where there is none, the scale is uncalibrated.
    """

    low: float
    high: float
    higher_is_better: bool
    of: str  # title of the database that has this scale
    intercept: float = 0.0  # of the line, on 0..1
    slope: float = 1.0
    uncalibrated: str = ""  # why there is no line, although the loss did not see the scale

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"scores from {self.low!r} to {self.high!r} are no range: low < high, both finite")

    def __str__(self) -> str:
        if self.uncalibrated:
            good = "higher" if self.higher_is_better else "lower"
            return f"no scale: {good} is better, but the values are uncalibrated ({self.uncalibrated})"
        worst, best = (self.low, self.high) if self.higher_is_better else (self.high, self.low)
        fitted = "" if self.calibration == (0.0, 1.0) else ", fitted to its validation images"
        return f"{worst:g} (worst) to {best:g} (best), the scale of {self.of}{fitted}"

    @property
    def calibration(self) -> tuple[float, float]:
        """Intercept and slope of the line that maps the network's scores to 0..1."""
        return self.intercept, self.slope

    def denormalise(self, value: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Scores on this scale of a network's scores on 0..1 (1 is best); those outside 0..1 are not clipped."""
        if self.calibration != (0.0, 1.0):
            value = self.intercept + self.slope * value
        return self.low + (value if self.higher_is_better else 1 - value) * (self.high - self.low)


@dataclass(frozen=True)
class PatchScores:
    """The scores of an image's patches."""

    scores: np.ndarray  # (n,), float64, on the model's scale
    positions: np.ndarray  # (n, 2), top and left of each patch in the image as it was scored
    window: tuple[int, int]  # height and width of a patch
    height: int  # of the image as it was scored
    width: int
    scales: np.ndarray | None = None  # (n, 4), weight of each scale, finest first, where `look` asked for them

    @property
    def score(self) -> float:
        """The image's score: the mean over its patches."""
        return float(self.scores.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over the patches, 0 for one patch."""
        return float(self.scores.std())

    def per_pixel(self, step: int = 1) -> np.ndarray:
        """The mean score of the patches that cover each pixel, NaN where none does: (height, width), or every `step`-th
        pixel in both directions, from the first one."""
        total, count = np.zeros((2, -(-self.height // step), -(-self.width // step)))
        for (top, left), score in zip(self.positions, self.scores, strict=True):
            below, right = top + self.window[0], left + self.window[1]
            covered = np.s_[-(-top // step) : -(-below // step), -(-left // step) : -(-right // step)]
            total[covered] += score
            count[covered] += 1
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model that knows how images are prepared for it and on which scale its scores are."""

    network: HyperIQA  # gives 0..1, 1 is best; in evaluation mode, on its device
    name: str  # study and run, or the name in the literature
    input: str  # kind of pixels, `rgb` or `mscn`
    crop: int  # side of a crop in pixels
    size: Size  # to which images are brought first, and to which colours
    scale: Scale  # of its scores
    options: dict[str, Any]  # for `iqa.model.scoring.predict`: the rule by which its images are scored everywhere
    trained_on: str = ""  # titles of its databases, where there are several; the scale is that of the first
    synthetic: bool = False  # no person has rated the images that it was trained on

    @property
    def rule(self) -> str:
        """What is scored of an image, in words."""
        return describe_rule(**self.options)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Scores (B,) on `scale` of pixels (B, 3, H, W) of its kind of input, uint8 or float on 0..1."""
        return self.scale.denormalise(self.network(pixels.to(self.network.mean.device)))

    def score(self, image: ImageLike | Tensor, batch_size: int | None = None, **how: Any) -> float | Tensor:
        """An image's score on `scale`: the mean over its patches; or the scores of a tensor of images.

        A tensor is scored as it is, each image as one patch: nothing is resized or cut. The scores (B,) on `scale` can
        be differentiated, and so be (a part of) a loss: `-model.score(images).mean()` where higher is better. Call
        `model.network.requires_grad_(False)` to leave out gradients of the model's own weights.

        Args:
            image: a file; or pixels (H, W, 3), uint8 RGB; or an RGB image of Pillow; or RGB pixels (B, 3, H, W) as a
                tensor, uint8 or float on 0..1. The other arguments are not for tensors.
            batch_size: most patches per forward pass; by default what suits the device and the crop.
            how: `crops`, `patches`, `seed`, `stride`, see `iqa.data.crops.positions`; by default those of the model's
                own test (`options`), and `PATCHES` of other crops. `precision`: `32-true`, or `bf16-mixed`, about twice
                as quick where the processor has it, with scores that differ in the third digit. `look`: return the
                weights of the scales, too.

        Raises:
            Unreadable: the file cannot be decoded, the image is too narrow to be enlarged, or its score is not finite.
            ValueError: the pixels have another shape, type or range, or the crops do not take `patches` or `stride`.
        """
        if isinstance(image, Tensor):
            if how or batch_size:
                raise ValueError(f"a tensor is scored as it is; leave out {', '.join(how) or 'batch_size'}")
            return self(self._input_of(image))
        return self.patch_scores(image, batch_size, **how).score

    def _input_of(self, rgb: Tensor) -> Tensor:
        """The network's input, float on 0..1, for RGB pixels (B, 3, H, W); can be differentiated."""
        if rgb.ndim != 4 or rgb.shape[1] != 3:
            raise ValueError(f"a tensor of images has the shape (B, 3, H, W), not {tuple(rgb.shape)}")
        if rgb.dtype != torch.uint8 and not rgb.is_floating_point():
            raise ValueError(f"a tensor of images is uint8, or float on 0..1, not {rgb.dtype}")
        image = rgb / 255 if rgb.dtype == torch.uint8 else rgb
        low, high = (float(end) for end in image.detach().aminmax())
        if not (low >= -BEYOND and high <= 1 + BEYOND):  # nor NaN
            raise ValueError(f"pixels reach from {low:.4g} to {high:.4g}; floats are on 0..1, so divide them")
        if self.input not in SMOOTH:
            raise ValueError(
                f"input '{self.input}' cannot be made of a tensor; call the model with pixels of that kind"
            )
        return SMOOTH[self.input](image)

    def quality_map(self, image: ImageLike, stride: int | None = None, batch_size: int | None = None) -> PatchScores:
        """Scores of a dense grid of crops, every `stride` pixels (by default a quarter of the crop); see `score`."""
        return self.patch_scores(image, batch_size, crops=dense.name, stride=stride)

    def patch_scores(self, image: ImageLike, batch_size: int | None = None, **how: Any) -> PatchScores:
        """The score of each patch of an image; arguments and errors as of `score`."""
        name = image if isinstance(image, str | Path) else "the image"
        return self._score(name, self.pixels(image), batch_size, **how)

    def score_files(
        self, files: Iterable[str | Path], batch_size: int | None = None, workers: int = 4, **how: Any
    ) -> Iterator[tuple[str | Path, PatchScores | Unreadable]]:
        """Each file with its patches' scores, or with the reason why it has none, in the given order.

        A file whose preparation or scoring fails does not stop the others, whatever goes wrong. `workers` threads
        prepare the next images while one is scored, as long as these have no more than `AHEAD` pixels together.
        Other arguments as of `score`.

        Raises:
            ValueError: the crops that are asked for cannot be had of any image.
        """
        cut = {key: value for key, value in how.items() if key not in ("precision", "look")}
        self._patches(np.zeros((self.crop, self.crop, 3), np.uint8), **cut)

        def prepare(file: str | Path) -> tuple[str | Path, np.ndarray | Unreadable]:
            held = self._pixels_held(file)
            fits = held <= AHEAD or HELD * held < available()
            return file, _attempt(file, self.pixels, file) if fits else Unreadable(file, NO_MEMORY)

        for file, found in _ahead(prepare, files, workers, self._pixels_held):
            if not isinstance(found, Unreadable):
                found = _attempt(file, self._score, file, found, batch_size, **how)
            yield file, found

    def pixels(self, image: ImageLike) -> np.ndarray:
        """The network's input for an image: (height, width, 3), uint8."""
        return PIXELS[self.input](self.rgb(image))

    def rgb(self, image: ImageLike) -> np.ndarray:
        """An image in the size and the colours in which it is scored: (height, width, 3), uint8."""
        try:
            return np.asarray(resize(_open(image, self.size.colours), self.size))
        except Unreadable:
            raise
        except Undecodable as error:
            raise Unreadable(image, error.reason) from None
        except DataError as error:
            raise Unreadable(image if isinstance(image, str | Path) else "the image", str(error)) from None

    def _pixels_held(self, file: str | Path) -> int:
        """How many pixels the preparation of a file holds, from its header alone."""
        try:
            if not Path(file).is_file():
                return 0
            with Image.open(file) as image:
                return max(image.width * image.height, math.prod(self.size.of(image.height, image.width)))
        except Exception:  # nobody knows before it is decoded; its turn comes when no other is prepared
            return AHEAD

    def _patches(self, pixels: np.ndarray, **changes: Any) -> tuple[np.ndarray, Window]:
        """Where the patches of an image lie by the model's rule with some changes, and their size."""
        rule = change_rule(self.options, **changes)
        cut = {key: rule[key] for key in ("crops", "patches", "seed", "stride") if key in rule}
        return patch_positions(pixels, self.crop, **cut)

    def _score(
        self,
        name: str | Path,
        pixels: np.ndarray,
        batch_size: int | None,
        precision: str = "32-true",
        look: bool = False,
        **changes: Any,
    ) -> PatchScores:
        positions, window = self._patches(pixels, **changes)
        places = {window: [(0, top, left) for top, left in positions.tolist()]}
        batches = score_patches(self.network, lambda _: pixels, places, batch_size, precision, exact=True, look=look)
        at_once = math.prod(window) * min(len(positions), batch_size or 1)
        watched = at_once > WATCHED and self.network.mean.device.type == "cpu"
        with Live(list(self.network.parameters()), available()) if watched else nullcontext():
            values = [of_batch for _, of_batch in batches]
        scores = self.scale.denormalise(np.concatenate([of_batch["scores"] for of_batch in values]))
        if not np.isfinite(scores).all():
            raise Unreadable(name, "its score is not a finite number; the model may be damaged: make or fetch it again")
        scales = np.concatenate([of_batch["scales"] for of_batch in values]) if "scales" in values[0] else None
        return PatchScores(scores, positions, window, *pixels.shape[:2], scales)


def _attempt(file: str | Path, work: Callable, *arguments: Any, **options: Any) -> Any:
    """What `work` returns, or why it failed, which is no reason to stop: too little memory, a decoder, a layer."""
    try:
        return work(*arguments, **options)
    except Unreadable as error:
        return error
    except Exception as error:
        problem = f"it cannot be scored ({type(error).__name__}: {str(error)[:200]})"
        return Unreadable(file, NO_MEMORY if is_lacking(error) else problem)


def _open(image: ImageLike, colours: Colours) -> Image.Image:
    if isinstance(image, str | Path):
        if _is_stream(image):
            raise Unreadable(image, "it is a pipe, a socket or a device; save the image to a file")
        return decode(Path(image), colours)
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ValueError(f"an image of mode {image.mode} has no one way to RGB; give its file, or convert it first")
        return to_srgb(image, "the image") if colours == "srgb" else image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"pixels must be (height, width, 3) and uint8, not {image.shape} and {image.dtype}")
    return Image.fromarray(image)


def _is_stream(file: str | Path) -> bool:
    """Whether a path is no file and no folder; to read it could take forever."""
    # unlike those of Path, these raise nothing where access is denied
    return os.path.exists(file) and not (os.path.isfile(file) or os.path.isdir(file))  # noqa: PTH110, PTH112, PTH113


def _ahead(work: Callable, items: Iterable, workers: int, cost: Callable[[Any], int] = lambda _: 0) -> Iterator:
    """`work(item)` for each item, in order; threads run ahead of the reader: at most two items each.

    Items that are begun and not yet read `cost` at most `AHEAD` together, or there is one of them.
    """
    waiting: deque = deque()
    coming = ((item, cost(item)) for item in items)
    following = next(coming, None)
    pool = ThreadPoolExecutor(workers)
    try:
        while waiting or following:
            done = [waiting.popleft()[0].result()] if waiting else []
            while following and len(waiting) < 2 * workers:
                if waiting and sum(of for _, of in waiting) + following[1] > AHEAD:
                    break
                waiting.append((pool.submit(work, following[0]), following[1]))
                following = next(coming, None)
            if done:
                yield done.pop()  # and keep no reference to it
    finally:
        pool.shutdown(cancel_futures=True)


def load_model(source: str | Path, device: str = "auto", size: str | None = None) -> Predictor:
    """A trained model, ready to score images.

    Args:
        source: an existing file or folder: a `best.pt`, the results folder of a training run, or a published
            checkpoint (`iqa.model.checkpoints`). Otherwise `study/run`, a finished training run.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, ...
        size: for a checkpoint that was trained otherwise than its layout says: `384x512`, exactly this height and width
            in pixels, or `stored`, each image's own; by default the model's own preparation.

    Raises:
        ModelError: there is no such model, it is damaged, the size is none, or the device does not exist.
        ResultsError: the run is not finished; says which command makes it.
        CheckpointError: the file cannot be read, is none of the known checkpoints, or its weights do not fit.
        ParameterError: the file holds parameters of a model that this version does not know.
    """
    file = _model_file(source)
    saved = load(file)
    predictor = _trained(file, saved) if _is_trained(saved) else _published(file)
    if size is not None:
        predictor = replace(predictor, size=_other_size(size, predictor.size))
    try:
        predictor.network.to(choose_device(device))
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"device '{device}' cannot be used: {error}") from None
    predictor.network.eval().to(memory_format=torch.channels_last)
    return predictor


def _other_size(text: str, own: Size) -> Size:
    sides = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if text != "stored" and not sides:
        raise ModelError(f"size '{text:.80}': give height x width in pixels, such as 384x512, or stored")
    height, width = map(int, sides.groups()) if sides else (None, None)
    return replace(own, height=height, width=width, keep_aspect=False)


def _model_file(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "best.pt").is_file():
            raise ModelError(f"{paths.shown(path)} holds no best.pt; it is not the results folder of a training run")
        return path / "best.pt"
    if path.is_file():
        return path
    if not paths.IN_CHECKOUT:
        raise ModelError(
            f"'{source}' is no file and no folder; outside of a checkout there are no training runs to name"
        )
    studies = sorted(folder.name for folder in paths.PARAMS.iterdir() if folder.is_dir())
    study, _, run = str(source).partition("/")
    if study in studies and run and "/" not in run:
        return result_file(study, "train", run, "best.pt")
    known = ", ".join(studies)
    raise ModelError(f"'{source}' is no file and no folder, and no training run: study/run, with a study of {known}")


def _is_trained(saved: Any) -> bool:
    """Whether a file's content is what a training run of this project writes."""
    about = saved.get("architecture", saved.get("params")) if isinstance(saved, dict) else None
    is_model = isinstance(about, dict) and isinstance(about.get("backbone"), str)
    return is_model and isinstance(saved.get("state_dict"), dict)


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Scoring(_Part):
    input: Input
    crops: Crops
    patches: Positive
    crop: Positive
    batch_size: Positive
    seed: int
    precision: Precision


class _Database(_Part):
    title: str
    low: Annotated[float, Field(allow_inf_nan=False)]
    high: Annotated[float, Field(allow_inf_nan=False)]
    higher_is_better: bool
    synthetic: bool
    size: Size


class _Line(_Part):
    """How the network's scores are mapped to 0..1, or why they are not."""

    intercept: float = 0.0
    slope: float = 1.0
    uncalibrated: str = ""


class _Saved(_Part):
    """What a model file says besides weights."""

    name: str
    architecture: dict[str, Any]
    scoring: _Scoring
    database: _Database
    calibration: _Line = _Line()  # older files have none
    trained_on: str = ""


def _trained(file: Path, saved: dict[str, Any]) -> Predictor:
    """The model of a training run; files of older versions tell all by the parameters of the training alone."""
    shown = paths.shown(file)
    try:
        if "architecture" not in saved:
            params = saved["params"]
            saved["name"] = f"{params['study']}/{params['run']}"
            saved["architecture"] = {key: params[key] for key in ModelParams.model_fields}
            saved["scoring"] = {option: params[key] for option, key in SCORING.items()}
        about = _Saved.model_validate(saved)
    except KeyError as error:
        raise ModelError(f"{shown} lacks {error}; train the model again") from None
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        lacks = problem["type"] == "missing"
        wrong = f" lacks '{key}'" if lacks else f": key '{key}': {problem['msg']}, not {problem['input']!r:.80}"
        raise ModelError(f"{shown}{wrong}; train the model again") from None
    database, options = about.database, about.scoring.model_dump()
    architecture = ModelParams.build(about.architecture, shown)
    try:
        line = about.calibration.model_dump()
        scale = Scale(database.low, database.high, database.higher_is_better, database.title, **line)
        network = HyperIQA(architecture)
    except Exception as error:  # whatever an architecture that fits nothing meets
        raise ModelError(f"{shown}: {str(error) or type(error).__name__}; train the model again") from error
    fill(network, saved["state_dict"], file)
    options |= {} if scale.calibration == (0.0, 1.0) else {"calibration": scale.calibration}
    size = replace(database.size, least=options["crop"])
    of = {"trained_on": about.trained_on, "synthetic": database.synthetic}
    return Predictor(network, about.name, options["input"], options["crop"], size, scale, options, **of)


def _published(file: Path) -> Predictor:
    """The model of a published checkpoint: 25 crops, random as in Su et al. (CVPR 2020) or as its authors' own."""
    network, layout = checkpoints.read(file)
    options = {"input": rgb.name, "crops": layout.crops, "patches": 25, "crop": layout.crop}
    options |= {"batch_size": 32, "seed": 0, "precision": "32-true"}
    scale = Scale(0.0, layout.high, True, layout.title)
    size = replace(layout.size, least=layout.size.least or layout.crop)
    return Predictor(network, layout.title, rgb.name, layout.crop, size, scale, options)
