"""Files with several names, and files of somebody else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

import redundict
from redundict import Fault, StoreState
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

from . import damage, inside

pytestmark = [pytest.mark.damages, pytest.mark.skipif(not hasattr(os, "fchown"), reason="POSIX")]


@pytest.fixture
def store(path: str) -> str:
    """Return a store of two generations, the newest in a1 and b1."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
    return path


def slots_of(path: str) -> list[str]:
    return [f"{path}.{slot}" for slot in ("a0", "a1", "b0", "b1")]


def deduplicate(path: str) -> None:
    """Join both copies, as hardlink(1), jdupes and rdfind do."""
    for index in "01":
        os.unlink(f"{path}.b{index}")
        os.link(f"{path}.a{index}", f"{path}.b{index}")


def inodes(path: str) -> set[int]:
    return {os.stat(slot).st_ino for slot in slots_of(path)}


def test_joined_copies_are_a_fault_that_check_names(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two names of one file are one copy."""
    deduplicate(store)
    assert cli.main(["check", store]) == Exit.DEGRADED
    assert "hard links" in capsys.readouterr().out
    assert {flaw.fault for flaw in redundict.check(store).flaws.values()} == {Fault.LINKED}
    assert redundict.load(store) == {"n": 2}


@pytest.mark.parametrize("mend", ["open", "repair"])
def test_joined_copies_are_separated(store: str, mend: str) -> None:
    """After it, one flipped byte costs one copy."""
    deduplicate(store)
    if mend == "open":
        with redundict.open(store, keep=2) as state:
            assert state.recovery
            assert len(state.recovery.healed) == 4
    else:
        assert redundict.repair(store).aside == {}
    assert len(inodes(store)) == 4
    assert redundict.check(store).state is StoreState.HEALTHY
    damage.flip(f"{store}.a1", 2)
    assert redundict.load(store) == {"n": 2}


def test_a_commit_separates_what_was_joined_since_the_last_one(store: str) -> None:
    """A deduplicator may run while the store is open."""
    with redundict.open(store, keep=2) as state:
        deduplicate(store)
        for state["n"] in (3, 4):
            state.sync()
        assert len(inodes(store)) == 4


@pytest.mark.parametrize("is_open", [False, True])
def test_a_snapshot_of_hard_links_never_changes(store: str, tmp_path: Path, is_open: bool) -> None:
    """`cp -al` and rsnapshot back a store up by second names."""
    backup = tmp_path / "backup"
    backup.mkdir()

    def snapshot() -> None:
        for slot in slots_of(store):
            os.link(slot, backup / os.path.basename(slot))

    if not is_open:
        snapshot()
    with redundict.open(store, keep=2) as state:
        if is_open:
            snapshot()
        before = [damage.read(str(p)) for p in sorted(backup.iterdir())]
        for state["n"] in range(5):
            state.sync()
    assert [damage.read(str(p)) for p in sorted(backup.iterdir())] == before
    assert redundict.load(backup / "state.json") == {"n": 2}
    shutil.rmtree(backup)


def test_a_killed_writers_survivor_is_made_durable_without_a_write_into_a_snapshot(
    store: str, tmp_path: Path
) -> None:
    """The survivor is written onto itself only if the file has no other name."""
    state = redundict.open(store, keep=2)
    state["n"] = 3
    state.sync()
    inside.kill(state)
    os.link(f"{store}.a0", tmp_path / "snapshot")
    inode = os.stat(tmp_path / "snapshot").st_ino
    redundict.open(store, keep=2).close()
    assert os.stat(f"{store}.a0").st_ino != inode
    os.unlink(tmp_path / "snapshot")


# --- owners


@pytest.fixture
def users(store: str) -> str:
    """Return a store that belongs to another user than this process."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for slot in slots_of(store):
        os.chown(slot, 65534, 65533)
        os.chmod(slot, 0o640)
    return store


def owners(path: str) -> set[tuple[int, int, int]]:
    found = [os.stat(slot) for slot in slots_of(path)]
    return {(s.st_uid, s.st_gid, s.st_mode & 0o777) for s in found}


@pytest.mark.parametrize("act", ["open", "repair", "rollback", "import"])
def test_what_root_writes_in_a_users_store_remains_the_users(
    users: str, act: str, tmp_path: Path
) -> None:
    """Owner, group and mode are those of the files beside it."""
    os.unlink(f"{users}.b1")
    os.unlink(f"{users}.a0")
    if act == "open":
        with redundict.open(users, keep=2) as state:
            state["n"] = 3
    elif act == "repair":
        redundict.repair(users)
    elif act == "rollback":
        redundict.rollback(users)
        redundict.repair(users)
    else:
        (tmp_path / "other.json").write_text('{"n": 9}')
        assert cli.main(["import", str(tmp_path / "other.json"), users]) == Exit.OK
        redundict.repair(users)
    assert owners(users) == {(65534, 65533, 0o640)}


def test_an_owner_that_may_not_be_set_is_no_failure(
    users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may write in the folder still gets the copy healed."""
    os.unlink(f"{users}.b1")
    failing = inside.fail_on(monkeypatch, "chown", errno.EPERM)
    redundict.open(users, keep=2).close()
    assert failing.count
    assert redundict.check(users).state is StoreState.HEALTHY


# --- files of somebody else


@pytest.mark.parametrize("kind", ["file", "link", "folder", "fifo"])
def test_a_file_at_the_name_of_a_new_slot_is_not_touched(
    store: str, tmp_path: Path, kind: str
) -> None:
    """Whatever has the name, the slot is written under a free name first."""
    os.unlink(f"{store}.b1")
    diary, taken = tmp_path / "diary", f"{store}.b1.new"
    diary.write_text("dear diary")
    {
        "file": lambda: shutil.copy(diary, taken),
        "link": lambda: os.symlink(diary, taken),
        "folder": lambda: os.mkdir(taken),
        "fifo": lambda: os.mkfifo(taken),
    }[kind]()
    was = os.lstat(taken)
    assert redundict.repair(store).report.state is StoreState.HEALTHY
    assert os.lstat(taken).st_ino == was.st_ino
    assert diary.read_text() == "dear diary"
    assert sorted(p for p in os.listdir(tmp_path) if ".new" in p) == ["state.json.b1.new"]


def test_an_export_touches_no_other_file(store: str, tmp_path: Path) -> None:
    """The temporary file of an export has a free name."""
    (tmp_path / "out.json.new").write_text("mine")
    assert cli.main(["export", store, str(tmp_path / "out.json")]) == Exit.OK
    assert (tmp_path / "out.json.new").read_text() == "mine"
    assert (tmp_path / "out.json").read_text() == '{"n":2}'
    assert not list(tmp_path.glob("out.json.new?"))


def test_a_new_file_that_gets_no_name_is_removed(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed repair leaves no litter behind."""
    os.unlink(f"{store}.b1")
    inside.fail_on(monkeypatch, inside.SYNCS, errno.EIO, ".b1")
    with pytest.raises(redundict.StorageError):
        redundict.repair(store)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.new*"))


# --- what is created beside a store


def permissions(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o777


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    """Make two folders, as two disks would be."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    return folders


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Let files that are created without a mode be open to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


class Created(inside.Disk):
    """A real disk that notes the permission bits of each file at its creation."""

    def __init__(self) -> None:
        self.bits: dict[str, int] = {}

    def create(self, path: str, mode: int) -> FileIO:
        file = super().create(path, mode)
        self.bits[os.path.basename(path)] = os.fstat(file.fileno()).st_mode & 0o777
        return file


def test_no_file_has_wider_bits_than_mode_at_any_moment(
    disks: list[Path], open_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots, lists and locks of a secret store are never open to others, not even when empty."""
    inside.use_disk(monkeypatch, created := Created())
    with redundict.open(disks[0] / "s", copies=disks, mode=0o600) as state:
        state["n"] = 1
    assert created.bits
    assert set(created.bits.values()) == {0o600}
    files = [file for folder in disks for file in folder.iterdir()]
    assert {file.name for file in files} == {"s.a0", "s.b0", "s.copies", "s.lock"}
    assert {permissions(file)[2] for file in files} == {0o600}


def test_a_list_gets_the_mode_of_the_slots(disks: list[Path], open_umask: None) -> None:
    """A list that is written again is as the files beside it, whatever the umask."""
    with redundict.open(disks[0] / "s", copies=disks, mode=0o640) as state:
        state["n"] = 1
    for folder in disks:
        (folder / "s.copies").unlink()
    redundict.open(disks[0] / "s", copies=disks).close()
    assert {permissions(folder / "s.copies")[2] for folder in disks} == {0o640}


def test_a_list_with_wider_bits_than_mode_is_written_again(
    disks: list[Path], open_umask: None
) -> None:
    """A store of an earlier version gets its mode at the next opening."""
    with redundict.open(disks[0] / "s", copies=disks, mode=0o600) as state:
        state["n"] = 1
    for folder in disks:
        os.chmod(folder / "s.copies", 0o644)
    redundict.open(disks[0] / "s", mode=0o600).close()
    assert {permissions(folder / "s.copies")[2] for folder in disks} == {0o600}


@pytest.mark.parametrize("ending", ["copies", "lock"])
def test_what_root_creates_in_each_folder_belongs_to_the_user(
    disks: list[Path], ending: str
) -> None:
    """The list and the lock of both folders, and not only those beside the path."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with redundict.open(disks[0] / "s", copies=disks, mode=0o640) as state:
        state["n"] = 1
    for folder in disks:
        for file in folder.iterdir():
            os.chown(file, 65534, 65533)
        (folder / f"s.{ending}").unlink()
    redundict.open(disks[0] / "s", copies=disks).close()
    files = [file for folder in disks for file in folder.iterdir()]
    assert len(files) == 6
    assert {permissions(file) for file in files} == {(65534, 65533, 0o640)}


def test_a_lock_that_root_takes_again_belongs_to_the_user(users: str) -> None:
    """The lock file was deleted while root had the store open."""
    with redundict.open(users, keep=2) as state:
        os.unlink(f"{users}.lock")
        state["n"] = 3
    assert permissions(Path(f"{users}.lock")) == (65534, 65533, 0o640)


def test_a_lock_of_a_shared_store_that_root_creates_belongs_to_the_user(users: str) -> None:
    """The lock file was deleted between two commits."""
    with redundict.open(users, keep=2, shared=True) as state:
        os.unlink(f"{users}.lock")
        state["n"] = 3
        state.sync()
        assert permissions(Path(f"{users}.lock")) == (65534, 65533, 0o640)


def test_a_group_that_cannot_be_set_gets_no_permissions(
    users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits that were meant for the group of the slots do not open a file to another group."""
    os.unlink(f"{users}.b1")
    inside.fail_on(monkeypatch, "chown", errno.EPERM)
    redundict.open(users, keep=2).close()
    assert permissions(Path(f"{users}.b1")) == (os.geteuid(), os.getegid(), 0o600)


def test_a_file_for_another_group_is_not_open_before_it_has_the_group(
    users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opens it in that moment could read it later."""
    os.unlink(f"{users}.b1")
    inside.use_disk(monkeypatch, created := Created())
    redundict.open(users, keep=2).close()
    assert set(created.bits.values()) == {0o600}
    assert permissions(Path(f"{users}.b1")) == (65534, 65533, 0o640)


def test_a_lock_whose_group_cannot_be_set_is_not_open_to_another(
    users: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bits for the group of the slots are not given to the group of this process."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "refused")

    os.unlink(f"{users}.lock")
    monkeypatch.setattr(os, "fchown", refuse)
    redundict.open(users, keep=2).close()
    assert permissions(Path(f"{users}.lock")) == (os.geteuid(), os.getegid(), 0o600)


def test_a_lock_with_a_mode_gets_no_wider_bits_of_the_slots(path: str) -> None:
    """The caller's mode wins, as for slots."""
    with redundict.open(path, mode=0o644) as state:
        state["n"] = 1
    os.unlink(f"{path}.lock")
    with redundict.open(path, mode=0o600):
        assert permissions(Path(f"{path}.lock"))[2] == 0o600
