"""Files that change under an open store: no commit is lost in them, and nothing unknown in them."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

import redundict
from redundict import StoreState

from . import damage, inside

pytestmark = pytest.mark.damages


@pytest.fixture
def opened(path: str) -> redundict.RedunDict:
    """Return an open store whose state is committed."""
    state = redundict.open(path, keep=2)
    for state["n"] in (1, 2):
        state.sync()
    return state


def folder_of(state: redundict.RedunDict) -> Path:
    return Path(state.path).parent


def remove_all(state: redundict.RedunDict, ending: str = "") -> None:
    for file in folder_of(state).glob(f"state.json*{ending}"):
        file.unlink()


@pytest.mark.parametrize("call", ["sync", "close"])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("ending", ["", ".lock", ".a?", ".b?", ".?1"])
def test_files_that_were_deleted_are_written_again(
    opened: redundict.RedunDict, call: str, changed: bool, ending: str
) -> None:
    """`git clean -fdx` or a cache cleaner runs while the store is open, changed or not."""
    remove_all(opened, ending)
    if changed:
        opened["more"] = 1
    getattr(opened, call)()
    assert redundict.load(opened.path) == {"n": 2} | ({"more": 1} if changed else {})
    newest = redundict.check(opened.path).generations[0]
    assert {slot.letter for slot in newest.slots} == {"a", "b"}
    if call == "sync":
        with pytest.raises(redundict.LockedError):
            redundict.open(opened.path)
        opened.close()
    assert redundict.load(opened.path)["n"] == 2


@pytest.mark.parametrize("call", ["sync", "close"])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("ending", ["", ".lock", ".a?", ".b?", ".?1"])
def test_files_of_a_shared_store_that_were_deleted_are_written_again(
    path: str, call: str, changed: bool, ending: str
) -> None:
    """It is not locked between two commits, and yet an unchanged `sync` looks at its files."""
    state = redundict.open(path, keep=2, shared=True)
    for state["n"] in (1, 2):
        state.sync()
    remove_all(state, ending)
    if changed:
        state["more"] = 1
    getattr(state, call)()
    assert redundict.load(path) == {"n": 2} | ({"more": 1} if changed else {})
    newest = redundict.check(path).generations[0]
    assert {slot.letter for slot in newest.slots} == {"a", "b"}
    state.close()


@pytest.mark.parametrize("call", ["sync", "close"])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("instead", ["nothing", "empty", "copy", "link"])
def test_a_folder_that_is_another_one_is_not_written(
    opened: redundict.RedunDict, tmp_path: Path, call: str, changed: bool, instead: str
) -> None:
    """The folder is renamed, replaced or mounted over: no commit goes where nobody looks."""
    home, away = folder_of(opened), tmp_path.parent / f"{tmp_path.name}-away"
    os.rename(home, away)
    if instead == "empty":
        home.mkdir()
    elif instead == "copy":
        shutil.copytree(away, home)
    elif instead == "link":
        other = tmp_path.parent / f"{tmp_path.name}-other"
        other.mkdir()
        home.symlink_to(other)
    if changed:
        opened["more"] = 1
    before = sorted(os.listdir(home)) if instead != "nothing" else None
    with pytest.raises(redundict.StorageError) as caught:
        getattr(opened, call)()
    assert caught.value.reason == "moved"
    assert before == (sorted(os.listdir(home)) if instead != "nothing" else None)
    if instead == "link":
        home.unlink()
    else:
        shutil.rmtree(home, ignore_errors=True)
    os.rename(away, home)
    opened["later"] = 1
    opened.close()
    assert redundict.load(opened.path)["later"] == 1


def test_a_link_to_the_folder_that_was_opened_is_that_folder(
    opened: redundict.RedunDict, tmp_path: Path
) -> None:
    """A folder may move if its old name leads to it."""
    home, away = folder_of(opened), tmp_path.parent / f"{tmp_path.name}-moved"
    os.rename(home, away)
    home.symlink_to(away)
    opened["n"] = 3
    opened.close()
    assert redundict.load(away / "state.json") == {"n": 3}
    home.unlink()
    os.rename(away, home)


def test_a_lock_file_that_was_replaced_is_taken_again(opened: redundict.RedunDict) -> None:
    """A lock on a file without a name keeps nobody out."""
    lock = f"{opened.path}.lock"
    shutil.copy(lock, f"{lock}.copy")
    Path(f"{lock}.copy").write_bytes(b"")
    os.replace(f"{lock}.copy", lock)
    opened.sync()
    with pytest.raises(redundict.LockedError):
        redundict.open(opened.path)
    opened.close()


def test_another_writer_with_the_new_lock_file_is_seen(opened: redundict.RedunDict) -> None:
    """The lock file was removed, and another program opened the store: both cannot write."""
    os.unlink(f"{opened.path}.lock")
    other = redundict.open(opened.path, keep=2)
    opened["n"] = 3
    with pytest.raises(redundict.LockedError):
        opened.sync()
    other["n"] = 4
    other.close()
    with pytest.raises(redundict.ConflictError):
        opened.sync()
    assert redundict.load(opened.path) == {"n": 4}
    opened.reload()
    assert opened == {"n": 4}
    opened.close()


def test_a_slot_that_an_older_one_replaced_is_written_again(opened: redundict.RedunDict) -> None:
    """A restored file of one copy is healed by the next sync, changed or not."""
    shutil.copy(f"{opened.path}.b0", f"{opened.path}.b1")
    opened.sync()
    assert redundict.check(opened.path).state is StoreState.HEALTHY
    opened.close()


def test_a_backup_that_was_restored_under_an_open_store_is_superseded(
    opened: redundict.RedunDict, tmp_path: Path
) -> None:
    """Memory holds the newer state, and a sync writes it above the restored one."""
    backup = tmp_path / "backup"
    backup.mkdir()
    for slot in ("a0", "a1", "b0", "b1"):
        shutil.copy(f"{opened.path}.{slot}", backup)
    for opened["n"] in (3, 4):
        opened.sync()
    for file in backup.iterdir():
        shutil.copy(file, folder_of(opened) / file.name)
    assert opened.sync() > 4
    opened.close()
    assert redundict.load(opened.path) == {"n": 4}
    shutil.rmtree(backup)


@pytest.mark.parametrize("changed", [False, True])
def test_half_of_another_machines_state_is_not_overwritten(
    opened: redundict.RedunDict, tmp_path: Path, changed: bool
) -> None:
    """A synchroniser brings slots of a store that went on elsewhere."""
    other = tmp_path / "other"
    other.mkdir()
    for slot in ("a0", "a1", "b0", "b1"):
        shutil.copy(f"{opened.path}.{slot}", other / f"state.json.{slot}")
    with redundict.open(other / "state.json", keep=2) as theirs:
        for theirs["n"] in (30, 40):
            theirs.sync()
    brought = {slot: damage.read(str(other / f"state.json.{slot}")) for slot in ("b0", "b1")}
    if changed:
        opened["n"] = 3
    for slot, content in brought.items():
        Path(f"{opened.path}.{slot}").write_bytes(content)
    with pytest.raises(redundict.ConflictError):
        opened.sync()
    assert {slot: damage.read(f"{opened.path}.{slot}") for slot in brought} == brought
    if changed:
        with pytest.raises(redundict.ConflictError):
            opened.close()
        opened.reload()
        assert opened == {"n": 40}
        opened.close()
    else:
        with pytest.warns(redundict.RedundancyWarning, match="nothing to save"):
            opened.close()
    shutil.rmtree(other)


def test_an_error_of_the_folder_ends_with_its_cause(
    opened: redundict.RedunDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is not given up because a look failed for a moment."""
    inside.fail_on(monkeypatch, "signature", errno.EIO)
    opened.sync()
    monkeypatch.undo()
    opened["n"] = 3
    opened.close()
    assert redundict.load(opened.path) == {"n": 3}
