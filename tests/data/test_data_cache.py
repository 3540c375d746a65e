"""Images are decoded by stated rules, resized once, and kept in files that are whole or absent."""

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import struct
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from iqa.data import DataError, cache
from iqa.data.cache import open_stores, pixel_code
from iqa.data.pixels import Size, decode, mscn, resize
from iqa.study import code, hashes, paths
from iqa.study.disk import DiskError, publish
from iqa.study.hashes import content_hashes


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


def photo(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path):
    """A folder of three PNG images of different sizes, and their names."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = []
    for seed, (height, width) in enumerate([(40, 60), (60, 40), (50, 50)]):
        names.append(f"{seed}.png")
        Image.fromarray(photo(height, width, seed)).save(folder / names[-1])
    return folder, names


def calling_first(call):
    """`decode` that calls `call` with the image's name before."""

    def decoded(path, *how):
        call(path.name)
        return decode(path, *how)

    return decoded


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that have been decoded, in order."""
    found = []
    monkeypatch.setattr(cache, "decode", calling_first(found.append))
    return found


def stores(folder, names, size=None, kinds=("rgb",), jobs=1):
    return open_stores(folder, names, content_hashes(folder, names), size or Size(), kinds, jobs)


def cached(kind="*"):
    """All cached files of a kind, half-written ones included."""
    return sorted((paths.CACHE / "pixels").glob(f"{kind}-*/*"))


def file_of(store, number):
    return store.folder / store.index["sha256"][number]


def contents():
    return {str(file.relative_to(paths.CACHE)): file.read_bytes() for file in cached()}


def many(folder, count):
    """Some small images in a folder, and their names."""
    folder.mkdir()
    names = [f"{number}.png" for number in range(count)]
    for number, name in enumerate(names):
        Image.fromarray(photo(6 + number % 3, 8, number)).save(folder / name)
    return names


# --- decoding


def test_exif_orientation_is_applied(tmp_path):
    pixels = photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.rot90(pixels, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_turns_as_pillow_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.asarray(ImageOps.exif_transpose(image)))


def test_a_mistyped_exif_tag_leaves_the_orientation(tmp_path):
    tags = struct.pack("<HHHI4sHHI4s", 2, 0x0112, 3, 1, b"\6", 0x011A, 2, 3, b"ab")
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags + bytes(4)
    Image.fromarray(photo()).save(tmp_path / "a.jpg", exif=exif)  # the resolution is a text
    assert decode(tmp_path / "a.jpg").size == (40, 60)


@pytest.mark.parametrize("note", ["exif", "xmp"])
def test_an_orientation_that_a_png_notes_behind_its_pixels_counts(tmp_path, note):
    exif = Image.Exif()
    exif[0x0112] = 8
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="8"/>')
    Image.fromarray(photo()).save(tmp_path / "a.png", **({"exif": exif} if note == "exif" else {"pnginfo": text}))
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf" if note == "exif" else b"iTXt") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    (tmp_path / "a.png").write_bytes(data[:start] + data[end:-12] + data[start:end] + data[-12:])
    assert decode(tmp_path / "a.png").size == (40, 60)


def test_grey_becomes_three_equal_channels(tmp_path):
    Image.fromarray(photo()[..., 0]).save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.repeat(photo()[..., :1], 3, axis=-1))


def test_a_palette_is_resolved(tmp_path):
    image = Image.fromarray(photo()).quantize(16)
    image.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.asarray(image.convert("RGB")))


def test_transparent_pixels_are_laid_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "faint.png")
    Image.new("L", (4, 4), 7).save(tmp_path / "grey.png", transparency=7)
    assert (np.asarray(decode(tmp_path / "clear.png")) == 255).all()
    assert (np.asarray(decode(tmp_path / "faint.png")) == 204).all()
    assert (np.asarray(decode(tmp_path / "grey.png")) == 255).all()


def test_cmyk_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").getpixel((0, 0)) == (255, 0, 0)


def test_sixteen_bit_grey_is_divided_by_257(tmp_path):
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(decode(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floating_point_pixels_are_an_error(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: cannot be decoded \(its pixels are floating-point"):
        decode(tmp_path / "a.tif")


@pytest.mark.parametrize("kept", [0, 10, 0.6])
def test_an_empty_broken_or_truncated_file_is_an_error_that_names_it(tmp_path, kept):
    path = tmp_path / "broken.jpg"
    Image.fromarray(photo(200, 200)).save(path, quality=90)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(DataError, match=r"broken\.jpg: cannot be decoded .*fetch the file again"):
        stores(tmp_path, ["broken.jpg"])
    assert cached() == []


# --- sizes


@pytest.mark.parametrize(
    ("size", "original", "stored"),
    [
        (Size(), (50, 70), (50, 70)),
        (Size(384, 384), (512, 512), (384, 384)),
        (Size(384, 512), (768, 1024), (384, 512)),
        (Size(384, 384), (500, 1000), (384, 768)),
        (Size(384, 384), (1000, 500), (768, 384)),
        (Size(384, 384), (100, 200), (384, 768)),
        (Size(384, 512, keep_aspect=False), (1000, 500), (384, 512)),
        (Size(100, 100), (333, 334), (100, 100)),
    ],
)
def test_the_stored_size_covers_the_wanted_one_or_equals_it(size, original, stored):
    assert size.of(*original) == stored
    assert np.asarray(resize(Image.new("RGB", original[::-1]), size)).shape == (*stored, 3)


def test_shrinking_averages_instead_of_picking_pixels():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(resize(Image.fromarray(stripes), Size(16, 16)))
    assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() <= 2


# --- local normalisation


def test_mscn_agrees_with_the_definition_computed_pixel_by_pixel():
    image = photo(16, 20)
    intensity = np.pad(image / 255, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    result = mscn(image)
    for y, x, channel in [(0, 0, 0), (15, 19, 2), (7, 9, 1), (3, 18, 0)]:
        window = intensity[y : y + 7, x : x + 7, channel]
        value = (image[y, x, channel] / 255 - window.mean()) / (window.std() + 0.04)
        assert abs(int(result[y, x, channel]) - (40 * value + 128)) <= 0.51


def test_mscn_of_a_flat_image_is_128_and_of_floats_the_same_as_of_bytes():
    assert (mscn(np.full((9, 9, 3), 37, np.uint8)) == 128).all()
    difference = mscn(photo()).astype(int) - mscn(photo() / 255)
    assert np.abs(difference).max() <= 1
    assert mscn(photo()).dtype == np.uint8


def test_mscn_refuses_an_image_without_three_channels():
    with pytest.raises(ValueError, match=r"not \(8, 8\)"):
        mscn(np.zeros((8, 8), np.uint8))


# --- the code that makes the pixels


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("value * 40", "value * 41", ["mscn"]),
        ("    return image\n\n\n", "    return image[::-1]\n\n\n", ["rgb"]),
        ('"white"', '"black"', ["rgb", "mscn"]),
        ("Resampling.LANCZOS", "Resampling.NEAREST", ["rgb", "mscn"]),
        ("scale = max(", "scale = min(", ["rgb", "mscn"]),
        ("RELATIVE_COLORIMETRIC", "PERCEPTUAL", ["rgb", "mscn"]),
        ('@PIXELS.add("mscn")', '@PIXELS.add("mscn", title="MSCN")', []),
    ],
)
def test_the_code_of_a_step_changes_the_kinds_that_it_makes(tmp_path, monkeypatch, old, new, changed):
    now = {kind: pixel_code(kind) for kind in ("rgb", "mscn")}
    assert now["rgb"] != now["mscn"]
    shutil.copytree(paths.ROOT / "iqa", tmp_path / "iqa", ignore=shutil.ignore_patterns("__pycache__"))
    texts = {file: file.read_text(encoding="utf-8") for file in (tmp_path / "iqa" / "data").glob("*.py")}
    ((file, text),) = [(file, text) for file, text in texts.items() if old in text]
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(code, "definitions", partial(code.definitions, package=tmp_path / "iqa"))
    assert [kind for kind in now if pixel_code(kind) != now[kind]] == changed


def test_another_pillow_changes_the_pixels(monkeypatch):
    now = [pixel_code("rgb"), pixel_code("mscn")]
    monkeypatch.setattr(cache.PIL, "__version__", "0")
    assert not {pixel_code("rgb"), pixel_code("mscn")} & set(now)


# --- stores


def test_a_store_returns_each_image_as_it_was_decoded(images):
    folder, names = images
    opened = stores(folder, names, kinds=["rgb", "mscn"])
    for index, name in enumerate(names):
        expected = np.asarray(decode(folder / name))
        assert np.array_equal(opened["rgb"][index], expected)
        assert np.array_equal(opened["mscn"][index], mscn(expected))
    assert not opened["rgb"][0].flags.writeable
    assert not opened["rgb"][0].flags.owndata
    assert opened["rgb"][0] is opened["rgb"][0]


def test_a_cached_file_is_named_by_its_source_and_holds_checksum_shape_and_pixels(images):
    folder, names = images
    store = stores(folder, names)["rgb"]
    for number, name in enumerate(names):
        data = (store.folder / sha(folder / name)).read_bytes()
        height, width, _ = shape = np.asarray(decode(folder / name)).shape
        assert data[:32] == hashlib.sha256(data[32:]).digest()
        assert np.frombuffer(data[32:44], "<u4").tolist() == [height, width, 0]
        assert data[44:] == np.asarray(decode(folder / name)).tobytes() and store[number].shape == shape
    assert store.index["sha256"].tolist() == [sha(folder / name) for name in names]
    assert store.bytes == sum(len(file.read_bytes()) - 44 for file in cached())


@pytest.mark.parametrize("kind", ["rgb", "mscn"])
def test_the_number_of_threads_does_not_change_a_byte(tmp_path, monkeypatch, kind):
    names = many(tmp_path / "images", 20)
    monkeypatch.setattr(cache, "MANY", 5)
    stores(tmp_path / "images", names, kinds=[kind])
    first = contents()
    shutil.rmtree(paths.CACHE)
    stores(tmp_path / "images", names, kinds=[kind], jobs=4)
    assert len(first) == 20 and contents() == first


@pytest.mark.slow
def test_the_number_of_loader_workers_does_not_change_a_patch(tmp_path):
    import tiny  # here, because the processes that other tests start import this module
    import torch

    from iqa.training.batches import train_loader

    database = tiny.database(12)
    for name, noise in zip(database.table["image"], database.stores["mscn"], strict=True):
        Image.fromarray(noise).save(tmp_path / name)
    opened = stores(tmp_path, database.table["image"].tolist(), kinds=["rgb", "mscn"])
    database = dataclasses.replace(database, stores=opened)
    params = tiny.PARAMS.model_copy(update={"input": "rgb", "train_patches": 3})
    alone, two = (list(train_loader(database, params.model_copy(update={"workers": w}))) for w in (0, 2))
    assert len(alone) == 3
    for (patches, targets, _), (others, other_targets, _) in zip(alone, two, strict=True):
        assert torch.equal(patches, others) and torch.equal(targets, other_targets)


def test_cached_images_are_opened_without_decoding(images, monkeypatch):
    stores(*images, kinds=["rgb", "mscn"])
    monkeypatch.setattr(cache, "_build", None)
    assert list(stores(*images, kinds=["mscn", "rgb"])) == ["mscn", "rgb"]


def test_a_new_kind_is_made_from_the_cached_pixels(images, decoded):
    stores(*images)
    stores(*images, kinds=["mscn"])
    first = {name: data for name, data in contents().items() if "mscn" in name}
    assert sorted(decoded) == images[1]
    shutil.rmtree(paths.CACHE)
    stores(*images, kinds=["mscn"])
    assert contents() == first


def test_both_kinds_are_made_from_one_decoding(images, decoded):
    stores(*images, kinds=["rgb", "mscn"])
    assert sorted(decoded) == images[1]


def test_images_in_subfolders_are_stored_under_their_relative_names(images):
    folder, names = images
    (folder / "awgn").mkdir()
    shutil.move(folder / names[0], folder / "awgn" / "1600.AWGN, 1.png")
    names = ["awgn/1600.AWGN, 1.png", *names[1:]]
    store = stores(folder, names)["rgb"]
    assert store.index["image"].tolist() == names
    assert np.array_equal(store[0], photo(40, 60, 0))


def test_enlarged_images_are_counted_also_where_they_are_cached_already(images):
    for _ in range(2):
        assert stores(*images, Size(45, 45))["rgb"].index["enlarged"].tolist() == [1, 1, 0]


def test_copies_of_an_image_are_stored_once(images, decoded):
    folder, names = images
    shutil.copy(folder / names[0], folder / "copy.png")
    store = stores(folder, [*names, "copy.png"])["rgb"]
    assert len(store) == 4 and len(decoded) == len(cached()) == 3
    assert store[0] is store[3]
    assert store.bytes == (2 * 40 * 60 + 50 * 50) * 3


def test_a_store_travels_to_another_process_without_its_pixels(images):
    store = stores(*images)["rgb"]
    assert store[0].nbytes + store[1].nbytes > 10000
    assert len(pickle.dumps(store)) < 2000
    assert np.array_equal(pickle.loads(pickle.dumps(store))[1], store[1])


def _read_all(store, queue):
    queue.put([int(store[number].sum()) for number in range(len(store))])


def test_another_process_maps_the_files_for_itself(images):
    store = stores(*images)["rgb"]
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_read_all, args=(store, queue))
    process.start()
    assert queue.get() == [int(store[number].sum()) for number in range(3)]
    process.join()


def test_no_more_files_are_kept_mapped_than_a_process_may_open(images, monkeypatch):
    monkeypatch.setattr(cache, "_mapped", cache.lru_cache(maxsize=2)(cache._mapped.__wrapped__))
    store = stores(*images)["rgb"]
    for _ in range(2):
        assert [store[number].shape[0] for number in range(3)] == [40, 60, 50]
    assert cache._mapped.cache_info().currsize == 2
    soft, _ = cache.resource.getrlimit(cache.resource.RLIMIT_NOFILE)
    assert 0 < cache.MAPPED <= 2**14 and (soft < 0 or soft >= 2 * cache.MAPPED)


# --- only what has changed


def test_a_changed_image_is_decoded_and_the_others_are_kept(images, decoded):
    folder, names = images
    old = stores(folder, names, kinds=["rgb", "mscn"])
    before = np.array(old["rgb"][1])
    Image.fromarray(photo(40, 60, seed=9)).save(folder / names[1])
    decoded.clear()
    new = stores(folder, names, kinds=["rgb", "mscn"])
    assert decoded == [names[1]]
    assert np.array_equal(new["rgb"][1], photo(40, 60, seed=9))
    assert np.array_equal(old["rgb"][1], before)
    assert len(cached()) == 8


def test_removed_reordered_and_renamed_images_are_not_decoded_again(images, decoded):
    folder, names = images
    stores(folder, names)
    shutil.copy(folder / names[0], folder / "copy.png")
    decoded.clear()
    found = stores(folder, [names[2], "copy.png", names[0]])["rgb"]
    assert decoded == []
    assert np.array_equal(found[0], photo(50, 50, 2))
    assert np.array_equal(found[1], photo(40, 60, 0)) and np.array_equal(found[2], found[1])


def test_another_size_or_another_code_decodes_all_images_and_keeps_the_old_files(images, decoded, monkeypatch):
    first = stores(*images)["rgb"]
    stores(*images, Size(20, 20))
    assert sorted(decoded) == sorted(images[1] * 2)
    monkeypatch.setattr(cache, "pixel_code", lambda kind: "another")
    stores(*images)
    assert sorted(decoded) == sorted(images[1] * 3)
    assert len(cached()) == 9 and np.array_equal(first[0], photo(40, 60, 0))


def test_an_image_that_changes_while_it_is_cached_is_an_error(images):
    folder, names = images
    hashes = content_hashes(folder, names)
    Image.fromarray(photo(40, 60, seed=9)).save(folder / names[1])
    with pytest.raises(DataError, match=r"1\.png: has changed since it was hashed"):
        open_stores(folder, names, hashes, Size(), ["rgb"], 1)
    assert len(cached()) == 2


def test_a_replaced_broken_image_costs_nothing_but_itself(images, decoded):
    folder, names = images
    whole = (folder / names[2]).read_bytes()
    (folder / names[2]).write_bytes(whole[:-100])
    with pytest.raises(DataError, match=rf"{names[2]}: cannot be decoded"):
        stores(folder, names)
    decoded.clear()
    (folder / names[2]).write_bytes(whole)
    stores(folder, names)
    assert decoded == [names[2]]


def test_all_broken_images_are_told_at_once(images, monkeypatch):
    folder, names = images
    (folder / names[0]).write_bytes((folder / names[0]).read_bytes()[:-100])
    (folder / names[1]).write_bytes(b"")
    with pytest.raises(DataError, match=rf"^.*{names[0]}: cannot be decoded.*\n.*{names[1]}: cannot be decoded.*$"):
        stores(folder, names)
    assert len(cached()) == 1
    monkeypatch.setattr(cache, "BROKEN_SHOWN", 1)
    with pytest.raises(DataError, match=rf"{names[0]}: cannot be decoded.*\n\.\.\. \(2 in all\)"):
        stores(folder, names)


# --- damaged files


def damage(file, where=100):
    """Change one byte in the middle of a cached file, or cut it."""
    data = bytearray(file.read_bytes())
    if where is None:
        del data[-5:]
    else:
        data[where] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("where", [0, 33, 40, 100, -1, None, "empty"])
def test_a_damaged_file_is_made_again_with_a_line_that_says_so(images, decoded, capsys, where):
    folder, names = images
    store = stores(folder, names)["rgb"]
    before, copy = contents(), np.array(store[1])
    if where == "empty":
        file_of(store, 1).write_bytes(b"")
    else:
        damage(file_of(store, 1), where)
    decoded.clear()
    capsys.readouterr()
    again = stores(folder, names)["rgb"]
    lines = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert len(lines) == 1 and "made again" in lines[0] and names[1] in lines[0] and names[0] not in lines[0]
    assert decoded == [names[1]] and contents() == before
    assert np.array_equal(again[1], copy)
    stores(folder, names)
    assert "damaged" not in capsys.readouterr().out


def test_a_kind_is_not_made_from_damaged_pixels(images, decoded):
    folder, names = images
    damage(file_of(stores(folder, names)["rgb"], 1))
    decoded.clear()
    opened = stores(folder, names, kinds=["mscn"])["mscn"]
    assert decoded == [names[1]]
    assert np.array_equal(opened[1], mscn(np.asarray(decode(folder / names[1]))))


def test_a_checked_file_is_read_again_only_when_its_size_or_time_changes(images, monkeypatch):
    store = stores(*images)["rgb"]
    aged(store.folder, store.index["sha256"])
    read, read_file = [], cache._read
    monkeypatch.setattr(cache, "_read", lambda file: read.append(file) or read_file(file))
    stores(*images)
    assert sorted(read) == cached()
    stores(*images)
    assert len(read) == 3
    damage(file_of(store, 1))
    aged(store.folder, [store.index["sha256"][1]], seconds=30)
    stores(*images)
    assert read[3] == file_of(store, 1) and set(read[3:]) == {file_of(store, 1)}


def test_a_file_that_is_gone_or_cut_after_opening_is_an_error_with_its_remedy(images):
    store = stores(*images)["rgb"]
    file_of(store, 0).unlink()
    file_of(store, 1).write_bytes(file_of(store, 1).read_bytes()[:-1])
    file_of(store, 2).write_bytes(b"")
    for number in range(3):
        with pytest.raises(DataError, match="deleted or cut since the database was opened; open the database again"):
            store[number]
    assert np.array_equal(stores(*images)["rgb"][0], photo(40, 60, 0))


def test_an_image_that_would_become_too_large_is_an_error_that_names_it(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (200_000, 1)).save(tmp_path / "images" / "thin.png")
    with pytest.raises(DataError, match=r"thin\.png: its 1x200000 pixels would have to be enlarged to .*another size"):
        stores(tmp_path / "images", ["thin.png"], Size(384, 384))


def test_images_are_stored_by_filter_and_colours(images):
    ways = [Size(20, 30), Size(20, 30, filter="bilinear"), Size(20, 30, colours="srgb")]
    lanczos, bilinear, srgb = (stores(*images, way)["rgb"] for way in ways)
    assert len({store.folder for store in (lanczos, bilinear, srgb)}) == 3
    assert np.array_equal(lanczos[0], srgb[0]) and not np.array_equal(lanczos[0], bilinear[0])


# --- killed, at the same time, out of space


def _build_and_die(where: Path, folder: Path, names: list[str], kinds: list[str], after: int) -> None:
    """Build stores, and be killed in the middle of writing a file."""
    paths.CACHE = where
    count = iter(range(after))
    replace = Path.replace

    def die_at_last(file, target):
        if "pixels" in str(target) and next(count, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(file, target)

    Path.replace = die_at_last
    stores(folder, names, kinds=kinds)


def spawn(function, *arguments):
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    return process


def test_a_killed_build_is_continued_and_gives_the_same_bytes(tmp_path, decoded):
    names = many(tmp_path / "images", 30)
    process = spawn(_build_and_die, paths.CACHE, tmp_path / "images", names, ["rgb", "mscn"], 19)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len([file for file in cached() if file.name.startswith(".")]) == 1
    stores(tmp_path / "images", names, kinds=["rgb", "mscn"])
    assert len(decoded) == 30 - 10  # ten have their rgb pixels, nine of them mscn as well
    again = {name: data for name, data in contents().items() if "/." not in name}
    shutil.rmtree(paths.CACHE)
    stores(tmp_path / "images", names, kinds=["rgb", "mscn"])
    assert contents() == again


def _build_slowly(where: Path, folder: Path, names: list[str], note: Path) -> None:
    paths.CACHE = where

    def write_down(name):
        with note.open("a") as file:
            file.write(f"{name}\n")
        time.sleep(0.05)

    cache.decode = calling_first(write_down)
    stores(folder, names)


def test_two_processes_at_the_same_time_share_the_work(tmp_path, decoded):
    names, note = many(tmp_path / "images", 40), tmp_path / "note"
    processes = [spawn(_build_slowly, paths.CACHE, tmp_path / "images", names, note) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    made = note.read_text().split()
    assert set(made) == set(names) and len(made) < 60  # an image that both are at is decoded twice
    store = stores(tmp_path / "images", names)["rgb"]
    assert decoded == [] and len(cached()) == 40
    assert all(np.array_equal(store[number], photo(6 + number % 3, 8, number)) for number in range(40))


def test_too_little_free_space_for_all_kinds_is_an_error_before_any_work(images, monkeypatch, decoded):
    usage = shutil.disk_usage(images[0])
    needed = (40 * 60 * 2 + 50 * 50) * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * needed - 1))
    with pytest.raises(DiskError, match=r"disk is full \(0\.0 MB free, 0\.0 MB are needed\).*IQA_CACHE"):
        stores(*images, kinds=["rgb", "mscn"])
    assert cached() == decoded == []


def test_space_for_what_is_missing_is_enough(tmp_path, monkeypatch):
    names = many(tmp_path / "images", 9)
    stores(tmp_path / "images", names[:6])
    usage = shutil.disk_usage(tmp_path)
    missing = (6 + 7 + 8) * 8 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=missing - 1))
    with pytest.raises(DiskError, match="disk is full"):
        stores(tmp_path / "images", names)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=missing))
    assert len(stores(tmp_path / "images", names)["rgb"]) == 9


def test_a_disk_that_fills_up_is_an_error_and_what_was_done_is_kept(images, decoded):
    folder, names = images
    stores(folder, names[:1])

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(DiskError, match=r"disk is full .*IQA_CACHE.*already cached are kept"):
            stores(folder, names)
    assert len(cached()) == 1
    decoded.clear()
    store = stores(folder, names)["rgb"]
    assert sorted(decoded) == names[1:]
    assert np.array_equal(store[2], photo(50, 50, 2))


# --- announcing


def test_before_the_work_starts_a_line_says_how_much_it_is(images, capsys):
    folder, names = images
    stores(folder, names[:2])
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("caching rgb: 2 of 2 images, 0.0 MB of ") and first.endswith(" free")
    stores(folder, names, kinds=["rgb", "mscn"])
    assert "caching rgb and mscn: 3 of 3 images, 0.0 MB of " in capsys.readouterr().out
    stores(folder, names, kinds=["rgb", "mscn"])
    assert capsys.readouterr().out == ""


def test_of_many_images_a_few_are_timed_and_none_is_decoded_twice(tmp_path, monkeypatch, capsys, decoded):
    monkeypatch.setattr(cache, "MANY", 30)
    names = many(tmp_path / "images", 30)
    store = stores(tmp_path / "images", names, jobs=2)["rgb"]
    assert capsys.readouterr().out.splitlines()[0].endswith(" free, about 0 s with 2 threads")
    assert sorted(decoded) == sorted(names)
    assert all(np.array_equal(store[index], decode(tmp_path / "images" / names[index])) for index in range(30))


def test_the_order_of_chance_leaves_the_random_numbers_of_a_training_alone(images):
    before = random.getstate()
    stores(*images)
    assert random.getstate() == before


# --- publishing


def test_a_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), publish(tmp_path / "made") as folder:
        (folder / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def _publish_and_die(target: Path) -> None:
    with publish(target) as folder:
        (folder / "half").write_text("half")
        os._exit(9)


def test_a_killed_build_leaves_no_folder_of_that_name(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_publish_and_die, args=(tmp_path / "made",))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not (tmp_path / "made").exists()


def test_of_two_builds_at_the_same_time_the_first_one_stays(tmp_path):
    with publish(tmp_path / "made") as slow:
        (slow / "file").write_text("slow")
        with publish(tmp_path / "made") as fast:
            (fast / "file").write_text("fast")
    assert (tmp_path / "made" / "file").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


# --- hashes of source files


def aged(folder, names, seconds=60):
    for name in names:
        os.utime(folder / name, (time.time() - seconds, time.time() - seconds))


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unchanged_folder_is_not_read_again(images, monkeypatch):
    folder, names = images
    aged(folder, names)
    first = content_hashes(folder, names)
    monkeypatch.setattr(hashes, "file_hash", None)
    assert content_hashes(folder, names) == first == [sha(folder / name) for name in names]


def test_a_changed_file_is_read_again(images):
    folder, names = images
    aged(folder, names)
    content_hashes(folder, names)
    Image.fromarray(photo(seed=5)).save(folder / names[1])
    assert content_hashes(folder, names)[1] == sha(folder / names[1])


def test_a_full_disk_is_an_error_with_its_remedy_also_where_hashes_are_remembered(images, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    aged(*images)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DiskError, match=r"hashes: the disk is full .*IQA_CACHE"):
        content_hashes(*images)


def test_a_file_that_changed_just_now_is_not_remembered(images):
    folder, names = images
    content_hashes(folder, names)
    memory = list((paths.CACHE / "hashes").glob("*.json"))
    assert not memory or json.loads(memory[0].read_text())["files"] == {}


@pytest.mark.parametrize("content", [b"", b'{"0.png": [1, 2', b"[1, 2]", b'{"0.png": 3}', b"\xff\xfe"])
def test_a_damaged_memory_of_hashes_is_made_anew_with_a_line_that_says_so(images, capsys, content):
    folder, names = images
    aged(folder, names)
    first = content_hashes(folder, names)
    (memory,) = (paths.CACHE / "hashes").glob("*.json")
    memory.write_bytes(content)
    assert content_hashes(folder, names) == first
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and memory.name in out and "damaged; it is made anew" in out
    assert content_hashes(folder, names) == first and capsys.readouterr().out == ""
    assert json.loads(memory.read_text())["files"].keys() == set(names)


def test_a_hash_that_was_changed_in_the_memory_is_not_believed(images, capsys):
    folder, names = images
    aged(folder, names)
    first = content_hashes(folder, names)
    (memory,) = (paths.CACHE / "hashes").glob("*.json")
    memory.write_text(memory.read_text().replace(first[0], first[0][::-1]))
    assert content_hashes(folder, names) == first
    assert "damaged; it is made anew" in capsys.readouterr().out
