"""Stand-ins: each small release is read by the reader that it is made for."""

import pytest

from iqa.data import cache, twins
from iqa.data.audit import audit
from iqa.data.params import DataPrepParams
from iqa.data.prepare import prepare
from iqa.data.readers import READERS
from iqa.data.releases import OWN_FILES, RELEASES
from iqa.data.stand_ins import STAND_INS, write_own, write_stand_in
from iqa.study import paths


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")


def test_every_published_database_has_a_stand_in():
    assert set(STAND_INS) == set(READERS) - OWN_FILES.keys() - {"synthetic"}


@pytest.mark.parametrize("reader", STAND_INS)
def test_a_stand_in_is_read_as_its_release(tmp_path, reader):
    write_stand_in(reader, tmp_path / "release", 60)
    params = DataPrepParams(run=reader, reader=reader, folder=str(tmp_path / "release"), inputs=["rgb"])
    database = prepare(params)
    found, facts = audit(database), RELEASES[reader]
    assert 55 <= len(database) <= 70 and (database.low, database.high) == (facts.low, facts.high)
    assert database.table["mos"].min() == facts.low and database.table["mos"].max() == facts.high
    assert set(found["splits"]) == ({"test"} if facts.test_only else {"train", "val", "test"})
    assert found["checks"][-1]["here"] == 1 and not any("one photograph" in warning for warning in found["warnings"])


def test_the_splits_of_a_database_share_its_pixels_and_nothing_is_decoded_twice(tmp_path, monkeypatch):
    write_stand_in("live", tmp_path / "release", 60)
    decoded, searched = [], []
    decode, find = cache.decode, twins.find
    monkeypatch.setattr(cache, "decode", lambda path, *how: [decoded.append(path), decode(path, *how)][1])
    monkeypatch.setattr(twins, "find", lambda *args: [searched.append(1), find(*args)][1])
    common = {"reader": "live", "folder": str(tmp_path / "release"), "inputs": ["rgb", "mscn"]}
    splits = [prepare(DataPrepParams(run=f"live_r{number}", repeat=number, **common)) for number in range(1, 11)]
    assert len(decoded) == len(set(decoded)) == len(splits[0]) and len(searched) == 1
    assert len({store.folder for database in splits for store in database.stores.values()}) == 2
    tests = {frozenset(database.table.query("split == 'test'")["reference"]) for database in splits}
    assert len(tests) > 5  # of 45 that 10 contents allow
    for database in splits:
        assert not database.table.groupby("reference")["split"].nunique().gt(1).any()


@pytest.mark.parametrize("lists", [["labels"], ["train_list", "test_list"]])
def test_a_stand_in_for_ones_own_images_is_read(tmp_path, lists):
    files = {key: tmp_path / f"{key}.txt" for key in lists}
    write_own(tmp_path / "images", 30, (1.0, 5.0, False), files)
    reader = "csv" if lists == ["labels"] else "metas"
    given = {key: str(file) for key, file in files.items()} | {"folder": str(tmp_path / "images")}
    params = DataPrepParams(
        run="own", reader=reader, low=1.0, high=5.0, higher_is_better=False, inputs=["rgb"], **given
    )
    assert len(prepare(params)) == 30
