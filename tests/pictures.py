"""The README's pictures, made from the demo study: `python tests/pictures.py` after `make report`.

It needs a Chromium (tests/lab.py) and `pdftoppm` (Debian: poppler-utils), and writes docs/pictures/.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import lab
from PIL import Image, ImageDraw, ImageFont

from iqa.study import paths

FOLDER = paths.ROOT / "docs" / "pictures"
WIDTH = 1034  # pixels
COLOURS = 256  # of a picture, so that it stays small


def save(picture: Image.Image, name: str) -> None:
    file = FOLDER / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{paths.shown(file)}: {picture.width}x{picture.height}, {file.stat().st_size // 1000} kB")


def first_pages() -> None:
    """The first two pages of the demo's report, side by side; the report itself says that its data are synthetic."""
    with tempfile.TemporaryDirectory() as folder:
        report, pages = paths.REPORT / "demo" / "report.pdf", Path(folder, "page")
        subprocess.run(
            ["pdftoppm", "-png", "-l", "2", "-scale-to-x", str(WIDTH // 2), "-scale-to-y", "-1", report, pages],
            check=True,
        )
        left, right = (Image.open(file).convert("RGB") for file in sorted(Path(folder).glob("*.png")))
        both = Image.new("RGB", (WIDTH, left.height), "#DFE3E8")
        both.paste(left.crop((0, 0, WIDTH // 2 - 4, left.height)), (0, 0))
        both.paste(right.crop((4, 0, right.width, right.height)), (WIDTH // 2 + 4, 0))
        save(both, "report")


def playground() -> None:
    """The playground with a blurred photograph, under a line that says what its model was trained on."""
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name, "project"), Path(name, "home")
        for each in (folder, home):
            each.mkdir()
        for link in ("iqa", "cache"):
            (folder / link).symlink_to(paths.ROOT / link)
        shutil.copy(paths.NOTEBOOKS / "90_playground.ipynb", folder)
        with lab.served(folder, home) as address, lab.browser() as (page, _):
            lab.open_notebook(page, address, "90_playground.ipynb")
            lab.run_all(page, timeout=600)
            handle = page.locator(".iqa-level .noUi-handle").first
            for _ in range(12):
                handle.press("ArrowRight")
            page.get_by_text("gaussian_blur 3.2").wait_for(timeout=60_000)
            page.wait_for_timeout(2_000)
            shot = Path(name, "shot.png")
            page.locator(".jp-OutputArea-output:has(.iqa-scores)").first.screenshot(path=shot)
        picture = Image.open(shot).convert("RGB")
    picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    label = Image.new("RGB", (WIDTH, picture.height + 24), "#FFF3E0")
    words = "The model shown was trained on synthetic images: its scores say nothing about photographs."
    ImageDraw.Draw(label).text((10, 4), words, "#7A4A00", ImageFont.load_default(14))
    label.paste(picture, (0, 24))
    save(label, "playground")


if __name__ == "__main__":
    first_pages()
    playground()
