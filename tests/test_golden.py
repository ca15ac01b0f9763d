"""Golden files: what version 1 wrote loads for ever, exactly."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import redundict

from .inside import LETTERS, trailer

V1 = Path(__file__).parent / "golden" / "v1"
START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@dataclass(frozen=True)
class Golden:
    """A golden store: its name, and the state of each generation that it holds."""

    name: str
    generations: dict[int, dict[Any, Any]]
    format: str = "json"
    copies: int = 2
    keep: int = 2

    @property
    def path(self) -> str:
        return str(V1 / self.name)


STORES = [
    Golden(
        "unicode.json",
        {
            1: {},
            2: {"\ud800": "lone \udfff"},
            3: {"größe": [1, -2.5, 1e300, None, True, {"深": {"": []}}], "\U0001f600": "a\nb\0c"},
        },
        keep=3,
    ),
    Golden("rows.csv", {1: {"a": "1,5", 'say "x"': "two\nlines", "": ""}}, format="csv"),
    Golden("objects.pickle", {1: {(1, 2): {3}, None: b"\xff", "t": START}}, format="pickle"),
    Golden("kept.json", {3: {"n": 3}, 4: {"n": 4}, 5: {"n": 5}}, keep=3),
    Golden("grown.json", {2: {"x": "y" * 4000}, 3: {"x": "y" * 40_000}}),
    Golden("three.json", {1: {"n": 1}, 2: {"n": 2}}, copies=3),
    Golden("later.json", {1: {"n": 1}}),
]
#: What each file is, by its name with `?` for the copy's letter: the copies are byte-identical.
SHA256 = {
    "grown.json.?0": "03fcbd293cd7bea9983dfcc13a93ad5c425d7b4422acfd3ba4573d3428d021ff",
    "grown.json.?1": "6a3ec31b6d33338c55218435b16bd550a560707200a11d884b1f5d90506b7fec",
    "kept.json.?0": "0a90060285cbbd2c72797ff99ff93d08c950d3dadf58cff79a60ac178f63994b",
    "kept.json.?1": "6982500b5172723a6b7bf374d0deb0cf46c0bb875ab19faa296a6f53bb9f5b83",
    "kept.json.?2": "1b0d8e75914cfe0fcc6a9f44e8a1ef8f801fed75e3de0ffb26cebe19884ebb4f",
    "later.json.?0": "c06859fb5a9a60f06b9f89fc04daef2df8792a90bb7007ee3664cbf0aba2b121",
    "objects.pickle.?0": "0a511d6ef4f40de0c09e92dad7e47d04ed6575af5af3b81288f2e55d9969c963",
    "rows.csv.?0": "c1a125e7c4b1c674590211b2e3288b4f0c02a084aba87cd164989d66a4838e8e",
    "three.json.?0": "dfca4e9c3b55ba9dfb616cc47c0a051952c8907da21596a8c8f373fe53129dc6",
    "three.json.?1": "2a613b7b434088072ac17458bbba1783f58c9f05fbaa0954dc350de0501e620c",
    "unicode.json.?0": "63500bdc96095a8693620da99e66fc0e9ad849f0ef8406aadcbad9f2dd68c8af",
    "unicode.json.?1": "3bd2199df6fbc59480e052b77908172f1d134c35e27b4a6ab92b5f9205fb78ff",
    "unicode.json.?2": "69d0b7899ae194b54961dddd4c3b4dca555b0d0a1cbea9968f9f7bdbd941548c",
}

each_store = pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)


def copied(store: Golden, folder: Path) -> str:
    """Copy a store to where it may be written, and return its path."""
    for name in os.listdir(V1):
        if name.startswith(store.name):
            shutil.copy(V1 / name, folder / name)
    return str(folder / store.name)


def test_the_golden_files_are_what_they_were() -> None:
    """Nobody made them anew, no line end was changed, and there are no others."""
    found = {
        name: hashlib.sha256((V1 / name).read_bytes()).hexdigest()
        for name in os.listdir(V1)
        if not name.startswith(".")
    }
    expected = {
        f"{store.name}.{letter}{name.rpartition('?')[2]}": digest
        for store in STORES
        for name, digest in SHA256.items()
        if name.startswith(store.name)
        for letter in LETTERS[: store.copies]
    }
    assert found == expected


@each_store
def test_every_generation_loads_exactly(store: Golden) -> None:
    """Content and types; the newest by default, each of the others by its number."""
    assert repr(redundict.load(store.path, format=store.format)) == repr(
        store.generations[max(store.generations)]
    )
    for number, state in store.generations.items():
        assert redundict.load(store.path, number, format=store.format) == state


@each_store
def test_a_check_finds_nothing_wrong(store: Golden) -> None:
    """Every byte verifies, and every fact of the trailers is read as it was written."""
    report = redundict.check(store.path)
    assert report.state is redundict.StoreState.HEALTHY
    assert report.generation == max(store.generations)
    assert [g.number for g in report.generations] == sorted(store.generations, reverse=True)
    for generation in report.generations:
        assert generation.format == store.format
        assert generation.written == START + timedelta(minutes=generation.number - 1)
        assert len(generation.slots) == store.copies
        for slot in generation.slots:
            assert slot.trailer
            assert (slot.trailer.copies, slot.trailer.keep) == (store.copies, store.keep)


@each_store
def test_each_generation_names_the_one_before(store: Golden) -> None:
    """The chain of parents holds from the first generation on, as far as it is there."""
    listed = redundict.check(store.path).generations
    for newer, older in pairwise(listed):
        assert newer.parent == older.digest[:16]
    assert (listed[-1].parent == trailer.NO_PARENT) is (listed[-1].number == 1)


@each_store
def test_reading_writes_nothing(store: Golden, tmp_path: Path) -> None:
    """Loading, checking and opening to read leave every file as it is, and make none."""
    path = copied(store, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    redundict.load(path, format=store.format)
    redundict.check(path)
    with redundict.open(path, "r", format=store.format) as state:
        assert state == store.generations[max(store.generations)]
        assert state.recovery is None
    assert before == {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}


@each_store
def test_a_store_of_version_1_lives_on(store: Golden, tmp_path: Path) -> None:
    """It opens for writing without a complaint, and its next generation follows on its last."""
    path, newest = copied(store, tmp_path), max(store.generations)
    with redundict.open(path, format=store.format, copies=store.copies, keep=store.keep) as state:
        assert state.recovery is None
        assert state.generation == newest
        state["new"] = "x"
        assert state.sync() == newest + 1
    assert redundict.load(path, format=store.format) == store.generations[newest] | {"new": "x"}
    assert redundict.load(path, newest, format=store.format) == store.generations[newest]


def test_a_field_of_a_later_minor_version_is_kept() -> None:
    """What this version does not know does not keep it from loading."""
    slot = trailer.verify((V1 / "later.json.a0").read_bytes())
    assert slot.trailer.unknown == {"colour": "green"}


def test_a_payload_that_grew_has_a_larger_slot() -> None:
    """The generations of one store may be in slots of different sizes."""
    sizes = [(V1 / f"grown.json.a{index}").stat().st_size for index in (0, 1)]
    assert sizes == [40_960, 8192]
