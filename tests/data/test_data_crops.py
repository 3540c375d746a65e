"""Crops follow from seed, epoch, image and patch alone, and cover the image as their mode says."""

import numpy as np
import pytest

from iqa.data.crops import crop_positions, jitter_factors, positions

SIZE = {"height": 192, "width": 256, "crop": 96}


def test_a_crop_does_not_depend_on_the_number_of_patches_or_on_earlier_calls():
    first = np.array(crop_positions(1, 0, 7, patches=5, **SIZE))
    crop_positions(1, 0, 8, patches=3, **SIZE)
    assert np.array_equal(np.array(crop_positions(1, 0, 7, patches=2, **SIZE)), first[:, :2])


@pytest.mark.parametrize("image", [0, 7, 2**40])
def test_a_crop_that_is_drawn_alone_is_bit_by_bit_the_one_drawn_with_all_before_it(image):
    def numbers(patches, first=0):
        positions = crop_positions(-3, 2, image, patches, height=5000, width=7000, crop=96, first=first)
        return np.column_stack([*positions, jitter_factors(-3, 2, image, patches, 0.3, first)])

    all_at_once = numbers(41)
    assert np.array_equal(np.vstack([numbers(1, first) for first in range(41)]), all_at_once)
    assert np.array_equal(numbers(9, first=30), all_at_once[30:39])


@pytest.mark.parametrize("other", [(2, 0, 7), (1, 1, 7), (1, 0, 8), (-1, 0, 7)])
def test_seed_epoch_and_image_each_change_the_crops(other):
    assert not np.array_equal(crop_positions(1, 0, 7, patches=8, **SIZE), crop_positions(*other, patches=8, **SIZE))


def test_random_crops_reach_every_position_equally_often():
    top, left, flip = crop_positions(0, 0, 0, patches=20_000, height=12, width=11, crop=8)
    assert np.bincount(top).size == 5
    assert np.bincount(left).size == 4
    for values in (top, left, flip):
        counts = np.bincount(values)
        assert np.allclose(counts / counts.sum(), 1 / counts.size, atol=0.02)


def test_a_crop_as_large_as_the_image_has_one_position():
    top, left, _ = crop_positions(3, 2, 1, patches=4, height=96, width=96, crop=96)
    assert not top.any()
    assert not left.any()
    assert positions("grid", 96, 96, 96, 9).tolist() == [[0, 0]]


def test_test_crops_differ_from_training_crops_and_repeat():
    first = positions("random", **SIZE, patches=6, seed=1, image=7)
    assert np.array_equal(first, positions("random", **SIZE, patches=6, seed=1, image=7))
    assert not np.array_equal(first, np.transpose(crop_positions(1, 0, 7, patches=6, **SIZE)[:2]))


def test_the_center_crop_lies_in_the_middle():
    assert positions("center", **SIZE).tolist() == [[48, 80]]


@pytest.mark.parametrize(("height", "width"), [(192, 256), (300, 100), (97, 500), (96, 200)])
@pytest.mark.parametrize("patches", [1, 4, 9, 25])
def test_a_grid_touches_all_edges_and_has_about_the_wanted_number(height, width, patches):
    grid = positions("grid", height, width, 96, patches)
    assert grid.min(axis=0).tolist() == [0, 0]
    assert grid.max(axis=0).tolist() == [height - 96, width - 96]
    assert len(np.unique(grid, axis=0)) == len(grid) <= max(4, 2 * patches)


@pytest.mark.parametrize("size", [(96, 96), (97, 97), (98, 5000), (120, 130), (190, 4000), (3000, 4000), (768, 30_000)])
@pytest.mark.parametrize("patches", [1, 2, 5, 7, 25, 100, 1000])
def test_an_image_and_its_turned_twin_have_about_the_wanted_number_of_crops(size, patches):
    height, width = size
    grid, turned = positions("grid", height, width, 96, patches), positions("grid", width, height, 96, patches)
    places = (height - 95) * (width - 95)
    assert len(grid) == len(turned) and abs(len(grid) - min(patches, places)) <= 5
    if height != width:
        assert np.array_equal(np.unique(grid[:, ::-1], axis=0), turned)


@pytest.mark.parametrize(("size", "counts"), [((3000, 4000), (4, 6)), ((2000, 3000), (4, 6)), ((1080, 1920), (4, 6))])
def test_a_grid_of_25_on_usual_photos_has_four_rows_of_six(size, counts):
    assert tuple(len(np.unique(starts)) for starts in positions("grid", *size, 224, 25).T) == counts


def test_a_grid_of_nine_on_a_square_is_three_by_three():
    assert positions("grid", 200, 200, 100, 9)[[0, 4, 8]].tolist() == [[0, 0], [50, 50], [100, 100]]


@pytest.mark.parametrize(
    ("height", "width", "patches", "down", "right"),
    [
        (384, 512, 25, [0, 32, 64, 96, 128], [0, 57, 114, 171, 228]),
        (225, 300, 25, [0, 0, 0, 0, 0], [0, 15, 30, 45, 60]),
        (300, 228, 4, [0, 38], [0, 2]),
        (324, 324, 1, [0], [0]),
        (324, 274, 6, [0, 50, 100], [0, 25, 50]),
    ],
)
def test_the_crops_of_iqa_pytorch_lie_where_it_takes_them(height, width, patches, down, right):
    rows = [[top, left] for top in down for left in right][:patches]
    assert positions("uniform", height, width, 224, patches).tolist() == rows


def test_an_image_smaller_than_the_crop_is_an_error_that_shows_both_sizes():
    with pytest.raises(ValueError, match=r"crop of 96x96 .* image of 80x256"):
        crop_positions(0, 0, 0, 1, height=80, width=256, crop=96)
    with pytest.raises(ValueError, match=r"crop of 96x96 .* image of 192x90"):
        positions("grid", 192, 90, 96, 4)


def test_an_unknown_mode_is_an_error():
    with pytest.raises(ValueError, match="unknown crops 'corner'; known are: whole, center, random, grid, dense, uni"):
        positions("corner", **SIZE)
