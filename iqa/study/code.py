"""The identity of the code that a result is made by: a hash of each top-level definition that a run reaches.

From the cells of a notebook, or from a root such as `iqa.training.fit.fit`, names lead to the functions, classes and
constants that the code loads, and on to those that these load. Remarks, docstrings, formatting, annotations, imports
and prose do not count, nor does a definition that is not reached.

A `Package` finds what a dotted name stands for, a `Module` sorts its statements by what they define, and a `_Writer`
writes a definition in a normal form and notes what it refers to.
"""

import ast
import hashlib
import json
import re
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).resolve().parents[1]
GONE = "is no longer used"
WORDS = "(words)"  # of a registered entry, such as its title: shown, not computed with
COMPUTED = ("options", "sees_scale")  # the words that are computed with
REST = "(module)"  # statements that define nothing, such as the settings of a logger
NO_CODE = {"ctx", "type_comment", "kind", "type_params", "annotation", "returns", "simple"}  # fields of the syntax tree
Scope = ChainMap[str, "Ref | None"]  # names bound by the functions around some code, with what they import


class CodeError(ValueError):
    """Code that cannot be read; the message names the file and the line."""


class Ref(NamedTuple):
    """A definition of a module. What an import binds has no `name` where it is the module itself."""

    module: str
    name: str

    def path(self) -> list[str]:
        return [self.name] if self.name else []


class Definition(NamedTuple):
    """Code in normal form, and the definitions that it refers to, in their order."""

    text: str
    refs: tuple[Ref, ...]


def digest(*values: object) -> str:
    """A short hash of plain values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def words(value: object) -> set[str]:
    """Every word in plain values, keys included: among them the registered entries that parameters name.

    >>> sorted(words({"loss": "l1 + 0.5*plcc", "inputs": ["rgb"], "seed": 1}))
    ['0', '1', '5', 'inputs', 'l1', 'loss', 'plcc', 'rgb', 'seed']
    """
    return set(re.findall(r"\w+", str(value)))


def notebook_code(notebook: Path, names: Iterable[str] = (), package: Path = PACKAGE) -> dict[str, str]:
    """Hashes of what a notebook runs: its own cells (`notebook`), and each definition that these reach.

    The parameters cell does not count: a run gets all of its values, so those typed there play no part.

    Args:
        names: words that the run's parameters name; of registered entries, only these count.

    Returns:
        hash by definition, such as `iqa/model/fusion.py: Concat`.

    Raises:
        CodeError: a cell or a module cannot be parsed.
    """
    code = open_package(package)
    return code.identity(code.cells(notebook.name, notebook.read_bytes()), names)


def definitions(*roots: str, names: Iterable[str] = (), package: Path = PACKAGE) -> dict[str, str]:
    """The same for roots named as `iqa.training.fit.fit`.

    Raises:
        CodeError: a root does not exist, or a module cannot be parsed.
    """
    code = open_package(package)
    found = code.identity(Definition("", tuple(ref for root in roots for ref in code.root(root))), names)
    return {name: value for name, value in found.items() if name != "notebook" and not name.endswith(WORDS)}


def differences(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """What differs between two identities, a line each. A definition that only moved to another file does not."""
    known, kept = ({(key.split(": ")[-1], value) for key, value in code.items()} for code in (before, now))
    gone = {key: key.split(": ")[-1] for key, value in before.items() if (key.split(": ")[-1], value) not in kept}
    lines = []
    for key, value in now.items():
        name = key.split(": ")[-1]
        if (name, value) not in known:
            origin = key if key in gone else next((old for old in gone if gone[old] == name and old not in now), None)
            gone.pop(origin, None)
            lines.append(f"{key} {'has changed' if origin else 'is new'}")
    return lines + [f"{key} {GONE}" for key in gone]


@cache
def open_package(folder: Path) -> "Package":
    """The package in a folder; a process reads it once."""
    return Package(folder)


class Package:
    """The modules of a package, read when they are reached."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.name
        self.modules: dict[str, Module | None] = {}
        self.notebooks: dict[bytes, Definition] = {}
        self.identities: dict[tuple[Definition, frozenset[str]], dict[str, str]] = {}

    def module(self, name: str) -> "Module | None":
        """A module or package by its dotted name; None if it is not of this package."""
        if name not in self.modules:
            place = self.folder.joinpath(*name.split(".")[1:])
            files = [file for file in (place / "__init__.py", place.with_suffix(".py")) if file.is_file()]
            self.modules[name] = None
            if name.split(".")[0] == self.name and files:
                shown = files[0].relative_to(self.folder.parent).as_posix()
                self.modules[name] = Module(self, name, shown, _parse(files[0].read_bytes(), shown))
        return self.modules[name]

    def find(self, module: str, attributes: list[str]) -> tuple[list[Ref], str]:
        """What `module.a.b` stands for: definitions, and one spelling for all ways of importing it.

        A module counts whole where it is used as an object or by a name that it does not bind.
        """
        own = self.module(module)
        if own is None:
            return [], ".".join(["@" + module, *attributes])
        name, *rest = attributes or [""]
        if name in own.homes:
            return [Ref(module, own.homes[name])], ".".join(["=" + name, *rest])
        if own.imports.get(name, Ref(module, name)) != Ref(module, name):
            return self.find(own.imports[name].module, [*own.imports[name].path(), *rest])
        if name and self.module(f"{module}.{name}"):
            return self.find(f"{module}.{name}", rest)
        return own.whole(), ".".join(["=" + module.split(".")[-1], *attributes])

    def root(self, name: str) -> list[Ref]:
        """The definition with a dotted name."""
        refs, text = self.find(self.name, name.split(".")[1:])
        if not name.startswith(f"{self.name}.") or text != "=" + name.split(".")[-1]:
            raise CodeError(f"there is no definition '{name}' in {self.folder}")
        return refs

    def cells(self, file: str, content: bytes) -> Definition:
        """The code of a notebook as one definition; lines for IPython alone do not count."""
        if content not in self.notebooks:
            body = []
            try:
                cells = json.loads(content)["cells"]
            except (ValueError, KeyError, TypeError) as error:
                raise CodeError(f"{file} is no notebook: {error}") from error
            for number, cell in enumerate(cells, start=1):
                if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
                    code = re.sub(r"(?m)^[ \t]*[%!].*$", "", "".join(cell["source"]))
                    body += _parse(code.encode(), f"{file}, cell {number}")
            self.notebooks[content] = Module(self, "", file, body, cells=True).definition(REST)
        return self.notebooks[content]

    @cached_property
    def entries(self) -> dict[Ref, dict[str, Ref]]:
        """Registered definitions of all modules, by their registry and name."""
        found: dict[Ref, dict[str, Ref]] = {}
        for file in sorted(self.folder.rglob("*.py")):
            name = ".".join(file.relative_to(self.folder.parent).with_suffix("").parts).removesuffix(".__init__")
            if b".add(" in file.read_bytes() and (module := self.module(name)):
                for owner, statements in module.statements.items():
                    for mark in (mark for node in statements for mark in getattr(node, "decorator_list", [])):
                        if registry := module.registry(mark):
                            found.setdefault(registry, {})[ast.literal_eval(mark.args[0])] = Ref(name, owner)
        return found

    def identity(self, root: Definition, names: Iterable[str]) -> dict[str, str]:
        """Hashes of some code and of every definition that it reaches, by file and name, sorted."""
        known = {name for entries in self.entries.values() for name in entries}
        key = root, frozenset(known.intersection(names))
        if key not in self.identities:
            reached = self.reach(root, key[1])
            shared = {name for name, count in Counter(ref.name for ref in reached).items() if count > 1}
            hashes = {
                f"{self.modules[ref.module].file}: {ref.name}": _hash(reached[ref], ref.module, shared)
                for ref in sorted(reached)
            }
            for ref in sorted(reached):
                if words := self.modules[ref.module].words(ref.name):
                    hashes[f"{self.modules[ref.module].file}: {ref.name} {WORDS}"] = _hash(words, ref.module, shared)
            self.identities[key] = {"notebook": _hash(root, "", shared)} | hashes
        return dict(self.identities[key])

    def reach(self, root: Definition, names: frozenset[str]) -> dict[Ref, Definition]:
        """The definitions that some code reaches; of registered entries those named, or used as `center.name`."""
        reached: dict[Ref, Definition] = {}
        pending = list(root.refs)
        while pending:
            ref = pending.pop()
            if ref not in reached and not self.is_silent(ref.module):
                module = self.modules[ref.module]
                reached[ref] = module.definition(ref.name)
                pending += reached[ref].refs
                pending += [entry for name, entry in self.entries.get(ref, {}).items() if name in names]
                pending += [Ref(ref.module, REST)] * (REST in module.statements)
        return reached

    def is_silent(self, module: str) -> bool:
        """Whether a module decides no result: it finds, names or compares files and parameters, or starts a step."""
        room, _, name = module.removeprefix(f"{self.name}.").rpartition(".")
        return room == "app" or (room == "study" and name != "results")


class Module:
    """A module's top-level statements by the name that they define, and what its imports bind.

    Args:
        file: the name that people are shown.
        cells: whether these are a notebook's cells, which run from first to last and so are one definition.
    """

    def __init__(self, package: Package, name: str, file: str, body: list[ast.stmt], cells: bool = False):
        self.package, self.name, self.file = package, name, file
        self.imports = {bound: ref for bound, ref in _bound(body, file).items() if ref}
        self.statements: dict[str, list[ast.stmt]] = {REST: body} if cells else {}
        self.homes: dict[str, str] = {}  # the definition that binds a name
        self.known: dict[str, Definition] = {}
        for owner, part in () if cells else self._sorted(_without_docstring(body)):
            self.statements.setdefault(owner, []).append(part)
            names = _bound([part], file).keys() - self.imports.keys() if owner == REST else {owner}
            self.homes |= dict.fromkeys(names, owner)

    def _sorted(self, body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
        """Statements, or their parts, with the definition that each belongs to."""
        for node in body:
            match node:
                case ast.Import() | ast.ImportFrom():
                    pass
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    yield node.name, node
                case ast.Assign():
                    for target in node.targets:
                        yield from self._assigned(target, node.value, node)
                case ast.AnnAssign(value=ast.expr()):
                    yield from self._assigned(node.target, node.value, node)
                case ast.AugAssign(target=changed) | ast.Expr(value=ast.Call(func=ast.Attribute(value=changed))):
                    yield from self._assigned(changed, None, node)
                case ast.If() if _never_counts(node):
                    yield from self._sorted(node.orelse)
                case _:
                    yield REST, node

    def _assigned(self, target: ast.expr, value: ast.expr | None, node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
        match target, value:
            case ast.Name(), ast.expr():
                yield target.id, ast.Assign([target], value, lineno=node.lineno)
            case ast.Tuple(), ast.Tuple() if len(target.elts) == len(value.elts) and "Starred" not in ast.dump(node):
                for one, part in zip(target.elts, value.elts, strict=True):
                    yield from self._assigned(one, part, node)
            case ast.Tuple(), _:
                yield from ((name, node) for name in _bound([target], self.file))
            case _:  # X |= ..., X[...] = ..., X.y = ..., X.update(...)
                owner = re.split(r"\W", ast.unparse(target))[0]
                yield owner if owner in self.statements else REST, node

    def whole(self) -> list[Ref]:
        """Every definition; of a package, those that it imports too."""
        found = [Ref(self.name, name) for name in self.statements]
        imported = self.imports.values() if self.file.endswith("__init__.py") else ()
        return found + [ref for target in imported for ref in self.package.find(target.module, target.path())[0]]

    def registry(self, mark: ast.expr) -> Ref | None:
        """The registry to which a decorator `X.add("name", ...)` adds."""
        match mark:
            case ast.Call(func=ast.Attribute(attr="add", value=ast.Name() | ast.Attribute() as named)):
                for ref in _Writer(self).find(named, ChainMap())[0]:
                    made = self.package.modules[ref.module].statements[ref.name][0]
                    if re.search(r"= (\w+\.)*Registry\(", ast.unparse(made)):
                        return ref
        return None

    def words(self, name: str) -> Definition | None:
        """What a registered entry is shown with; None for any other definition."""
        marks = [mark for node in self.statements[name] for mark in getattr(node, "decorator_list", [])]
        keywords = [word for mark in marks if self.registry(mark) for word in mark.keywords if word.arg not in COMPUTED]
        return Definition(_Writer(self).write(keywords, ChainMap()), ()) if keywords else None

    def definition(self, name: str) -> Definition:
        if name not in self.known:
            writer = _Writer(self)
            self.known[name] = Definition(writer.write(self.statements[name], ChainMap()), tuple(writer.refs))
        return self.known[name]


class _Writer:
    """Writes code in a form that neither its layout nor the Python version changes, and notes what it refers to."""

    def __init__(self, module: Module):
        self.module, self.package = module, module.package
        self.refs: list[Ref] = []

    def write(self, node: object, scope: Scope) -> str:
        match node:
            case list():
                return "[" + ",".join(filter(None, (self.write(part, scope) for part in node))) + "]"
            case ast.Import() | ast.ImportFrom() | ast.Pass():
                return ""
            case ast.If() if _never_counts(node):
                return self.write(node.orelse, scope)[1:-1]
            case ast.AnnAssign():
                return self.write(ast.Assign(targets=[node.target], value=node.value), scope) if node.value else ""
            case ast.Call() if self.module.registry(node):  # what an entry is shown with, such as `title`, does nothing
                return self.write([node.args, [word for word in node.keywords if word.arg in COMPUTED]], scope)
            case ast.Name(ctx=ast.Load()) | ast.Attribute():
                refs, text = self.find(node, scope)
                self.refs += refs
                return text or self.fields(node, scope)
            case ast.Global():
                return self.write([ast.Name(name, ast.Load()) for name in node.names], scope)
            case ast.ClassDef():
                inside = {name: ref for name, ref in _bound(node.body, self.module.file).items() if ref}
                return self.fields(node, scope, body=self.write(_class_body(node), scope.new_child(inside)))
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                body = node.body if isinstance(node, ast.Lambda) else _without_docstring(node.body)
                inside = _bound([node.args, *(body if isinstance(body, list) else ())], self.module.file)
                return self.fields(node, scope, body=self.write(body, scope.new_child(inside)))
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                inside = _bound([part.target for part in node.generators], self.module.file)
                return self.write(node.generators[0].iter, scope) + self.fields(node, scope.new_child(inside))
            case ast.AST():
                return self.fields(node, scope)
        return ascii(node)

    def fields(self, node: ast.AST, scope: Scope, body: str = "") -> str:
        """A node of the syntax tree and what is in it; its `body`, which may have names of its own, as it is given."""
        fields = [pair for pair in ast.iter_fields(node) if pair[0] not in NO_CODE and pair[1] is not None]
        texts = ((key, body if body and key == "body" else self.write(value, scope)) for key, value in fields)
        return f"{type(node).__name__}({','.join(f'{key}={text}' for key, text in texts if text != '[]')})"

    def find(self, node: ast.expr, scope: Scope) -> tuple[list[Ref], str]:
        """What `x.y.z` refers to and how it is written; no text where no module binds `x`."""
        root, attributes = node, []
        while isinstance(root, ast.Attribute):
            root, attributes = root.value, [root.attr, *attributes]
        target = None
        match root:
            case ast.Name(id=name) if name in scope:
                target = scope[name]
            case ast.Name(id=name):
                target = Ref(self.module.name, name) if name in self.module.homes else self.module.imports.get(name)
        return self.package.find(target.module, [*target.path(), *attributes]) if target else ([], "")


def _parse(code: bytes, place: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or code[: code.find(0)].count(b"\n") + 1  # of a null byte
        raise CodeError(f"{place}, line {line}: {getattr(error, 'msg', error)}") from error


def _hash(found: Definition, module: str, shared: set[str]) -> str:
    """Hash of a definition; where several that are reached share a name, it counts of which module one is used."""
    meant = ["" if ref.module == module else ref.module for ref in found.refs if ref.name in shared]
    return hashlib.sha256("\n".join([found.text, *meant]).encode()).hexdigest()[:16]


def _bound(nodes: Iterable[ast.AST], place: str) -> dict[str, Ref | None]:
    """Names that code binds in its own scope, with what they stand for if it imports them."""
    found: dict[str, Ref | None] = {}
    outside: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        match node:
            case ast.Import():
                for alias in node.names:
                    module = alias.name if alias.asname else alias.name.split(".")[0]
                    found[alias.asname or module] = Ref(module, "")
            case ast.ImportFrom():
                if node.level or node.names[0].name == "*":
                    raise CodeError(f"{place}, line {node.lineno}: name the module and what is imported of it")
                found |= {alias.asname or alias.name: Ref(node.module, alias.name) for alias in node.names}
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.setdefault(name, None)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.setdefault(node.name, None)
            case ast.Global():
                outside |= set(node.names)
            case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                pass
            case _:
                if name := getattr(node, "name", None) or getattr(node, "rest", None):  # of `except` and `match`
                    found.setdefault(name, None)
                pending += ast.iter_child_nodes(node)
    return {name: ref for name, ref in found.items() if name not in outside}


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    return body[1:] if ast.get_docstring(ast.Module(body, []), clean=False) is not None else body


def _never_counts(node: ast.If) -> bool:
    """Whether a block is for type checkers alone, or the program that a module is when it is started by its name."""
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _class_body(node: ast.ClassDef) -> list[ast.AST]:
    """Statements of a class that count: of a record the fields too, of parameters neither values nor checks."""
    body = _without_docstring(node.body)
    if node.name.endswith("Params"):
        body = [part for part in body if not _is_value_or_check(part)]
    is_record = re.search("dataclass|NamedTuple", " ".join(map(ast.unparse, node.decorator_list + node.bases)))
    return [
        ast.keyword(ast.unparse(part.target), part.value)
        if isinstance(part, ast.AnnAssign) and (is_record or part.value is None)
        else part
        for part in body
    ]


def _is_value_or_check(node: ast.stmt) -> bool:
    """Whether it is a field, a check of fields or the configuration of a parameter class."""
    match node:
        case ast.AnnAssign():
            return "ClassVar" not in ast.unparse(node.annotation)
        case ast.FunctionDef():
            return any(re.search(r"\b(model|field)_validator\b", ast.unparse(mark)) for mark in node.decorator_list)
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "model_config"
