"""The parameters that prepare one database."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from iqa.study.params import FigureParams, Fraction, Number, Positive
from iqa.study.registry import one_of

Input = Literal["rgb", "mscn"]
Crops = Annotated[str, AfterValidator(one_of("iqa.data.crops"))]


class DataPrepParams(FigureParams):
    """Parameters of `01_data_prep`. The name of the run is the name of the database in its study."""

    step: ClassVar[str] = "data_prep"
    packages: ClassVar[tuple[str, ...]] = ("numpy", "pillow", "scipy", "scikit-image")
    not_deciding: ClassVar[tuple[str, ...]] = ("study", "run", "workers")

    # which database, and where its files are
    reader: Annotated[str, AfterValidator(one_of("iqa.data.readers"))] = "synthetic"
    folder: str | None = None
    images: str | None = None
    missing: Literal["error", "skip"] = "error"
    # one's own images: readers csv and metas
    labels: str | None = None
    train_list: str | None = None
    val_list: str | None = None
    test_list: str | None = None
    low: Number | None = None
    high: Number | None = None
    higher_is_better: bool | None = None
    # synthetic databases
    part: Literal["main", "distortions", "photos"] = "main"
    scale: Annotated[Number, Field(gt=0, le=1)] = 1.0
    # split
    split: Literal["official", "seeded", "all_test"] | None = None
    split_file: str | None = None
    seed: int = 0
    repeat: Positive = 1
    train_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.8
    val_fraction: Fraction = 0.1
    # pixels
    height: Positive | None = None
    width: Positive | None = None
    keep_aspect: bool = True
    inputs: Annotated[list[Input], Field(min_length=1)] = ["mscn"]
    workers: Positive | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if (self.height is None) != (self.width is None):
            raise ValueError("set both 'height' and 'width', or neither")
        if self.split is not None and self.split_file is not None:
            raise ValueError("set 'split' or 'split_file', not both")
        return self
