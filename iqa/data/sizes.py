"""To which size and colours images are brought before a model reads them."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictBool
from pydantic.dataclasses import dataclass

Filter = Literal["lanczos", "bilinear"]
Colours = Literal["srgb", "stored"]
Side = Annotated[int, Field(gt=0, strict=True)] | None


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Size:
    """To which size, by which filter and to which colours images are brought.

    Height and width are in pixels, or both `None` for the image's own size. With `keep_aspect` the image is scaled so
    that it just covers height x width, and stays larger on one side; without, it is squeezed to exactly height x width.

    Args:
        filter: `lanczos`, or `bilinear` as in `torchvision.transforms.Resize`. Both average when they shrink.
        colours: `srgb` converts images that have a colour profile; `stored` takes their numbers as they are.
        least: the shorter side to which images that are still smaller are enlarged, their aspect kept.
    """

    height: Side = None
    width: Side = None
    keep_aspect: StrictBool = True
    filter: Filter = "lanczos"
    colours: Colours = "stored"
    least: Side = None

    def __post_init__(self) -> None:
        if (self.height is None) != (self.width is None):
            raise ValueError("set both height and width, or neither")

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of this height and width is brought to."""
        if self.height is not None and self.width is not None:
            exact = self.height, self.width
            height, width = _cover(height, width, *exact) if self.keep_aspect else exact
        if self.least is not None and min(height, width) < self.least:
            height, width = _cover(height, width, self.least, self.least)
        return height, width


def _cover(height: int, width: int, least_height: int, least_width: int) -> tuple[int, int]:
    scale = max(least_height / height, least_width / width)
    return max(least_height, round(height * scale)), max(least_width, round(width * scale))
