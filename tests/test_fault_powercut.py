"""Power cuts on real file systems: redundict stands, and the harness sees others fall.

The long run, with every peer, is `scripts/powercut.py`.
"""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import bitrot
import powercut
import powercut_disks
import pytest

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(bool(powercut.unavailable()), reason=powercut.unavailable()),
]
SEED = 3


@pytest.fixture(params=powercut.FILE_SYSTEMS)
def file_system(request: pytest.FixtureRequest) -> str:
    """Return the name of a file system that this machine can make."""
    name: str = request.param
    if tool := powercut.installed()[name]:
        pytest.skip(f"{tool} is not installed")
    return name


def test_redundict_loses_nothing(file_system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of the unflushed writes reaches the medium, what `sync` returned for is there."""
    monkeypatch.setattr(powercut, "CUTS", 30)  # of each of two logs
    judged = list(powercut.trial("redundict", file_system, 60, SEED))
    assert len(judged) == 60
    assert [facts for verdict, facts in judged if verdict != "kept"] == []


@pytest.mark.parametrize("program", ["redundict, unsynced", "recipe", "overwrite"])
def test_the_harness_sees_what_is_not_synced(file_system: str, program: str) -> None:
    """The same cuts make programs lose data that do not sync, redundict without its syncs too."""
    with contextlib.closing(powercut.trial(program, file_system, 20, SEED)) as judged:
        assert any(verdict in powercut.VERDICTS for verdict, _ in judged)  # the first is enough


def test_redundict_on_two_disks_loses_nothing(file_system: str) -> None:
    """One of the disks comes and goes, and after the cut any of them may be there."""
    judged = list(powercut_disks.trial("redundict", file_system, 20, SEED))
    assert len(judged) == 20
    assert [facts for verdict, facts in judged if verdict != "kept"] == []


def test_the_harness_of_two_disks_sees_what_is_not_synced(file_system: str) -> None:
    """The same cuts make redundict without its syncs lose data."""
    with contextlib.closing(
        powercut_disks.trial("redundict, unsynced", file_system, 20, 1)
    ) as judged:
        assert any(verdict in powercut.VERDICTS for verdict, _ in judged)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("generation 3", "kept"),
        ("generation 4", "kept"),
        ("generation 2, said so", "lost"),
        ("generation 0", "lost"),
        ("generation 5", "corrupt"),
        ("corrupt content, generation 3", "corrupt"),
        ("error JSONDecodeError: Expecting value", "error"),
        ("untyped KeyError: 1", "error"),
        ("killed", "error"),
    ],
)
def test_a_verdict_is_what_was_promised_against_what_loads(answer: str, verdict: str) -> None:
    """With state 3 saved and 4 being saved, either may load and nothing else."""
    assert powercut.verdict(answer, 3, 4) == verdict


def test_a_cut_keeps_what_was_flushed_and_any_subset_of_the_rest() -> None:
    """Of two unflushed writes each may be missing alone; tearing splits them at sectors."""
    pending = [(0, b"a" * 1024), (4096, b"b" * 1024)]
    rng = random.Random(1)
    some = {tuple(powercut._subset(pending, "some", range(0), rng)) for _ in range(50)}
    assert len(some) == 4
    torn = [list(powercut._subset(pending, "torn", range(0), rng)) for _ in range(50)]
    assert any(len(kept) == 1 and len(kept[0][1]) == powercut.SECTOR for kept in torn)
    whole = [list(powercut._subset(pending[:1], "torn", range(1024), rng)) for _ in range(50)]
    assert {len(kept) for kept in whole} == {0, 2}


@pytest.mark.damages
@pytest.mark.parametrize("what", bitrot.DAMAGES)
def test_damage_costs_redundict_a_copy_and_the_recipe_its_data(what: str, tmp_path: Path) -> None:
    """One bad file leaves redundict intact, two the state before; a plain file does not stand."""
    folder = str(tmp_path)
    harm = bitrot.DAMAGES[what]
    assert bitrot.damaged("redundict", harm, f"{folder}/1") is bitrot.Outcome.INTACT
    assert bitrot.damaged(bitrot.BOTH, harm, f"{folder}/2") is bitrot.Outcome.PREVIOUS
    assert bitrot.damaged("recipe", harm, f"{folder}/3") > bitrot.Outcome.PREVIOUS


def test_a_full_disk_leaves_redundict_intact_and_tears_what_is_overwritten(
    tmp_path: Path,
) -> None:
    """A save that met a full disk costs nothing; a file that is overwritten in place is gone."""
    folder = str(tmp_path)
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
    assert bitrot.full_disk("redundict", f"{folder}/1") is bitrot.Outcome.INTACT
    assert bitrot.full_disk("overwrite+fsync", f"{folder}/2") is bitrot.Outcome.ERROR
