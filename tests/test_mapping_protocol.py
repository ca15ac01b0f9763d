"""CPython's own tests of mappings and shelves, asked of a RedunDict."""

from __future__ import annotations

import itertools
import os
import unittest
from pathlib import Path
from typing import Any

import pytest

import redundict

from . import inside

mapping_tests = pytest.importorskip("test.mapping_tests", reason="this Python lacks its tests")


class Anywhere(redundict.RedunDict):
    """A RedunDict that needs no path, built as the mapping tests build a dict."""

    folder: Path
    numbers = itertools.count()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(self.folder / f"state{next(self.numbers)}.json")
        self.update(*args, **kwargs)
        inside.forget(self)  # it is dropped with whatever the tests put there


@pytest.fixture(autouse=True, scope="module")
def folder_for_anywhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    Anywhere.folder = tmp_path_factory.mktemp("anywhere")


class TestRedunDictAsMapping(mapping_tests.TestHashMappingProtocol):
    """All of mapping_tests, with the one difference that every dict subclass has (`test_copy`)."""

    type2test = Anywhere

    def test_copy(self) -> None:
        """A copy is a plain dict, as for every subclass of dict: there is one writer to a store."""
        full = self._full_mapping({1: 1, 2: 2})
        assert type(full.copy()) is dict
        assert full.copy() == {1: 1, 2: 2}
        self.assertRaises(TypeError, full.copy, None)

    def test_fromkeys(self) -> None:
        """As inherited, for a class that can be made without a path."""
        assert Anywhere.fromkeys("abc") == {"a": None, "b": None, "c": None}

    def test_repr_deep(self) -> None:
        """As inherited, with one store around plain dicts, not thousands of open stores."""
        deep: dict[Any, Any] = {}
        for _ in range(200_000):
            deep = {1: deep}
        self.assertRaises(RecursionError, repr, self._full_mapping({1: deep}))


def test_all_of_mapping_tests_is_run() -> None:
    """The class above overrides three tests and inherits the others."""
    names = unittest.defaultTestLoader.getTestCaseNames(TestRedunDictAsMapping)
    assert len(names) >= 15
    assert {"test_update", "test_popitem", "test_setdefault", "test_repr_deep"} <= set(names)


# What test.test_shelve asks of a shelf in flags, closing and `with`.


def test_a_path_may_be_str_bytes_or_pathlike(tmp_path: Path) -> None:
    """As shelve's, a path comes in any of Python's kinds."""
    for number, path in enumerate(
        [tmp_path / "pathlib", str(tmp_path / "str"), os.fsencode(tmp_path / "bytes")]
    ):
        with redundict.open(path) as state:
            state["key1"] = [number]
        with redundict.open(path, "r") as state:
            assert state == {"key1": [number]}


@pytest.fixture
def closed(path: str) -> redundict.RedunDict:
    """Return a store that has been closed."""
    state = redundict.open(path)
    state["key1"] = "value1"
    state.close()
    return state


ACCESSES = [
    lambda s: s["key1"],
    lambda s: s.get("key1"),
    lambda s: s.__setitem__("key1", 1),
    lambda s: s.__delitem__("key1"),
    lambda s: "key1" in s,
    len,
    list,
    dict,
    lambda s: {**s},
    lambda s: s == {},
    lambda s: s | {},
    lambda s: s.update(a=1),
    lambda s: s.pop("key1"),
    lambda s: s.copy(),
    lambda s: s.sync(),
    lambda s: s.reload(),
    lambda s: s.rollback(),
    lambda s: s.generations(),
    lambda s: s.transaction().__enter__(),
    lambda s: s.__enter__(),
]


@pytest.mark.parametrize("access", ACCESSES)
def test_a_closed_store_refuses_every_access(closed: redundict.RedunDict, access: Any) -> None:
    """As a shelf, a closed store raises ValueError, and it says which store it was."""
    with pytest.raises(ValueError, match="closed") as caught:
        access(closed)
    assert isinstance(caught.value, redundict.ClosedError)
    assert caught.value.path == closed.path


def test_closing_twice_is_nothing(closed: redundict.RedunDict) -> None:
    """As a shelf, a store can be closed again; it still tells what it was."""
    closed.close()
    assert closed.generation == 1
    assert closed.path in repr(closed)
    assert isinstance(closed, redundict.RedunDict)


def test_with_closes(path: str) -> None:
    """As a shelf, a store is usable inside `with` and closed after it."""
    with redundict.open(path) as state:
        state["key1"] = "value1"
        assert state["key1"] == "value1"
    with pytest.raises(ValueError, match="closed"):
        state["key1"]
    assert redundict.load(path) == {"key1": "value1"}


def test_with_saves_on_an_exception_too(path: str) -> None:
    """As a shelf, leaving `with` by an exception saves what is there, and lets it through."""
    with pytest.raises(KeyError), redundict.open(path) as state:
        state["key1"] = "value1"
        raise KeyError
    assert redundict.load(path) == {"key1": "value1"}


@pytest.mark.parametrize(
    ("flag", "exists", "content"),
    [
        ("r", True, {"old": 1}),
        ("w", True, {"old": 1}),
        ("c", True, {"old": 1}),
        ("n", True, {}),
        ("r", False, None),
        ("w", False, None),
        ("c", False, {}),
        ("n", False, {}),
    ],
)
def test_flags_mean_what_they_mean_in_dbm(
    path: str, flag: str, exists: bool, content: dict[str, Any] | None
) -> None:
    """r and w need a store, c makes one, n starts empty."""
    if exists:
        with redundict.open(path) as state:
            state["old"] = 1
    if content is None:
        with pytest.raises(redundict.NotFoundError) as caught:
            redundict.open(path, flag)
        assert isinstance(caught.value, FileNotFoundError)
        return
    with redundict.open(path, flag) as state:
        assert state == content


def test_an_unknown_flag_is_refused(path: str) -> None:
    """A flag that dbm does not know is a ValueError before anything is made."""
    with pytest.raises(ValueError, match="flag"):
        redundict.open(path, "x")
    assert os.listdir(os.path.dirname(path)) == []
