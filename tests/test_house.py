"""The house: which module may import which, and what each of them must not know."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import redundict

SOURCE = Path(redundict.__file__).parent
#: From the ground up; a module imports only from lines below its own.
FLOORS = [
    {"errors", "history", "differences", "snapshots", "threads"},
    {"refusals"},
    {"plainjson"},
    {"trailer", "durable", "serializers", "locking", "closed", "lifetime"},
    {"layout"},
    {"slots"},
    {"survey"},
    {"loading"},
    {"ledger"},
    {"healing"},
    {"store"},
    {"integrity", "writer"},
    {"sweep", "exits", "events", "decoding"},
    {"recovery"},
    {"mapping"},
    {"permadict", "importing", "records", "progress"},
    {"render"},
    {"demo"},
    {"browse"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
#: On the second floor, one neighbour may ask another.
NEIGHBOURS = {("serializers", "trailer")}
MODULES = sorted(path.stem for path in SOURCE.glob("*.py"))


def imports_of(module: str) -> set[str]:
    """Return the modules of the package that a module imports, anywhere in it."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return {name for name in found if name in MODULES}


def floor(module: str) -> int:
    return next(level for level, names in enumerate(FLOORS) if module in names)


def test_every_module_has_its_floor() -> None:
    """A module that is added is given its place."""
    assert sorted(set().union(*FLOORS)) == [name for name in MODULES if name != "__init__"]


@pytest.mark.parametrize("module", [name for name in MODULES if name != "__init__"])
def test_a_module_imports_only_downwards(module: str) -> None:
    """No import goes up or sideways, so there is no cycle."""
    upward = {
        other
        for other in imports_of(module)
        if floor(other) >= floor(module) and (module, other) not in NEIGHBOURS
    }
    assert not upward


@pytest.mark.parametrize(
    ("word", "home"),
    [("fsync", "durable"), ("filelock", "locking"), ("pickle.loads", "serializers")],
)
def test_one_module_knows_what_is_dangerous(word: str, home: str) -> None:
    """The code that syncs, locks and unpickles each stands in one place."""

    def code(module: str) -> str:
        tree = ast.parse((SOURCE / f"{module}.py").read_text())
        for node in ast.walk(tree):  # words in docstrings are free
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""
        return ast.unparse(tree)

    assert {module for module in MODULES if word in code(module)} == {home}


def test_the_mapping_overrides_no_hot_method_of_dict() -> None:
    """Reading and changing the dict runs dict's own code, at its own speed."""
    hot = {"__getitem__", "__setitem__", "__delitem__", "__contains__", "__iter__", "__len__"}
    hot |= {"get", "pop", "setdefault", "update", "keys", "values", "items", "clear", "popitem"}
    assert not hot & set(vars(redundict.RedunDict))


def test_every_public_name_is_that_of_its_home() -> None:
    """What type checkers see at the top is what is imported when it is used, and all of it."""
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: importlib.import_module(f"redundict.{node.module}")
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert {*seen, "open"} == set(redundict.__all__)
    assert all(getattr(redundict, name) is getattr(home, name) for name, home in seen.items())
    assert redundict.open is redundict.RedunDict
    assert set(redundict.__all__) <= set(dir(redundict))
    with pytest.raises(AttributeError, match="no attribute"):
        redundict.nothing  # noqa: B018 - it is not there
