"""`integrity` and `recovery`: reports that change nothing, repairs that destroy nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import StoreState

from . import damage, inside


@pytest.fixture
def store(path: str) -> str:
    """Return a store of three generations with keep=3, in slots 0, 1 and 2, written long ago."""
    with redundict.open(path, keep=3) as state:
        for number in (1, 2, 3):
            state["n"] = number
            state.sync()
    for name in os.listdir(os.path.dirname(path)):
        damage.age(os.path.join(os.path.dirname(path), name))
    return path


def files(path: str) -> dict[str, bytes]:
    """Return the content of every file of a store, the lock's aside."""
    folder = Path(path).parent
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.suffix != ".lock"}


def swap(path: str, one: str, other: str) -> None:
    os.rename(path + one, path + ".x")
    os.rename(path + other, path + one)
    os.rename(path + ".x", path + other)


def nothing(path: str) -> None:
    """Leave the store as it is."""


def damages(*slots: str, how: Callable[[str], None] = lambda s: damage.flip(s, 1)) -> Any:
    return lambda path: [how(path + slot) for slot in slots]


TABLE = [
    ("nothing", nothing, StoreState.HEALTHY, 3, 0),
    ("newest in a", damages(".a2"), StoreState.DEGRADED, 3, 1),
    ("newest in b", damages(".b2"), StoreState.DEGRADED, 3, 1),
    ("older in a", damages(".a0"), StoreState.DEGRADED, 3, 1),
    ("one of each", damages(".a0", ".b1", ".a2"), StoreState.DEGRADED, 3, 3),
    ("all of a", damages(".a0", ".a1", ".a2"), StoreState.DEGRADED, 3, 3),
    ("all of b gone", damages(".b0", ".b1", ".b2", how=os.remove), StoreState.DEGRADED, 3, 3),
    ("oldest in both", damages(".a0", ".b0"), StoreState.DEGRADED, 3, 2),
    ("newest in both", damages(".a2", ".b2"), StoreState.ROLLED_BACK, 2, 2),
    ("newest two", damages(".a1", ".b1", ".a2", ".b2"), StoreState.ROLLED_BACK, 1, 4),
    ("swapped in a", lambda p: swap(p, ".a0", ".a2"), StoreState.DEGRADED, 3, 2),
    ("swapped across", lambda p: swap(p, ".a0", ".b2"), StoreState.DEGRADED, 3, 2),
    ("copied over", lambda p: shutil.copy(p + ".a0", p + ".a2"), StoreState.DEGRADED, 3, 1),
]


@pytest.mark.parametrize(
    ("harm", "state", "generation", "flaws"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_a_report_is_right_and_a_repair_mends_it(
    store: str, harm: Callable[[str], None], state: StoreState, generation: int, flaws: int
) -> None:
    """State, generation and number of flaws are as they are; after a repair all is healthy."""
    harm(store)
    before = files(store)
    for name in before:
        damage.age(os.path.join(os.path.dirname(store), name))
    report = redundict.check(store)
    assert (report.state, report.generation, len(report.flaws)) == (state, generation, flaws)
    assert (report.action is None) == (state is StoreState.HEALTHY)
    assert files(store) == before
    loaded = redundict.load(store)

    done = redundict.repair(store)
    assert done.report.state is StoreState.HEALTHY
    assert redundict.load(store) == loaded == {"n": generation}
    lost = set(before.values()) - set(files(store).values())
    assert not lost, "what was replaced is put aside"
    again = redundict.repair(store)
    assert (again.aside, again.rewritten, again.committed) == ({}, (), None)


def test_a_repair_commits_once_however_many_generations_are_gone(path: str) -> None:
    """Nothing is missed afterwards, the generations that are left stay, and so it goes on."""
    with redundict.open(path, keep=5, history="recent") as state:
        for state["n"] in range(1, 6):
            state.sync()
    for index in (1, 2, 3):
        for copy in "ab":
            damage.flip(f"{path}.{copy}{index}", 1)
    done = redundict.repair(path)
    assert [generation.number for generation in done.report.generations] == [done.committed, 5, 1]
    assert done.report.state is StoreState.HEALTHY
    with redundict.open(path, keep=5, history="recent") as state:
        assert state == {"n": 5}
        for state["n"] in range(6, 14):
            last = state.sync()
            assert redundict.check(path).state is StoreState.HEALTHY
    numbers = [generation.number for generation in redundict.check(path).generations]
    assert numbers == [last, last - 1, last - 2, last - 3, last - 4]


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_a_generation_that_is_lost_after_a_repair_is_missed(path: str) -> None:
    """That its history began anew does not make a store forget what it had since, or before."""
    with redundict.open(path, keep=4) as state:
        for state["n"] in range(1, 5):
            state.sync()
    for name in ("a0", "a1", "b0", "b1"):
        damage.flip(f"{path}.{name}", 1)
    assert redundict.repair(path).committed
    for copy in "ab":
        os.rename(f"{path}.{copy}0", f"{path}.{copy}0.away")
    report = redundict.check(path)
    assert (report.generation, report.state) == (4, StoreState.ROLLED_BACK)
    redundict.repair(path)


def test_a_repair_keeps_the_permissions_of_the_siblings(store: str) -> None:
    """A slot that is made anew is not open to more people than the others."""
    for slot in os.listdir(os.path.dirname(store)):
        os.chmod(os.path.join(os.path.dirname(store), slot), 0o600)
    os.remove(store + ".b1")
    redundict.repair(store)
    assert os.stat(store + ".b1").st_mode & 0o777 == 0o600


def test_a_link_at_a_slot_is_put_aside_and_not_followed(store: str, tmp_path: Path) -> None:
    """What the link points to is neither read, nor written, nor counted."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    shutil.copy(store + ".a2", target / "slot")
    damage.flip(str(target / "slot"), 0)
    before = (target / "slot").read_bytes()
    os.remove(store + ".a2")
    os.symlink(target / "slot", store + ".a2")
    with pytest.warns(redundict.RedundancyWarning, match="symbolic link"):
        state = redundict.open(store, keep=3)
        assert state == {"n": 3}
        state.close()
    report = redundict.repair(store)
    assert report.aside.keys() == {"state.json.a2"}
    assert (target / "slot").read_bytes() == before


def test_a_repair_interrupted_at_any_call_loses_nothing(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever call fails, the error is typed and the newest loads; the next repair succeeds."""
    for slot in (".a2", ".b1", ".a0"):
        damage.flip(store + slot, 1)
    keep = files(store)
    for call in ("rename", "write", "create", "sync_all", "sync_directory"):
        for name in os.listdir(os.path.dirname(store)):
            os.remove(os.path.join(os.path.dirname(store), name))
        for name, content in keep.items():
            damage.overwrite(os.path.join(os.path.dirname(store), name), content)
        with monkeypatch.context() as patch:
            inside.fail_on(patch, call, errno.EIO)
            with pytest.raises(redundict.StorageError):
                redundict.repair(store)
        assert redundict.load(store) == {"n": 3}
        assert redundict.repair(store).report.state is StoreState.HEALTHY
        assert set(keep.values()) <= set(files(store).values())


def test_a_repair_whose_source_rots_meanwhile_puts_nothing_aside(store: str) -> None:
    """What is written is what verifies when it is written, not when it was shown."""
    damage.flip(store + ".a2", 1)
    with inside.prepared_repair(store) as prepared:
        damage.flip(store + ".b2", 5)
        before = files(store)
        with pytest.raises(redundict.StorageError, match="a2 cannot be rewritten"):
            prepared.do()
        assert files(store) == before
    assert redundict.repair(store).report.state is StoreState.HEALTHY
    assert redundict.load(store) == {"n": 2}


def test_a_rollback_on_disk_is_a_new_generation(store: str) -> None:
    """It can be undone by another; a number that is not there is an error."""
    assert redundict.rollback(store) == 4
    assert redundict.load(store) == {"n": 2}
    assert redundict.rollback(store) == 5
    assert redundict.load(store) == {"n": 3}
    with pytest.raises(redundict.NotFoundError):
        redundict.rollback(store, to=99)
    assert redundict.check(store).generation == 5


def test_a_store_whose_payload_cannot_be_decoded_is_still_looked_after(path: str) -> None:
    """Check, repair and rollback know bytes only: no format has to be understood, no code runs."""
    with redundict.open(path, format="pickle") as state:
        for number in (1, 2):
            state[number] = {number}
            state.sync()
    for slot in (".a0", ".a1", ".b0", ".b1"):
        damage.age(path + slot)
    damage.flip(path + ".a1", 0)
    assert redundict.check(path).state is StoreState.DEGRADED
    redundict.repair(path)
    redundict.rollback(path)
    assert redundict.load(path, format="pickle") == {1: {1}}


@pytest.mark.parametrize("act", [redundict.repair, redundict.rollback])
def test_who_writes_takes_the_lock(store: str, act: Callable[[str], object]) -> None:
    """While a program has the store open, neither repair nor rollback touches it."""
    with redundict.open(store, keep=3), pytest.raises(redundict.LockedError):
        act(store)


@pytest.mark.parametrize("act", [redundict.check, redundict.repair, redundict.rollback])
def test_where_no_store_is_nothing_is_made(path: str, act: Callable[[str], object]) -> None:
    """A mistyped path is an error, and leaves no lock file behind."""
    with pytest.raises(redundict.NotFoundError):
        act(path)
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.damages  # for who looks at one of the folders only
@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_copies_in_folders_of_their_own_are_checked_and_repaired(tmp_path: Path) -> None:
    """With `folders`, each copy is looked for where it lives, and so does the printed command."""
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    for folder in folders:
        os.mkdir(folder)
    path = os.path.join(folders[0], "state.json")
    with redundict.open(path, copies=folders) as state:
        state["n"] = 1
    shutil.rmtree(folders[1])
    os.mkdir(folders[1])
    report = redundict.check(path, copies=folders)
    assert report.state is StoreState.DEGRADED
    assert report.action is not None
    assert f"--copies={folders[1]}" in report.action
    assert redundict.repair(path, copies=folders).report.state is StoreState.HEALTHY


def test_lowering_copies_or_keep_is_no_damage(path: str) -> None:
    """What a store has no use for any more is left alone and not complained about."""
    with redundict.open(path, copies=3, keep=3) as state:
        for number in range(4):
            state["n"] = number
            state.sync()
    with redundict.open(path, copies=2, keep=2) as state:
        for number in range(4, 7):
            state["n"] = number
            state.sync()
    assert redundict.check(path).state is StoreState.HEALTHY
    assert redundict.open(path, "r").recovery is None


@pytest.mark.parametrize("history", ["recent", "thinned"])
@pytest.mark.parametrize("back", [1, 2, 3])
def test_the_target_of_a_rollback_outlives_a_rollback_that_fails(
    path: str, monkeypatch: pytest.MonkeyPatch, history: Any, back: int
) -> None:
    """Whatever the disk refuses, the same rollback can be done afterwards."""
    with redundict.open(path, keep=4, history=history) as state:
        for state["n"] in range(1, 10):
            state.sync()
        target = state.generations()[back].number
        with monkeypatch.context() as patch:
            inside.fail_on(patch, inside.SYNCS, errno.EIO)
            with pytest.raises(redundict.CommitError):
                state.rollback(target)
        state.rollback(target)
        assert state == {"n": target}
    assert redundict.load(path) == {"n": target}
