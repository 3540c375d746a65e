"""Image files without the metadata that no pixel depends on, for those whose metadata stop Pillow.

Resolution, texts, thumbnails and the like are read by Pillow's parsers although nothing here uses them. Where one of
them is mistyped, too long or damaged, the file is decoded without it; what decides the pixels is kept.
"""

import re
import zlib
from collections.abc import Collection
from typing import Any

JPEG_KEPT = {b"JFIF\0": 14, b"Adobe": 12, b"ICC_PROFILE\0": 14}  # segments that are used, and their shortest length
PNG_DROPPED = set(b"tEXt zTXt iTXt eXIf iCCP pHYs tIME sRGB gAMA cHRM cICP mDCV mDCv cLLI cLLi bKGD hIST sBIT".split())
PNG_DROPPED |= set(b"sPLT oFFs pCAL sCAL sTER acTL fcTL fdAT caBX iDOT".split())
TIFF = (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")  # how such files begin
TIFF_KEPT = {254, *range(256, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 338}
TIFF_KEPT |= {339, 347, *range(512, 522), 529, 530, 532, 34675}
ORIENTATION = 274
WHOLE_NUMBERS = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4}  # TIFF's types of whole numbers, and their bytes
LONGEST = 2**26  # bytes of an unpacked colour profile
XMP = b"http://ns.adobe.com/xap/1.0/\0"
PNG_XMP = b"XML:com.adobe.xmp\0\0\0"

Lean = tuple[bytes, dict[str, Any]]


def strip(data: bytes) -> Lean | None:
    """A JPEG, PNG, TIFF, AVIF or HEIC file without unused metadata; None for other formats.

    Returns:
        The file's bytes, and what Pillow would have put of the metadata that are used into `Image.info`: `exif` and
        `xmp`, which may hold the orientation, and `icc_profile` (None where it is damaged).
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith(TIFF):
        return _tiff(data), {}
    if data[4:8] == b"ftyp":
        return _boxes(data), {}
    return None


def _jpeg(data: bytes) -> Lean:
    kept, info, at = [data[:2]], {}, 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b"\xd9", b""):
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        end = at + 2 + (0 if alone else int.from_bytes(data[at + 2 : at + 4]))
        body = data[at + 4 : end]
        unused = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not unused or any(body.startswith(start) and len(body) >= JPEG_KEPT[start] for start in JPEG_KEPT):
            kept.append(data[at:end])
        elif body.startswith(b"Exif\0\0"):
            info["exif"] = info.get("exif", b"Exif\0\0") + body[6:]
        elif body.startswith(XMP):
            info["xmp"] = body.removeprefix(XMP)
        at = end
    return b"".join([*kept, data[at:]]), info


def _png(data: bytes) -> Lean:
    kept, info, at = [data[:8]], {}, 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        if kind not in PNG_DROPPED:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            info["exif"] = b"Exif\0\0" + body
        elif kind == b"iTXt" and body.startswith(PNG_XMP):
            info["xmp"] = body.removeprefix(PNG_XMP).split(b"\0", 2)[-1]
        elif kind == b"iCCP":
            info["icc_profile"] = _unpacked(body.partition(b"\0")[2][1:])
        at = end
    return b"".join(kept), info


def _unpacked(data: bytes) -> bytes | None:
    unpack = zlib.decompressobj()
    try:
        profile = unpack.decompress(data, LONGEST)
    except zlib.error:
        return None
    return profile if unpack.eof else None


def orientation(exif: bytes) -> int | None:
    """The orientation that EXIF data note, whatever else is in them; None where there is none."""
    data = exif.removeprefix(b"Exif\0\0")
    if not data.startswith(TIFF):
        return None
    directory = _Directory(data)
    return next(filter(None, map(directory.orientation, directory.entries)), None)


class _Directory:
    """The first directory of a TIFF file or of EXIF data; damaged tags do not hide those behind them."""

    def __init__(self, data: bytes):
        self.order = "little" if data.startswith(b"II") else "big"
        large = data[2:4] in (b"+\0", b"\0+")  # BigTIFF
        self.counter, entry, self.pointer = (8, 20, 8) if large else (2, 12, 4)
        self.at = self.number(data[self.pointer : 2 * self.pointer])
        start = self.at + self.counter
        count = min(self.number(data[self.at : start]), max(0, len(data) - start) // entry)
        self.entries = [bytes(data[place : place + entry]) for place in range(start, start + count * entry, entry)]

    def number(self, data: bytes) -> int:
        return int.from_bytes(data, self.order)

    def tag(self, entry: bytes) -> int:
        return self.number(entry[:2])

    def orientation(self, entry: bytes) -> int | None:
        """The orientation, if an entry notes it as one whole number."""
        length = WHOLE_NUMBERS.get(self.number(entry[2:4]))
        if self.tag(entry) != ORIENTATION or not length or self.number(entry[4 : 4 + self.pointer]) != 1:
            return None
        return self.number(entry[4 + self.pointer :][:length])

    def only(self, entries: list[bytes]) -> bytes:
        """This directory with some of its entries, as the last one of the file."""
        return b"".join([len(entries).to_bytes(self.counter, self.order), *entries, bytes(self.pointer)])


def _tiff(data: bytes, at: int = 0, kept: Collection[int] = TIFF_KEPT) -> bytes:
    """A TIFF file, or a file in which one begins, with some tags of its first image alone and the orientation."""
    inside = data[at:]
    directory = _Directory(inside)
    entries = [each for each in directory.entries if directory.tag(each) in kept or directory.orientation(each)]
    table = directory.only(entries)
    return data[:at] + inside[: directory.at] + table + inside[directory.at + len(table) :]


def _boxes(data: bytes) -> bytes:
    """AVIF or HEIC: of EXIF data at their usual place the orientation alone is left."""
    for found in re.finditer(rb"(II\*\0\x08\0\0\0|MM\0\*\0\0\0\x08)", data):
        data = _tiff(data, found.start(), kept=())
    return data
