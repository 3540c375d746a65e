"""The data flow of a model as a diagram, drawn from its description (`iqa.model.architecture.describe`) alone.

It follows figure 2 of Su et al. (CVPR 2020) with the model's own parts and shapes: blue is the backbone, green the
content path that makes the target network's weights, orange the distortion path and the target network.
Coordinates are in units of a 120th of the figure's width; a frame is (x, y, width, height).
"""

import textwrap
from collections.abc import Sequence
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
Description = dict[str, Any]  # of a model; a part of it has a `change` where it is drawn, None unless it is marked


def difference(before: Description, after: Description) -> dict[str, int]:
    """The parts in which two descriptions differ, by name, and how many parameters more the second has there.

    A part that one of them lacks has no parameters there.
    """
    changes = {}
    old, new = ({part["name"]: part for part in each["parts"]} for each in (before, after))
    for name in old | new:
        widths = f"{name}_widths"  # semantic_widths, target_widths
        if old.get(name) != new.get(name) or before.get(widths) != after.get(widths):
            counts = [parts.get(name, {"parameters": 0})["parameters"] for parts in (old, new)]
            changes[name] = counts[1] - counts[0]
    return changes


def filled(description: Description, name: str, key: str) -> str:
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


def draw(ax: Axes, description: Description, title: str, changes: dict[str, int] | None = None) -> None:
    """One diagram on empty axes with the proportions of `SIZE`.

    Args:
        title: printed above it, beside the number of parameters.
        changes: parts to mark as different, with a number of parameters to print beside theirs (0: nothing).
    """
    ax.set(xlim=(0, SIZE[0]), ylim=(0, SIZE[1]))
    ax.axis("off")
    changes = changes or {}
    total, more = description["parameters"], sum(changes.values())
    size = f"{_short(total)} parameters"
    size += f" ({_signed(more)}, {more / (total - more):+.1%})".replace("-", MINUS) if more else ""
    _text(ax, 1.5, SIZE[1] - 0.5, title, ha="left", va="top", fontsize=8.5, fontweight="bold")
    _text(ax, HYPER[0] + HYPER[2], SIZE[1] - 0.7, size, ha="right", va="top", fontsize=8)
    parts = {part["name"]: part | {"change": changes.get(part["name"])} for part in description["parts"]}
    _draw_backbone(ax, description, parts["backbone"])
    generates = "hyper" in parts
    if generates:
        _draw_fusion(ax, description, parts["fusion"])
        _draw_heads(ax, description, parts)
    _draw_distortion_path(ax, description, parts["local"])
    _draw_target_network(ax, description["target_widths"], parts["target"], generates)


def _draw_backbone(ax: Axes, description: Description, part: dict[str, Any]) -> None:
    """The image and the maps, from fine to coarse."""
    x, y, width, height = BACKBONE
    middle = y + 0.48 * height
    ax.add_patch(Rectangle((1.5, middle - 7), 13, 14, facecolor="#DCEBF5", edgecolor=INK, linewidth=0.9))
    _text(ax, 8, middle, f"image\n{shape(description['input'])}")
    _frame(ax, BACKBONE, BLUE, part, part["title"].split(".")[0])  # timm's tag of the weights is no part of the network
    _text(ax, x + width - 0.8, y + 0.6, _count(part), ha="right", va="bottom")
    _line(ax, [(14.9, middle), (x - 0.2, middle)], INK, head=8)
    for number, (column, level) in enumerate(zip(COLUMNS, description["levels"], strict=True)):
        left, tall = column - 3.9, 14 - 2.4 * number
        for shift in (1.0, 0.5, 0.0):  # three sheets, one behind the other
            corner = (left + shift, middle - tall / 2 + shift)
            ax.add_patch(Rectangle(corner, 7.8, tall, facecolor="#CFE3F2", edgecolor=BLUE, linewidth=0.8))
        _text(ax, column, middle, f"{level['channels']:.0f}\n{shape((level['height'], level['width']))}")
        _text(ax, column, middle - tall / 2 - 0.4, f"1/{level['stride']:.0f}", va="top", color=BLUE)
        if number:
            _line(ax, [(left - 1.7, middle), (left - 0.1, middle)], INK, head=5)


def _draw_fusion(ax: Axes, description: Description, part: dict[str, Any]) -> None:
    """The levels that are read, what is done to each, and where they are joined."""
    x, y, width, height = FUSION
    _frame(ax, FUSION, GREEN, part, part["title"])
    _text(ax, x + width - 0.8, y + height - 0.9, _count(part), ha="right", va="top")
    _text(ax, 1.5, y + height / 2, "content path", ha="left", color=GREEN, fontsize=TITLE)
    used = [column for column, level in zip(COLUMNS, description["levels"], strict=True) if level["fused"]]
    each, first, weigh = (filled(description, "fusion", key) for key in ("each", "pyramid", "weigh"))
    start, bottom, tall = BACKBONE[1] + BACKBONE[3], 51.9 if first else 46.0, 1.4 + 1.8 * len(each.splitlines())
    if first:
        _draw_pyramid(ax, used, part["output"][0] // len(used), first, start)
    for column in used:
        _line(ax, [(column, 47.6 if first else start), (column, bottom)], GREEN, head=8)
        _box(ax, (column - 4.4, bottom, 8.8, tall), GREEN, each)
        _line(ax, [(column, bottom + tall), (column, JOINED)], GREEN)
    if weigh:
        _draw_scale_weights(ax, used, weigh)
    _line(ax, [(used[0], JOINED), (SEMANTIC[0] - 0.2, JOINED)], GREEN, head=8)
    if len(used) > 1:
        _text(ax, x + width - 0.8, JOINED + 0.4, "concatenated", ha="right", va="bottom", color=GREEN)
    _text(ax, (x + width + SEMANTIC[0]) / 2, JOINED + 0.6, shape(part["output"]), va="bottom")


def _draw_scale_weights(ax: Axes, columns: Sequence[float], text: str) -> None:
    """Attention: what turns the deepest map into a factor for each pooled level."""
    middle, height = 65.6, 55.0
    _line(ax, [(columns[-1], 41), (middle, 41), (middle, 45)], GREEN, head=8)
    _box(ax, (middle - 4, 45, 8, 7.6), GREEN, text)
    _line(ax, [(middle, 52.6), (middle, height)], GREEN, DOTTED)
    _text(ax, (columns[-1] + middle) / 2, height + 0.5, "weights", va="bottom", color=GREEN)
    for right, column in pairwise((middle, *reversed(columns))):
        start = right if right == middle else right - 1.5
        _line(ax, [(start, height), (column + 1.5, height)], GREEN, DOTTED, head=6)
        _circle(ax, column, height, TIMES)


def _draw_pyramid(ax: Axes, columns: Sequence[float], width: int, text: str, start: float) -> None:
    """Feature pyramid: an operation on each level, then sums from coarse to fine."""
    lateral, sums = 44.6, 50.0
    for column in columns:
        _line(ax, [(column, start), (column, lateral)], GREEN, head=8)
        _box(ax, (column - 4.4, lateral, 8.8, 3), GREEN, text)
    for coarse, fine in pairwise(reversed(columns)):
        _line(ax, [(coarse, sums), (fine + 1.3, sums)], GREEN, head=6)
        _circle(ax, fine, sums, "+")
    _text(ax, columns[-1] + 5.2, sums, "top-down:\nenlarged,\nadded", ha="left", color=GREEN)
    _text(ax, columns[0] - 5.2, sums, f"{width:.0f}\nchannels\nper level", ha="right", color=GREEN)


def _draw_heads(ax: Axes, description: Description, parts: dict[str, dict[str, Any]]) -> None:
    """The semantic map, and the hyper network that makes weights of it."""
    widths = f"\N{NO-BREAK SPACE}{ARROW} ".join(f"{width:.0f}" for width in description["semantic_widths"])
    semantic = f"1{TIMES}1 convolutions\n{textwrap.fill(widths, 16)}\nmap {shape(parts['semantic']['output'])}"
    hyper = f"3{TIMES}3 convolutions\nand linear maps\n{description['generated_weights']:,.0f} weights"
    for frame, name, detail in ((SEMANTIC, "semantic", semantic), (HYPER, "hyper", hyper)):
        x, y, width, height = frame
        _frame(ax, frame, GREEN, parts[name])
        _text(ax, x + width / 2, y + height - 0.9, parts[name]["title"], va="top", fontweight="bold")
        _text(ax, x + width / 2, y + (height - 2.4) / 2, f"{detail}\n{_count(parts[name], chr(10))}")
    _line(ax, [(SEMANTIC[0] + SEMANTIC[2], JOINED), (HYPER[0] - 0.2, JOINED)], GREEN, head=8)


def _draw_distortion_path(ax: Axes, description: Description, part: dict[str, Any]) -> None:
    """What each level tells the target network by itself (LDA), or all of them pooled and mapped together."""
    bottom, top, bus, turn, entry = 6.0, 12.0, 3.0, 71.0, TARGET[1] + 14.5
    marked = part["change"] is not None
    levels = list(zip(COLUMNS, description["levels"], strict=True))
    read = [(column, level) for column, level in levels if level["local"] is not None] or levels
    for column, level in read:
        _line(ax, [(column, BACKBONE[1]), (column, top)], ORANGE, head=8)
        text = part["each"].format(values=shape([level["local"] or 0]), channels=shape([level["channels"]]))
        _box(ax, (column - 4, bottom, 8, top - bottom), ORANGE, text, marked)
        _line(ax, [(column, bottom), (column, bus)], ORANGE)
    _line(ax, [(read[0][0], bus), (turn, bus), (turn, entry), (TARGET[0] + 2.4, entry)], ORANGE, head=8)
    if joined := filled(description, "local", "joined"):
        _box(ax, (turn - 5.75, 9, 11.5, 6), ORANGE, joined, marked)
    _text(ax, turn - 0.7, entry - 2.2, f"vector\nof {shape(part['output'])}", ha="right", color=ORANGE)
    label = f"{textwrap.fill(part['title'], 16)}\n{_count(part, chr(10))}"
    _text(ax, COLUMNS[0] - 5, (bottom + top) / 2, label, ha="right", color=ORANGE)


def _draw_target_network(ax: Axes, widths: Sequence[int], part: dict[str, Any], generated: bool) -> None:
    """Fully connected layers that shrink to the score; a hyper network sets what connects them (dashed)."""
    x, y, width, height = TARGET
    middle, bus, gap = y + 14.5, y + height - 3, (width - 6) / (len(widths) - 1)
    _frame(ax, TARGET, ORANGE, part)
    _text(ax, x + 0.3, bus + 5.6, part["title"], ha="left", va="top", fontsize=TITLE, color=ORANGE, fontweight="bold")
    columns = [x + 3.2 + index * gap for index in range(len(widths))]
    sides = [max(2.2, 22 * (each / max(widths)) ** 0.5) for each in widths]
    for (left, tall), (right, short) in pairwise(zip(columns, sides, strict=True)):
        corners = [(left, middle - tall / 2), (left, middle + tall / 2)]
        corners += [(right, middle + short / 2), (right, middle - short / 2)]
        ax.add_patch(Polygon(corners, facecolor=ORANGE, alpha=0.15, linewidth=0))
        centre = (left + right) / 2
        if generated:
            _line(ax, [(centre, bus), (centre, middle + (tall + short) / 4)], GREEN, DASHED, head=5)
    for column, side, each in zip(columns, sides, widths, strict=True):
        _round(ax, (column - 0.8, middle - side / 2, 1.6, side), ORANGE, "#F6C9AC", radius=0.5)
        _text(ax, column, middle - side / 2 - 0.6, f"{each:.0f}", va="top")
    source, above = HYPER[0] + HYPER[2] / 2, y + height + 4.4
    if generated:
        _line(ax, [(source, HYPER[1]), (source, bus), ((columns[0] + columns[1]) / 2, bus)], GREEN, DASHED)
        _text(ax, source - 0.8, above, "weights and biases for this image", ha="right", color=GREEN)
    else:
        _text(ax, source - 0.8, above + 4, f"weights and biases are learned:\n{_count(part)}", ha="right", color=ORANGE)
    _line(ax, [(columns[-1] + 0.9, middle), (x + width + 1.2, middle)], ORANGE, head=8)
    _text(ax, x + width + 1.6, middle, "score", ha="left", fontsize=8, fontweight="bold")


def _count(part: dict[str, Any], separator: str = " ") -> str:
    """A part's number of parameters, and by how many it changed."""
    change = f"{separator}({_signed(part['change'])})" if part["change"] else ""
    return (f"{_short(part['parameters'])} parameters" if part["parameters"] else "no parameters") + change


def _signed(change: int) -> str:
    return ("+" if change >= 0 else MINUS) + _short(abs(change))


def _short(count: int) -> str:
    """A number as a reader says it: three digits with M or k (1.23M, 45.6k), or all of them below 10,000."""
    if count < 9_995:
        return f"{count:,.0f}"
    value, unit = (count / 1e6, "M") if count >= 999_500 else (count / 1e3, "k")
    return f"{value:#.3g}".rstrip(".") + unit


def _text(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": TEXT, "linespacing": 1.25} | style)


def _frame(ax: Axes, frame: Frame, colour: str, part: dict[str, Any], heading: str = "") -> None:
    """The frame of a whole part, thick and stronger in colour where the part is marked."""
    marked = part["change"] is not None
    _round(ax, frame, colour, FACES[colour][marked], 2.2 if marked else 1.0)
    style = {"ha": "left", "va": "top", "fontsize": TITLE, "color": colour, "fontweight": "bold"}
    _text(ax, frame[0] + 0.8, frame[1] + frame[3] - 0.8, heading, **style)


def _box(ax: Axes, frame: Frame, colour: str, text: str, marked: bool = False) -> None:
    """One operation: a small box in front of the lines, white unless it is marked, with its name."""
    _round(ax, frame, colour, FACES[colour][1] if marked else "white", 2.2 if marked else 1.0, zorder=2.5)
    _text(ax, frame[0] + frame[2] / 2, frame[1] + frame[3] / 2, text)


def _round(ax: Axes, frame: Frame, colour: str, face: str, line: float = 1.0, radius: float = 1.0, zorder: float = 1):
    """A box with round corners."""
    style = {"facecolor": face, "edgecolor": colour, "linewidth": line, "zorder": zorder}
    ax.add_patch(FancyBboxPatch(frame[:2], *frame[2:], boxstyle=f"round,pad=0,rounding_size={radius}", **style))


def _circle(ax: Axes, x: float, y: float, text: str) -> None:
    ax.add_patch(Circle((x, y), 1.4, facecolor="white", edgecolor=GREEN, linewidth=1, zorder=4))
    _text(ax, x, y - 0.05, text, zorder=5)


def _line(ax: Axes, points: Sequence[tuple[float, float]], colour: str, linestyle: Any = "-", head: float = 0) -> None:
    """A line through points, its last piece an arrow where a size of the head is given."""
    style = {"color": colour, "linewidth": 1.1, "linestyle": linestyle}
    if head:
        *points, end = points
        ends = {"shrinkA": 0, "shrinkB": 0, "mutation_scale": head, "zorder": 3}
        ax.add_patch(FancyArrowPatch(points[-1], end, arrowstyle="-|>", **ends, **style))
    ax.plot(*zip(*points, strict=True), **style)
