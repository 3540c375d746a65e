"""Publish a study as one archive, and put the archive of others in place.

An archive is a zip of `params/<study>/`, `results/<study>/` (without the checkpoints that trainings go on from) and
`report/<study>/`, with a citation file, the metadata that Zenodo reads, and `manifest-sha256.txt`, which lists the
checksums as `sha256sum --check` reads them. The same study gives the same bytes.
"""

import filecmp
import hashlib
import io
import json
import zipfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from ruamel.yaml import YAML

from iqa.app.stale import State
from iqa.report.params import ReportParams
from iqa.study import disk, folders, paths, types
from iqa.study.code import file_hash
from iqa.study.echo import listed, quoted
from iqa.study.param_files import read_yaml
from iqa.study.results import RECORD, RUNNER_FILES
from iqa.training.identity import LAST, MODEL

MANIFEST, CITATION, ZENODO = "manifest-sha256.txt", "CITATION.cff", ".zenodo.json"
Contents = dict[str, bytes | Path]  # of an archive: files, or what they hold, by name


class PublishError(ValueError):
    """A study that cannot be published, or an archive that cannot be fetched; the message says why."""


def publish(study: str, file: Path | None = None, as_it_is: bool = False) -> str:
    """Write the archive of a study, by default `results/<study>.zip`, and return what to say of it.

    Args:
        as_it_is: also where runs are out of date or not made; the metadata tell it.

    Raises:
        PublishError: they are, or there is no report.
        ParameterError: the study does not exist, or a parameter file is wrong.
        DiskError: the disk is full.
    """
    state, file = State(study), file or paths.RESULTS / f"{study}.zip"
    due = ["/".join(place) for place in state.due if place not in state.left_out]
    lacking = f"{len(due)} of {len(state.params)} runs ({listed(due, 4)})" if due else ""
    if due and not as_it_is:
        raise PublishError(
            f"study '{study}': {lacking} are out of date or not made; `iqa why {study}` says why\n"
            f"make them: iqa report {study}; or publish what is there: iqa publish {study} --as-it-is"
        )
    contents = _contents(state)
    if not any(name.startswith(f"report/{study}/") and name.endswith(".html") for name in contents):
        raise PublishError(f"report/{study}/ holds no report; make it with: iqa report {study}")
    disk.write_whole(file.resolve(), partial(_pack, contents | _metadata(state, lacking)))
    models = sum(name.endswith(f"/{MODEL}") for name in contents)
    return (
        f"{paths.shown(file)}: {file.stat().st_size / 1e6:.1f} MB, {len(contents)} files, {models} of them models\n"
        f"SHA-256 {file_hash(file)}\n"
        f"authors and licence are those of {CITATION}: check them there before you upload the archive"
    )


def _roots() -> dict[str, Path]:
    """The folders that hold one of each study, in the order in which they are put in place."""
    return {"params": paths.PARAMS, "report": paths.REPORT, "results": paths.RESULTS}


def _visible(folder: Path) -> dict[str, Path]:
    """The files of a folder and of its subfolders by their names, without hidden ones."""
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    return {name: file for name, file in files.items() if "/." not in f"/{name}"}


def _contents(state: State) -> Contents:
    """The files of a study: its parameters and report, and what its runs wrote."""
    roots, found = _roots(), {f"results/{state.study}/summary.json": paths.RESULTS / state.study / "summary.json"}
    for kind in ("params", "report"):
        files = _visible(roots[kind] / state.study)
        found |= {f"{kind}/{state.study}/{name}": file for name, file in files.items()}
    for place in state.params:
        outputs = (state.record(place) or {"outputs": {}})["outputs"]
        for name in (RECORD, *RUNNER_FILES, *outputs):
            if not name.startswith("../") and name != LAST:
                parts = (state.study, *place, name)
                found["/".join(("results", *parts))] = paths.RESULTS.joinpath(*parts)
    return {name: file for name, file in found.items() if file.is_file()}


def _metadata(state: State, lacking: str) -> Contents:
    """The citation file, made from the project's own, and the metadata for Zenodo."""
    own = read_yaml(paths.ROOT / CITATION)
    study = next(params.title for params in state.params.values() if isinstance(params, ReportParams))
    title = f"{study}: parameters, results, models and report"
    message = "If you use these results, please cite them, and the software and the method that made them."
    software = {key: own[key] for key in ("type", "title", "version", "license", "authors")}
    citation = {"cff-version": own["cff-version"], "message": message, "type": "dataset", "title": title}
    citation |= {"license": own["license"], "authors": own["authors"], "references": [software, *own["references"]]}
    yaml, text = YAML(), io.StringIO()
    yaml.representer.ignore_aliases = lambda _: True
    yaml.dump(citation, text)
    summary = json.loads((paths.RESULTS / state.study / "summary.json").read_text(encoding="utf-8"))
    words = f"The report is in report/{state.study}/. `iqa fetch` puts all into place in a checkout of the software."
    words += " The images are synthetic, and no person has rated them." * bool(summary["synthetic"])
    words += f" Out of date when this was packed: {lacking}." * bool(lacking)
    names = [author.get("name") or f"{author['family-names']}, {author['given-names']}" for author in own["authors"]]
    zenodo = {"title": title, "upload_type": "dataset", "description": words, "license": own["license"].lower()}
    zenodo["creators"] = [{"name": name} for name in names]
    return {CITATION: text.getvalue().encode(), ZENODO: json.dumps(zenodo, indent=2).encode()}


def _pack(contents: Contents, stream: IO[bytes]) -> None:
    """Write a zip of files, sorted and without their times, and a manifest of their checksums."""
    manifest = ""
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in [*sorted(contents.items()), (MANIFEST, b"")]:
            data = manifest.encode() if name == MANIFEST else content
            data = data.read_bytes() if isinstance(data, Path) else data
            info = zipfile.ZipInfo(name)  # of 1980
            info.external_attr = 0o644 << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
            manifest += f"{hashlib.sha256(data).hexdigest()}  {name}\n"


def fetch(archive: Path) -> str:
    """Put the study of an archive in place, once every checksum is right, and return what to say of it.

    Nothing that is here is changed or removed; a folder that is here may only lack files of the archive.

    Raises:
        PublishError: the archive is none, is damaged, or would write elsewhere; or other files of the study are here.
    """
    try:
        with zipfile.ZipFile(archive) as packed, ExitStack() as stack:
            study, names = _study_of(packed), packed.namelist()
            beside = {}
            for kind, root in _roots().items():
                root.mkdir(exist_ok=True)
                beside[kind] = Path(stack.enter_context(TemporaryDirectory(prefix=".fetch-", dir=root)))
            _unpack(packed, beside)
            _put_in_place(study, {kind: folder / study for kind, folder in beside.items()})
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError) as error:
        raise PublishError(f"{archive} is no whole archive of `iqa publish` ({error}); get it again") from None
    models = [f"{study}/{name.split('/')[3]}" for name in names if name.endswith(f"/{MODEL}")]
    return (
        f"study '{study}' is in place, each file as its checksum says; its report is in report/{study}/\n"
        f"score photographs: iqa predict IMAGE --model NAME, with one of {listed(models, 5)}\n"
        f"what would come out differently in this checkout: iqa why {study}"
    )


def _study_of(packed: zipfile.ZipFile) -> str:
    """The study of an archive, whose files lie in the folders of this study, and nowhere else."""
    names = packed.namelist()
    inside = [name.split("/") for name in names if name not in (MANIFEST, CITATION, ZENODO)]
    study = inside[0][1] if inside and len(inside[0]) > 1 else ""
    for parts in inside:
        known = len(parts) > 2 and parts[0] in _roots() and parts[1] == study and types.NAME.fullmatch(study)
        if not known or any(part.startswith(".") or not part or "\\" in part for part in parts):
            raise PublishError(f"{quoted('/'.join(parts))} is no file of one study; the archive is not used")
    if not inside or len(set(names)) < len(names):
        raise PublishError("the archive holds no study, or a file twice; it is not used")
    return study


def _unpack(packed: zipfile.ZipFile, beside: dict[str, Path]) -> None:
    """Unpack the files of each root into a folder, if their checksums are those of the manifest."""
    lines = packed.read(MANIFEST).decode("utf-8", "replace").splitlines()
    manifest = {name: sha for sha, _, name in (line.partition("  ") for line in lines)}
    for name in [*manifest, *packed.namelist()]:
        data = packed.read(name)
        if name != MANIFEST and hashlib.sha256(data).hexdigest() != manifest.get(name):
            raise PublishError(f"{quoted(name)} is not the file whose checksum {MANIFEST} holds; get the archive again")
        kind, _, rest = name.partition("/")
        if rest:
            file = beside[kind] / rest
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def _put_in_place(study: str, new: dict[str, Path]) -> None:
    """Replace the folders of a study by new ones that hold all that is in them; parameters that are here stay."""
    other = []
    for kind, root in _roots().items():
        here, there = _visible(root / study), _visible(new[kind])
        alone = there.keys() - here.keys() if kind == "params" else here.keys() - there.keys()
        differ = {name for name in here.keys() & there.keys() if not filecmp.cmp(here[name], there[name], False)}
        other += [f"{kind}/{study}/{name}" for name in sorted(differ | alone if here else [])]
    if other:
        raise PublishError(
            f"other files of study '{study}' are here, and stay as they are: {listed(other, 3)}\n"
            f"move params/{study}, results/{study} and report/{study} away, and fetch again"
        )
    for kind, root in _roots().items():
        if new[kind].is_dir() and not (kind == "params" and (root / study).is_dir()):
            folders.sync_all(new[kind])
            folders.replace(new[kind], root / study)
