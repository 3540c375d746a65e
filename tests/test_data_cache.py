"""Images are decoded by stated rules, resized once, and kept in stores that are whole or absent."""

import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from iqa import paths
from iqa.data import DataError, cache
from iqa.data.cache import Size, content_hashes, decode, mscn, open_stores, publish, resize


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


MAKE = cache._make


def calling_first(call):
    """`_make` that calls `call` with an image's name before it decodes the image."""

    def made(kind, files, size, rgb, number):
        if rgb is None:
            call(files[number].name)
        return MAKE(kind, files, size, rgb, number)

    return made


@pytest.fixture
def decoded(monkeypatch):
    """The names of the images that have been decoded, in order."""
    found = []
    monkeypatch.setattr(cache, "_make", calling_first(found.append))
    return found


def stores(folder, names, size=None, kinds=("rgb",), jobs=1):
    return open_stores("test", folder, names, content_hashes(folder, names), size or Size(), kinds, jobs)


def folders(name):
    """The names of the cache's finished and of its unfinished stores."""
    found = sorted(path.name for path in paths.CACHE.glob(f"{name}-*"))
    return [f for f in found if not f.endswith("unfinished")], [f for f in found if f.endswith("unfinished")]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
    assert cache._original_size(tmp_path / "a.png") == (60, 40)


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
    assert cache._original_size(tmp_path / "a.png") == decode(tmp_path / "a.png").size[::-1] == (60, 40)


def test_the_size_of_a_png_without_notes_is_known_without_decoding_it(tmp_path, monkeypatch):
    Image.fromarray(photo()).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", None)
    assert cache._original_size(tmp_path / "a.png") == (40, 60)


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
    assert folders("test")[0] == []


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


def test_the_manifest_holds_the_hashes_of_the_tables_and_these_hold_those_of_sources_and_pixels(images):
    folder, names = images
    store = stores(folder, names)["rgb"]
    assert set(store.manifest["sha256"]) == {"index.csv", "checksums.bin"}
    for file, expected in store.manifest["sha256"].items():
        assert expected == sha(store.folder / file)
    assert store.index["sha256"].tolist() == [sha(folder / name) for name in names]
    checksums = (store.folder / "checksums.bin").read_bytes()
    assert checksums == b"".join(hashlib.sha256(store[index].tobytes()).digest() for index in range(3))


@pytest.mark.parametrize("kind", ["rgb", "mscn"])
def test_the_number_of_threads_does_not_change_a_byte(tmp_path, monkeypatch, kind):
    names = many(tmp_path / "images", 20)
    monkeypatch.setattr(cache, "CHUNK", 1)
    monkeypatch.setattr(cache, "MANY", 5)
    first = content(stores(tmp_path / "images", names, kinds=[kind])[kind].folder)
    shutil.rmtree(paths.CACHE)
    assert content(stores(tmp_path / "images", names, kinds=[kind], jobs=4)[kind].folder) == first


@pytest.mark.slow
def test_the_number_of_loader_workers_does_not_change_a_patch(tmp_path):
    import tiny  # here, because the processes that other tests start import this module
    import torch

    from iqa.batches import train_loader

    database = tiny.database(12)
    for name, pixels in zip(database.table["image"], database.stores["mscn"], strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    opened = stores(tmp_path, database.table["image"].tolist(), kinds=["rgb", "mscn"])
    database = dataclasses.replace(database, stores=opened)
    params = tiny.PARAMS.model_copy(update={"input": "rgb", "train_patches": 3})
    alone, two = (list(train_loader(database, params.model_copy(update={"workers": w}))) for w in (0, 2))
    assert len(alone) == 3
    for (pixels, targets, _), (others, other_targets, _) in zip(alone, two, strict=True):
        assert torch.equal(pixels, others) and torch.equal(targets, other_targets)


def test_an_existing_store_is_opened_without_decoding(images, monkeypatch):
    stores(*images, kinds=["rgb", "mscn"])
    monkeypatch.setattr(cache, "_fill", None)
    assert list(stores(*images, kinds=["mscn", "rgb"])) == ["mscn", "rgb"]


def test_a_new_kind_is_made_from_the_cached_pixels(images, decoded):
    stores(*images)
    first = content(stores(*images, kinds=["mscn"])["mscn"].folder)
    assert decoded == images[1]
    shutil.rmtree(paths.CACHE)
    assert content(stores(*images, kinds=["mscn"])["mscn"].folder) == first


def test_images_in_subfolders_are_stored_under_their_relative_names(images):
    folder, names = images
    (folder / "awgn").mkdir()
    shutil.move(folder / names[0], folder / "awgn" / "1600.AWGN, 1.png")
    names = ["awgn/1600.AWGN, 1.png", *names[1:]]
    store = stores(folder, names)["rgb"]
    assert store.index["image"].tolist() == names
    assert np.array_equal(store[0], photo(40, 60, 0))


def test_changed_pixels_size_or_code_make_another_store(images, monkeypatch):
    folder, names = images
    found = {stores(folder, names)["rgb"].folder, stores(folder, names, Size(20, 20))["rgb"].folder}
    Image.fromarray(photo(40, 60, seed=9)).save(folder / names[0])
    found.add(stores(folder, names)["rgb"].folder)
    monkeypatch.setattr(cache, "code_version", lambda: "another")
    found.add(stores(folder, names)["rgb"].folder)
    assert len(found) == 4


def test_enlarged_images_are_counted(images):
    assert stores(*images, Size(45, 45))["rgb"].manifest["enlarged"] == 2


def test_a_store_that_lost_bytes_is_an_error_with_its_remedy(images):
    folder = stores(*images)["rgb"].folder
    with (folder / "pixels.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match="does not match its manifest; delete the folder"):
        stores(*images)


@pytest.mark.parametrize("file", ["index.csv", "checksums.bin", "manifest.json"])
def test_a_store_whose_tables_were_changed_or_lost_is_an_error(images, file):
    folder = stores(*images)["rgb"].folder
    if file == "manifest.json":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="does not match its manifest; delete the folder"):
        stores(*images)


def test_a_store_travels_to_another_process_without_its_pixels(images):
    store = stores(*images)["rgb"]
    assert len(pickle.dumps(store)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(store))[1], store[1])


# --- only what has changed


def test_a_changed_image_is_decoded_and_the_others_are_copied(images, decoded):
    folder, names = images
    old = stores(folder, names, kinds=["rgb", "mscn"])
    before = np.array(old["rgb"][1])
    Image.fromarray(photo(40, 60, seed=9)).save(folder / names[1])
    decoded.clear()
    new = stores(folder, names, kinds=["rgb", "mscn"])
    assert decoded == [names[1]]
    assert np.array_equal(new["rgb"][1], photo(40, 60, seed=9))
    for index in (0, 2):
        for kind in ("rgb", "mscn"):
            assert np.array_equal(new[kind][index], old[kind][index])
    assert np.array_equal(old["rgb"][1], before)
    assert folders("test") == (sorted(store.folder.name for store in (*old.values(), *new.values())), [])


def test_removed_reordered_and_renamed_images_are_not_decoded_again(images, decoded):
    folder, names = images
    stores(folder, names)
    shutil.copy(folder / names[0], folder / "copy.png")
    decoded.clear()
    found = stores(folder, [names[2], "copy.png", names[0]])["rgb"]
    assert decoded == []
    assert [found[i].shape[:2] for i in range(3)] == [(50, 50), (40, 60), (40, 60)]
    assert np.array_equal(found[0], photo(50, 50, 2))
    assert np.array_equal(found[1], found[2])


def test_another_size_or_another_code_decodes_all_images(images, decoded, monkeypatch):
    stores(*images)
    stores(*images, Size(20, 20))
    assert decoded == images[1] * 2
    monkeypatch.setattr(cache, "code_version", lambda: "another")
    stores(*images)
    assert decoded == images[1] * 3


def test_pixels_of_another_store_that_do_not_match_their_checksum_are_made_again(images, decoded):
    folder, names = images
    with (stores(folder, names)["rgb"].folder / "pixels.bin").open("r+b") as file:
        file.write(b"damage")
    found = stores(folder, names[:2])["rgb"]
    assert decoded == [*names, names[0]]
    assert np.array_equal(found[0], photo(40, 60, 0))


def test_a_replaced_broken_image_costs_nothing_but_itself(images, decoded, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 1)
    folder, names = images
    whole = (folder / names[2]).read_bytes()
    (folder / names[2]).write_bytes(whole[:-100])
    with pytest.raises(DataError, match=rf"{names[2]}: cannot be decoded"):
        stores(folder, names)
    assert [len(found) for found in folders("test")] == [0, 1]
    decoded.clear()
    (folder / names[2]).write_bytes(whole)
    store = stores(folder, names)["rgb"]
    assert decoded == [names[2]]
    assert folders("test") == ([store.folder.name], [])


def test_all_broken_images_are_told_at_once(images):
    folder, names = images
    for name in names[:2]:
        (folder / name).write_bytes((folder / name).read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"(?s){names[0]}: cannot be decoded.*{names[1]}: cannot be decoded"):
        stores(folder, names)
    for name in names[:2]:
        (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=rf"(?s){names[0]}: cannot be decoded.*{names[1]}: cannot be decoded"):
        stores(folder, names)


# --- killed, at the same time, out of space


def _build_and_die(where: Path, folder: Path, names: list[str], kinds: list[str], after: int) -> None:
    """Build stores, and be killed at the decoding of an image."""
    paths.CACHE, cache.CHUNK = where, 1
    count = iter(range(after))

    def die_at_last(name):
        if next(count, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    cache._make = calling_first(die_at_last)
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
    assert [len(found) for found in folders("test")] == [0, 1]
    resumed = stores(tmp_path / "images", names, kinds=["rgb", "mscn"])
    assert decoded == names[19:]
    again = {kind: content(store.folder) for kind, store in resumed.items()}
    shutil.rmtree(paths.CACHE)
    assert {k: content(s.folder) for k, s in stores(tmp_path / "images", names, kinds=["rgb", "mscn"]).items()} == again


def build_until(last, folder, names):
    """Build a store whose build is interrupted at an image."""

    def stop(name):
        if name == last:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache, "CHUNK", 1)
        patch.setattr(cache, "_make", calling_first(stop))
        stores(folder, names)


def test_pixels_that_were_damaged_before_a_build_goes_on_are_made_again(tmp_path, decoded):
    names = many(tmp_path / "images", 10)
    build_until(names[7], tmp_path / "images", names)
    with (paths.CACHE / folders("test")[1][0] / "pixels.bin").open("r+b") as file:
        file.seek(6 * 8 * 3 + 5)
        file.write(b"damage")
    store = stores(tmp_path / "images", names)["rgb"]
    assert decoded == [names[1], *names[7:]]
    assert all(np.array_equal(store[index], decode(tmp_path / "images" / names[index])) for index in range(10))


def _build_slowly(where: Path, folder: Path, names: list[str], note: Path) -> None:
    paths.CACHE = where

    def write_down(name):
        with note.open("a") as file:
            file.write(f"{name}\n")
        time.sleep(0.05)

    cache._make = calling_first(write_down)
    stores(folder, names)


def test_two_processes_at_the_same_time_decode_each_image_once(tmp_path, decoded):
    names, note = many(tmp_path / "images", 20), tmp_path / "note"
    processes = [spawn(_build_slowly, paths.CACHE, tmp_path / "images", names, note) for _ in range(2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert note.read_text().split() == names
    assert len(stores(tmp_path / "images", names)["rgb"]) == 20
    assert decoded == []
    assert [len(found) for found in folders("test")] == [1, 0]


def test_a_cache_that_cannot_be_locked_is_an_error_with_its_remedy(images, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cache.fcntl, "flock", refuse)
    with pytest.raises(DataError, match=r"test\.lock: cannot be locked \(.*No locks.*IQA_CACHE"):
        stores(*images)


def test_too_little_free_space_for_all_kinds_is_an_error_before_any_work(images, monkeypatch):
    usage = shutil.disk_usage(images[0])
    needed = (40 * 60 * 2 + 50 * 50) * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2 * needed - 1))
    monkeypatch.setattr(cache, "_fill", None)
    with pytest.raises(DataError, match=r"disk is full \(0\.0 MB free, 0\.0 MB are needed\).*IQA_CACHE"):
        stores(*images, kinds=["rgb", "mscn"])
    assert folders("test") == ([], [])


def test_space_for_what_is_missing_is_enough(tmp_path, monkeypatch):
    names = many(tmp_path / "images", 9)
    build_until(names[6], tmp_path / "images", names)
    usage = shutil.disk_usage(tmp_path)
    missing = (6 + 7 + 8) * 8 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=missing - 1))
    with pytest.raises(DataError, match="disk is full"):
        stores(tmp_path / "images", names)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=missing))
    assert len(stores(tmp_path / "images", names)["rgb"]) == 9


def test_a_disk_that_fills_up_is_an_error_and_what_was_done_is_kept(images, decoded):
    def full(name):
        if name == images[1][2]:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "CHUNK", 1)
        patch.setattr(cache, "_make", calling_first(full))
        with pytest.raises(DataError, match=r"disk is full .*IQA_CACHE.*already cached are kept"):
            stores(*images)
    assert [len(found) for found in folders("test")] == [0, 1]
    store = stores(*images)["rgb"]
    assert decoded == [images[1][2]]
    assert np.array_equal(store[2], photo(50, 50, 2))


# --- announcing


def test_before_the_work_starts_a_line_says_how_much_it_is(images, capsys):
    stores(*images)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("caching rgb: 3 images, 0.0 MB of ") and first.endswith(" free")
    stores(images[0], images[1][:2])
    assert "caching rgb: 2 images (2 kept from before), 0.0 MB of " in capsys.readouterr().out


def test_of_many_images_a_few_are_timed_and_none_is_decoded_twice(tmp_path, monkeypatch, capsys, decoded):
    monkeypatch.setattr(cache, "MANY", 30)
    names = many(tmp_path / "images", 30)
    store = stores(tmp_path / "images", names, jobs=2)["rgb"]
    assert capsys.readouterr().out.splitlines()[0].endswith(" free, about 0 s with 2 threads")
    assert sorted(decoded) == sorted(names)
    assert set(decoded[:8]) == set(names[:24:3])
    assert all(np.array_equal(store[index], decode(tmp_path / "images" / names[index])) for index in range(30))


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
    monkeypatch.setattr(cache, "file_hash", None)
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
    monkeypatch.setattr(cache.tempfile, "NamedTemporaryFile", full)
    with pytest.raises(DataError, match=r"hashes: the disk is full .*IQA_CACHE"):
        content_hashes(*images)


def test_a_file_that_changed_just_now_is_not_remembered(images):
    folder, names = images
    content_hashes(folder, names)
    memory = list((paths.CACHE / "hashes").glob("*.json"))
    assert not memory or json.loads(memory[0].read_text()) == {}
