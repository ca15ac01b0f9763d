"""Healing: what is written is not trusted before it is durable; the survivor is made whole."""

from __future__ import annotations

import errno
import os
import warnings

import pytest

import redundict

from . import damage, inside
from .inside import open_store as writer


def test_the_last_slot_of_a_copy_that_holds_the_newest_is_not_written_to(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were swapped in copy A, and B's cannot follow: B keeps what it has."""

    one = writer(path)
    for number in (1, 2, 3):
        one.commit(b"%d" % number)
    for old, new in ((".a0", ".x"), (".a1", ".a0"), (".x", ".a1")):
        os.rename(path + old, path + new)
    newest = damage.read(path + ".b0")
    with monkeypatch.context() as patch:
        inside.fail_on(patch, "open_write", errno.EIO, ".b1")
        two = writer(path)
        with pytest.warns(redundict.RedundancyWarning, match="the only slot of its copy"):
            assert two.commit(b"4") == 4
        assert damage.read(path + ".b0") == newest
    for number in (5, 6):
        two.commit(b"%d" % number)


def test_a_failed_copy_is_warned_of_and_tried_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One durable copy is a commit; the other is healed as soon as it can be, by a bare sync."""

    with redundict.open(path) as state:
        state["n"] = 1
        state.sync()
        with monkeypatch.context() as patch:
            inside.fail_on(patch, "write", errno.ENOSPC, ".b0", ".b1")
            state["n"] = 2
            with pytest.warns(redundict.RedundancyWarning, match="No space left") as caught:
                assert state.sync() == 2
            assert caught[0].filename == __file__
            assert damage.read(path + ".a1") != damage.read(path + ".b1")
        assert state.sync() == 2
    assert damage.read(path + ".a1") == damage.read(path + ".b1")


@pytest.mark.parametrize("anew", [False, True])
def test_a_commit_that_failed_is_no_generation_however_whole_it_looks(
    path: str, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """The one before stands, for who opens anew too; the slot is the next victim."""
    one = writer(path)
    for number in (1, 2):
        one.commit(b"%d" % number)
    with monkeypatch.context() as patch:
        inside.fail_on(patch, inside.SYNCS, errno.EIO, ".a0", ".b0")
        for _ in range(2):
            with pytest.raises(redundict.CommitError, match="generation 2 stands"):
                one.commit(b"3")
    if anew:
        one = one.reopen()
        assert one.found.payload == b"2"
    assert one.commit(b"4") == 5
    assert [generation.number for generation in redundict.check(path).generations] == [5, 2]


def test_a_copy_that_cannot_be_settled_is_told_of(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that has nothing new to write says that one copy is not known to be durable."""
    writer(path).commit(b"1")
    two = writer(path)  # the first one was killed
    with monkeypatch.context() as patch:
        inside.fail_on(patch, inside.SYNCS, errno.EIO, ".b0")
        for _ in range(2):
            with pytest.warns(redundict.RedundancyWarning, match=r"state\.json\.b0"):
                assert two.commit(b"1") == 1
    assert two.commit(b"1") == 1


@pytest.mark.parametrize("rotten", ["a", "b"])
def test_what_rots_between_opening_and_the_first_commit_is_not_passed_on(
    path: str, rotten: str
) -> None:
    """Each byte that is written onto itself, or onto a sibling, has verified just before."""
    writer(path).commit(b"1")
    two = writer(path)  # the first one was killed, so that this one has to settle its generation
    damage.flip(f"{path}.{rotten}0", 0)
    assert two.commit(b"2") == 2
    assert damage.read(path + ".a0") == damage.read(path + ".b0")
    assert [len(held.slots) for held in redundict.check(path).generations] == [2, 2]


def test_what_a_failed_sync_left_is_not_trusted_however_often_it_is_looked_at(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads as whole, as one of our own, and stays distrusted until it is written again."""

    class Failing(inside.Disk):
        fails_to_sync, closed = True, ""

        def open_write(self, path: str) -> int:
            if path == self.closed:
                raise PermissionError(errno.EACCES, "no")
            return super().open_write(path)

        def sync_data(self, fd: int) -> None:
            if self.fails_to_sync:
                raise OSError(errno.EIO, "no")

    store, disk = writer(path), Failing()
    for number in (1, 2):
        store.commit(b"%d" % number)
    inside.use_disk(monkeypatch, disk)
    with pytest.raises(redundict.CommitError):
        store.commit(b"failed")
    (left,) = [path for path in store.distrusted() if ".b" in path]
    disk.fails_to_sync, disk.closed = False, left
    with pytest.warns(redundict.RedundancyWarning):
        store.commit(b"in one copy")
    assert b"failed" in damage.read(left)
    store.look_again()
    assert left in store.distrusted()
    disk.closed = ""
    store.commit(b"in both")


def test_a_slot_that_failed_and_was_denied_for_a_moment_is_written_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it could not be read between two commits is over once it can be read."""

    store = writer(path)
    for number in (1, 2):
        store.commit(b"%d" % number)
    with monkeypatch.context() as patch:
        inside.fail_on(patch, inside.SYNCS, errno.EIO, ".b0")
        with pytest.warns(redundict.RedundancyWarning):
            store.commit(b"3")
        inside.fail_on(patch, "open_read", errno.EACCES, ".b0")
        store.commit(b"4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in (5, 6):
            store.commit(b"%d" % number)


@pytest.mark.parametrize("keep", [2, 4])
def test_opening_heals_the_torn_slot_of_an_older_generation(path: str, keep: int) -> None:
    """The copy that verifies is there; without a warning, since all that was found is healed."""
    with redundict.open(path, keep=keep) as state:
        for state["n"] in range(1, keep + 1):
            state.sync()
    damage.truncate(f"{path}.b0", 100)  # of generation 1
    assert redundict.check(path).state is redundict.StoreState.DEGRADED
    with redundict.open(path, keep=keep) as state:
        assert state == {"n": keep}
        assert state.recovery is not None
        assert state.recovery.healed == ("state.json.b0",)
        assert damage.read(f"{path}.b0") == damage.read(f"{path}.a0")
    assert redundict.check(path).state is redundict.StoreState.HEALTHY
