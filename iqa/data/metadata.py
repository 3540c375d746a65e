"""Image files without the metadata that no pixel depends on, for those whose metadata stop Pillow.

Resolution, texts, thumbnails and the like are read by Pillow's parsers although nothing here uses them. Where one of
them is mistyped, too long or damaged, the file is decoded without it; what decides the pixels is kept.
"""

import zlib
from typing import Any

JPEG_KEPT = {b"JFIF\0": 14, b"Adobe": 12, b"ICC_PROFILE\0": 14}  # segments that are used, and their shortest length
PNG_DROPPED = set(b"tEXt zTXt iTXt eXIf iCCP pHYs tIME sRGB gAMA cHRM cICP mDCV mDCv cLLI cLLi bKGD hIST sBIT".split())
PNG_DROPPED |= set(b"sPLT oFFs pCAL sCAL sTER acTL fcTL fdAT caBX iDOT".split())
TIFF_KEPT = {254, *range(256, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326), 338}
TIFF_KEPT |= {339, 347, *range(512, 522), 529, 530, 532, 34675}
ORIENTATION = 274
WHOLE_NUMBERS = (3, 4)  # TIFF's types SHORT and LONG
LONGEST = 2**26  # bytes of an unpacked colour profile
XMP = b"http://ns.adobe.com/xap/1.0/\0"
PNG_XMP = b"XML:com.adobe.xmp\0\0\0"

Lean = tuple[bytes, dict[str, Any]]


def strip(data: bytes) -> Lean | None:
    """A JPEG, PNG or TIFF file without unused metadata; None for other formats.

    Returns:
        The file's bytes, and what Pillow would have put of the metadata that are used into `Image.info`: `exif` and
        `xmp`, which may hold the orientation, and `icc_profile` (None where it is damaged).
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")):
        return _tiff(bytearray(data))
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


def _tiff(data: bytearray) -> Lean:
    """With the tags of its first image alone that decide pixels; an orientation that is no whole number is dropped."""
    order = "little" if data.startswith(b"II") else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    large = number(2, 2) == 43  # BigTIFF
    counter, entry, pointer = (8, 20, 8) if large else (2, 12, 4)
    at = number(pointer, pointer)
    start = at + counter
    count = min(number(at, counter), max(0, len(data) - start) // entry)
    kept = []
    for place in range(start, start + count * entry, entry):
        tag, kind, values = number(place, 2), number(place + 2, 2), number(place + 4, pointer)
        if tag in TIFF_KEPT and (tag != ORIENTATION or (kind in WHOLE_NUMBERS and values == 1)):
            kept.append(bytes(data[place : place + entry]))
    table = b"".join([len(kept).to_bytes(counter, order), *kept, bytes(pointer)])
    data[at : at + len(table)] = table
    return bytes(data), {}
