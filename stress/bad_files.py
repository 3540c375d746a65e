"""Label files, images and model files that people and machines damage: how to make each, and what is expected."""

import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

# --- label files: an edit of the rows (header: image, mos, split); what is expected, words of the message


def _joined(rows: list[list[str]], between: str = ",") -> str:
    return "\n".join(between.join(row) for row in rows) + "\n"


def _cell(row: int, column: int, value: str) -> Callable[[list[list[str]]], str]:
    def edit(rows: list[list[str]]) -> str:
        rows[row][column] = value
        return _joined(rows)

    return edit


FILE = "labels.csv"
LABELS: dict[str, tuple] = {
    "empty": (lambda rows: "", "error", FILE),
    "header alone": (lambda rows: _joined(rows[:1]), "error", FILE),
    "an image twice": (lambda rows: _joined([*rows, rows[1]]), "error", FILE, "0.png"),
    "an image that is missing": (_cell(3, 0, "absent.png"), "error", FILE, "absent.png"),
    "an empty name": (_cell(3, 0, ""), "error", FILE),
    "a name outside of the folder": (_cell(3, 0, "../../README.md"), "error", FILE),
    "an absolute name": (_cell(3, 0, "/etc/passwd"), "error", FILE, "passwd"),
    "a score as text": (_cell(3, 1, "good"), "error", FILE, "mos"),
    "a score with a comma": (_cell(3, 1, '"71,5"'), "error", FILE, "mos"),
    "an empty score": (_cell(3, 1, ""), "error", FILE, "mos"),
    "a score NaN": (_cell(3, 1, "nan"), "error", FILE, "mos"),
    "a score inf": (_cell(3, 1, "inf"), "error", FILE, "mos"),
    "a score above the range": (_cell(3, 1, "100.5"), "error", FILE, "mos"),
    "an unknown split": (_cell(3, 2, "reserve"), "error", FILE, "split"),
    "an empty split": (_cell(3, 2, ""), "error", FILE, "split"),
    "no test images": (lambda rows: _joined([row for row in rows if row[2] != "test"]), "either"),
    "scores all equal": (lambda rows: _joined([rows[0], *([row[0], "50", row[2]] for row in rows[1:])]), "either"),
    "no column mos": (lambda rows: _joined([["image", "score", "split"], *rows[1:]]), "error", FILE, "mos"),
    "a column twice": (lambda rows: _joined([[*row, row[1]] for row in rows]), "error", FILE, "mos"),
    "columns moved by a trailing comma": (lambda rows: _joined([rows[0], *([*row, ""] for row in rows[1:])]), "either"),
    "one cell too many": (_cell(3, 2, "train,7"), "error", FILE),
    "semicolons": (lambda rows: _joined(rows, ";"), "either"),
    "tabs": (lambda rows: _joined(rows, "\t"), "either"),
    "a byte-order mark": (lambda rows: b"\xef\xbb\xbf" + _joined(rows).encode(), "accepted"),
    "CRLF": (lambda rows: _joined(rows).replace("\n", "\r\n"), "accepted"),
    "UTF-16": (lambda rows: _joined(rows).encode("utf-16"), "error", FILE),
    "Latin-1": (lambda rows: _joined(rows).encode() + b"caf\xe9.png,5,train\n", "error", FILE),
    "zeros": (lambda rows: bytes(300), "error", FILE),
    "a broken quote": (_cell(3, 0, '"2.png'), "error", FILE),
    "a page in place of the file": (lambda rows: "<!DOCTYPE html><html><body>404</body></html>", "error", FILE),
    "a pointer of Git LFS": (lambda rows: "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "error", FILE),
    "a negative deviation": (
        lambda rows: _joined([[*rows[0], "mos_std"], *([*row, "-1"] for row in rows[1:])]),
        "error",
        FILE,
        "mos_std",
    ),
    "contents named NA": (
        lambda rows: _joined([[*rows[0], "reference"], *([*row, "NA"] for row in rows[1:])]),
        "error",
        "NA",
    ),
}

# --- images


def pixels(seed: int = 0, height: int = 72, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def saved(
    convert: Callable[[Image.Image], Image.Image] = lambda image: image, **options: Any
) -> Callable[[Path], None]:
    return lambda file: convert(Image.fromarray(pixels())).save(file, **options)


def exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block with entries (tag, type, count, four bytes); type 2: text, 3: short, 4: long, 5: rational."""
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in entries)
    header = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries))
    return header + packed + struct.pack("<I", 0) + struct.pack("<4i", -1, 0, 7, -1)


TURNED = (0x0112, 3, 1, b"\6\0")


def chunked(kind: bytes, content: bytes) -> Callable[[Path], None]:
    """A PNG with one more chunk behind its header."""

    def make(file: Path) -> None:
        saved(format="PNG")(file)
        data = file.read_bytes()
        chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        file.write_bytes(data[:33] + chunk + data[33:])

    return make


def huge(file: Path) -> None:
    """A PNG whose header promises 90,000 x 90,000 pixels."""
    header = struct.pack(">IIBBBBB", 90_000, 90_000, 8, 2, 0, 0, 0)
    body = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in body
    ]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def part(share: float, **options: Any) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        saved(**options)(file)
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))] if share < 1 else data + os.urandom(1000))

    return make


def jpeg(*entries: tuple[int, int, int, bytes]) -> Callable[[Path], None]:
    return saved(format="JPEG", exif=exif(TURNED, *entries))


IMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "exif_text_as_rational.jpg": (jpeg((0x010E, 5, 1, b"\x32")), "accepted"),
    "exif_resolution_as_text.jpg": (jpeg((0x011A, 2, 3, b"72\0")), "accepted"),
    "exif_resolution_negative.jpg": (jpeg((0x011A, 10, 1, b"\x32")), "accepted"),
    "exif_software_as_long.jpg": (jpeg((0x0131, 4, 1, b"\1")), "accepted"),
    "exif_subfolder_as_text.jpg": (jpeg((0x8769, 2, 3, b"ab\0")), "accepted"),
    "exif_gps_outside_of_the_block.jpg": (jpeg((0x8825, 4, 1, b"\xff\xff\xff\x7f")), "accepted"),
    "exif_count_of_a_billion.jpg": (jpeg((0x010F, 2, 10**9, b"\x32")), "accepted"),
    "exif_unknown_type.jpg": (jpeg((0x0110, 99, 1, b"\1")), "accepted"),
    "exif_orientation_as_text.jpg": (saved(format="JPEG", exif=exif((0x0112, 2, 2, b"6\0"))), "accepted"),
    "exif_orientation_77.jpg": (saved(format="JPEG", exif=exif((0x0112, 3, 1, b"\x4d"))), "accepted"),
    "exif_cut.jpg": (saved(format="JPEG", exif=exif(TURNED)[:14]), "accepted"),
    "text_long.png": (chunked(b"tEXt", b"comment\0" + b"x" * 1_300_000), "accepted"),
    "text_packed.png": (chunked(b"zTXt", b"comment\0\0" + zlib.compress(b"x" * 70_000_000)), "accepted"),
    "text_international.png": (chunked(b"iTXt", b"c\0\1\0\0\0" + zlib.compress(b"x" * 1_300_000)), "accepted"),
    "text_broken.png": (chunked(b"zTXt", b"comment\0\0no zlib"), "accepted"),
    "profile_long.png": (chunked(b"iCCP", b"p\0\0" + zlib.compress(bytes(1_300_000))), "accepted"),
    "profile_broken.png": (chunked(b"iCCP", b"p\0\7"), "accepted"),
    "resolution_short.png": (chunked(b"pHYs", b"\0"), "accepted"),
    "gamma_empty.png": (chunked(b"gAMA", b""), "accepted"),
    "exif_broken.png": (chunked(b"eXIf", b"II*\0\xff\xff\xff\xff"), "accepted"),
    "unknown_chunk.png": (chunked(b"prVt", os.urandom(99)), "accepted"),
    "palette_short.gif": (saved(lambda image: image.convert("P"), format="GIF"), "accepted"),
    "cmyk.jpg": (saved(lambda image: image.convert("CMYK"), format="JPEG"), "accepted"),
    "grey_alpha.png": (saved(lambda image: image.convert("LA")), "accepted"),
    "bilevel.png": (saved(lambda image: image.convert("1")), "accepted"),
    "bits_16.png": (lambda file: Image.fromarray(pixels()[..., 0].astype(np.uint16) * 257).save(file), "accepted"),
    "with_rubbish_behind.jpg": (part(1, format="JPEG"), "accepted"),
    "named_wrongly.png": (saved(format="JPEG"), "accepted"),
    "one_pixel.png": (lambda file: Image.fromarray(pixels(0, 1, 1)).save(file), "either"),
    "a_line.png": (lambda file: Image.fromarray(pixels(0, 1, 20_000)).save(file), "either"),
    "wide.png": (lambda file: Image.fromarray(pixels(0, 8, 4000)).save(file), "either"),
    "large.png": (lambda file: Image.new("RGB", (8000, 6000), "red").save(file), "accepted"),
    "floating.tif": (lambda file: Image.fromarray(pixels()[..., 0].astype(np.float32)).save(file), "refused"),
    "half.png": (part(0.5, format="PNG"), "refused"),
    "half.jpg": (part(0.5, format="JPEG"), "refused"),
    "without_end.jpg": (part(0.99, format="JPEG"), "either"),
    "half.webp": (part(0.5, format="WEBP"), "refused"),
    "half.tif": (part(0.5, format="TIFF"), "refused"),
    "half.gif": (part(0.5, format="GIF"), "either"),
    "half.bmp": (part(0.5, format="BMP"), "refused"),
    "header_alone.png": (part(0.002, format="PNG"), "refused"),
    "empty.png": (Path.touch, "refused"),
    "zeros.jpg": (lambda file: file.write_bytes(bytes(5000)), "refused"),
    "text.png": (lambda file: file.write_text("no image"), "refused"),
    "random.tif": (lambda file: file.write_bytes(b"II*\0" + os.urandom(3000)), "refused"),
    "drawing.svg": (lambda file: file.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "refused"),
    "script.eps": (lambda file: file.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "refused"),
    "huge_header.png": (huge, "refused"),
    "pipe.png": (os.mkfifo, "refused"),
    "endless.png": (lambda file: file.symlink_to("/dev/zero"), "refused"),
    "dangling.png": (lambda file: file.symlink_to("nowhere.png"), "refused"),
    "circle.png": (lambda file: file.symlink_to(file.name), "refused"),
    "new\nline.png": (saved(), "accepted"),
    "-dash.png": (saved(), "accepted"),
    "a'quote\"and space.png": (saved(), "accepted"),
}

# --- model files


def changed(**parts: Callable[[Any], Any]) -> Callable[[Path, Path], None]:
    """A good model file in which parts are changed; a part that becomes None is left out."""

    def make(good: Path, file: Path) -> None:
        saved = torch.load(good, weights_only=True)
        saved |= {key: change(saved[key]) for key, change in parts.items()}
        torch.save({key: value for key, value in saved.items() if value is not None}, file)

    return make


def first(change: Callable[[torch.Tensor], Any]) -> Callable[[Path, Path], None]:
    """A good model file whose first tensor of weights is changed."""

    def edit(state: dict) -> dict:
        name = next(name for name, tensor in state.items() if tensor.is_floating_point() and tensor.dim() > 1)
        new = change(state[name])
        return {key: value for key, value in (state | {name: new}).items() if value is not None}

    return changed(state_dict=edit)


def filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tensor: torch.cat([torch.full_like(tensor[:1], value), tensor[1:]])


def written(content: bytes) -> Callable[[Path, Path], None]:
    return lambda good, file: file.write_bytes(content)


def of(key: str, **values: Any) -> Callable[[Path, Path], None]:
    """A good model file in which values of a part are replaced, or left out where they are None."""
    return changed(**{key: lambda old: {name: new for name, new in (old | values).items() if new is not None}})


MODELS: dict[str, tuple] = {
    "NaN in a weight": (first(filled(float("nan"))), "error"),
    "inf in a weight": (first(filled(float("inf"))), "error"),
    "an int8 weight": (first(lambda tensor: tensor.to(torch.int8)), "error"),
    "a boolean weight": (first(lambda tensor: tensor > 0), "error"),
    "a complex weight": (first(lambda tensor: tensor.to(torch.complex64)), "error"),
    "a weight of another shape": (first(lambda tensor: tensor[:, :1]), "error"),
    "a weight of no element": (first(lambda tensor: tensor[:0]), "error"),
    "a weight as a list": (first(lambda tensor: tensor.tolist()), "error"),
    "a weight as a text": (first(lambda tensor: "weights"), "error"),
    "a sparse weight": (first(lambda tensor: tensor.to_sparse()), "either"),
    "a weight on no device": (first(lambda tensor: tensor.to("meta")), "either"),
    "a weight missing": (first(lambda tensor: None), "error"),
    "a double weight": (first(lambda tensor: tensor.double()), "either"),
    "a half weight": (first(lambda tensor: tensor.half()), "either"),
    "a weight too many": (changed(state_dict=lambda state: state | {"extra": torch.zeros(1)}), "error", "extra"),
    "no weights": (changed(state_dict=lambda state: {}), "error"),
    "weights as a list": (changed(state_dict=lambda state: list(state.values())), "error"),
    "no database": (changed(database=lambda old: None), "error"),
    "a database as text": (changed(database=lambda old: "demo"), "error"),
    "low missing": (of("database", low=None), "error", "low"),
    "low as text": (of("database", low="zero"), "error", "low"),
    "low NaN": (of("database", low=float("nan")), "error", "low"),
    "low equal to high": (of("database", low=100.0), "error", "low"),
    "high inf": (of("database", high=float("inf")), "error", "high"),
    "direction as text": (of("database", higher_is_better="yes"), "error", "higher_is_better"),
    "size as text": (of("database", size="large"), "error", "size"),
    "size half": (of("database", size={"height": 64, "width": None, "keep_aspect": True}), "error", "size"),
    "size negative": (of("database", size={"height": -1, "width": 5, "keep_aspect": True}), "error", "size"),
    "an unknown backbone": (of("architecture", backbone="nothing50"), "error", "nothing50"),
    "backbone as a number": (of("architecture", backbone=50), "error"),
    "unknown backbone_args": (of("architecture", backbone_args={"colour": 3}), "error", "backbone_args"),
    "an unknown fusion": (of("architecture", fusion="glue"), "error", "fusion"),
    "widths of another model": (of("architecture", target_widths=[64, 99, 8]), "error"),
    "an unknown input": (of("scoring", input="hsv"), "error", "input"),
    "crop 0": (of("scoring", crop=0), "error", "crop"),
    "crop as text": (of("scoring", crop="64"), "error", "crop"),
    "unknown crops": (of("scoring", crops="spiral"), "error", "crops"),
    "empty": (written(b""), "error"),
    "text": (written(b"these are no weights\n" * 50), "error"),
    "zeros": (written(bytes(5000)), "error"),
    "a zip of something else": (written(b"PK\5\6" + bytes(18)), "error"),
    "a pointer of Git LFS": (written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"), "error"),
    "a pickle with code": (written(b"cos\nsystem\n(S'touch inputs/ran'\ntR."), "error"),
    "a pickle of a list": (written(pickle.dumps([1, 2])), "error"),
    "a list": (lambda good, file: torch.save([1, 2], file), "error"),
    "a tensor": (lambda good, file: torch.save(torch.zeros(3), file), "error"),
    "an empty table": (lambda good, file: torch.save({}, file), "error"),
    "keys that are numbers": (lambda good, file: torch.save({1: torch.zeros(1)}, file), "error"),
    "half of it": (lambda good, file: file.write_bytes(good.read_bytes()[: good.stat().st_size // 2]), "error"),
    "a byte less": (lambda good, file: file.write_bytes(good.read_bytes()[:-1]), "error"),
    "a pipe": (lambda good, file: os.mkfifo(file), "error"),
    "a folder": (lambda good, file: file.mkdir(), "error"),
}
