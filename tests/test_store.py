"""The engine: the laws of the commit path that need no simulated disk to show."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
from collections.abc import Callable

import pytest

import redundict

from . import damage, inside
from .inside import open_store as writer


def slots(path: str) -> dict[str, bytes]:
    """Return the content of every slot."""
    folder = os.path.dirname(path)
    names = [name for name in os.listdir(folder) if name.startswith(f"{os.path.basename(path)}.")]
    return {n: damage.read(os.path.join(folder, n)) for n in names if ".lock" not in n}


def test_a_second_writer_past_the_lock_is_noticed(path: str) -> None:
    """A generation that this process has not seen is a conflict, and nothing is overwritten."""
    one, other = writer(path), writer(path)
    one.commit(b"one")
    before = slots(path)
    for _ in range(2):
        with pytest.raises(redundict.ConflictError) as caught:
            other.commit(b"other")
        assert caught.value.generation == 1
        assert slots(path) == before
    assert other.reopen().commit(b"other") == 2
    with pytest.raises(redundict.ConflictError):
        one.commit(b"one again")


def test_the_lock_file_deleted_under_a_writer_loses_nothing(path: str) -> None:
    """Whoever gets a new lock commits; the one whose lock was lost gets the conflict."""
    with pytest.raises(redundict.ConflictError), redundict.open(path) as first:
        first["n"] = 1
        first.sync()
        os.remove(path + ".lock")
        with redundict.open(path) as second:
            second["n"] = 2
        first["n"] = 3
    assert redundict.load(path) == {"n": 2}


def test_a_writer_with_a_higher_keep_is_noticed(path: str) -> None:
    """A commit looks one index beyond its own, where such a writer's slot is."""
    one = writer(path)
    for number in range(3):
        one.commit(b"%d" % number)
    other = writer(path, keep=3)
    other.commit(b"other")
    with pytest.raises(redundict.ConflictError):
        one.commit(b"one")


def test_the_older_generation_of_a_disk_that_comes_back_is_no_conflict(path: str) -> None:
    """What is older than what was loaded is stale, and is overwritten in its turn."""
    writer(path).commit(b"1")
    damage.overwrite(path + ".saved", damage.read(path + ".b0"))
    one = writer(path)
    one.commit(b"2")
    one.commit(b"3")
    os.remove(path + ".b0")
    two = writer(path)
    os.replace(path + ".saved", path + ".b0")
    assert two.commit(b"4") == 4
    assert two.commit(b"5") == 5


def test_numbers_are_greater_than_any_that_verifies_and_only_those(path: str) -> None:
    """A number in a damaged trailer proves nothing; a valid one beyond `keep` counts."""
    one = writer(path, keep=3)
    for number in range(3):
        one.commit(b"%d" % number)
    for copy in "ab":
        damage.flip(f"{path}.{copy}2", 0)
    with_damage = writer(path, keep=2)
    assert with_damage.generation == 2
    assert with_damage.commit(b"x") == 3


def test_the_survivor_in_a_slot_beyond_keep_is_not_lost(path: str) -> None:
    """With `keep` lowered, the newest generation may lie beyond: it loads, and stays."""
    one = writer(path, keep=4)
    for number in range(4):
        one.commit(b"%d" % number)
    two = writer(path, keep=2)
    assert two.generation == 4
    before = damage.read(path + ".a3")
    two.commit(b"x")
    assert damage.read(path + ".a3") == before


def test_a_copy_that_the_layout_does_not_have_may_be_the_newest(path: str) -> None:
    """With `copies` lowered, what only the other copy holds loads, and is healed into ours."""
    writer(path).commit(b"1")
    for slot in (".a0",):
        os.remove(path + slot)
    one = writer(path, copies=1)
    assert one.generation == 1
    assert one.commit(b"2") == 2
    assert one.commit(b"3") == 3


def test_an_unrelated_file_with_a_slots_name_is_left_alone(path: str) -> None:
    """`data.h5` beside the store `data` is no copy of it."""
    damage.overwrite(path + ".h5", b"somebody's data")
    with redundict.open(path) as state:
        state["n"] = 1
    assert redundict.check(path).state is redundict.StoreState.HEALTHY
    redundict.repair(path)
    assert damage.read(path + ".h5") == b"somebody's data"


def test_an_invalid_slot_is_the_victim_even_if_its_trailer_looks_good(path: str) -> None:
    """Before the first victim is chosen among several, what was only looked at is verified."""
    one = writer(path, keep=3)
    for number in (1, 2, 3):
        one.commit(b"%d" % number)
    for copy in "ab":
        damage.flip(f"{path}.{copy}1", 0)
    two = writer(path, keep=3)
    two.commit(b"4")
    report = redundict.check(path)
    assert [g.number for g in report.generations] == [4, 3, 1]


@pytest.mark.usefixtures("no_writer_is_waited_for")
def test_diverged_copies_are_reported_and_never_guessed(path: str) -> None:
    """One number with two contents: readers take copy A and say so, writers refuse, repair asks."""
    writer(path).commit(b'{"one":1}')
    os.rename(path + ".b0", path + ".theirs")
    os.remove(path + ".a0")
    writer(path).commit(b'{"two":2}')
    os.replace(path + ".theirs", path + ".b0")
    damage.age(path + ".a0")
    before = slots(path)
    with pytest.raises(redundict.DivergedError) as caught:
        redundict.open(path)
    assert caught.value.generation == 1
    assert "--prefer a" in str(caught.value)
    with pytest.warns(redundict.RedundancyWarning, match="went on separately"):
        assert redundict.open(path, "r") == {"two": 2}
    with pytest.raises(redundict.DivergedError):
        redundict.repair(path)
    assert slots(path) == before
    redundict.repair(path, prefer="b")
    assert redundict.load(path) == {"one": 1}


def test_our_number_with_content_that_is_not_ours_is_a_conflict(path: str) -> None:
    """What another committed in the same moment is neither healed away nor overwritten."""
    one = writer(path)
    one.commit(b"1")
    theirs = os.path.join(os.path.dirname(path), "theirs")
    os.mkdir(theirs)
    for name in slots(path):
        shutil.copy(os.path.join(os.path.dirname(path), name), theirs)
    other = writer(os.path.join(theirs, os.path.basename(path)))
    assert one.commit(b"ours") == other.commit(b"theirs")
    os.replace(os.path.join(theirs, "state.json.b1"), path + ".b1")
    shutil.rmtree(theirs)
    before = slots(path)
    with pytest.raises(redundict.ConflictError):
        one.commit(b"3")
    assert slots(path) == before
    redundict.repair(path, prefer="a")


def test_what_may_not_be_read_any_more_is_not_overwritten(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot in every copy that is denied just before a commit may hold another's generation."""

    one = writer(path)
    for number in (1, 2):
        one.commit(b"%d" % number)
    before = slots(path)
    with monkeypatch.context() as patch:
        inside.fail_on(patch, "open_read", errno.EACCES, ".a0", ".b0")
        with pytest.raises(redundict.AccessError):
            one.commit(b"3")
    assert slots(path) == before
    assert one.commit(b"3") == 3


def test_copies_swapped_by_hand_still_load_and_commit(path: str) -> None:
    """Names are hints: A's two slots exchanged cost nothing, and the next commits put it right."""
    one = writer(path)
    one.commit(b"1")
    one.commit(b"2")
    os.rename(path + ".a0", path + ".x")
    os.rename(path + ".a1", path + ".a0")
    os.rename(path + ".x", path + ".a1")
    two = writer(path)
    assert two.generation == 2
    for number in (3, 4):
        assert two.commit(b"%d" % number) == number


def test_a_commit_inside_a_commit_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that saves what is being saved gets an error, not a torn slot."""

    class Interrupted(inside.Disk):
        def sync_all(self, fd: int) -> None:
            signal.raise_signal(signal.SIGUSR1)
            super().sync_all(fd)

    state = redundict.open(path)
    caught: list[Exception] = []

    def save(*_: object) -> None:
        try:
            state.sync()
        except redundict.TransactionError as error:
            caught.append(error)

    before = signal.signal(signal.SIGUSR1, save)
    try:
        with monkeypatch.context() as patch:
            inside.use_disk(patch, Interrupted())
            assert state.sync() == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(caught) == 2
    state.close()


def test_a_signal_handler_cannot_reload_in_the_middle_of_a_rollback(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would open slots that are half written, and heal them."""
    refused = []

    class Interrupting(inside.Disk):
        def sync_data(self, fd: int) -> None:
            with pytest.raises(redundict.TransactionError) as caught:
                state.reload()
            refused.append(caught.value)
            super().sync_data(fd)

    with redundict.open(path, keep=2) as state:
        for number in range(3):
            state["n"] = number
            state.sync()
        with monkeypatch.context() as patch:
            inside.use_disk(patch, Interrupting())
            assert state.rollback() == 4
        assert len(refused) == 2
        assert state == {"n": 1}


def test_a_clean_close_spares_the_next_opening_the_settling(
    path: str, writes_noted: Callable[[], list[int]]
) -> None:
    """After a clean close nothing is written again; after a kill, the survivor is."""
    with redundict.open(path) as state:
        state["n"] = 1
    written = writes_noted()
    with redundict.open(path) as state:
        assert state.sync() == 1
    assert written == []
    os.remove(path + ".lock")  # with the note; as if the last holder had been killed
    with redundict.open(path) as state:
        assert state.sync() == 1
    assert written == [4096, 4096]


def test_no_note_is_left_while_a_holder_of_the_newest_is_not_settled(path: str) -> None:
    """A copy outside the layout that nobody synced is not passed on as settled."""
    with redundict.open(path) as state:
        state["n"] = 1
    os.remove(path + ".lock")  # as if that writer had been killed
    with redundict.open(path, copies=1) as state:
        state.sync()
    assert b"settled" not in damage.read(path + ".lock")
    with redundict.open(path) as state:
        state.sync()
    assert b"settled" in damage.read(path + ".lock")


def test_a_number_that_cannot_grow_is_refused(path: str) -> None:
    """A slot with the greatest number there is stops the store in our words, not by wrapping."""
    store = writer(path)
    store.next_number = 10**18 - 1
    assert store.commit(b"1") == 10**18 - 1
    with pytest.raises(redundict.StorageError, match="used up"):
        store.commit(b"2")


def newer(content: bytes) -> bytes:
    """Return a slot as version 2 of the format would write it, with the right digest."""
    head = content[:-65].replace(b"\nredundict 1 ", b"\nredundict 2 ")
    return head + hashlib.sha256(head).hexdigest().encode() + b"\n"


@pytest.mark.damages
@pytest.mark.parametrize("slot", [".a0", ".b0", ".a1", ".b1"])
def test_a_slot_of_a_newer_version_is_refused_and_never_overwritten(path: str, slot: str) -> None:
    """Whoever comes, with whichever flag, is told to upgrade; it is not taken for damage."""
    one = writer(path)
    for number in (1, 2):
        one.commit(b'{"n":%d}' % number)
    damage.overwrite(path + slot, newer(damage.read(path + slot)))
    before = slots(path)
    acts = [lambda flag=flag: redundict.open(path, flag) for flag in "rwcn"]
    acts += [lambda act=act: act(path) for act in (redundict.check, redundict.repair)]
    acts += [lambda: redundict.rollback(path), lambda: redundict.load(path)]
    acts += [lambda: one.commit(b"3", even_if_unchanged=True)]
    for act in acts:
        with pytest.raises(redundict.NewerVersionError) as caught:
            act()
        assert caught.value.slot == os.path.basename(path + slot)
        assert "upgrade" in str(caught.value)
    assert slots(path) == before


def test_a_flipped_version_number_is_damage(path: str) -> None:
    """A version is believed only with its digest: what rotted is healed like any rot."""
    with redundict.open(path) as state:
        state["n"] = 1
    content = damage.read(path + ".b0")
    damage.overwrite(path + ".b0", content.replace(b"\nredundict 1 ", b"\nredundict 9 "))
    with redundict.open(path) as state:
        assert state.recovery is not None
        assert state.recovery.healed == ("state.json.b0",)
    assert damage.read(path + ".b0") == content


def test_a_large_commit_that_failed_is_no_conflict_with_itself(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed sync leaves to be read is known as our own, and the next commit succeeds."""

    store = writer(path)
    store.commit(b"1" * 2_000_000)
    store.commit(b"2" * 2_000_000)
    with monkeypatch.context() as patch:
        inside.fail_on(patch, inside.SYNCS, errno.EIO)
        with pytest.raises(redundict.CommitError):
            store.commit(b"3" * 2_000_001)
    assert store.commit(b"4" * 2_000_000) == 4


def test_what_a_writer_remembers_does_not_grow_with_its_commits(path: str) -> None:
    """A program that commits every second for years needs no more memory for it."""
    store = writer(path)
    for n in range(50):
        store.commit(b"%d" % n)
    assert store.remembered() == 2
