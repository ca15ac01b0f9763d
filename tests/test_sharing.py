"""`scripts/sharing.py`, in small: the trials run, and what they promise is kept."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import sharing

from . import inside

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(not Path("/proc").exists(), reason="/proc"),
]
RNG = random.Random(5)


def test_every_increment_that_returned_is_there(tmp_path: Path) -> None:
    """Eight processes count in one store, and are killed: the sum is exact."""
    row = sharing.counting(str(tmp_path), 10, RNG)
    assert row.kept, row


def test_the_invariant_holds_in_every_generation(tmp_path: Path) -> None:
    """Eight threads move amounts, in transactions and under the lock."""
    row = sharing.moving(str(tmp_path), 20, RNG)
    assert row.kept, row


def test_the_trial_of_threads_sees_a_broken_invariant(tmp_path: Path) -> None:
    """Without the lock, amounts are lost, and the trial says so."""

    class NoLock:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        real = sharing.redundict.RedunDict.__init__

        def init(state: sharing.redundict.RedunDict, *args: object, **options: object) -> None:
            real(state, *args, **options)
            state.lock = NoLock()

        patch.setattr(sharing.redundict.RedunDict, "__init__", init)
        patch.setattr(sharing.redundict.RedunDict, "transaction", lambda _: NoLock())
        assert not sharing.moving(str(tmp_path), 100, RNG).kept
    assert type(inside.disk_in_use()) is inside.Disk


def test_no_reader_sees_what_was_never_committed(tmp_path: Path) -> None:
    """Readers beside a writer that never rests; how fast is for the long run to say."""
    row = sharing.reading(str(tmp_path), 1, 0)
    assert row.kept, row


def test_writers_that_were_forced_past_the_lock_overwrite_nothing(tmp_path: Path) -> None:
    """The second gets a conflict, with every byte as it was, and can go on after `reload`."""
    row = sharing.forcing(str(tmp_path), 20, RNG)
    assert row.kept, row


def test_nothing_is_left_over_by_openings(tmp_path: Path) -> None:
    """No handle, no thread, no memory."""
    row = sharing.opening(str(tmp_path), 200)
    assert row.kept, row
