"""Every byte and every length: one bad copy never costs anything, two cost one generation.

All that a store learns of a slot's bytes is what `trailer.parse` and `trailer.verify` say of them.
So these are asked about every byte and every length, and a store is opened for each answer that
they give, and for some more places.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator

import pytest

import redundict

from . import damage, inside
from .inside import trailer

pytestmark = pytest.mark.exhaustive


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    inside.use_disk(monkeypatch, inside.QuickDisk())


@pytest.fixture
def store(path: str) -> str:
    """Return a store whose newest generation, 3, is in slot 0."""
    with redundict.open(path, keep=2) as state:
        for number in (1, 2, 3):
            state["n"] = number
            state.sync()
    for slot in (".a0", ".a1", ".b0", ".b1"):
        damage.age(path + slot)
    return path


def assert_healed(path: str, bad: str) -> None:
    """Assert that the newest generation loads, that it is told what was bad, and healed."""
    with redundict.open(path, keep=2) as state:
        assert state == {"n": 3}
        assert state.recovery is not None
        assert list(state.recovery.found) == [os.path.basename(bad)]
        assert state.recovery.healed == (os.path.basename(bad),)
    assert damage.read(path + ".a0") == damage.read(path + ".b0")


def judged(slot: bytes) -> str:
    """Return what is said of a slot's bytes: what they claim, and why they are not believed."""
    try:
        said = repr(trailer.parse(slot[-trailer.TAIL :], len(slot)))
    except (trailer.TrailerError, trailer.NewerVersion) as error:
        said = repr(error)
    with pytest.raises(trailer.TrailerError) as caught:
        trailer.verify(slot)
    return f"{said}, {caught.value!r}"


def flipped(slot: bytes, at: int) -> bytes:
    return slot[:at] + bytes([slot[at] ^ 1 << at % 8]) + slot[at + 1 :]


def cut(slot: bytes, at: int) -> bytes:
    return slot[:at]


@pytest.mark.parametrize("harm", [flipped, cut])
@pytest.mark.parametrize("copy", "ab")
def test_any_byte_that_flips_and_any_truncation_of_a_copy_is_healed(
    store: str, copy: str, harm: Callable[[bytes, int], bytes]
) -> None:
    """Wherever a copy of the newest is harmed, the newest loads and both are equal again."""
    slot = f"{store}.{copy}0"
    whole = damage.read(slot)
    assert len(whole) == 4096
    found: set[str] = set()
    for at in range(len(whole)):
        harmed = harm(whole, at)
        verdict = judged(harmed)
        if verdict not in found or at % 100 == 0:
            found.add(verdict)
            damage.overwrite(slot, harmed)
            assert_healed(store, slot)
            assert damage.read(slot) == whole
    assert len(found) > (100 if harm is flipped else 1)


@pytest.mark.parametrize("copy", "ab")
def test_a_deleted_copy_is_healed(store: str, copy: str) -> None:
    """A file that is gone is written again."""
    os.remove(f"{store}.{copy}0")
    assert_healed(store, f"{store}.{copy}0")


def ways_to_destroy() -> Iterator[tuple[str, Callable[[str], None]]]:
    """Yield ways to make a slot worthless."""
    yield "delete", os.remove
    yield "empty", lambda slot: damage.overwrite(slot, b"")
    yield "NUL", lambda slot: damage.overwrite(slot, bytes(4096))
    yield "cut", lambda slot: damage.truncate(slot, 2048)
    yield "append", lambda slot: damage.overwrite(slot, damage.read(slot) + b"\n")
    yield "flip payload", lambda slot: damage.flip(slot, 2)
    yield "flip padding", lambda slot: damage.flip(slot, 1000)
    yield "flip digest", lambda slot: damage.flip(slot, -2)
    yield "noise", lambda slot: damage.overwrite(slot, os.urandom(4096))
    yield "folder", lambda slot: (os.remove(slot), os.mkdir(slot))  # type: ignore[func-returns-value]
    yield "link", lambda slot: (os.remove(slot), os.symlink("elsewhere", slot))  # type: ignore[func-returns-value]


PAIRS = list(itertools.product(ways_to_destroy(), repeat=2))


@pytest.mark.parametrize(
    ("a", "b"), [(a[1], b[1]) for a, b in PAIRS], ids=[f"{a[0]}-{b[0]}" for a, b in PAIRS]
)
def test_both_copies_destroyed_the_one_before_loads_and_says_so(
    store: str, a: Callable[[str], None], b: Callable[[str], None]
) -> None:
    """However the two copies of the newest are destroyed, 2 loads and repair mends it."""
    a(store + ".a0")
    b(store + ".b0")
    with pytest.warns(redundict.RedundancyWarning):
        state = redundict.open(store, "r")
    assert state == {"n": 2}
    assert state.recovery is not None
    assert state.recovery.newest_lost
    assert redundict.check(store).state is redundict.StoreState.ROLLED_BACK
    done = redundict.repair(store)
    assert done.report.state is redundict.StoreState.HEALTHY
    assert redundict.load(store) == {"n": 2}


@pytest.mark.damages
@pytest.mark.parametrize(("name", "destroy"), list(ways_to_destroy()))
def test_everything_destroyed_is_an_error_and_nothing_is_overwritten(
    store: str, name: str, destroy: Callable[[str], None]
) -> None:
    """A store of which nothing verifies is never taken for empty; only one of no file is new."""
    for slot in (".a0", ".a1", ".b0", ".b1"):
        destroy(store + slot)
    if name == "delete":
        for flag in "rwc":
            with pytest.raises(redundict.LostError, match="the lock file names generation"):
                redundict.open(store, flag, keep=2)
        return
    before = sorted(os.listdir(os.path.dirname(store)))
    for flag in "rwc":
        with pytest.raises(redundict.LostError) as caught:
            redundict.open(store, flag, keep=2)
        assert len(caught.value.slots) == 4
    with pytest.raises(redundict.LostError):
        redundict.repair(store)
    assert sorted(os.listdir(os.path.dirname(store))) == before
