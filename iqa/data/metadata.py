"""Image files without the metadata that no pixel depends on, for those whose metadata stop Pillow.

Resolution, texts, thumbnails and the like are read by Pillow's parsers although nothing here uses them. Where one of
them is mistyped, too long or damaged, the file is decoded without it; what decides the pixels is kept.
"""

import re
import struct
import zlib
from collections.abc import Collection
from typing import Any

JPEG_KEPT = {b"JFIF\0": 14, b"Adobe": 12, b"ICC_PROFILE\0": 14}  # segments that are used, and their shortest length
PNG_DROPPED = set(b"tEXt zTXt iTXt eXIf iCCP pHYs tIME sRGB gAMA cHRM cICP mDCV mDCv cLLI cLLi bKGD hIST sBIT".split())
PNG_DROPPED |= set(b"sPLT oFFs pCAL sCAL sTER acTL fcTL fdAT caBX iDOT".split())
TIFF = (b"II*\0", b"MM\0*")  # how such files begin
TIFF_KEPT = {254, *range(256, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 338}
TIFF_KEPT |= {339, 347, *range(512, 522), 529, 530, 532, 34675}
ORIENTATION = 274
WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF's types, and how `struct` calls them
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
    order, _, entries = _directory(data)
    return next((noted for entry in entries if (noted := _orientation(entry, order))), None)


def _directory(data: bytes) -> tuple[str, int, list[bytes]]:
    """Byte order, place and entries of the first directory of a TIFF file or of EXIF data."""
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack(f"{order}I", data[4:8].rjust(4, b"\xff"))
    (count,) = struct.unpack(f"{order}H", data[at : at + 2].rjust(2, b"\0"))
    entries = [data[start : start + 12] for start in range(at + 2, at + 2 + 12 * count, 12)]
    return order, at, [entry for entry in entries if len(entry) == 12]


def _orientation(entry: bytes, order: str) -> int | None:
    """The orientation, if an entry notes it as one whole number."""
    tag, kind, count = struct.unpack(f"{order}HHI", entry[:8])
    if tag != ORIENTATION or kind not in WHOLE_NUMBERS or count != 1:
        return None
    return struct.unpack_from(order + WHOLE_NUMBERS[kind], entry, 8)[0]


def _tiff(data: bytes, start: int = 0, kept: Collection[int] = TIFF_KEPT) -> bytes:
    """A TIFF file, or a file in which one begins, with some tags of its first image alone and the orientation."""
    order, at, entries = _directory(data[start:])
    tags = [struct.unpack(f"{order}H", entry[:2])[0] for entry in entries]
    entries = [entry for tag, entry in zip(tags, entries, strict=True) if tag in kept or _orientation(entry, order)]
    table = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return data[: start + at] + table + data[start + at + len(table) :]


def _boxes(data: bytes) -> bytes:
    """AVIF or HEIC: of EXIF data at their usual place the orientation alone is left."""
    for found in re.finditer(rb"(II\*\0\x08\0\0\0|MM\0\*\0\0\0\x08)", data):
        data = _tiff(data, found.start(), kept=())
    return data
