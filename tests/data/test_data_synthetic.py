"""The demo databases: same seed, same bytes; contents split by photograph; a quality that falls with the level."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageChops

from iqa.data import DataError, synthetic
from iqa.data.audit import audit
from iqa.data.params import DataPrepParams
from iqa.data.prepare import fingerprint, prepare
from iqa.data.synthetic import (
    DISTORTIONS,
    HEIGHT,
    HELD_OUT_PHOTOGRAPHS,
    LEVELS,
    PARTS,
    PHOTOGRAPHS,
    TRAIN_PHOTOGRAPHS,
    VAL_PHOTOGRAPHS,
    WIDTH,
    distort,
    haar_features,
    haarpsi,
    photograph,
    photograph_contents,
    plan,
    rate,
)
from iqa.study import paths

SMALL = 0.01  # two contents of each kind and split


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders and tables of all parts at the smallest scale."""
    found = {}
    for part in PARTS:
        folder = tmp_path_factory.mktemp(part)
        found[part] = (folder, synthetic.generate(part, 0, SMALL, folder, jobs=2))
    return found


@pytest.fixture(scope="module")
def content():
    return photograph_contents(photograph("coffee"))[0]


def hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_same_seed_same_bytes_with_any_number_of_threads(made, tmp_path):
    synthetic.generate("photos", 0, SMALL, tmp_path, jobs=1)
    assert hashes(tmp_path) == hashes(made["photos"][0])


@pytest.mark.slow
def test_another_seed_gives_other_images(made, tmp_path):
    synthetic.generate("distortions", 1, SMALL, tmp_path, jobs=2)
    assert not set(hashes(tmp_path).values()) & set(hashes(made["distortions"][0]).values())


def test_a_content_does_not_depend_on_the_scale():
    larger = {content.reference: content for content in plan("main", 0, 0.2)}
    for content in plan("main", 0, SMALL):
        assert np.array_equal(content.stream.generate_state(4), larger[content.reference].stream.generate_state(4))


def test_the_whole_demo_has_the_stated_numbers():
    def count(part):
        contents = pd.DataFrame(plan(part, 0, 1.0))
        return (
            contents.groupby("split").agg(contents=("reference", "nunique"), images=("images", "sum")).T.to_dict("list")
        )

    assert count("main") == {"train": [48, 1152], "val": [10, 180], "test": [28, 504]}
    assert count("distortions") == {"test": [24, 432]}
    assert count("photos") == {"test": [20, 360]}


def test_references_are_in_one_split_and_photographs_are_split_whole(made):
    table = made["main"][1]
    assert not table.drop_duplicates(["reference", "split"])["reference"].duplicated().any()
    groups = [set(TRAIN_PHOTOGRAPHS), set(VAL_PHOTOGRAPHS), set(HELD_OUT_PHOTOGRAPHS)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(PHOTOGRAPHS)
    for part, group in PARTS.items():
        for split, photographs, _, _ in group:
            allowed = {"train": groups[0], "val": groups[1], "test": groups[2]}[split]
            assert set(photographs) <= allowed, part


def test_all_images_are_png_files_of_one_size_and_listed_once(made):
    for folder, table in made.values():
        assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(table["image"])
        assert {Image.open(path).size for path in (folder / "images").iterdir()} == {(WIDTH, HEIGHT)}


def test_shifted_sets_have_the_stated_distortions(made):
    main, other = (set(made[part][1]["distortion"]) for part in ("main", "distortions"))
    assert len(main) == 6
    assert main & other == {"gaussian_blur", "gaussian_noise", "jpeg"}
    mixed = made["photos"][1]
    assert mixed["distortion"].str.count(r"\+").eq(1).all()
    assert (mixed["level"] % 1 > 0).mean() > 0.9


def test_quality_never_rises_with_the_level(made):
    for part in ("main", "distortions"):
        ordered = made[part][1].sort_values("level")
        assert (ordered.groupby(["reference", "distortion"])["quality"].diff().dropna() <= 0).all()


def test_scores_are_on_the_stated_scale_and_follow_the_quality(made):
    for _, table in made.values():
        assert table["mos"].between(0, 100).all()
        assert table["quality"].between(0, 100).all()
        assert table["mos_std"].between(1, 40).all()
        assert table["mos"].corr(table["quality"], method="spearman") > 0.95


def test_observers_agree_with_the_quality_up_to_their_noise():
    quality = np.full(4000, 0.5)
    mos, deviation = rate(quality, np.random.default_rng(0))
    expected = 100 * np.hypot(np.hypot(0.18, 0.06), 0.25 / np.sqrt(12))  # noise, bias, and rounding to five points
    assert mos.mean() == pytest.approx(50, abs=3)
    assert deviation.mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_each_distortion_lowers_haarpsi_from_level_to_level(name, content):
    reference = haar_features(np.asarray(content))
    scores = [
        haarpsi(reference, haar_features(np.asarray(distort(content, name, level, np.random.default_rng(level)))))
        for level in LEVELS
    ]
    assert sorted(scores, reverse=True) == scores
    assert scores[0] > 0.75 > scores[-1]


@pytest.mark.parametrize("name", ["gaussian_noise", "jpeg", "banding", "lens_blur"])
def test_haarpsi_agrees_with_piq(name, content):
    piq, torch = pytest.importorskip("piq"), pytest.importorskip("torch")
    distorted = distort(content, name, 3, np.random.default_rng(0))
    ours = haarpsi(haar_features(np.asarray(content)), haar_features(np.asarray(distorted)))
    a, b = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255 for image in (content, distorted))
    assert ours == pytest.approx(piq.haarpsi(b, a).item(), abs=3e-4)


def test_haarpsi_of_equal_images_is_one(content):
    features = haar_features(np.asarray(content))
    assert haarpsi(features, features) == pytest.approx(1, abs=1e-5)


def test_lens_blur_keeps_the_image_in_its_place(content):
    blurred = distort(content, "lens_blur", 0.01, np.random.default_rng(0))
    assert max(high for _, high in ImageChops.difference(content, blurred).getextrema()) <= 2


def test_photographs_come_from_installed_packages_and_a_lost_one_is_named():
    for name in PHOTOGRAPHS:
        image = photograph(name)
        assert image.mode == "RGB"
        assert all(part.size == (WIDTH, HEIGHT) for part in photograph_contents(image))
    with pytest.raises(DataError, match=r"absent\.png: package 'skimage' no longer holds this image"):
        synthetic.bundled_image("skimage", "data/absent.png")


def test_a_part_is_made_once_read_like_a_release_and_fingerprinted_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    params = DataPrepParams(run="shifted", reader="synthetic", part="photos", scale=SMALL)
    before = fingerprint(params)
    assert list(tmp_path.iterdir()) == []
    database = prepare(params)
    monkeypatch.setattr(synthetic, "generate", None)
    assert prepare(params).fingerprint == database.fingerprint == before
    found = audit(database)
    assert found["synthetic"]
    assert "Synthetic" in found["title"]
    assert found["ceiling_srcc"] > 0.95
    assert found["warnings"] == []
    assert database.table["quality"].between(0, 100).all()


def test_the_fingerprint_of_a_part_follows_its_parameters():
    def of(**changes):
        return fingerprint(DataPrepParams(run="x", reader="synthetic", **changes))

    assert len({of(), of(part="photos"), of(scale=0.5), of(seed=1), of(height=96, width=96)}) == 5
    assert of() == of(workers=2, inputs=["rgb"], study="other")


@pytest.mark.slow
def test_the_whole_demo_has_uniform_training_quality_and_the_stated_ceiling(tmp_path):
    table = synthetic.generate("main", 0, 1.0, tmp_path, jobs=2)
    train, test = (table[table["split"] == split] for split in ("train", "test"))
    percentiles = np.arange(0, 101, 5)
    assert np.abs(np.percentile(train["quality"], percentiles) - percentiles).max() < 1.5
    assert test["quality"].corr(test["mos"], method="spearman") == pytest.approx(0.991, abs=0.003)
