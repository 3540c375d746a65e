"""The data flow of a model as a diagram, drawn from its description (`iqa.model.hyperiqa.describe`) alone.

It follows figure 2 of Su et al. (CVPR 2020) with the model's own parts and shapes: blue is the backbone, green the
content path that makes the target network's weights, orange the distortion path and the target network.
Coordinates are in units of a 120th of the figure's width; a frame is (x, y, width, height).
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle

from iqa.show.style import BLUE, GREEN, INK, ORANGE
from iqa.show.tables import ARROW, MINUS, TIMES, shape

SIZE = 120, 71  # of one diagram
TEXT, TITLE = 7.1, 7.5  # points; TEXT is 6 points where the figure is printed 6.3 in wide
FACES = {BLUE: ("#F3F8FC", "#CFE3F2"), GREEN: ("#F3FAF7", "#CDEBE0"), ORANGE: ("#FDF6F1", "#FADFCC")}  # plain, marked
DASHED, DOTTED = (0, (3, 1.5)), (0, (1, 1))
COLUMNS = (24.4, 35.0, 45.6, 56.2)  # middle of each level
BACKBONE, FUSION = (18, 16, 45, 23), (18, 43, 52.5, 23)
SEMANTIC, HYPER = (82, 49, 18, 17), (102.3, 49, 16.7, 17)
TARGET = (79, 8, 33, 35)
JOINED = 60.0  # height of the line on which the fused levels leave

Frame = tuple[float, float, float, float]


@dataclass(frozen=True)
class Part:
    """A part of the description; `change` is None unless the part is marked as different."""

    title: str
    output: list[int]
    parameters: int
    change: int | None = None

    @property
    def marked(self) -> bool:
        return self.change is not None

    def count(self, separator: str = " ") -> str:
        """Number of parameters, and by how many it changed."""
        change = f"{separator}({_signed(self.change)})" if self.change else ""
        return _counted(self.parameters) + change


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """The parts in which two descriptions differ, by name, and how many parameters more the second has there."""
    changes = {}
    for old, new in zip(before["parts"], after["parts"], strict=True):
        name, widths = new["name"], f"{new['name']}_widths"  # semantic_widths, target_widths
        if old != new or before.get(widths) != after.get(widths):
            changes[name] = new["parameters"] - old["parameters"]
    return changes


def filled(description: dict[str, Any], name: str, key: str) -> str:
    """What the fusion or the target input (`local`) of a model was registered with, its fields filled in."""
    part = next(part for part in description["parts"] if part["name"] == name)
    levels = dict(enumerate(description["levels"], 1))
    if name == "fusion":
        width, *grid = part["output"]
        used = [number for number, level in levels.items() if level["fused"]]
        fields = {"levels": _levels(used), "grid": shape(grid), "channels": f"{width / len(used):.0f}"}
    else:
        values = {number: level["local"] for number, level in levels.items() if level["local"] is not None}
        fields = {"levels": _levels(list(values or levels)), "values": " + ".join(f"{v:.0f}" for v in values.values())}
        channels = sum(levels[number]["channels"] for number in values or levels)
        fields |= {"channels": f"{channels:.0f}", "size": shape(part["output"])}
    return part[key].format(**fields)


def _levels(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"level {numbers[0]}"
    row = numbers[-1] - numbers[0] == len(numbers) - 1
    return f"levels {numbers[0]} to {numbers[-1]}" if row else f"levels {', '.join(map(str, numbers))}"


def draw(ax: Axes, description: dict[str, Any], title: str, changes: dict[str, int] | None = None) -> None:
    """One diagram on empty axes with the proportions of `SIZE`.

    Args:
        ax: where to draw.
        description: what `iqa.model.hyperiqa.describe` returned.
        title: printed above it, beside the number of parameters.
        changes: parts to mark as different, with a number of parameters to print beside theirs (0: nothing).
    """
    ax.set(xlim=(0, SIZE[0]), ylim=(0, SIZE[1]))
    ax.axis("off")
    changes = changes or {}
    total, more = description["parameters"], sum(changes.values())
    size = _counted(total) + (f" ({_signed(more)}, {more / (total - more):+.1%})".replace("-", MINUS) if more else "")
    _text(ax, 1.5, SIZE[1] - 0.5, title, ha="left", va="top", fontsize=8.5, fontweight="bold")
    _text(ax, HYPER[0] + HYPER[2], SIZE[1] - 0.7, size, ha="right", va="top", fontsize=8)
    parts = {
        part["name"]: Part(part["title"], part["output"], part["parameters"], changes.get(part["name"]))
        for part in description["parts"]
    }
    _draw_backbone(ax, description, parts["backbone"])
    _draw_fusion(ax, description, parts["fusion"])
    _draw_heads(ax, description, parts)
    _draw_distortion_path(ax, description, parts["local"])
    _draw_target_network(ax, description["target_widths"], parts["target"])


def _draw_backbone(ax: Axes, description: dict[str, Any], part: Part) -> None:
    """The image and the maps, from fine to coarse."""
    x, y, width, height = BACKBONE
    middle = y + 0.48 * height
    _image_icon(ax, 1.5, middle - 7, 13, 14)
    _text(ax, 8, middle - 8, f"image\n{shape(description['input'])}", va="top")
    _frame(ax, BACKBONE, BLUE, part.marked)
    _heading(ax, BACKBONE, part.title.split(".")[0], BLUE)  # timm's tag of the weights is no part of the network
    _text(ax, x + width - 0.8, y + 0.6, part.count(), ha="right", va="bottom")
    _arrow(ax, (14.9, middle), (x - 0.2, middle), INK)
    for number, (column, level) in enumerate(zip(COLUMNS, description["levels"], strict=True)):
        left, side, tall = column - 3.9, 7.8, 14 - 2.4 * number
        for shift in (1.0, 0.5, 0.0):  # three sheets, one behind the other
            corner = (left + shift, middle - tall / 2 + shift)
            ax.add_patch(Rectangle(corner, side, tall, facecolor="#CFE3F2", edgecolor=BLUE, linewidth=0.8))
        _text(ax, column, middle, f"{level['channels']:.0f}\n{shape((level['height'], level['width']))}")
        _text(ax, column, middle - tall / 2 - 0.4, f"1/{level['stride']:.0f}", va="top", color=BLUE)
        if number:
            _arrow(ax, (left - 1.7, middle), (left - 0.1, middle), INK, size=5)


def _draw_fusion(ax: Axes, description: dict[str, Any], part: Part) -> None:
    """The levels that are read, what is done to each, and where they are joined."""
    x, y, width, height = FUSION
    _frame(ax, FUSION, GREEN, part.marked)
    _heading(ax, FUSION, part.title, GREEN)
    _text(ax, x + width - 0.8, y + height - 0.9, part.count(), ha="right", va="top")
    _text(ax, 1.5, y + height / 2, "content path", ha="left", color=GREEN, fontsize=TITLE)
    used = [column for column, level in zip(COLUMNS, description["levels"], strict=True) if level["fused"]]
    each, first, weigh = (filled(description, "fusion", key) for key in ("each", "pyramid", "weigh"))
    if first:
        _draw_pyramid(ax, used, part.output[0] // len(used), first)
    _draw_levels(ax, used, each, 51.9 if first else 46.0, 47.6 if first else BACKBONE[1] + BACKBONE[3])
    if weigh:
        _draw_scale_weights(ax, used, weigh)
    _line(ax, [(used[0], JOINED), (x + width, JOINED)], GREEN)
    if len(used) > 1:
        _text(ax, x + width - 0.8, JOINED + 0.4, "concatenated", ha="right", va="bottom", color=GREEN)
    _arrow(ax, (x + width, JOINED), (SEMANTIC[0] - 0.2, JOINED), GREEN)
    _text(ax, (x + width + SEMANTIC[0]) / 2, JOINED + 0.6, shape(part.output), va="bottom")


def _draw_levels(ax: Axes, columns: Sequence[float], text: str, bottom: float, start: float) -> None:
    """What is done to each level by itself, in a box with its bottom there; a line comes from `start`."""
    height = 1.4 + 1.8 * len(text.splitlines())
    for column in columns:
        _arrow(ax, (column, start), (column, bottom), GREEN)
        _box(ax, (column - 4.4, bottom, 8.8, height), GREEN, text)
        _line(ax, [(column, bottom + height), (column, JOINED)], GREEN)


def _draw_scale_weights(ax: Axes, columns: Sequence[float], text: str) -> None:
    """Attention: what turns the deepest map into a factor for each pooled level."""
    middle, height = 65.6, 55.0
    _line(ax, [(columns[-1], 41), (middle, 41)], GREEN)
    _arrow(ax, (middle, 41), (middle, 45), GREEN)
    _box(ax, (middle - 4, 45, 8, 7.6), GREEN, text)
    _line(ax, [(middle, 52.6), (middle, height)], GREEN, DOTTED)
    _text(ax, (columns[-1] + middle) / 2, height + 0.5, "weights", va="bottom", color=GREEN)
    for right, column in pairwise((middle, *reversed(columns))):
        start = right if right == middle else right - 1.5
        _arrow(ax, (start, height), (column + 1.5, height), GREEN, size=6, linestyle=DOTTED)
        _circle(ax, column, height, TIMES)


def _draw_pyramid(ax: Axes, columns: Sequence[float], width: int, text: str) -> None:
    """Feature pyramid: an operation on each level, then sums from coarse to fine."""
    lateral, sums = 44.6, 50.0
    for column in columns:
        _arrow(ax, (column, BACKBONE[1] + BACKBONE[3]), (column, lateral), GREEN)
        _box(ax, (column - 4.4, lateral, 8.8, 3), GREEN, text)
    for coarse, fine in pairwise(reversed(columns)):
        _arrow(ax, (coarse, sums), (fine + 1.3, sums), GREEN, size=6)
        _circle(ax, fine, sums, "+")
    _text(ax, columns[-1] + 5.2, sums, "top-down:\nenlarged,\nadded", ha="left", color=GREEN)
    _text(ax, columns[0] - 5.2, sums, f"{width:.0f}\nchannels\nper level", ha="right", color=GREEN)


def _draw_heads(ax: Axes, description: dict[str, Any], parts: dict[str, Part]) -> None:
    """The semantic map, and the hyper network that makes weights of it."""
    widths = [f"{width:.0f}" for width in description["semantic_widths"]]
    chain = textwrap.fill(f"\N{NO-BREAK SPACE}{ARROW} ".join(widths), 16)
    generated = f"{description['generated_weights']:,.0f} weights"
    details = [
        (SEMANTIC, parts["semantic"], f"1{TIMES}1 convolutions\n{chain}\nmap {shape(parts['semantic'].output)}"),
        (HYPER, parts["hyper"], f"3{TIMES}3 convolutions\nand linear maps\n{generated}"),
    ]
    for frame, part, detail in details:
        x, y, width, height = frame
        _frame(ax, frame, GREEN, part.marked)
        _text(ax, x + width / 2, y + height - 0.9, part.title, va="top", fontweight="bold")
        _text(ax, x + width / 2, y + (height - 2.4) / 2, f"{detail}\n{part.count(chr(10))}")
    _arrow(ax, (SEMANTIC[0] + SEMANTIC[2], JOINED), (HYPER[0] - 0.2, JOINED), GREEN)


def _draw_distortion_path(ax: Axes, description: dict[str, Any], part: Part) -> None:
    """What each level tells the target network by itself (LDA), or all of them pooled and mapped together."""
    bottom, top, bus, turn = 6.0, 12.0, 3.0, 71.0
    entry = TARGET[1] + 14.5
    each = next(part["each"] for part in description["parts"] if part["name"] == "local")
    levels = list(zip(COLUMNS, description["levels"], strict=True))
    read = [(column, level) for column, level in levels if level["local"] is not None] or levels
    for column, level in read:
        _arrow(ax, (column, BACKBONE[1]), (column, top), ORANGE)
        text = each.format(values=shape([level["local"] or 0]), channels=shape([level["channels"]]))
        _box(ax, (column - 4, bottom, 8, top - bottom), ORANGE, text, part.marked)
        _line(ax, [(column, bottom), (column, bus)], ORANGE)
    _line(ax, [(read[0][0], bus), (turn, bus), (turn, entry)], ORANGE)
    _arrow(ax, (turn, entry), (TARGET[0] + 2.4, entry), ORANGE)
    if joined := filled(description, "local", "joined"):
        _box(ax, (turn - 5.75, 9, 11.5, 6), ORANGE, joined, part.marked)
    _text(ax, turn - 0.7, entry - 2.2, f"vector\nof {shape(part.output)}", ha="right", color=ORANGE)
    label = f"{textwrap.fill(part.title, 16)}\n{part.count(chr(10))}"
    _text(ax, COLUMNS[0] - 5, (bottom + top) / 2, label, ha="right", color=ORANGE)


def _draw_target_network(ax: Axes, widths: Sequence[int], part: Part) -> None:
    """Fully connected layers that shrink to the score; the hyper network sets what connects them (dashed)."""
    x, y, width, height = TARGET
    middle, bus, gap = y + 14.5, y + height - 3, (width - 6) / (len(widths) - 1)
    _frame(ax, TARGET, ORANGE, part.marked)
    _heading(ax, (x - 0.5, y + 3.4, width, height), part.title, ORANGE)
    columns = [x + 3.2 + index * gap for index in range(len(widths))]
    sides = [max(2.2, 22 * (each / max(widths)) ** 0.5) for each in widths]
    for (left, tall), (right, short) in pairwise(zip(columns, sides, strict=True)):
        corners = [(left, middle + tall / 2), (right, middle + short / 2)]
        corners += [(across, 2 * middle - up) for across, up in reversed(corners)]
        ax.add_patch(Polygon(corners, facecolor=ORANGE, alpha=0.15, linewidth=0))
        centre = (left + right) / 2
        _arrow(ax, (centre, bus), (centre, middle + (tall + short) / 4), GREEN, size=5, linestyle=DASHED)
    for column, side, each in zip(columns, sides, widths, strict=True):
        _rounded(ax, (column - 0.8, middle - side / 2, 1.6, side), ORANGE, "#F6C9AC", radius=0.5)
        _text(ax, column, middle - side / 2 - 0.6, f"{each:.0f}", va="top")
    source = HYPER[0] + HYPER[2] / 2
    _line(ax, [(source, HYPER[1]), (source, bus), ((columns[0] + columns[1]) / 2, bus)], GREEN, DASHED)
    _text(ax, source - 0.8, y + height + 4.4, "weights and biases for this image", ha="right", color=GREEN)
    _arrow(ax, (columns[-1] + 0.9, middle), (x + width + 1.2, middle), ORANGE)
    _text(ax, x + width + 1.6, middle, "score", ha="left", fontsize=8, fontweight="bold")


def _counted(parameters: int) -> str:
    """A number of parameters as a reader says it: 1.23M parameters, 45.6k parameters."""
    return f"{_short(parameters)} parameters" if parameters else "no parameters"


def _signed(change: int) -> str:
    return ("+" if change >= 0 else MINUS) + _short(abs(change))


def _short(count: int) -> str:
    """Three digits with M or k, or all of them below 10,000."""
    if count < 9_995:
        return f"{count:,.0f}"
    value, unit = (count / 1e6, "M") if count >= 999_500 else (count / 1e3, "k")
    return f"{value:#.3g}".rstrip(".") + unit


def _text(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": TEXT, "linespacing": 1.25} | style)


def _heading(ax: Axes, frame: Frame, text: str, colour: str) -> None:
    x, y, _, height = frame
    _text(ax, x + 0.8, y + height - 0.8, text, ha="left", va="top", fontsize=TITLE, color=colour, fontweight="bold")


def _frame(ax: Axes, frame: Frame, colour: str, marked: bool) -> None:
    """The frame of a whole part, thick and stronger in colour where the part is marked."""
    _rounded(ax, frame, colour, FACES[colour][marked], linewidth=2.2 if marked else 1.0)


def _box(ax: Axes, frame: Frame, colour: str, text: str, marked: bool = False) -> None:
    """One operation: a small box in front of the lines, white unless it is marked, with its name."""
    face = FACES[colour][1] if marked else "white"
    _rounded(ax, frame, colour, face, linewidth=2.2 if marked else 1.0, zorder=2.5)
    _text(ax, frame[0] + frame[2] / 2, frame[1] + frame[3] / 2, text)


def _rounded(
    ax: Axes, frame: Frame, colour: str, face: str, linewidth: float = 1.0, radius: float = 1.0, zorder: float = 1
) -> None:
    x, y, width, height = frame
    box = FancyBboxPatch((x, y), width, height, boxstyle=f"round,pad=0,rounding_size={radius}")
    box.set(facecolor=face, edgecolor=colour, linewidth=linewidth, zorder=zorder)
    ax.add_patch(box)


def _circle(ax: Axes, x: float, y: float, text: str) -> None:
    ax.add_patch(Circle((x, y), 1.4, facecolor="white", edgecolor=GREEN, linewidth=1, zorder=4))
    _text(ax, x, y - 0.05, text, zorder=5)


def _line(ax: Axes, points: Sequence[tuple[float, float]], colour: str, linestyle: Any = "-") -> None:
    ax.plot(*zip(*points, strict=True), color=colour, linewidth=1.1, linestyle=linestyle)


def _arrow(ax: Axes, start: tuple, end: tuple, colour: str, size: float = 8, linestyle: Any = "-") -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", shrinkA=0, shrinkB=0, mutation_scale=size)
    arrow.set(color=colour, linewidth=1.1, linestyle=linestyle, zorder=3)
    ax.add_patch(arrow)


def _image_icon(ax: Axes, x: float, y: float, width: float, height: float) -> None:
    """A small landscape that stands for the input image."""
    ax.add_patch(Rectangle((x, y), width, height, facecolor="#DCEBF5", edgecolor=INK, linewidth=0.9))
    for left, peak, right, shade in ((0.02, 0.62, 0.75, "#7FA8B8"), (0.35, 0.45, 0.98, "#4F8577")):
        corners = [(left, 0.03), ((left + right) / 2, peak), (right, 0.03)]
        ax.add_patch(Polygon([(x + u * width, y + v * height) for u, v in corners], facecolor=shade, linewidth=0))
    ax.plot(x + 0.75 * width, y + 0.78 * height, "o", color="#E9B44C", markersize=6)
