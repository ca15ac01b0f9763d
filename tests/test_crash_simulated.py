"""Every crash state of small scenarios, enumerated: nothing that was returned is ever lost."""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Callable, Iterator

import pytest

import redundict
from redundict import errors

from . import inside
from .crash import (
    COARSE,
    Cuts,
    Failing,
    Moment,
    Writer,
    healthy,
    killed,
    layout,
    on,
    payload,
)
from .disk import SimulatedDisk
from .inside import Layout

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning"),
    pytest.mark.usefixtures("slots_are_parsed_once"),
]

Scenario = Callable[[], tuple[Writer, Layout]]
Record = Callable[[str, object], None]


def first_commit() -> tuple[Writer, Layout]:
    writer = Writer(SimulatedDisk(sector=COARSE))
    writer.commit(payload(1))
    return writer, layout()


def continued(start: Moment, where: Layout | None = None) -> Writer:
    return Writer(start.disk.copy(), start.promise, where)


def steady_state() -> tuple[Writer, Layout]:
    writer = continued(healthy(3))
    for number in (4, 5, 6):
        writer.commit(payload(number))
    return writer, layout()


def second_slot() -> tuple[Writer, Layout]:
    writer = continued(healthy(1))
    writer.commit(payload(2))
    return writer, layout()


def growth() -> tuple[Writer, Layout]:
    writer = continued(healthy(2, size=800, sector=COARSE))
    writer.commit(payload(3, 4800))
    writer.commit(payload(4, 4800))
    return writer, layout()


def shrinking() -> tuple[Writer, Layout]:
    writer = continued(healthy(2, size=4800))
    writer.commit(payload(3, 800))
    writer.commit(payload(4, 800))
    return writer, layout()


def rollback() -> tuple[Writer, Layout]:
    writer = continued(healthy(3))
    writer.rollback()
    writer.rollback()
    return writer, layout()


def keep_raised() -> tuple[Writer, Layout]:
    writer = continued(healthy(3), layout(keep=3))
    writer.commit(payload(4))
    writer.commit(payload(5))
    return writer, layout(keep=3)


def keep_lowered() -> tuple[Writer, Layout]:
    writer = continued(healthy(6, layout(keep=3)), layout(keep=2))
    writer.commit(payload(7))
    writer.commit(payload(8))
    return writer, layout(keep=2)


def one_copy_only() -> tuple[Writer, Layout]:
    writer = continued(healthy(2, layout(copies=1)), layout(copies=1))
    writer.commit(payload(3))
    writer.commit(payload(4))
    return writer, layout(copies=1)


def copy_added() -> tuple[Writer, Layout]:
    writer = continued(healthy(3, layout(copies=1)), layout(copies=2))
    writer.commit(payload(4))
    return writer, layout(copies=2)


def damaged(slot: str, start: Moment) -> Moment:
    """Return the moment with a slot's payload rotten, on the medium and in the page cache."""
    disk = start.disk.copy()
    path = next(path for path in disk.names_now if path.endswith(slot))
    number = disk.names_now[path]
    disk.inodes[number] = disk.inodes[number].written(b"rot", 0).synced(length=True)
    return Moment(disk, start.promise)


def healing_copy_a() -> tuple[Writer, Layout]:
    writer = continued(damaged("s.a0", healthy(3)))
    writer.commit(payload(4))
    return writer, layout()


def healing_copy_b() -> tuple[Writer, Layout]:
    writer = continued(damaged("s.b0", healthy(3)))
    writer.commit(payload(4))
    return writer, layout()


def copy_b_out_of_space() -> tuple[Writer, Layout]:
    def fail(call: str, path: str) -> None:
        if call == "write" and ".b" in path:
            raise OSError(errno.ENOSPC, "No space left on device")

    writer = continued(healthy(3))
    writer.disk.fail = fail
    writer.commit(payload(4))
    writer.commit(payload(5))
    writer.disk.fail = lambda *_: None
    writer.commit(payload(6))
    return writer, layout()


SCENARIOS = [
    first_commit,
    second_slot,
    steady_state,
    growth,
    shrinking,
    rollback,
    keep_raised,
    keep_lowered,
    one_copy_only,
    copy_added,
    healing_copy_a,
    healing_copy_b,
    copy_b_out_of_space,
]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_power_cut_at_any_moment_loses_nothing(
    scenario: Scenario, record_property: Record
) -> None:
    """Each image a cut may leave loads what was promised, and so does a cut while going on."""
    writer, where = scenario()
    cuts = Cuts(where)
    cuts.check(writer.moments, then_commit=True)
    record_property("states", cuts.states)
    assert cuts.states > len(writer.moments)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_then_another_writer_then_a_power_cut_lose_nothing(
    scenario: Scenario, record_property: Record
) -> None:
    """What only the page cache held when its writer was killed is not taken for durable."""
    writer, where = scenario()
    cuts = Cuts(where)
    cuts.check(killed(writer.moments, where, commits=2))
    record_property("states", cuts.states)
    assert cuts.states > len(writer.moments)


WHOLE = 4096  #: Bytes of a sector where there would be too many states.
SYNCS = {"sync_data", "sync_all", "sync_directory"}
ONE = layout(copies=1)
BEGINNINGS = {
    "new": lambda: Writer(SimulatedDisk(sector=COARSE)),
    "old": lambda: continued(healthy(3, sector=COARSE)),
    "degraded": lambda: continued(damaged("s.b0", healthy(3, sector=COARSE))),
    "one copy": lambda: continued(healthy(3, ONE, sector=COARSE), ONE),
}


def writers_of_which_a_sync_failed(begin: Callable[[], Writer], times: int) -> Iterator[Writer]:
    """Yield writers that committed twice while syncs failed, others for each of them."""
    for first in itertools.count(1):
        writer = begin()
        fail = Failing(SYNCS, first, times, OSError(errno.EIO, "Input/output error"))
        writer.disk.fail = fail
        for content in (payload(11), payload(12)):
            with contextlib.suppress(errors.CommitError):
                writer.commit(content)
        writer.disk.fail = lambda *_: None
        if not fail.failed:
            break
        yield writer


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_failed_sync_loses_nothing_if_the_process_goes_on(
    begin: Callable[[], Writer], times: int, record_property: Record
) -> None:
    """Pages that are clean and unwritten since are not trusted; the next commits succeed."""
    states = 0
    for writer in writers_of_which_a_sync_failed(begin, times):
        writer.commit(payload(13))
        writer.commit(payload(14))
        cuts = Cuts(writer.store.layout)
        cuts.check(writer.moments)
        states += cuts.states
    record_property("states", states)
    assert states > 0


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("begin", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_failed_sync_loses_nothing_if_another_process_goes_on(
    begin: Callable[[], Writer], times: int, record_property: Record
) -> None:
    """The next process sees the same clean pages, and must not take them for durable either."""
    states = 0
    for writer in writers_of_which_a_sync_failed(begin, times):
        where = writer.store.layout
        cuts = Cuts(where)
        cuts.check(killed(writer.moments, where))
        states += cuts.states
    record_property("states", states)
    assert states > 0


@pytest.mark.parametrize("scenario", [first_commit, steady_state, healing_copy_b, one_copy_only])
def test_a_kill_then_a_writer_of_which_a_sync_fails_then_a_power_cut_lose_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """Where the survivor cannot be settled, a copy of it that is cut must not be all there is."""
    monkeypatch.setattr(SimulatedDisk, "least_sector", WHOLE)
    writer, where = scenario()
    cuts = Cuts(where)
    for moment in writer.moments:
        for first in itertools.count(1):
            disk = moment.disk.copy()
            disk.fail = fail = Failing(SYNCS, first, 1, OSError(errno.EIO, "Input/output error"))
            other = Writer(disk, moment.promise, where)
            with contextlib.suppress(errors.CommitError):
                other.commit(payload(11))
            if not fail.failed:
                break
            cuts.check(other.moments)
    record_property("states", cuts.states)
    assert cuts.states > len(writer.moments)


def with_a_rotten_slot() -> tuple[Writer, Layout]:
    writer = Writer(damaged("s.a1", healthy(3)).disk, healthy(3).promise)
    writer.commit(payload(4))
    return writer, layout()


@pytest.mark.parametrize("scenario", [first_commit, second_slot, growth, with_a_rotten_slot])
def test_a_kill_then_a_repair_then_a_power_cut_lose_nothing(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    """What a repair copies may be in the page cache only; cut, it leaves no torn slot."""
    inside.no_lock(monkeypatch)
    writer, where = scenario()
    moments: list[Moment] = []
    for killed_at in writer.moments:
        disk = killed_at.disk.copy()
        disk.on_step = lambda now, at=killed_at: moments.append(Moment(now.copy(), at.promise))
        with on(disk), contextlib.suppress(errors.NotFoundError):
            assert not redundict.repair(where.path).committed
    cuts = Cuts(where)
    cuts.check(moments)
    record_property("states", cuts.states)
    assert cuts.states > len(writer.moments)
