"""What tells which runs are due reads, parses and hashes each file once, however many runs there are."""

import shutil
from collections import Counter

import pytest

from benchmarks import scaling
from iqa.app import graph, stale
from iqa.study import code, hashes, identity, param_files, paths

RUNS = 40


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A study of many trainings, of which half are finished; how often something was done with what, by its name."""
    shutil.copytree(paths.PARAMS / "demo", tmp_path / "params" / "demo")
    monkeypatch.setattr(paths, "PARAMS", tmp_path / "params")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    scaling.write_trainings(RUNS)
    for kept in (code.open_package, param_files._parsed, identity._version):
        kept.cache_clear()
    counts = {}

    def count(owner, name, key=lambda *arguments: arguments[0]):
        made, counts[name] = getattr(owner, name), Counter()

        def counting(*arguments, **options):
            counts[name][key(*arguments)] += 1
            return made(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(param_files.YAML, "compose", lambda _, text: text)
    count(code, "_parse", lambda source, place: place)
    count(stale, "parse_record")
    count(hashes, "file_hash")
    count(identity.metadata, "version")
    return counts


@pytest.mark.slow
def test_each_file_is_parsed_and_hashed_once(counted):
    jobs = graph.jobs(scaling.MANY)
    assert len(jobs) == RUNS + 3
    assert sum(job.due for job in jobs) == RUNS // 2 + 2  # with the comparison and the report
    assert {name: max(counts.values()) for name, counts in counted.items()} == dict.fromkeys(counted, 1)
    assert len(counted["parse_record"]) == len(jobs)
    assert len(counted["file_hash"]) == (RUNS // 2 + 1) * scaling.FILES
