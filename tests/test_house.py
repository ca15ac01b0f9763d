"""The house: which package may import which, and what each module must not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import redundict

from . import inside

SOURCE = Path(redundict.__file__).parent
#: A package, and what it may import of redundict. What is not in a package is the top level.
MAY_IMPORT = {
    "errors": set(),
    "engine": {"errors", "engine"},
    "formats": {"errors", "formats"},
    "top": {"errors", "engine", "formats", "top"},
    "cli": {"errors", "engine", "formats", "top", "cli"},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the dotted name of a module."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(name: str) -> str:
    """Return the package that a module belongs to."""
    first = [*name.split("."), "top"][1]
    return first if first in MAY_IMPORT else "top"


def imports_of(path: Path) -> set[str]:
    """Return the modules of redundict that a module imports, anywhere in it."""
    known = {name_of(module) for module in MODULES}
    package = name_of(path) if path.stem == "__init__" else name_of(path).rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else module for name in names} & known
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_only(path: Path) -> None:
    """A package imports only from the packages below it; engine and formats do not meet."""
    if name_of(path) != "redundict.__main__":
        reached = {floor(name) for name in imports_of(path) if name != "redundict"}
        assert reached <= MAY_IMPORT[floor(name_of(path))]


def test_no_module_imports_itself_through_others() -> None:
    """There is no cycle of imports, so any module can be read before those that use it."""
    below = {name_of(path): imports_of(path) - {"redundict"} for path in MODULES}
    while leaves := {name for name, names in below.items() if not names & below.keys()}:
        below = {name: names for name, names in below.items() if name not in leaves}
    assert not below


@pytest.mark.parametrize(
    ("word", "home"),
    inside.ONE_MODULE_EACH.items(),
)
def test_one_module_knows_what_is_dangerous(word: str, home: str) -> None:
    """The code that syncs, locks and unpickles each stands in one place."""

    def code(path: Path) -> str:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):  # words in docstrings are free
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""
        return ast.unparse(tree)

    assert {name_of(path) for path in MODULES if word in code(path)} == {home}


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("*.py")), ids=lambda p: p.stem)
def test_tests_reach_the_engine_through_one_module(path: Path) -> None:
    """When the engine changes, `tests/inside.py` is what has to be adapted."""
    found = re.findall(r"^ *(?:from|import) redundict\.engine.*", path.read_text(), re.MULTILINE)
    assert path.stem == "inside" or not found


def test_the_mapping_overrides_no_hot_method_of_dict() -> None:
    """Reading and changing the dict runs dict's own code, at its own speed."""
    hot = {"__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__len__"}
    hot |= {"get", "pop", "setdefault", "update", "keys", "values", "items", "clear", "popitem"}
    assert not hot & set(vars(redundict.RedunDict))


def test_every_public_name_is_there() -> None:
    """The names that the package lists are its attributes, and `open` makes a `RedunDict`."""
    assert all(hasattr(redundict, name) for name in redundict.__all__)
    assert redundict.open is redundict.RedunDict
