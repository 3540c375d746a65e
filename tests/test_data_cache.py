"""Images are decoded by stated rules, resized once, and kept in stores that are whole or absent."""

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iqa import paths, source
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


def stores(folder, names, size=None, kinds=("rgb",), jobs=1):
    return open_stores("test", folder, names, content_hashes(folder, names), size or Size(), kinds, jobs)


# --- decoding


def test_exif_orientation_is_applied(tmp_path):
    pixels = photo()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.rot90(pixels, -1))
    assert cache._original_size(tmp_path / "a.png") == (60, 40)


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
    assert not list(paths.CACHE.glob("*test*"))


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


def test_the_manifest_holds_the_hashes_of_the_files(images):
    store = stores(*images)["rgb"]
    for file, sha in store.manifest["sha256"].items():
        assert sha == hashlib.sha256((store.folder / file).read_bytes()).hexdigest()
    assert store.index["sha256"].tolist() == [source.file_hash(images[0] / name) for name in images[1]]


def test_the_number_of_threads_does_not_change_a_byte(images, monkeypatch):
    monkeypatch.setattr(cache, "CHUNK", 1)
    first = stores(*images, kinds=["mscn"])["mscn"].manifest
    shutil.rmtree(paths.CACHE)
    assert stores(*images, kinds=["mscn"], jobs=3)["mscn"].manifest == first


def test_an_existing_store_is_opened_without_decoding_and_a_new_kind_is_added(images, monkeypatch):
    stores(*images)
    stores(*images, kinds=["rgb", "mscn"])
    monkeypatch.setattr(cache, "_fill", None)
    assert set(stores(*images, kinds=["rgb", "mscn"])) == {"rgb", "mscn"}


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


def test_a_store_travels_to_another_process_without_its_pixels(images):
    store = stores(*images)["rgb"]
    assert len(pickle.dumps(store)) < 1000
    assert np.array_equal(pickle.loads(pickle.dumps(store))[1], store[1])


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


def test_too_little_free_space_is_an_error_before_any_work(images, monkeypatch):
    usage = shutil.disk_usage(images[0])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    monkeypatch.setattr(cache, "_fill", None)
    with pytest.raises(DataError, match=r"disk is full .*IQA_CACHE"):
        stores(*images)
    assert not list(paths.CACHE.glob("*test*"))


def test_a_disk_that_fills_up_while_building_is_an_error_with_its_remedy(images, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "_fill", full)
    with pytest.raises(DataError, match=r"disk is full .*IQA_CACHE"):
        stores(*images, jobs=2)
    assert not list(paths.CACHE.glob("*test*"))


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


def test_a_file_that_changed_just_now_is_not_remembered(images):
    folder, names = images
    content_hashes(folder, names)
    memory = list((paths.CACHE / "hashes").glob("*.json"))
    assert not memory or json.loads(memory[0].read_text()) == {}
