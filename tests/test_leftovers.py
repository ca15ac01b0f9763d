"""New files that killed writers left: what holds nothing is removed, and nothing else is."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

import pytest

import redundict
from redundict import StoreState
from redundict.cli.exits import Exit

from . import damage, inside

pytestmark = [pytest.mark.damages, pytest.mark.skipif(os.name == "nt", reason="POSIX")]


@pytest.fixture
def store(path: str) -> str:
    """Return a store of two generations, the newest in a1 and b1."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()
    return path


def heal(store: str, how: str = "open") -> None:
    """Let the slot b1 be written as a new file."""
    os.unlink(f"{store}.b1")
    os.link(f"{store}.a1", f"{store}.b1")
    if how == "repair":
        redundict.repair(store)
    else:
        redundict.open(store, keep=2).close()
    assert redundict.check(store).state is StoreState.HEALTHY
    assert redundict.load(store) == {"n": 2}


def left(store: str) -> list[str]:
    return sorted(p.name for p in Path(store).parent.glob("*.new*"))


@pytest.mark.parametrize("how", ["open", "repair"])
@pytest.mark.parametrize("size", [1, 7, 4000, 4096])
def test_the_rest_of_a_slot_that_verifies_is_removed(store: str, size: int, how: str) -> None:
    """A killed healing leaves the beginning of the survivor, which is in a slot."""
    for name in (".new", ".new2", ".new17"):
        Path(f"{store}.b1{name}").write_bytes(damage.read(f"{store}.a1")[:size])
    heal(store, how)
    assert left(store) == []


def test_an_old_generation_of_the_same_branch_is_removed(store: str) -> None:
    """A whole slot from which the newest generation grew is superseded."""
    old = damage.read(f"{store}.a0")
    with redundict.open(store, keep=2) as state:
        for state["n"] in (3, 4, 2):
            state.sync()
    assert damage.read(f"{store}.a0") != old
    Path(f"{store}.b1.new").write_bytes(old)
    heal(store)
    assert left(store) == []


class Killed(BaseException):
    """The process ends here."""


class KilledAtSync(inside.Disk):
    """A real disk on which the process is killed before the first flush of a new file."""

    is_dead = False

    def sync_all(self, file: FileIO) -> None:
        self.is_dead = True
        raise Killed

    def remove(self, path: str) -> None:
        if not self.is_dead:
            super().remove(path)


def test_a_killed_writer_leaves_one_file_and_not_one_for_each_kill(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is killed at each start does not fill the folder."""
    os.unlink(f"{store}.b1")
    os.link(f"{store}.a1", f"{store}.b1")
    for _ in range(3):
        with monkeypatch.context() as patch:
            inside.use_disk(patch, KilledAtSync())
            with pytest.raises(Killed):
                redundict.open(store, keep=2)
        assert len(left(store)) == 1
    heal(store)
    assert left(store) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"dear diary", b'{"n":2}!', b'{"n":3}\n'],
)
def test_a_file_of_somebody_is_left(store: str, content: bytes) -> None:
    """What the store does not hold is nobody's but its owner's."""
    Path(f"{store}.b1.new").write_bytes(content)
    heal(store)
    assert damage.read(f"{store}.b1.new") == content


def test_a_generation_that_was_never_committed_is_left(store: str, tmp_path: Path) -> None:
    """It is newer than the survivor, so somebody may want it; check names it."""
    (other := tmp_path / "other").mkdir()
    for slot in ("a0", "a1", "b0", "b1", "lock"):
        (other / f"state.json.{slot}").write_bytes(damage.read(f"{store}.{slot}"))
    with redundict.open(other / "state.json", keep=2) as state:
        state["n"] = 3
    newer = (other / "state.json.a0").read_bytes()
    assert redundict.load(other / "state.json") == {"n": 3}
    Path(f"{store}.b1.new").write_bytes(newer)
    heal(store)
    assert damage.read(f"{store}.b1.new") == newer


@pytest.mark.parametrize(
    "kind", ["link", "hard link", "folder", "fifo", "other name", "other user"]
)
def test_only_a_regular_file_of_ours_is_removed(store: str, tmp_path: Path, kind: str) -> None:
    """Whatever it holds, a link, a file with two names or of another user is not of our making."""
    content = damage.read(f"{store}.a1")
    (diary := tmp_path / "diary").write_bytes(content)
    taken = Path(f"{store}.b1.new")
    if kind == "other user":
        if os.geteuid() != 0:
            pytest.skip("needs root")
        taken.write_bytes(content)
        os.chown(taken, 65534, 65533)
    elif kind == "other name":
        taken.write_bytes(b"mine")
        taken = Path(f"{store}.b1.new01")
        taken.write_bytes(content)
    else:
        {
            "link": lambda: taken.symlink_to(diary),
            "hard link": lambda: os.link(diary, taken),
            "folder": taken.mkdir,
            "fifo": lambda: os.mkfifo(taken),
        }[kind]()
    was = os.lstat(taken).st_ino
    heal(store)
    assert os.lstat(taken).st_ino == was
    assert diary.read_bytes() == content


def test_a_users_leftover_is_removed_by_root(store: str) -> None:
    """The slots belong to the same user."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    Path(f"{store}.b1.new").write_bytes(damage.read(f"{store}.a1")[:9])
    for file in Path(store).parent.iterdir():
        os.chown(file, 65534, 65533)
    heal(store, "repair")
    assert left(store) == []


def test_the_rest_of_a_list_is_removed(tmp_path: Path) -> None:
    """The list of the copies is a new file each time."""
    disks = [tmp_path / "one", tmp_path / "two"]
    for folder in disks:
        folder.mkdir()
    with redundict.open(disks[0] / "s", copies=disks) as state:
        state["n"] = 1
    (disks[0] / "s.copies").rename(disks[0] / "s.copies.new")
    (disks[1] / "s.copies.new").write_bytes(b"mine")
    (disks[1] / "s.copies").unlink()
    redundict.open(disks[0] / "s", copies=disks).close()
    assert [p.name for p in tmp_path.rglob("*.new*")] == ["s.copies.new"]
    assert (disks[1] / "s.copies.new").read_bytes() == b"mine"


def test_check_names_what_is_left_over(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A person learns of it, with no fault of the store. A writer may be at work on a new one."""
    for name in ("a0.new", "b1.new2", "a0.newer", "c.new"):
        Path(f"{store}.{name}").write_bytes(b"torn")
        damage.age(f"{store}.{name}")
    Path(f"{store}.b0.new").write_bytes(b"at work")
    assert redundict.check(store).leftovers == (f"{store}.a0.new", f"{store}.b1.new2")
    assert inside.command_line(["check", store]) == Exit.OK
    assert f"\n\nleft over: {store}.a0.new\n" in capsys.readouterr().out
