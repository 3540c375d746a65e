"""The README's tables of the releases that people have rated.

`python -m iqa.data.readme` prints them, `python -m iqa.data.readme README.md` renews them.
"""

import sys
from pathlib import Path

from iqa.data import DataError
from iqa.data.releases import RELEASES, Release

MARKS = "<!-- releases: made by .venv/bin/python -m iqa.data.readme README.md -->\n\n", "\n\n<!-- end of releases -->"


def tables() -> str:
    """Two Markdown tables of the releases that people have rated: what to unpack where, and whom to cite."""
    releases = {name: release for name, release in RELEASES.items() if not release.synthetic}
    files = [["`reader`", "default `folder`", "images", "in", "labels", "scores", "split by default", "size"]]
    for name, release in releases.items():
        count = f"{release.images:,}" + (f" of {release.references}" if release.references else "")
        best = "high" if release.higher_is_better else "**low**"
        scores = f"{release.low:g} to {release.high:g}, {best} is best"
        places = [_names(release.image_folders, end="/"), _names(release.label_files)]
        files.append([f"`{name}`", f"`{release.folder}`", count, *places, scores, _split(release), release.size])
    origins = [[each.title, each.source, each.licence, each.citation] for each in releases.values()]
    return _markdown(files) + "\n\n" + _markdown([["database", "from", "licence", "please cite"], *origins])


def _names(cell: tuple[str, ...], end: str = "") -> str:
    names = [name.removesuffix("?").split(" | ") for name in cell]
    shown = [" or ".join(f"`{name}{end}`" for name in alternatives) for alternatives in names]
    return "; ".join(text + " (optional)" * name.endswith("?") for text, name in zip(shown, cell, strict=True))


def _split(release: Release) -> str:
    if release.splits:
        return "official " + " / ".join(f"{count:,}" for count in release.splits.values())
    return "all for testing" if release.test_only else "seeded" + " by reference" * bool(release.references)


def _markdown(rows: list[list[str]]) -> str:
    header, *others = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|---" * len(rows[0]) + "|", *others])


def renewed(page: str) -> str:
    """The text of a page with the tables between its two marks made anew."""
    before, start, rest = page.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not end:
        raise DataError(f"this page lacks the marks {MARKS[0].strip()} and {MARKS[1].strip()}; put them back")
    return before + start + tables() + end + after


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print(tables())
    for page in map(Path, sys.argv[1:]):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
