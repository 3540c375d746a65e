"""The parameters that prepare one database."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from iqa.data.sizes import Colours, Filter
from iqa.study import types
from iqa.study.params import FigureParams
from iqa.study.registry import one_of

Input = Literal["rgb", "mscn"]
Crops = Annotated[str, AfterValidator(one_of("iqa.data.crops"))]


class DataPrepParams(FigureParams):
    """Parameters of `01_data_prep`. The name of the run is the name of the database in its study."""

    step: ClassVar[str] = "data_prep"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "scipy", "scikit-image")
    not_deciding: ClassVar[tuple[str, ...]] = ("study", "run", "workers")

    # which database, and where its files are
    reader: Annotated[str, AfterValidator(one_of("iqa.data.readers"))]
    folder: types.FileName | None = None
    images: types.FileName | None = None
    missing: Literal["error", "skip"] = "error"
    # one's own images: readers csv and metas
    labels: types.FileName | None = None
    train_list: types.FileName | None = None
    val_list: types.FileName | None = None
    test_list: types.FileName | None = None
    low: types.Number | None = None
    high: types.Number | None = None
    higher_is_better: bool | None = None
    # synthetic databases
    part: Literal["main", "distortions", "photos"] = "main"
    scale: Annotated[types.Number, Field(gt=0, le=1)] = 1.0
    # split
    split: Literal["official", "seeded", "all_test"] | None = None
    split_file: types.FileName | None = None
    seed: types.Seed = 0
    repeat: types.Positive = 1
    train_fraction: types.Share = 0.8
    val_fraction: types.Fraction = 0.1
    # pixels
    height: types.Size | None = None
    width: types.Size | None = None
    keep_aspect: bool = True
    filter: Filter = "lanczos"
    colours: Colours = "srgb"
    inputs: Annotated[list[Input], Field(min_length=1, max_length=2)] = ["rgb"]
    workers: types.Parallel | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError("set both 'height' and 'width', or neither")
        if self.split is not None and self.split_file is not None:
            raise ValueError("set 'split' or 'split_file', not both")
        return self
