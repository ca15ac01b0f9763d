"""The crash harness is itself tested: a law that is broken on purpose must be caught by it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from redundict import errors

from . import inside
from . import test_crash_simulated as simulated
from .crash import BrokenPromiseError, Cuts, killed, payload
from .disk import SimulatedDisk

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning"),
    pytest.mark.usefixtures("slots_are_parsed_once"),
]
Patch = pytest.MonkeyPatch


def law_1_the_survivor_is_overwritten(patch: Patch) -> None:
    inside.break_law_1(patch)


def law_2_the_survivor_is_not_made_durable(patch: Patch) -> None:
    inside.break_law_2(patch)


def law_2_the_survivor_is_synced_and_not_rewritten(patch: Patch) -> None:
    inside.break_law_2_by_syncing_alone(patch)


def law_3_a_failed_slot_is_trusted(patch: Patch) -> None:
    inside.break_law_3(patch)


def law_12_a_commit_returns_before_it_is_durable(patch: Patch) -> None:
    for call in inside.SYNCS:
        patch.setattr(SimulatedDisk, call, lambda *_: None)


def law_12_a_new_name_is_not_made_durable(patch: Patch) -> None:
    patch.setattr(SimulatedDisk, "sync_directory", lambda *_: None)


def law_12_a_new_size_is_not_made_durable(patch: Patch) -> None:
    patch.setattr(SimulatedDisk, "sync_all", SimulatedDisk.sync_data)


def law_8_a_cut_leaves_a_first_commit_that_cannot_be_read(patch: Patch) -> None:
    inside.write_the_first_commit_in_place(patch)


def the_law_of_the_trailer_a_digest_is_not_checked(patch: Patch) -> None:
    inside.break_the_law_of_the_trailer(patch)


def power_cuts() -> None:
    for scenario in simulated.SCENARIOS:
        writer, where = scenario()
        Cuts(where).check(writer.moments)


def kills() -> None:
    for scenario in (simulated.one_copy_only, simulated.steady_state, simulated.growth):
        writer, where = scenario()
        Cuts(where).check(killed(writer.moments, where))


def failed_syncs() -> None:
    for begin, times in itertools.product(reversed(simulated.BEGINNINGS.values()), (1, 2)):
        for writer in simulated.writers_of_which_a_sync_failed(begin, times):
            where = writer.store.layout
            Cuts(where).check(killed(writer.moments, where))
            writer.commit(payload(13))
            Cuts(where).check(writer.moments)


@pytest.mark.parametrize(
    ("mutant", "hazard"),
    [
        (law_1_the_survivor_is_overwritten, failed_syncs),
        (law_2_the_survivor_is_not_made_durable, kills),
        (law_2_the_survivor_is_synced_and_not_rewritten, failed_syncs),
        (law_3_a_failed_slot_is_trusted, failed_syncs),
        (law_8_a_cut_leaves_a_first_commit_that_cannot_be_read, power_cuts),
        (law_12_a_commit_returns_before_it_is_durable, power_cuts),
        (law_12_a_new_name_is_not_made_durable, power_cuts),
        (law_12_a_new_size_is_not_made_durable, power_cuts),
        (the_law_of_the_trailer_a_digest_is_not_checked, power_cuts),
    ],
)
def test_a_mutant_is_caught(
    monkeypatch: Patch, mutant: Callable[[Patch], None], hazard: Callable[[], None]
) -> None:
    """A store that breaks one law loses what it promised, and the harness sees it."""
    mutant(monkeypatch)
    with pytest.raises((BrokenPromiseError, errors.LostError)):
        hazard()
