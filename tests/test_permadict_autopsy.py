"""Why the PersistentDict / PermaDict recipe loses state: its nine faults, each beside redundict.

`tests/recipe.py` is the recipe. Each test shows what it does, and what redundict does in its place.
"""

from __future__ import annotations

import errno
import io
import json
import json.encoder
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redundict

from . import inside, recipe
from .crash import Cuts, Moment, Promise, Writer, layout
from .disk import FOLDER, SimulatedDisk
from .recipe import PersistentDict

PLAIN = os.path.join(FOLDER, "state.json")
OLD, NEW = {"generation": 1}, {"generation": 2, "pad": "x" * 3000}


class PowerCut(BaseException):
    """The moment at which the machine stops."""


# --- a disk under the recipe


class SimulatedFile(io.StringIO):
    """A text file that is written to a simulated disk when it is closed."""

    def __init__(self, disk: SimulatedDisk, name: str, *, synced: bool) -> None:
        super().__init__()
        self.disk, self.name, self.synced = disk, name, synced

    def close(self) -> None:
        if not self.closed:
            handle = self.disk.create(self.name, 0o600)
            self.disk.write(handle, self.getvalue().encode(), 0)
            if self.synced:
                self.disk.sync_all(handle)
            self.disk.close(handle)
        super().close()


def saved_by_the_recipe(patch: pytest.MonkeyPatch, *, synced: bool = False) -> SimulatedDisk:
    """Return the disk after the recipe has saved `NEW` over an `OLD` that was durable."""
    old = json.dumps(OLD).encode()
    disk = SimulatedDisk(((PLAIN, old),), sector=2048)
    patch.setattr(
        recipe, "open", lambda name, _: SimulatedFile(disk, name, synced=synced), raising=False
    )
    patch.setattr(os, "rename", disk.rename)
    state = PersistentDict(PLAIN, "n")
    state.update(NEW)
    state.sync()
    patch.undo()
    return disk


def left_by_a_cut(disk: SimulatedDisk) -> set[bytes | None]:
    """Return what the plain file may hold after a power cut; None: it is not there."""
    return {dict(image).get(PLAIN) for image in disk.images()}


def test_1_without_an_fsync_the_name_points_at_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After `sync` returned, a cut leaves the recipe an empty file or NULs, the old state gone."""
    left = left_by_a_cut(saved_by_the_recipe(monkeypatch))
    assert b"" in left
    nul_filled = [held for held in left if held and not held.strip(b"\0")]
    assert nul_filled
    plain = tmp_path / "state.json"
    plain.write_bytes(b"")
    assert PersistentDict(str(plain)) == {}  # and the next sync makes that final
    plain.write_bytes(nul_filled[0])
    with pytest.raises(ValueError, match="not in a supported format"):
        PersistentDict(str(plain))


def test_2_without_a_sync_of_the_directory_the_move_is_undone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even with an fsync of the file, a cut brings back the state before the one that was saved."""
    left = left_by_a_cut(saved_by_the_recipe(monkeypatch, synced=True))
    assert left == {json.dumps(OLD).encode(), json.dumps(NEW, separators=(",", ":")).encode()}


@pytest.mark.usefixtures("slots_are_parsed_once")
def test_1_and_2_redundict_loads_what_sync_returned_for() -> None:
    """The same cuts at every moment of a commit and after it: nothing that was saved is lost."""
    writer = Writer(SimulatedDisk(sector=1024))
    for state in (OLD, NEW, OLD):
        writer.commit(json.dumps(state).encode())
    cuts = Cuts(layout())
    cuts.check(writer.moments)
    assert cuts.states > 100
    only_after = Moment(writer.disk.copy(), Promise(3, writer.promise.contents))
    cuts.check([only_after])


# --- Windows


def refused(*paths: Any) -> None:
    """Refuse to rename onto a name that is there, as Windows does."""
    if os.path.exists(paths[1]):
        raise FileExistsError(f"WinError 183: {paths[1]}")
    os.link(paths[0], paths[1])
    os.unlink(paths[0])


def half(source: Any, target: Any, *_: Any) -> None:
    """Copy half of a file, until the machine stops."""
    content = source.read()
    target.write(content[: len(content) // 2])
    target.flush()
    raise PowerCut


def test_3_on_windows_the_move_rewrites_the_only_good_file_in_place(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of Windows in `shutil.move` leaves the recipe half a file, in place of its state."""
    with PersistentDict(path) as state:
        state.update(NEW)
    monkeypatch.setattr(os, "rename", refused)
    monkeypatch.setattr(shutil, "copyfileobj", half)
    monkeypatch.setattr(shutil, "_USE_CP_SENDFILE", False, raising=False)
    state["more"] = 1
    with pytest.raises(PowerCut):
        state.sync()
    monkeypatch.undo()
    # Half of the JSON is a row of CSV with two fields, so it even loads.
    assert PersistentDict(path).keys() == {'{"generation":2'}


def test_3_redundict_never_moves_onto_a_name(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every rename onto a file refused, redundict saves from the first commit on."""
    monkeypatch.setattr(os, "rename", refused)
    monkeypatch.setattr(os, "replace", refused)
    with redundict.open(path) as state:
        for state["n"] in range(5):
            state.sync()
    assert redundict.load(path) == {"n": 4}


# --- what cannot be read


def test_4_what_may_not_be_read_is_taken_for_nothing_and_overwritten(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner's lock for one moment, and the recipe's next sync destroys the state."""
    with PersistentDict(path) as state:
        state.update(OLD)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with PersistentDict(path) as state:
        assert state == {}
    monkeypatch.undo()
    assert PersistentDict(path) == {}


def test_4_redundict_refuses_to_take_it_for_nothing(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not be read is an `AccessError`, slots and plain file alike; nothing is touched."""
    with redundict.open(path) as state:
        state.update(OLD)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    inside.fail_on(monkeypatch, "open_read", errno.EACCES)
    with pytest.raises(redundict.AccessError):
        redundict.open(path)
    monkeypatch.undo()
    assert redundict.load(path) == OLD
    plain = f"{path}.plain"
    Path(plain).write_text("{}")
    inside.deny_plain_files(monkeypatch, denied)
    with pytest.raises(redundict.AccessError):
        redundict.PermaDict(plain)


# --- two writers


def test_5_two_writers_share_one_unfinished_file(path: str) -> None:
    """The recipe's second writer moves the first one's file away from under it."""

    class Interrupted(PersistentDict):
        def dump(self, file: Any) -> None:
            super().dump(file)
            with PersistentDict(path) as other:
                other["from"] = "the other"

    state = Interrupted(path)
    state["from"] = "the first"
    with pytest.raises(FileNotFoundError):
        state.sync()
    # What the other saved is gone as well: the first one's bytes went into the moved file.
    assert PersistentDict(path) != {"from": "the other"}


def test_5_redundict_refuses_a_second_writer(path: str) -> None:
    """The second writer gets a `LockedError` that names the first, whose state is saved."""
    with redundict.open(path) as state:
        state["from"] = "the first"
        with pytest.raises(redundict.LockedError) as caught:
            redundict.PermaDict(path)
        assert caught.value.pid == os.getpid()
    assert redundict.load(path) == {"from": "the first"}


# --- formats


class Bomb:
    """A pickle of it runs code when it is loaded."""

    exploded = False

    def __reduce__(self) -> tuple[Callable[[], dict[str, Any]], tuple[()]]:
        return explode, ()


def explode() -> dict[str, Any]:
    Bomb.exploded = True
    return {}


@pytest.fixture
def planted(path: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the path of a file that somebody else planted."""
    monkeypatch.setattr(Bomb, "exploded", False)
    monkeypatch.setitem(sys.modules, Bomb.__module__, sys.modules[__name__])
    Path(path).write_bytes(pickle.dumps(Bomb()))
    return path


def test_6_a_planted_file_runs_code(planted: str) -> None:
    """The recipe tries to unpickle first, whichever format it was told.

    Python 3 opens the file as text for JSON, which happens to make pickle fail; from a binary file,
    as Python 2 opened it and as the recipe does for pickle, the code runs.
    """
    state = PersistentDict(f"{planted}.other", format="json")
    with open(planted, "rb") as file:
        state.load(file)
    assert Bomb.exploded


def test_6_redundict_unpickles_nothing_unasked(planted: str) -> None:
    """A pickle is loaded only with `format="pickle"`."""
    for format in ("json", "csv"):
        with pytest.raises(redundict.FormatError):
            redundict.PermaDict(planted, format=format)
    assert not Bomb.exploded


def test_7_a_file_in_no_format_leaves_nothing_to_fall_back_on(path: str) -> None:
    """One bad file and the recipe's state is gone: there is no older one."""
    with PersistentDict(path) as state:
        state.update(OLD)
    Path(path).write_bytes(b'{"generation": 1')
    with pytest.raises(ValueError, match="not in a supported format"):
        PersistentDict(path)


def test_7_redundict_falls_back_on_the_other_copy_and_on_the_one_before(path: str) -> None:
    """A bad slot costs nothing; if both copies are bad, the one before loads, and it is said."""
    with redundict.open(path) as state:
        for state["n"] in (1, 2):
            state.sync()
    Path(f"{path}.a1").write_bytes(b'{"n": 2')
    with redundict.open(path) as state:
        assert state == {"n": 2}
        assert state.recovery is not None
        assert not state.recovery.newest_lost
    for copy in "ab":
        Path(f"{path}.{copy}1").write_bytes(b'{"n": 2')
    with pytest.warns(redundict.RedundancyWarning), redundict.open(path) as state:
        assert state == {"n": 1}
        assert state.recovery is not None
        assert state.recovery.newest_lost
        state["n"] = 3


@pytest.mark.parametrize(
    ("format", "state", "back", "item"),
    [
        ("json", {"a": {1: "one"}}, {"a": {"1": "one"}}, "state['a']: key 1 (int)"),
        ("json", {"a": (1, 2)}, {"a": [1, 2]}, "state['a']"),
        ("csv", {"n": 1}, {"n": "1"}, "state['n']"),
    ],
)
def test_8_formats_change_what_they_are_given(
    path: str, format: str, state: dict[str, Any], back: dict[str, Any], item: str
) -> None:
    """The recipe brings back something else in silence; redundict refuses, and names the item."""
    with PersistentDict(path, format=format) as saved:
        saved.update(state)
    assert PersistentDict(path, format=format) == back
    os.remove(path)
    with redundict.open(path, format=format) as ours:
        ours.update(state)
        with pytest.raises(redundict.UnstorableError) as caught:
            ours.sync()
        assert caught.value.item.startswith(item.partition(":")[0])
        assert item in str(caught.value)
        assert not os.path.exists(f"{path}.a0")
        ours.clear()


def test_9_json_to_a_file_runs_the_slow_encoder(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe encodes in pure Python, a write for each token; redundict in C, in one call."""
    made: list[object] = []
    slow = json.encoder._make_iterencode  # type: ignore[attr-defined]

    def counting(*args: Any, **kwargs: Any) -> Any:
        made.append(args)
        return slow(*args, **kwargs)

    monkeypatch.setattr(json.encoder, "_make_iterencode", counting)
    with PersistentDict(path) as state:
        state.update({str(n): [n] for n in range(100)})
    assert len(made) == 1
    made.clear()
    with redundict.PermaDict(f"{path}.new") as ours:
        ours.update(state)
    assert not made


def test_every_fault_has_its_test() -> None:
    """The nine are all here."""
    numbers = {name.split("_")[1] for name in globals() if name.startswith("test_")}
    assert {str(number) for number in range(1, 10)} <= numbers
