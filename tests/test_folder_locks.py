"""The locks of a store whose copies lie in several folders, and the notes in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import redundict
from redundict import StoreState

from . import damage

pytestmark = [pytest.mark.damages, pytest.mark.skipif(not hasattr(os, "fchown"), reason="POSIX")]


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    return folders


def is_root() -> bool:
    return os.geteuid() == 0


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """Let this process act as another user for a while."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_writer_in_one_folder_keeps_out_a_writer_in_the_other(disks: list[Path]) -> None:
    """Whoever begins at the other disk meets the same lock."""
    with redundict.open(disks[0] / "s", copies=disks) as state:
        state["n"] = 1
        state.sync()
        with pytest.raises(redundict.LockedError):
            redundict.open(disks[1] / "s")
    with redundict.open(disks[1] / "s") as state:
        assert state == {"n": 1}
    redundict.open(disks[0] / "s").close()


def test_an_opening_that_is_refused_in_one_folder_leaves_the_other_free(disks: list[Path]) -> None:
    """All locks are taken, or none."""
    redundict.open(disks[0] / "s", copies=disks).close()
    alone = redundict.open(disks[1] / "t")
    shutil.copy(disks[1] / "t.lock", disks[1] / "s.lock")
    os.replace(disks[1] / "t.lock", disks[1] / "s.lock")  # the lock of the other store has the name
    with pytest.raises(redundict.LockedError):
        redundict.open(disks[0] / "s")
    os.link(disks[1] / "s.lock", disks[1] / "t.lock")
    os.unlink(disks[1] / "s.lock")
    redundict.open(disks[0] / "s").close()
    alone.close()


def test_a_foreign_file_at_the_second_lock_stops_every_commit(disks: list[Path]) -> None:
    """No commit goes on without its lock, and no note goes into another file."""
    state = redundict.open(disks[0] / "s", copies=disks, keep=2)
    state["n"] = 1
    state.sync()
    lock = disks[1] / "s.lock"
    lock.unlink()
    lock.write_text("precious\n")
    for state["n"] in (2, 3):
        with pytest.raises(redundict.StorageError) as caught:
            state.sync()
        assert caught.value.reason == "foreign-lock"
    assert lock.read_text() == "precious\n"
    lock.unlink()
    state.close()
    assert redundict.load(disks[0] / "s") == {"n": 3}


def test_a_newer_generation_in_the_note_is_not_forgotten_by_an_opening(path: str) -> None:
    """What the note names may come back with its disk, so only a newer commit replaces it."""
    backup = Path(path).parent / "backup"
    backup.mkdir()
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    for slot in ("a0", "a1", "b0", "b1"):
        shutil.copy(f"{path}.{slot}", backup)
    with redundict.open(path, keep=2) as state:
        for state["n"] in (4, 5, 6):
            state.sync()
    for slot in ("a0", "a1", "b0", "b1"):
        shutil.copy(backup / f"state.json.{slot}", f"{path}.{slot}")
    for _ in range(2):
        assert redundict.check(path).state is StoreState.ROLLED_BACK
        with pytest.warns(redundict.RedundancyWarning, match="generation 6"):
            redundict.open(path, keep=2).close()
    with pytest.warns(redundict.RedundancyWarning):
        state = redundict.open(path, keep=2)
    state["n"] = 7
    assert state.sync() == 7
    state.close()
    assert redundict.check(path).state is StoreState.HEALTHY
    shutil.rmtree(backup)


def test_a_store_without_slots_is_not_empty_if_its_note_names_a_generation(path: str) -> None:
    """The disk may be away; only flag 'n' begins anew, above all numbers."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    for slot in ("a0", "a1", "b0", "b1"):
        os.unlink(f"{path}.{slot}")
    for flag in "rwc":
        with pytest.raises(redundict.LostError) as caught:
            redundict.open(path, flag)  # type: ignore[arg-type]
        assert caught.value.reason == "gone"
    with redundict.open(path, "n", keep=2) as state:
        assert state.sync() == 4


@pytest.mark.parametrize("has_lock", [True, False])
def test_a_read_only_folder_is_read_and_never_written(disks: list[Path], has_lock: bool) -> None:
    """The other copy takes every commit, with a warning."""
    if not is_root():
        pytest.skip("needs root")
    redundict.open(disks[0] / "s", copies=disks).close()
    for file in (disks[0], *disks[0].iterdir()):
        os.chown(file, 65534, 65534)
    for folder in disks[0].parents:
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o055)
    if not has_lock:
        (disks[1] / "s.lock").unlink()
    before = {file: file.read_bytes() for file in disks[1].iterdir()}
    disks[1].chmod(0o555)
    with another_user(), redundict.open(disks[0] / "s") as state:
        for number in (2, 3):
            state["n"] = number
            with pytest.warns(redundict.RedundancyWarning, match="cannot be locked"):
                assert state.sync() == number
        warnings.simplefilter("ignore", redundict.RedundancyWarning)
    disks[1].chmod(0o755)
    assert {file: file.read_bytes() for file in disks[1].iterdir()} == before


@pytest.mark.parametrize("what", ["removed", "linked"])
def test_a_lock_file_that_root_makes_belongs_to_the_user(
    path: str, tmp_path: Path, what: str
) -> None:
    """After root has opened a user's store, the user can open it again."""
    if not is_root():
        pytest.skip("needs root")
    with redundict.open(path, mode=0o600) as state:
        state["n"] = 1
    for file in tmp_path.iterdir():
        os.chown(file, 65534, 65534)
    if what == "removed":
        os.unlink(f"{path}.lock")
    else:
        os.link(f"{path}.lock", tmp_path / "snapshot")
        was = damage.read(str(tmp_path / "snapshot"))
    with redundict.open(path) as state:
        state["n"] = 2
    found = os.stat(f"{path}.lock")
    assert (found.st_uid, found.st_gid, found.st_nlink) == (65534, 65534, 1)
    if what == "linked":
        assert damage.read(str(tmp_path / "snapshot")) == was
        os.unlink(tmp_path / "snapshot")
