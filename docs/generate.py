"""The reference pages that follow from the code: `python -m docs.generate [PAGE...]` writes them, all by default."""

import ast
import inspect
import io
import json
import os
import re
import sys
import tokenize
import typing
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import AfterValidator
from pydantic.fields import FieldInfo

from iqa.study import paths
from iqa.study.registry import registered

FOLDER = paths.ROOT / "docs" / "reference"
MADE = "<!-- Made by: .venv/bin/python -m docs.generate; do not edit. -->"
STEPS = {
    "data_prep": ("01_data_prep", "iqa.data.params.DataPrepParams"),
    "train": ("02_train", "iqa.training.params.TrainParams"),
    "ablation": ("03_ablation", "iqa.analysis.params.AblationParams"),
    "complexity": ("04_complexity", "iqa.analysis.params.ComplexityParams"),
    "cross_dataset": ("05_cross_dataset", "iqa.analysis.params.CrossDatasetParams"),
    "analysis": ("06_analysis", "iqa.analysis.params.AnalysisParams"),
    "claims": ("07_claims", "iqa.report.params.ClaimsParams"),
    "report": ("08_report", "iqa.report.params.ReportParams"),
}
PARTS = {  # what a parameter names: its title, the module where entries are registered, and the registry
    "loss": ("Losses", "iqa.training.losses", "LOSSES"),
    "fusion": ("Fusions", "iqa.model.fusion", "FUSIONS"),
    "head": ("Heads", "iqa.model.heads", "HEADS"),
    "target_input": ("Inputs of the target network", "iqa.model.hyperiqa", "TARGET_INPUTS"),
    "test_crops": ("Crops", "iqa.data.crops", "CROPS"),
    "input": ("Kinds of pixels", "iqa.data.pixels", "PIXELS"),
    "reader": ("Readers", "iqa.data.readers", "READERS"),
    "baselines": ("Baselines", "iqa.analysis.baselines", "BASELINES"),
}
PUBLISHED = {  # by layout: the repository, and the models that it has published
    "hyperiqa": ("SSL92/hyperIQA", "HyperIQA, ResNet-50"),
    "iqa_pytorch": ("chaofengc/IQA-PyTorch", "HyperIQA, ResNet-50"),
    "swin": ("cny123222/Perceptual-IQA-CS3324", "Swin-T, S, B; fusions last, concat, attention"),
    "ms_hyperiqa": ("ukeSJTU/CS3324-IQA", "MS-HyperIQA"),
}
PYTHON = {  # what is called from Python, by task
    "Score images": ["iqa.model.predictor.load_model", *(
        f"iqa.model.predictor.Predictor.{name}" for name in ("score", "patch_scores", "quality_map", "score_files")
    )],
    "Measure agreement": [*(f"iqa.metrics.coefficients.{name}" for name in (
        "srcc", "plcc", "krcc", "rmse", "bias", "plcc_fitted", "summary"
    ))],
    "Compare models": [
        "iqa.metrics.bootstrap.bootstrap_interval", "iqa.metrics.bootstrap.paired_difference",
        "iqa.metrics.power.detectable",
    ],
    "Exchange files": ["iqa.data.splits.write_metas", "iqa.model.checkpoints.write_original"],
}  # fmt: skip


def commands() -> str:
    """What `iqa --help`, the help of each of its commands, and `make help` print."""
    from iqa.app import cli

    def help_of(*command: str) -> str:
        printed, before = io.StringIO(), dict(os.environ)
        os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
        try:
            with redirect_stdout(printed), suppress(SystemExit):
                cli.main([*command, "--help"])
        finally:
            os.environ.clear()
            os.environ.update(before)
        return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()).strip()

    whole = help_of()
    names = dict.fromkeys(re.findall(r"(?m)^[ │]{1,5}([a-z][a-z-]+)(?: {2,}\S|$)", whole))
    makefile = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?m)^([a-z-]+):.*?## *(.*)", makefile)
    return "\n\n".join([
        "# Commands",
        "`make` sets up the environment first, once. `iqa` is `.venv/bin/iqa`.",
        "## make",
        _table(["target", "what it does"], [[f"`make {name}`", _cell(words)] for name, words in targets]),
        "## iqa",
        f"```text\n{whole}\n```",
        *(f"## iqa {name}\n\n```text\n{help_of(name)}\n```" for name in names),
    ])  # fmt: skip


def parameters() -> str:
    """Each parameter of each step: its default, what it may be, and its meaning."""
    from iqa.app.machine import Resources

    parts = [
        "# Parameters",
        "A file `params/<study>/<step>/<run>.yaml` holds those that differ from these defaults, and "
        "`params/<study>/<step>.yaml` what the runs of a step share. Meanings stand in the notebooks' parameter cells.",
    ]
    for step, (notebook, dotted) in STEPS.items():
        cls = find(dotted)
        parts += [f"## {step}", f"[`notebooks/{notebook}.ipynb`](../../notebooks/{notebook}.ipynb). {_first(cls)}"]
        for group, rows in _assignments(_parameters_cell(notebook)):
            described = [[f"`{key}`", f"`{value}`", _allowed(cls, key), _cell(words)] for key, value, words in rows]
            parts += [f"**{group[:1].upper()}{group[1:]}**"] * bool(group)
            parts.append(_table(["parameter", "default", "may be", "meaning"], described))
    ((_, fields),) = _assignments(inspect.getsource(Resources), inside=True)
    described = [[f"`{key}`", f"`{value}`", _allowed(Resources, key), _cell(words)] for key, value, words in fields]
    return "\n\n".join([
        *parts,
        "## resources",
        "What runs ask of a cluster, in `params/<study>/resources.yaml`: by step, by experiment (`train/main`) or by "
        "run (`train/main_s1`).",
        _table(["field", "default", "may be", "meaning"], described),
        "## Keys of a file that stands for several runs",
        _table(["key", "in", "meaning"], [
            ["`seeds`", "`train/<name>.yaml`", "one run per seed, `<name>_s1`, ...: a list, or a range such as `1..3`"],
            ["`repeats`", "`data_prep/<name>.yaml`", "one split per number, `<name>_r1`, ..."],
            ["`repeats`", "`train/<name>.yaml`", "one training on each of these splits (by default on all)"],
            ["`like`", "any run's file", "start from the values of the file beside it"],
        ]),
    ])  # fmt: skip


def parts() -> str:
    """The losses, fusions, crops, ... that a parameter names, with the first paragraph of their docstrings."""
    found = ["# Parts that a parameter names"]
    for parameter, (title, module, registry) in PARTS.items():
        entries = getattr(import_module(module), registry).values()
        rows = [[f"`{entry.name}`", _cell(_first(entry))] for entry in entries]
        found += [f"## {title}", f"Parameter `{parameter}`; defined in `{module}`.", _table(["name", "what"], rows)]
    return "\n\n".join(found)


def files() -> str:
    """What a run of each step writes, with columns and keys, as the small study `smoke` wrote it."""
    kept, parts = paths.ROOT / "tests" / "smoke_results", ["# Files of a run", FILES]
    for step in STEPS:
        found: dict[str, Path] = {}
        for record in sorted((kept / step).glob("*/record.json")):
            outputs = json.loads(record.read_text(encoding="utf-8"))["outputs"]
            found |= {name: record.parent / name for name in outputs if not name.startswith("..")}
        figures = sorted({Path(name).stem for name in found if name.endswith((".png", ".svg", ".pdf"))})
        rows = [
            [f"`{name}`", _cell(_contents(file))]
            for name, file in sorted(found.items())
            if name != "params.json" and file.stem not in figures
        ]
        rows += [["figures", ", ".join(f"`{name}`" for name in figures)]] * bool(figures)
        parts += [f"## {step}", _table(["file", "columns or keys"], rows)]
    return "\n\n".join(parts)


WORDS = {
    "best.pt": "the model of the best epoch",
    "last.ckpt": "the state after the last epoch, to go on from",
    "fit.json": "what the fit was made from",
    "train.log": "what was printed of each epoch",
}
FILES = (
    "Each run has a folder `results/<study>/<step>/<run>/`. Every folder also has `record.json` (what the results were "
    "made from), `params.json`, `notebook.ipynb` and `log.txt`: see [results/README.md](../../results/README.md). "
    "The lists below are those of the study `smoke`."
)


def databases() -> str:
    """The releases that people have rated: what to unpack where, whom to cite, and what is peculiar."""
    from iqa.data.releases import RELEASES

    releases = {name: release for name, release in RELEASES.items() if not release.synthetic}
    rows, origins, peculiar = [], [], []
    for name, release in releases.items():
        count = f"{release.images:,}" + (f" of {release.references}" if release.references else "")
        best = "high" if release.higher_is_better else "**low**"
        scores = f"{release.low:g} to {release.high:g}, {best} is best"
        places = [_names(release.image_folders, end="/"), _names(release.label_files)]
        rows.append([f"`{name}`", f"`{release.folder}`", count, *places, scores, _split(release), release.size])
        origins.append([release.title, release.source, release.licence, release.citation])
        if release.notes:
            peculiar.append([release.title, _cell(release.notes)])
    header = ["`reader`", "default `folder`", "images", "in", "labels", "scores", "split by default", "size"]
    return "\n\n".join([
        "# Databases",
        "Releases with a reader of their own. [How to use one](../how-to/use-a-database.md).",
        _table(header, rows),
        "## Where they come from",
        _table(["database", "from", "licence", "please cite"], origins),
        "## What is peculiar",
        _table(["database", "note"], peculiar),
    ])  # fmt: skip


def checkpoints() -> str:
    """The published checkpoints that can be read, as `iqa.model.checkpoints.LAYOUTS` describes them."""
    from iqa.model.checkpoints import LAYOUTS

    rows = []
    for key, (repository, models) in PUBLISHED.items():
        layout = LAYOUTS[key]
        size = layout.size
        fixed = f"squeezed to {size.height}x{size.width} (height x width, {size.filter})"
        prepared = f"{fixed if size.height else 'as it is'}, 25 crops (`{layout.crops}`)"
        link = f"[{repository}](https://github.com/{repository})"
        rows.append([link, models, f"0 to {layout.high:g}", prepared, " ".join(f"`{mark}`" for mark in layout.marks)])
    return "\n\n".join([
        "# Published checkpoints",
        "A file is recognised by the names of its tensors. [How to use one](../how-to/use-a-published-checkpoint.md).",
        _table(["published by", "models", "scale", "prepared as its authors did", "names begin with"], rows),
        _text(import_module("iqa.model.checkpoints").read),
    ])  # fmt: skip


def python() -> str:
    """Signatures and docstrings of the functions that are called from Python."""
    parts = ["# Python", "`iqa.load_model` is short for `iqa.model.predictor.load_model`."]
    for task, names in PYTHON.items():
        parts.append(f"## {task}")
        parts += [f"### {name.removeprefix('iqa.')}\n\n{_text(find(name))}" for name in names]
    return "\n\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    each.__name__: each for each in (commands, parameters, parts, files, databases, checkpoints, python)
}


def page(name: str) -> str:
    """The text of a reference page."""
    title, _, rest = PAGES[name]().partition("\n\n")
    return f"{title}\n\n{MADE}\n\n{rest}\n"


def find(dotted: str) -> Any:
    """A module's class or function, or a class's method, by its dotted name."""
    module, _, name = dotted.rpartition(".")
    return (
        getattr(find(module), name) if module.rpartition(".")[2][0].isupper() else getattr(import_module(module), name)
    )


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def _cell(text: str) -> str:
    """One line of a table, in which nothing begins another cell or an HTML tag."""
    return re.sub(r"<(?=\w)", r"\\<", " ".join(text.split()).replace("|", r"\|"))


def _first(entry: Any) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(entry) or "").partition("\n\n")[0].split())


def _text(entry: Callable) -> str:
    """Signature and docstring of a function."""
    (node,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(entry))).body
    returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"```text\n{node.name}({ast.unparse(node.args)}){returned}\n\n{inspect.getdoc(entry)}\n```"


def _parameters_cell(notebook: str) -> str:
    cells = json.loads((paths.NOTEBOOKS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    (cell,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
    return "".join(cell["source"])


def _assignments(source: str, inside: bool = False) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """Groups of `(name, value, comment)`; a comment on a line of its own begins a group. `inside` a class or not."""
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.lstrip("# ")
    body = ast.parse(source).body
    (body,) = (node.body for node in body) if inside else (body,)
    groups: list[tuple[str, list[tuple[str, str, str]]]] = [("", [])]
    line = body[0].lineno - 2 if inside else 0
    for node in body:
        alone = [text for number, text in comments.items() if line < number < node.lineno]
        line = node.end_lineno or node.lineno
        if alone:
            groups.append((alone[-1], []))
        if isinstance(node, ast.Assign | ast.AnnAssign) and "ClassVar" not in ast.unparse(node):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            words = " ".join(text for number, text in comments.items() if node.lineno <= number <= line)
            groups[-1][1].append((ast.unparse(target), ast.unparse(node.value), words))
    return [group for group in groups if group[1]]


def _allowed(cls: Any, key: str) -> str:
    """What a parameter may be, in words."""
    field = cls.model_fields[key]
    names = [name for module in _registries((field.annotation, *field.metadata)) for name in registered(module)]
    if names:
        none = ", none" * (type(None) in typing.get_args(field.annotation))
        return ", ".join(f"`{name}`" for name in names) + none
    words = _words(cls.model_json_schema()["properties"][key])
    return _cell(re.sub(r"\bnumber(?=$|, none|\))", "number" + _bounds((field.annotation, *field.metadata)), words))


def _registries(parts: Iterable[Any]) -> Iterable[str]:
    """Modules whose entries a type may name: those of `iqa.study.registry.one_of` in it."""
    for part in _spread(parts):
        if isinstance(part, AfterValidator) and part.func.__qualname__.startswith("one_of."):
            yield inspect.getclosurevars(part.func).nonlocals["module"]


def _bounds(parts: Iterable[Any]) -> str:
    """The bounds of a number that is read by a function of its own, which its JSON schema leaves out."""
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    bounds = [(word, getattr(part, key, None)) for part in _spread(parts) for key, word in words.items()]
    return "".join(f" {word} {bound:g}" for word, bound in bounds if bound is not None)


def _spread(parts: Iterable[Any]) -> Iterable[Any]:
    """All that the arguments of a type hold, however deep."""
    for part in parts:
        yield part
        yield from getattr(part, "metadata", ()) if isinstance(part, FieldInfo) else ()
        yield from _spread(typing.get_args(part))


def _words(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return ", ".join(dict.fromkeys(map(_words, schema["anyOf"])))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any value")
    if kind == "array":
        least, most = schema.get("minItems"), schema.get("maxItems")
        count = f" of {least}" if least and least == most else ""
        return f"list{count} ({_words(schema['items'])})"
    if kind == "integer":
        least, most = schema.get("exclusiveMinimum", -1) + 1, schema.get("exclusiveMaximum", 0) - 1
        return f"whole number, {schema.get('minimum', least):,} to {schema.get('maximum', most):,}"
    return {"string": "text", "boolean": "true, false", "null": "none", "object": "map"}.get(kind, kind)


def _contents(file: Path) -> str:
    """Columns of a CSV file, keys of a JSON file, or what another file is."""
    if file.suffix not in (".csv", ".json") or not file.is_file():
        return WORDS.get(file.name, "")
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json" and not text.startswith("{"):
        return "a list"
    names = text.partition("\n")[0].split(",") if file.suffix == ".csv" else json.loads(text)
    return ", ".join(f"`{name}`" for name in names)


def _names(cell: tuple[str, ...], end: str = "") -> str:
    names = [name.removesuffix("?").split(" | ") for name in cell]
    shown = [" or ".join(f"`{name}{end}`" for name in alternatives) for alternatives in names]
    return "; ".join(text + " (optional)" * name.endswith("?") for text, name in zip(shown, cell, strict=True))


def _split(release: Any) -> str:
    if release.splits:
        return "official " + " / ".join(f"{count:,}" for count in release.splits.values())
    return "all for testing" if release.test_only else "seeded" + " by reference" * bool(release.references)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or PAGES:
        (FOLDER / f"{chosen}.md").write_text(page(chosen), encoding="utf-8")
