"""The crash harness is itself tested: redundict broken on purpose must be caught by it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from redundict import errors
from redundict.engine import files as durable
from redundict.engine import slots, store, trailer
from redundict.engine import writes as healing
from redundict.engine.ledger import Ledger

from . import test_crash_simulated as simulated
from .crash import BrokenPromiseError, Cuts, killed, payload
from .disk import FOLDER, SimulatedDisk

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning"),
    pytest.mark.usefixtures("slots_are_parsed_once"),
]
Patch = pytest.MonkeyPatch


def nothing_is_synced(patch: Patch) -> None:
    for call in ("sync_data", "sync_all"):
        patch.setattr(SimulatedDisk, call, lambda *_: None)


def the_directory_is_not_synced(patch: Patch) -> None:
    patch.setattr(SimulatedDisk, "sync_directory", lambda *_: None)


def growth_is_synced_with_fdatasync(patch: Patch) -> None:
    patch.setattr(SimulatedDisk, "sync_all", SimulatedDisk.sync_data)


def there_is_one_pair_of_slots(patch: Patch) -> None:
    patch.setattr(
        slots, "choose_victim", lambda _, survivor, *__: survivor.index if survivor else 0
    )


def the_digest_is_not_checked(patch: Patch) -> None:
    def believe(content: bytes) -> trailer.Verified:
        claim = trailer.parse(content[-trailer.LIMIT :], len(content))
        return trailer.Verified(claim, content[: claim.length], b"")

    patch.setattr(trailer, "verify", believe)


def the_survivor_is_not_settled(patch: Patch) -> None:
    settle_with(patch, Ledger.survivor)


def the_survivor_is_only_synced(patch: Patch) -> None:
    def settle(ledger: Ledger) -> slots.Slot | None:
        for place in ledger.places.values():
            if place.slot.sound and not place.settled:
                fd = durable.disk.open_write(place.slot.path)
                with contextlib.suppress(OSError):
                    durable.disk.sync_all(fd)
                    durable.disk.sync_directory(FOLDER)
                durable.disk.close(fd)
                place.settled = place.sized = place.named = True
        return ledger.survivor()

    settle_with(patch, settle)


def settle_with(patch: Patch, settle: Callable[[Ledger], slots.Slot | None]) -> None:
    for module in (store, healing):
        patch.setattr(module, "settle", settle)


def a_failed_slot_is_trusted(patch: Patch) -> None:
    real = durable.overwrite_all

    def overwrite_all(files: list[durable.Overwriting]) -> dict[str, Exception]:
        real(files)
        return {}

    patch.setattr(durable, "overwrite_all", overwrite_all)


def a_first_commit_is_made_in_place(patch: Patch) -> None:
    real = durable.Overwriting

    def in_place(*args: Any, **options: Any) -> durable.Overwriting:
        return real(*args, **{**options, "afresh": False})

    patch.setattr(durable, "Overwriting", in_place)


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
        (nothing_is_synced, power_cuts),
        (the_directory_is_not_synced, power_cuts),
        (growth_is_synced_with_fdatasync, power_cuts),
        (there_is_one_pair_of_slots, failed_syncs),
        (the_digest_is_not_checked, power_cuts),
        (a_first_commit_is_made_in_place, power_cuts),
        (the_survivor_is_not_settled, kills),
        (the_survivor_is_only_synced, failed_syncs),
        (a_failed_slot_is_trusted, failed_syncs),
    ],
)
def test_a_mutant_is_caught(
    monkeypatch: Patch, mutant: Callable[[Patch], None], hazard: Callable[[], None]
) -> None:
    """Without one of its safeguards, it loses what it promised, however the copies are written."""
    mutant(monkeypatch)
    for overlap in (None, (0, 2)):
        monkeypatch.setattr(SimulatedDisk, "overlap", overlap)
        with pytest.raises((BrokenPromiseError, errors.LostError)):
            hazard()
