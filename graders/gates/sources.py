"""What the Python of a lab says without being run: its checks' tests, the hints it gives, the thresholds it asks for.

Place: the structural gate compares it with lab.toml. Limits: it reads the syntax tree and follows names, so what code
computes is not seen: it tells which words are nowhere, and which are given for certain.
"""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import graders
from graders.errors import HarnessError
from graders.lab import Lab

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Code:
    """The test file of a lab and its package *_lab, parsed.

    Raises:
        HarnessError: there is no test file or more than one, or a file is not Python.
    """

    def __init__(self, lab: Lab) -> None:
        files = [lab.test_file, *sorted(lab.folder.glob("*_lab/**/*.py"))]
        names = [".".join(file.relative_to(lab.folder).with_suffix("").parts) for file in files]
        trees = dict(zip(names, map(_parse, files), strict=True))
        self._main = names[0]
        self._modules = {name: _Module.read(tree, names) for name, tree in trees.items()}
        main = self._modules[self._main].functions
        self.tests = {name.removeprefix("test_"): each for name, each in main.items() if name.startswith("test_")}
        """The tests of the test file, by the check they are for."""
        ours = list(trees.values())
        measured_with = [_parse(path) for name in sorted(_imported(ours)) if (path := _source(name)).is_file()]
        self.words = frozenset(_words(*ours, *measured_with))
        """Every string in the lab's code and in the modules of graders that it imports."""
        self.lab_words = frozenset(_words(*ours))
        """Every string in the lab's code."""
        self.asked = frozenset(_asked(*ours))
        """The thresholds that the code asks for by name."""

    def hints(self, check: str) -> set[str]:
        """Hints that the code of a check gives by name: what is written at `hint=` where its calls lead.

        They begin in its test, and at the functions that a dictionary lists under its id, as a lab's judges are.
        """
        found: set[str] = set()
        seen: set[int] = set()
        waiting = [*self._function(self._main, f"test_{check}"), *self._listed(check)]
        while waiting:
            module, function = waiting.pop()
            if id(function) in seen:
                continue
            seen.add(id(function))
            for node in ast.walk(function):
                if isinstance(node, ast.keyword) and node.arg == "hint":
                    found |= set(_results(node.value))
                elif isinstance(node, ast.Call):
                    waiting += [each for value in (node.func, *node.args) for each in self._meant(module, value)]
        return found

    def _meant(self, module: str, value: ast.expr) -> Iterator[tuple[str, Function]]:
        """The functions of the lab that an expression in a module may stand for, each with its module."""
        here = self._modules[module]
        if isinstance(value, ast.Name):
            yield from self._function(*here.names.get(value.id, (module, value.id)))
        elif isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id in here.aliases:
            yield from self._function(here.aliases[value.value.id], value.attr)
        elif isinstance(value, ast.Attribute):  # of an object; whose class it is, nobody says
            yield from ((name, each) for name, one in self._modules.items() for each in one.methods.get(value.attr, ()))

    def _listed(self, check: str) -> Iterator[tuple[str, Function]]:
        for name, module in self._modules.items():
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Dict):
                    for key, value in zip(node.keys, node.values, strict=True):
                        if isinstance(key, ast.Constant) and key.value == check:
                            for part in ast.walk(value):
                                if isinstance(part, ast.expr):
                                    yield from self._meant(name, part)

    def _function(self, module: str, name: str) -> Iterator[tuple[str, Function]]:
        if function := self._modules[module].functions.get(name):
            yield module, function


class _Module(NamedTuple):
    """One file: its functions, the methods of its classes, and what it imports of the lab's own."""

    tree: ast.Module
    functions: dict[str, Function]
    methods: dict[str, list[Function]]
    aliases: dict[str, str]
    """Names of modules, by what they are called here."""
    names: dict[str, tuple[str, str]]
    """Module and name of what is imported from one, by what it is called here."""

    @classmethod
    def read(cls, tree: ast.Module, modules: Collection[str]) -> Self:
        """Reads a file of a lab whose modules are these."""
        functions = {node.name: node for node in tree.body if isinstance(node, Function)}
        methods: dict[str, list[Function]] = {}
        for kind in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            for node in kind.body:
                if isinstance(node, Function):
                    methods.setdefault(node.name, []).append(node)
        imported = {
            alias.asname or alias.name: (statement.module or "", alias.name)
            for statement in ast.walk(tree)
            if isinstance(statement, ast.ImportFrom)
            for alias in statement.names
        }
        aliases = {called: f"{module}.{name}" for called, (module, name) in imported.items()}
        return cls(
            tree,
            functions,
            methods,
            {called: module for called, module in aliases.items() if module in modules},
            {called: origin for called, origin in imported.items() if origin[0] in modules},
        )


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise HarnessError(f"{path} is not Python: {error}; correct it") from error


def _walk(*trees: ast.AST) -> Iterator[ast.AST]:
    for tree in trees:
        yield from ast.walk(tree)


def _words(*trees: ast.AST) -> Iterator[str]:
    return (node.value for node in _walk(*trees) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _asked(*trees: ast.AST) -> Iterator[str]:
    for node in _walk(*trees):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "threshold" and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _results(value: ast.expr) -> Iterator[str]:
    """The strings that an expression of conditions and alternatives can come to."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.IfExp):
        yield from _results(value.body)
        yield from _results(value.orelse)
    elif isinstance(value, ast.BoolOp):
        for each in value.values:
            yield from _results(each)


def _imported(trees: list[ast.Module]) -> set[str]:
    """Names of modules of graders that are imported, as far as a name can be one."""
    found: set[str] = set()
    for node in _walk(*trees):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "graders":
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "graders"}
    return found


def _source(module: str) -> Path:
    """Where a module of graders is written, if it is one."""
    return Path(graders.__file__).parent.joinpath(*module.split(".")[1:]).with_suffix(".py")
