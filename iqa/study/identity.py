"""What a result was made from, as plain values, and in what two such identities differ.

An identity is a dictionary of five parts, each a dictionary again:

    values    parameters by key, without those that decide no result
    code      hash of each definition that the result's code reaches, by file and name (`iqa.study.code`)
    reads     contents of databases and of other runs' results, by `<step>/<run>`
    files     hashes of further files, such as weights
    versions  of the packages that decide the result

Nothing in it depends on where or when something was made, so results of several machines can lie side by side.
`NOT_HERE` stands for what this machine lacks: no difference for a result that was made from it elsewhere, but one for a
result that was made without it, once it is here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from iqa.study import code, hashes, paths
from iqa.study.echo import cut
from iqa.study.param_files import read_yaml

NOT_HERE = "not here"
PARTS = {"values", "code", "reads", "files", "versions"}
SHOWN = "iqa/show/"  # code that draws figures and lays out tables, and decides no number

Identity = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Reason:
    """Why a run is due.

    Args:
        kind: `record`, `output`, `parameter`, `code`, `show` (code or files of figures and tables alone), `data`,
            `file`, `version` or `need`.
        text: for people.
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


def hash_of(file: str) -> str:
    """Hash of a file that a run reads: of a parameter file its values, of any other its bytes."""
    path = paths.resolve(file)
    if not path.is_file():
        return NOT_HERE
    if path.suffix == ".yaml":
        return code.digest(read_yaml(path))
    return hashes.content_hashes(path.parent, [path.name])[0]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Installed versions of some packages."""
    return {name: _version(name) for name in packages}


@cache
def _version(package: str) -> str:
    return metadata.version(package)


def differences(before: Identity, now: Identity, defaults: dict[str, Any]) -> list[Reason]:
    """In what a result that would be made now differs from one that was made before.

    Args:
        defaults: of the parameters; a key that an older identity lacks counts as its default.
    """
    reasons = [Reason("parameter", text) for text in _changed(before["values"], now["values"], defaults)]
    for kind, is_shown in (("code", False), ("show", True)) if before["code"] != now["code"] else ():
        own = [{k: v for k, v in each["code"].items() if _is_shown(k) == is_shown} for each in (before, now)]
        lines = code.differences(*own)
        if not all(line.endswith(code.GONE) for line in lines):  # what used it has not changed otherwise
            reasons += [Reason(kind, f"code: {line}") for line in lines]
    for part, kind, words in (("reads", "data", "reads"), ("files", "file", "file")):
        for key, value in now[part].items():
            if value != NOT_HERE and before[part].get(key) != value:
                reasons.append(Reason(kind, f"{words} {key}: its contents differ"))
    for package, version in now["versions"].items():
        old = before["versions"].get(package, version)
        if old != version:
            reasons.append(Reason("version", f"version of {package}: {old} -> {version}"))
    return reasons


def _is_shown(definition: str) -> bool:
    return definition.startswith(SHOWN) or definition.endswith(code.WORDS)


def _changed(before: dict[str, Any], now: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    texts = []
    for key in now.keys() | before.keys():
        if key not in now:
            texts.append(f"parameter {key}: no longer known, was {cut(repr(before[key]))}")
        elif (old := before.get(key, defaults.get(key))) != now[key]:
            texts.append(f"parameter {key}: {cut(repr(old))} -> {cut(repr(now[key]))}")
    return sorted(texts)
