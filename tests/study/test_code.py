"""The identity of code: what a run reaches counts, by definition, and nothing else does."""

import ast
import json
import re
import shutil

import pytest

from iqa.study.code import CodeError, definitions, differences, digest, file_hash, notebook_code, words
from iqa.study.paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def toy(tmp_path):
    """Writes a package `toy` of the given modules, each time at another place; what `definitions` reaches there."""
    made = []

    def reach(*roots, names=(), **modules):
        made.append(tmp_path / str(len(made)) / "toy")
        for name, text in {"__init__": "", **modules}.items():
            file = made[-1].joinpath(*name.split("__")) if name != "__init__" else made[-1] / "__init__"
            file = file / "__init__.py" if name.endswith("_pkg") else file.with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return definitions(*roots, names=names, package=made[-1])

    return reach


def notebook(folder, *cells, parameters="epochs = 1", prose="", outputs=()):
    code = {"cell_type": "code", "outputs": list(outputs), "execution_count": 3}
    listed = [
        {"cell_type": "markdown", "source": [prose], "metadata": {}},
        code | {"source": [parameters], "metadata": {"tags": ["parameters"]}},
        *(code | {"source": cell.splitlines(keepends=True), "metadata": {}} for cell in cells),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "notebook.ipynb").write_text(json.dumps({"cells": listed}))
    return folder / "notebook.ipynb"


PLAIN = """
import math
from toy import b

def f(x, y=b.TWO):
    for i in range(y):
        x = x + math.floor(i)
    return x
"""
SAME = '''
"""A module."""
from __future__ import annotations
from typing import TYPE_CHECKING, Any
from toy.b import TWO as pair
from math import floor as down
if TYPE_CHECKING:
    from toy.b import Other

def unused() -> None: ...

def f(x: Any, y: "Other" = (pair)) -> Other:
    """What it does."""
    import math  # a remark
    size: int
    for i in range(y):
        x: Other = (x +
                    down(i))
        pass
    return x

if __name__ == "__main__":
    print(f(1))
'''
B = "TWO = 2\nclass Other: ...\n"


def test_remarks_docstrings_annotations_imports_formatting_and_new_definitions_change_nothing(toy):
    first = toy("toy.a.f", a=PLAIN, b=B)
    assert set(first) == {"toy/a.py: f", "toy/b.py: TWO"}
    assert toy("toy.a.f", a=SAME, b="# two\n" + B + "THREE = 3\n") == first


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("x + math", "x - math", "toy/a.py: f has changed"),
        ("math.floor", "math.ceil", "toy/a.py: f has changed"),
        ("import math", "import cmath as math", "toy/a.py: f has changed"),
        ("range(y)", "range(y, 9)", "toy/a.py: f has changed"),
        ("def f(x, y", "def f(x, z, y", "toy/a.py: f has changed"),
    ],
)
def test_other_code_shows_in_its_definition_alone(toy, old, new, changed):
    first = toy("toy.a.f", a=PLAIN, b=B)
    assert PLAIN.count(old) == 1
    assert differences(first, toy("toy.a.f", a=PLAIN.replace(old, new), b=B)) == [changed]
    assert differences(first, toy("toy.a.f", a=PLAIN, b="TWO = 3")) == ["toy/b.py: TWO has changed"]


@pytest.mark.parametrize(
    "text",
    [
        "from toy.b import TWO\ndef f(): return TWO",
        "from toy.b import TWO as two\ndef f(): return two",
        "def f():\n    from toy.b import TWO\n    def g(): return TWO\n    return g",
        "from toy import b\ndef f(): return b.TWO.real",
        "from toy import b as c\ndef f(): return c.TWO",
        "import toy.b\ndef f(): return toy.b.TWO",
        "import toy.b as b\ndef f(): return b.TWO",
        "import toy\ndef f(): return toy.b.TWO",
        "from toy import b\ndef f(): return f'{b.TWO:{b.TWO}}'",
        "from toy import b\ndef f(x=b.TWO): return x",
        "from toy import b\n@b.TWO\ndef f(): return 1",
        "from toy import b\nclass f(b.TWO): x = 1",
        "from toy import b\nclass f:\n    def g(self): return b.TWO",
        "from toy import b\ndef f(b=b.TWO): return b",
        "from toy import b\ndef f(): return [b for b in b.TWO]",
        "from toy import b\nf = {**b.TWO}",
        "from toy import b\nf = lambda x=b.TWO: x",
    ],
)
def test_a_definition_is_followed_however_it_is_named(toy, text):
    assert set(toy("toy.a.f", a=text, b=B)) == {"toy/a.py: f", "toy/b.py: TWO"}


@pytest.mark.parametrize(
    "text",
    [
        "from toy.b import TWO\ndef f(TWO): return TWO",
        "from toy.b import TWO\ndef f():\n    TWO = 3\n    return lambda: TWO",
        "from toy.b import TWO\ndef f(): return [TWO for TWO in 'ab']",
        "from toy.b import TWO\ndef f(x):\n    match x:\n        case [TWO]: return TWO",
        "from toy.b import TWO\ndef f():\n    for TWO in 'ab': print(TWO)",
        "from toy.b import Other, TWO\ndef f(x: TWO): x: Other = x",
        "from toy.b import TWO",
    ],
)
def test_local_names_types_and_mere_imports_are_not_followed(toy, text):
    reached = toy("toy.a.g", a=text + "\ndef g(): return f" if "def f" in text else text + "\ng = 1", b=B)
    assert "toy/b.py: TWO" not in reached and "toy/b.py: Other" not in reached


def test_an_assignment_by_a_global_statement_is_followed(toy):
    text = "count = 0\ndef f():\n    global count\n    count = 3"
    assert set(toy("toy.a.f", a=text)) == {"toy/a.py: f", "toy/a.py: count"}


def test_what_a_package_imports_is_followed_to_its_definition(toy):
    packages = {
        "p_pkg": "from toy.p_pkg import q\nfrom toy.p_pkg.q import twice\n",
        "p_pkg__q": "from toy.b import TWO\ndef twice(x): return TWO * x\n",
    }
    expected = {"toy/a.py: f", "toy/p_pkg/q.py: twice", "toy/b.py: TWO"}
    for text in (
        "from toy.p_pkg import twice\ndef f(): return twice(1)",
        "from toy import p_pkg as p\ndef f(): return p.twice(1)",
        "from toy import p_pkg\ndef f(): return p_pkg.q.twice(1)",
        "from toy.p_pkg import q\ndef f(): return q.twice(1)",
    ):
        assert set(toy("toy.a.f", a=text, b=B, **packages)) == expected


def test_a_module_that_is_an_object_or_lacks_the_name_counts_whole(toy):
    for used in ("getattr(b, 'TWO')", "b.three"):
        text = f"from toy import b\ndef f(): return {used}"
        assert set(toy("toy.a.f", a=text, b=B)) == {"toy/a.py: f", "toy/b.py: TWO", "toy/b.py: Other"}


def test_assignments_are_definitions_of_their_targets_and_changes_of_these_belong_to_them(toy):
    text = "A, B = 1, 2\nC, D = E = divmod(7, 2)\nS = {1}\nS |= {2}\nS.add(3)\nM: dict = {}\nM['x'] = S\nS.y = 1\n"
    text += "def f(): return A, C, M\n"
    reached = toy("toy.a.f", a=text)
    assert set(reached) == {f"toy/a.py: {name}" for name in "fACMS"}
    for old, new, changed in (
        ("1, 2", "3, 2", "A"),
        ("divmod(7", "divmod(8", "C"),
        ("|= {2}", "|= {4}", "S"),
        ("add(3)", "add(4)", "S"),
        ("y = 1", "y = 2", "S"),
        ("M['x']", "M['z']", "M"),
    ):
        assert differences(reached, toy("toy.a.f", a=text.replace(old, new))) == [f"toy/a.py: {changed} has changed"]
    assert toy("toy.a.f", a=text.replace("1, 2", "1, 5")) == reached


def test_other_statements_of_a_module_count_with_any_of_its_definitions(toy):
    text = "import logging\nfrom toy import b\nlogging.getLogger('x').setLevel(b.TWO)\ntry:\n    import fast\n"
    text += "except ImportError:\n    fast = None\ndef f(): return 1\n"
    first = toy("toy.a.f", a=text, b=B)
    assert set(first) == {"toy/a.py: f", "toy/a.py: (module)", "toy/b.py: TWO"}
    assert differences(first, toy("toy.a.f", a=text.replace("'x'", "'y'"), b=B)) == ["toy/a.py: (module) has changed"]


def test_the_block_of_a_program_never_counts(toy):
    program = "def work(): return 1\ndef f(): return 2\nif __name__ == '__main__':\n    work()\n"
    assert set(toy("toy.b.f", b=program)) == {"toy/b.py: f"}


PARAMS = """
from pydantic import BaseModel, model_validator
from toy.b import TWO, Other
class FitParams(BaseModel):
    '''Fit.'''
    model_config = {"extra": "forbid"}
    epochs: int = TWO
    @model_validator(mode="after")
    def _check(self):
        return Other
    def terms(self):
        return self.epochs
"""


def test_of_parameters_the_methods_count_and_fields_checks_and_configuration_do_not(toy):
    first = toy("toy.a.FitParams", a=PARAMS, b=B)
    assert set(first) == {"toy/a.py: FitParams"}
    for old, new in (("= TWO", "= 7\n    more: str = 'x'"), ("return Other", "pass"), ("forbid", "allow")):
        assert toy("toy.a.FitParams", a=PARAMS.replace(old, new), b=B) == first
    other = toy("toy.a.FitParams", a=PARAMS.replace("self.epochs", "-self.epochs"), b=B)
    assert differences(first, other) == ["toy/a.py: FitParams has changed"]


def test_the_fields_of_a_record_count_by_name_order_and_default_without_types(toy):
    text = "from dataclasses import dataclass\n@dataclass\nclass R:\n    a: int\n    b: int = 1\n    c = 2\n"
    first = toy("toy.a.R", a=text)
    assert toy("toy.a.R", a=text.replace("int", "float")) == first
    for old, new in (("a: int\n", "z: int\n"), ("b: int = 1", "b: int = 2"), ("c = 2", "c: int = 2")):
        assert toy("toy.a.R", a=text.replace(old, new)) != first
    plain = "class P:\n    levels = (1, 2)\n"
    assert toy("toy.a.P", a=plain) == toy("toy.a.P", a=plain.replace("levels", "levels: tuple"))


REGISTRY = (
    "from toy.study import Registry\nfrom toy.study import helper\nKINDS = Registry('kind')\n"
    + """
def make(name): return KINDS[name]
"""
)
ENTRIES = """
from toy import kinds
from toy.kinds import KINDS
from toy.study import helper
class Base: ...
@KINDS.add("one", title="One", options={"size": 3})
class One(Base): x = 1
@kinds.KINDS.add("two", formula="x")
def two(): return helper()
"""
STUDY = "class Registry(dict): ...\ndef helper(): ...\n"


def test_of_registered_entries_those_count_that_the_parameters_name(toy):
    modules = {"kinds": REGISTRY, "entries": ENTRIES, "study": STUDY}
    plain = {"toy/kinds.py: make", "toy/kinds.py: KINDS", "toy/study.py: Registry"}
    assert set(toy("toy.kinds.make", **modules)) == plain
    one = toy("toy.kinds.make", names={"one", "l1"}, **modules)
    assert set(one) == plain | {"toy/entries.py: One", "toy/entries.py: Base"}
    two = toy("toy.kinds.make", names=["two"], **modules)
    assert set(two) == plain | {"toy/entries.py: two", "toy/study.py: helper"}
    assert set(toy("toy.study.helper", names=["one", "two"], **modules)) == {"toy/study.py: helper"}
    assert set(toy("toy.entries.Base", names=["one"], **modules)) == {"toy/entries.py: Base"}
    assert set(toy("toy.entries.One", names=["two"], **modules)) == {"toy/entries.py: One", "toy/entries.py: Base"}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ('title="One"', 'title="The first", words="more"', []),
        ("3}", "4}", ["toy/entries.py: One has changed"]),
        ("x = 1", "x = 2", ["toy/entries.py: One has changed"]),
        ("return helper()", "return 5", []),
        ("class Base: ...", "class Base: y = 1", ["toy/entries.py: Base has changed"]),
        ("class Base", "@KINDS.add('three')\ndef three(): ...\nclass Base", []),
    ],
)
def test_the_words_of_an_entry_and_other_entries_change_nothing(toy, old, new, changes):
    assert ENTRIES.count(old) == 1
    first, second = (
        toy("toy.kinds.make", names={"one"}, kinds=REGISTRY, entries=text, study=STUDY)
        for text in (ENTRIES, ENTRIES.replace(old, new))
    )
    assert differences(first, second) == changes


def test_moving_a_definition_to_another_file_is_no_difference(toy):
    user = "from toy import {0}\ndef f(): return {0}.g()"
    moved = {"a": user.format("b"), "b": "def g(): return 1"}, {"a": user.format("c"), "c": "def g(): return 1"}
    first, second = (toy("toy.a.f", **modules) for modules in moved)
    assert set(first) != set(second) and differences(first, second) == []


def test_differences_are_told_by_definition():
    before = {"notebook": "1", "iqa/a.py: f": "2", "iqa/a.py: g": "3", "iqa/a.py: h": "4"}
    now = {"notebook": "5", "iqa/b.py: f": "2", "iqa/b.py: g": "6", "iqa/b.py: i": "7"}
    assert differences(before, now) == [
        *("notebook has changed", "iqa/b.py: g has changed", "iqa/b.py: i is new", "iqa/a.py: h is no longer used")
    ]


def test_another_definition_of_the_same_name_shows(toy, tmp_path):
    text = "from toy import b, c\ndef f(): return b.g()\ndef h(): return f, b.g, c.g"
    modules = {"b": "def g(): return 1", "c": "def g(): return 2"}
    first = toy("toy.a.h", a=text, **modules)
    other = toy("toy.a.h", a=text.replace("b.g()", "c.g()"), **modules)
    assert differences(first, other) == ["toy/a.py: f has changed"]
    cells = "from toy import a, b, c\na.h()\nb.g()", "from toy import a, b, c\na.h()\nc.g()"
    one, two = (notebook_code(notebook(tmp_path, cell), package=tmp_path / "0" / "toy") for cell in cells)
    assert differences(one, two) == ["notebook has changed"]


def test_code_that_cannot_be_read_is_told_with_file_and_line(toy, tmp_path):
    with pytest.raises(CodeError, match=r"toy/a\.py, line 2: invalid syntax"):
        toy("toy.a.x", a="x = 1\nx = = 2\n")
    with pytest.raises(CodeError, match=r"toy/a\.py, line 2: .*null"):
        toy("toy.a.x", a="x = 1\ny = '\0'\n")
    with pytest.raises(CodeError, match=r"toy/entries\.py, line 3: invalid syntax"):
        toy("toy.a.x", a="x = 1\n", entries="\n@X.add('x')\ndef = 3")
    with pytest.raises(CodeError, match=r"toy/a\.py, line 1: name the module"):
        toy("toy.a.x", a="from toy.b import *\nx = 1\n", b=B)
    with pytest.raises(CodeError, match=r"no definition 'toy\.a\.y' in "):
        toy("toy.a.y", a="x = 1\n")
    file = notebook(tmp_path, "a = 1", "%matplotlib inline\nb = = 2")
    with pytest.raises(CodeError, match=r"notebook\.ipynb, cell 4, line 2: invalid syntax"):
        notebook_code(file)
    file.write_text("{")
    with pytest.raises(CodeError, match=r"notebook\.ipynb is no notebook: .*line 1"):
        notebook_code(file)


def test_code_is_read_as_utf8_and_told_where_it_is_not(toy, tmp_path):
    toy("toy.a.x", a="x = 1\n")
    package = tmp_path / "other" / "toy"
    shutil.copytree(tmp_path / "0" / "toy", package)
    (package / "a.py").write_bytes("x = 'é'\n".encode("latin-1"))
    with pytest.raises(CodeError, match=r"toy/a\.py, line 1: .*utf-8"):
        definitions("toy.a.x", package=package)


def test_of_a_notebook_the_code_cells_count_and_what_they_reach(toy, tmp_path):
    toy("toy.b.TWO", b=B)
    cells = "%matplotlib inline\n!ls\nfrom toy import b", "c = b.TWO\n# a remark\nc"
    first = notebook_code(notebook(tmp_path, *cells), package=tmp_path / "0" / "toy")
    assert set(first) == {"notebook", "toy/b.py: TWO"}
    for code, more in (
        (cells, {"parameters": "epochs = 3"}),
        (cells, {"prose": "Why.", "outputs": [{"output_type": "stream", "text": "x"}]}),
        (("import toy.b", "c = toy.b.TWO", "c"), {}),
    ):
        assert notebook_code(notebook(tmp_path, *code, **more), package=tmp_path / "0" / "toy") == first
    other = notebook_code(notebook(tmp_path, cells[0], "c = 1 + b.TWO\nc"), package=tmp_path / "0" / "toy")
    assert differences(first, other) == ["notebook has changed"]


def test_the_words_of_parameters_are_every_text_in_them():
    values = {"loss": "l1 + 0.5*plcc", "inputs": ["rgb"], "seed": 1, "crops": {"train": "grid"}, "weights": None}
    assert {"l1", "plcc", "rgb", "grid", "loss", "train"} <= words(values)


def test_plain_values_and_files_have_hashes(tmp_path):
    (tmp_path / "abc").write_text("abc")
    assert file_hash(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest({"a": 1, "b": None}) == digest({"b": None, "a": 1}) != digest({"a": 1, "b": 0})


# --- the real package


@pytest.fixture(scope="module")
def real():
    """The identity of every notebook and of a fit, of a model that concatenates."""
    return identities(ROOT / "iqa")


def identities(package):
    found = {file.stem: notebook_code(file, {"concat"}, package) for file in NOTEBOOKS}
    return found | {"fit": definitions("iqa.training.fit.fit", names={"concat"}, package=package)}


@pytest.fixture
def copied(tmp_path):
    """A copy of the package, to be edited."""
    shutil.copytree(ROOT / "iqa", tmp_path / "iqa", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "iqa"


class Rewritten(ast.NodeTransformer):
    """The same code with other docstrings and annotations, imports in another order and at another place."""

    def visit_FunctionDef(self, node):
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = node.body[1:] or [ast.Pass()]
        else:
            node.body.insert(0, ast.Expr(ast.Constant("A docstring.")))
        for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            arg.annotation = None if arg.annotation else ast.Constant("object")
        node.returns = ast.Constant("object")
        return self.generic_visit(node)


def rewritten(text):
    tree = Rewritten().visit(ast.parse(text))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    future = [node for node in imports if getattr(node, "module", "") == "__future__"]
    others = [node for node in reversed(imports) if node not in future]
    rest = [node for node in tree.body if node not in imports]
    tree.body = [*rest[:1], *future, *others, *rest[1:]]
    return "# a remark\n" + ast.unparse(ast.fix_missing_locations(tree)).replace("\n    ", "\n\n    ") + "\n# another\n"


@pytest.mark.slow
def test_remarks_docstrings_annotations_imports_and_formatting_of_the_package_change_nothing(real, copied):
    changed = 0
    for file in copied.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(rewritten(text), encoding="utf-8")
        changed += len(re.findall("object", file.read_text())) > len(re.findall("object", text))
    assert changed > 40
    assert identities(copied) == real


def edit(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file}: {old}"
    file.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.slow
def test_new_definitions_that_nothing_uses_change_nothing(real, copied):
    for name in ("study/params", "training/losses", "model/fusion", "data/releases", "show/style"):
        file = copied / f"{name}.py"
        file.write_text(
            file.read_text(encoding="utf-8") + "\n\ndef brand_new(x):\n    return x + 1\n\n\nNEW = {1: 2}\n"
        )
    assert identities(copied) == real


def test_a_changed_line_of_a_model_shows_as_its_class_where_the_model_runs(real, copied):
    edit(copied / "model" / "fusion.py", "(each, self.grid) for each in maps", "(each, self.grid) for each in maps[1:]")
    shown = {name: differences(real[name], now) for name, now in identities(copied).items()}
    running = {name for name, lines in shown.items() if lines}
    assert all(shown[name] == ["iqa/model/fusion.py: Concat has changed"] for name in running)
    assert {"02_train", "05_cross_dataset", "06_analysis", "fit"} <= running and "01_data_prep" not in running


@pytest.mark.slow
def test_a_colour_shows_in_the_notebooks_that_draw_and_not_in_a_fit(real, copied):
    edit(copied / "show" / "style.py", '"#0072B2"', '"#0072B3"')
    shown = {name: differences(real[name], now) for name, now in identities(copied).items()}
    drawing = {name for name, lines in shown.items() if lines}
    assert {"01_data_prep", "02_train", "03_ablation", "04_complexity"} <= drawing and "fit" not in drawing
    assert all(shown[name] == ["iqa/show/style.py: BLUE has changed"] for name in drawing)


def test_a_fit_is_identified_by_what_computes_it_and_not_by_what_starts_it(real):
    """Each of several processes runs `iqa.app.worker`, which calls the same `fit` as a single process does."""
    assert {"iqa/training/fit.py: fit", "iqa/training/losses.py: total"} <= set(real["fit"])
    files = {key.partition(":")[0] for key in real["fit"]}
    assert {file.split("/")[1] for file in files} == {"training", "model", "data", "metrics"}
    assert not files & {f"iqa/training/{name}.py" for name in ("identity", "launch", "train")}
