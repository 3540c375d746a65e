"""From files to pixels: filters, colours, metadata that decide nothing, and what cannot be decoded."""

import io
import struct
import sys
import types
import zlib

import numpy as np
import pytest
from icc import ADOBE, P3, SRGB_D50, profile
from PIL import Image, ImageCms
from torchvision.transforms import Resize

from iqa.data import pixels
from iqa.data.pixels import Size, Undecodable, decode, resize

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height=40, width=56, seed=0):
    """Smooth, dull colours, so that none leaves sRGB."""
    noise = np.random.default_rng(seed).integers(90, 166, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def in_srgb(values, matrix, gamma=2.2):
    """The same by plain linear algebra: 8-bit values of a space with these primaries as 8-bit sRGB."""
    linear = np.linalg.inv(SRGB_D50) @ np.array(matrix) @ ((values / 255.0) ** gamma).reshape(-1, 3).T
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    return (curved.T.reshape(values.shape) * 255).round().clip(0, 255)


def saved(file, image, **options):
    image.save(file, **options)
    return file


# --- filters


@pytest.mark.parametrize("size", [(512, 384), (20, 31), (90, 64)])
def test_bilinear_is_that_of_torchvision_to_the_pixel(size, tmp_path):
    for seed, shape in enumerate([(60, 80), (97, 64), (480, 640)]):
        file = saved(tmp_path / f"{seed}.jpg", picture(*shape, seed=seed), quality=90)
        ours = resize(decode(file), Size(*size, keep_aspect=False, filter="bilinear"))
        assert np.array_equal(ours, Resize(size)(Image.open(file).convert("RGB")))
        assert not np.array_equal(ours, resize(decode(file), Size(*size, keep_aspect=False)))


def test_bilinear_is_that_of_torchvision_on_real_photographs(shared):
    files = sorted((shared / "datasets" / "biq2021").rglob("*.jpg"))[:5]
    if not files:
        pytest.skip("no JPEG of BIQ2021 is in the shared folder")
    for file in files:
        ours = resize(decode(file), Size(512, 384, keep_aspect=False, filter="bilinear"))
        assert np.array_equal(ours, Resize((512, 384))(Image.open(file).convert("RGB")))


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        (Size(least=64), (32, 48), (64, 96)),
        (Size(least=64), (64, 70), (64, 70)),
        (Size(40, 30, keep_aspect=False, least=60), (500, 400), (80, 60)),
        (Size(384, 512, least=224), (768, 1024), (384, 512)),
    ],
)
def test_what_is_too_small_is_enlarged_to_the_least_side(size, shape, expected):
    assert size.of(*shape) == expected


def test_a_height_without_a_width_is_no_size():
    with pytest.raises(ValueError, match="set both height and width, or neither"):
        Size(384)


# --- colours


@pytest.mark.parametrize("matrix", [P3, ADOBE])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_colours_are_converted_to_srgb(matrix, suffix, tmp_path):
    image = picture()
    file = saved(tmp_path / f"a{suffix}", image, icc_profile=profile(matrix), lossless=True)
    assert np.array_equal(decode(file), image)
    converted = np.asarray(decode(file, "srgb")).astype(int)
    assert np.abs(converted - in_srgb(np.asarray(image), matrix)).max() <= 1
    assert np.abs(converted - np.asarray(image)).max() > 5


@pytest.mark.parametrize("icc_profile", [None, SRGB])
def test_images_in_srgb_stay_as_they_are_to_the_bit(icc_profile, tmp_path):
    file = saved(tmp_path / "a.jpg", picture(), quality=90, icc_profile=icc_profile)
    assert np.array_equal(decode(file), decode(file, "srgb"))


def test_grey_and_transparent_images_are_converted_too(tmp_path):
    grey = picture().convert("L")
    file = saved(tmp_path / "grey.png", grey, icc_profile=profile(None, 1.8, b"GRAY"))
    found = np.asarray(decode(file, "srgb"))
    values = np.stack([np.asarray(grey)] * 3, axis=-1)
    assert np.abs(found - in_srgb(values, SRGB_D50, 1.8)).max() <= 1
    clear = picture()
    clear.putalpha(Image.linear_gradient("L").resize(clear.size).point(lambda value: 255 * (value > 99)))
    file = saved(tmp_path / "clear.png", clear, icc_profile=profile(P3))
    expected = in_srgb(np.asarray(clear.convert("RGB")), P3)
    expected[np.asarray(clear)[..., 3] == 0] = 255
    assert np.abs(np.asarray(decode(file, "srgb")) - expected).max() <= 1


@pytest.mark.parametrize(
    "damaged", [b"", b"no profile", profile(P3)[:200], profile(None, 2.2, b"GRAY"), profile(P3)[:300] + bytes(400)]
)
def test_a_profile_that_cannot_be_used_is_named_once_and_stops_no_image(damaged, tmp_path, capsys):
    pixels_, chunk = picture(), b"p\0\0" + zlib.compress(damaged + bytes([len(damaged) % 251]))
    content = io.BytesIO()
    pixels_.save(content, "PNG")
    content = content.getvalue()
    named = struct.pack(">I", len(chunk)) + b"iCCP" + chunk + struct.pack(">I", zlib.crc32(b"iCCP" + chunk))
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(content[:33] + named + content[33:])
        assert np.array_equal(decode(tmp_path / name, "srgb"), pixels_)
    told = capsys.readouterr().err
    assert told.count("its colour profile cannot be used") == 1 and "a.png: " in told


# --- metadata


def exif(*tags):
    """EXIF data of some tags (number, type, count, four bytes), in which the image is turned (orientation 6)."""
    entries = sorted([*tags, (274, 3, 1, struct.pack("<HH", 6, 0))])
    packed = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


FAR, NEAR = struct.pack("<I", 2**31), struct.pack("<I", 8)
TAGS = [
    [(270, 5, 1, NEAR)],
    [(270, 2, 100, FAR)],
    [(271, 12, 2**30, NEAR), (272, 7, 0, FAR)],
    [(282, 2, 3, b"no!\0")],
    [(282, 10, 1, NEAR), (296, 2, 1, b"x\0\0\0")],
    [(306, 4, 70_000, FAR), (531, 5, 1, NEAR)],
    [(34665, 2, 4, b"exif"), (34853, 4, 1, FAR)],
    [(700, 99, 1, NEAR), (33723, 0, 0, NEAR), (50341, 16, 1, FAR)],
]


@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_mistyped_exif_tags_decide_nothing_and_the_image_is_turned(tags, suffix, tmp_path):
    plain = saved(tmp_path / f"plain{suffix}", picture(), quality=95)
    content = plain.read_bytes()
    data = exif(*tags)
    if suffix == ".jpg":
        data = b"Exif\0\0" + data
        content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + content[2:]
    elif suffix == ".png":
        content = content[:33] + chunk(b"eXIf", data) + content[33:]
    else:
        content = saved(tmp_path / "with.webp", picture(), quality=95, exif=data).read_bytes()
    (tmp_path / f"odd{suffix}").write_bytes(content)
    assert np.array_equal(decode(tmp_path / f"odd{suffix}"), np.rot90(decode(plain), -1))


@pytest.mark.parametrize("tags", TAGS)
def test_mistyped_tags_of_a_tiff_decide_nothing(tags, tmp_path):
    file = saved(tmp_path / "a.tif", picture(), compression="tiff_lzw")
    content = file.read_bytes()
    (at,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[at : at + 2])
    own = [content[at + 2 + 12 * number :][:12] for number in range(count)]
    added = [struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags]
    entries = {entry[:2]: entry for entry in own + added + [struct.pack("<HHIHH", 274, 3, 1, 6, 0)]}
    table = b"".join(sorted(entries.values(), key=lambda entry: struct.unpack("<H", entry[:2])))
    directory = struct.pack("<H", len(entries)) + table + bytes(4)
    file.write_bytes(content[:4] + struct.pack("<I", len(content)) + content[8:] + directory)
    assert np.array_equal(decode(file), np.rot90(picture(), -1))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


LONG = zlib.compress(bytes(2_000_000))


@pytest.mark.parametrize(
    "added",
    [
        chunk(b"pHYs", b"\0\0\1"),
        chunk(b"iTXt", b"k\0\1\0\0\0" + LONG),
        chunk(b"zTXt", b"k\0\0" + LONG),
        chunk(b"zTXt", b"k\0\7text"),
        chunk(b"iCCP", b"p\0\0" + LONG),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", b"\0" * 5),
        chunk(b"sRGB", b""),
        chunk(b"acTL", b"\0"),
        chunk(b"fcTL", b"\0\0\0\7" * 8),
        chunk(b"tEXt", b"k\0v")[:-1] + b"?",
        chunk(b"tIME", b""),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_chunks_of_a_png_that_are_not_used_decide_nothing(added, behind, tmp_path, capsys):
    content = saved(tmp_path / "a.png", picture()).read_bytes()
    place = len(content) - 12 if behind else 33
    (tmp_path / "a.png").write_bytes(content[:place] + added + content[place:])
    assert np.array_equal(decode(tmp_path / "a.png"), picture())
    assert np.array_equal(decode(tmp_path / "a.png", "srgb"), picture())


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE0, b"JFIF\0\1"),
        (0xE1, b"Exif\0\0"),
        (0xE1, b"Exif\0\0II*"),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"ICC_PROFILE\0\1\5half"),
        (0xE2, b"MPF\0II*\0"),
        (0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
        (0xED, b"Photoshop 3.0\x008BIM"),
        (0xEE, b"Adobe"),
        (0xFE, b"\xff\xd9"),
    ],
)
def test_segments_of_a_jpeg_that_are_not_used_decide_nothing(marker, body, tmp_path):
    file = saved(tmp_path / "a.jpg", picture(), quality=90)
    expected, content = np.asarray(decode(file)), file.read_bytes()
    file.write_bytes(content[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + content[2:])
    assert np.array_equal(decode(file), expected)
    assert np.array_equal(decode(file, "srgb"), expected)


# --- what cannot be decoded


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_file_is_an_error_that_names_it(suffix, share, tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    content = saved(tmp_path / f"a{suffix}", noise).read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(Undecodable, match=rf"a\{suffix}: cannot be decoded \(.+\); fetch the file again"):
        decode(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("error", [MemoryError, struct.error, zlib.error, RecursionError, KeyError, AssertionError])
def test_whatever_a_decoder_raises_names_the_file(error, tmp_path, monkeypatch):
    def fail(*arguments):
        raise error("bad item")

    file = saved(tmp_path / "a.png", picture())
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(Undecodable, match=r"a\.png: cannot be decoded \('?bad item'?\)"):
        decode(file)


def test_an_image_that_is_too_large_is_named_with_its_size_and_the_limit(tmp_path):
    header = struct.pack(">IIBBBBB", 40_000, 10_000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") * 2)
    with pytest.raises(Undecodable, match=r"a\.png.*it has 400,000,000 pixels, of which at most 178,956,970 are read"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("start", "module", "named"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "pillow_heif", "HEIC needs the plug-in pillow-heif"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "pillow_heif", "HEIC needs the plug-in pillow-heif"),
        (b"\xff\x0a\0\0\0\0", "pillow_jxl", "JPEG XL needs the plug-in pillow-jxl-plugin"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "pillow_jxl", "JPEG XL needs the plug-in pillow-jxl-plugin"),
    ],
)
def test_a_format_of_a_plug_in_names_it_and_is_read_with_it(start, module, named, tmp_path, monkeypatch):
    file = tmp_path / "a.bin"
    file.write_bytes(start + bytes(40))
    monkeypatch.setitem(sys.modules, module, None)
    pixels._register.cache_clear()
    with pytest.raises(Undecodable, match=rf"a\.bin: cannot be decoded \({named}; install it, or iqa\[formats\]"):
        decode(file)
    plug_in = types.SimpleNamespace(register_heif_opener=lambda: called.append(module))
    called = []
    monkeypatch.setitem(sys.modules, module, plug_in)
    monkeypatch.setattr(Image, "open", lambda source: picture())
    pixels._register.cache_clear()
    assert np.array_equal(decode(file), picture()) and called == [module]
    pixels._register.cache_clear()


def test_an_avif_file_is_read(tmp_path):
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    found = np.asarray(decode(saved(tmp_path / "a.avif", picture(), quality=95))).astype(int)
    assert np.abs(found - np.asarray(picture())).mean() < 3
