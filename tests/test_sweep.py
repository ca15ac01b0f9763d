"""`sweep`: many stores in folders are found, checked side by side, and come out in order."""

from __future__ import annotations

import concurrent.futures
import errno
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict.cli import parser as cli
from redundict.cli import sweep
from redundict.cli.exits import Exit

from . import damage
from .inside import survey


def make(path: Path, generations: int = 2) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with redundict.open(path) as state:
        for state["n"] in range(generations):
            state.sync()
    for name in os.listdir(path.parent):
        damage.age(str(path.parent / name))
    return str(path)


def test_stores_are_found_however_deep(tmp_path: Path) -> None:
    """Each once, in the order of their names; a store that is named is itself."""
    places = ["a.json", "b/c.json", "b/d/e/f", "b/d/e/g.json"]
    made = [make(tmp_path / place) for place in places]
    assert list(sweep.find([str(tmp_path)])) == made
    assert list(sweep.find([made[1], made[0]])) == [made[1], made[0]]


@pytest.mark.damages
def test_strangers_files_are_passed_over(tmp_path: Path) -> None:
    """A file that is only named like a slot is no store; what once was one is not overlooked."""
    (tmp_path / "archive.a1").write_text("no slot")
    (tmp_path / "song.b0").write_bytes(b"")
    assert list(sweep.find([str(tmp_path)])) == [str(tmp_path)]
    lost = make(tmp_path / "lost.json")
    for slot in ("a0", "a1", "b0", "b1"):
        damage.truncate(f"{lost}.{slot}", 0)
    os.remove(f"{lost}.lock")
    assert list(sweep.find([str(tmp_path)])) == [lost]


def test_no_name_hides_a_store(tmp_path: Path) -> None:
    """A name may hold anything that a file system takes, a newline even."""
    made = make(tmp_path / "line\nstate: healthy\n")
    assert list(sweep.find([str(tmp_path)])) == [made]


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refusal: int,
) -> None:
    """The stores in it were not checked, so that the others being healthy is not enough."""
    make(tmp_path / "open" / "s.json")
    hidden = os.path.dirname(make(tmp_path / "hidden" / "s.json"))
    for function in ("scandir", "listdir"):
        real = getattr(os, function)

        def refuse(path: str, real: Any = real) -> object:
            if str(path) == hidden:
                raise OSError(refusal, os.strerror(refusal), hidden)
            return real(path)

        monkeypatch.setattr(os, function, refuse)
    for paths in ([str(tmp_path)], [hidden]):
        assert cli.main(["check", *paths]) == Exit.FAILED
        said = capsys.readouterr().err
        assert f"{hidden}: the folder cannot be listed" in said
        assert os.strerror(refusal) in said


def test_a_folder_that_goes_away_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no longer there hides nothing."""
    made = make(tmp_path / "s.json")
    (tmp_path / "gone").mkdir()
    real = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("gone"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(sweep.find([str(tmp_path)])) == [made]


def test_a_folder_without_a_store_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check of nothing does not pass: the path may be wrong."""
    assert cli.main(["check", str(tmp_path)]) == Exit.NO_STORE
    assert "no store" in capsys.readouterr().err


@pytest.mark.damages
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_found_comes_out_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """Reports and errors come as the paths did, from one process or from several."""
    monkeypatch.setattr(sweep, "_ALONE", 0.0)
    monkeypatch.setattr(sweep, "_BATCH", 3)
    made = [make(tmp_path / f"{n:02}" / "s.json") for n in range(20)]
    damage.flip(f"{made[7]}.a0", 0)
    paths = [*made[:5], str(tmp_path / "absent"), *made[5:]]
    found = list(sweep.check_all(paths, sweep.check_one, workers))
    assert [each.path for each in found] == paths
    assert isinstance(found[5].result, redundict.NotFoundError)
    states = [str(each.result.state) for each in found if isinstance(each.result, redundict.Report)]
    assert states.count("healthy") == 19
    assert states[7] == "degraded"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_no_more_processes_than_processors_that_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with many, a container of one gets none beside the first."""
    monkeypatch.setattr(sweep, "_ALONE", 0.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    def none(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", none)
    path = make(tmp_path / "s.json")
    assert len(list(sweep.check_all([path] * 20, sweep.check_one))) == 20


def test_only_some_are_under_way_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are taken as they are needed, so that no number of them takes memory."""
    monkeypatch.setattr(sweep, "_ALONE", 0.0)
    path = make(tmp_path / "s.json")
    endless = itertools.count()
    taken = itertools.takewhile(lambda _: True, (path for _ in endless))
    results = sweep.check_all(taken, sweep.check_one, 2)
    assert [next(results).path for _ in range(200)] == [path] * 200
    results.close()  # type: ignore[attr-defined]
    assert next(endless) < 200 + sweep._BATCH * (2 * sweep._AHEAD + 2)


@pytest.mark.damages
def test_quiet_prints_only_trouble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For cron: nothing at all if all is well; otherwise the store, and how many there were."""
    made = [make(tmp_path / f"{n}" / "s.json") for n in range(3)]
    assert cli.main(["check", "--quiet", str(tmp_path)]) == Exit.OK
    assert capsys.readouterr() == ("", "")
    damage.flip(f"{made[1]}.b0", 0)
    assert cli.main(["check", "--quiet", str(tmp_path)]) == Exit.DEGRADED
    out = capsys.readouterr().out
    assert out.count("store:") == 1
    assert f"store: {made[1]}" in out
    assert out.endswith("3 stores: 2 healthy, 1 degraded\n")
    assert cli.main(["check", "--quiet", "--json", str(tmp_path)]) == Exit.DEGRADED
    [record] = capsys.readouterr().out.splitlines()
    assert json.loads(record)["path"] == made[1]


def test_a_check_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes, times and names of every file and folder are as they were, whatever the option."""
    make(tmp_path / "a" / "s.json")
    make(tmp_path / "b" / "s.json")

    def everything() -> dict[str, tuple[int, int, int, bytes | None]]:
        found = {}
        for path in [tmp_path, *tmp_path.rglob("*")]:
            stat = path.stat()
            held = path.read_bytes() if path.is_file() else None
            found[str(path)] = (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, held)
        return found

    before = everything()
    for options in ([], ["--quiet"], ["--json"], ["--cold"]):
        assert cli.main(["check", *options, str(tmp_path)]) == Exit.OK
    assert cli.main(["log", str(tmp_path / "a" / "s.json")]) == Exit.OK
    assert cli.main(["diff", str(tmp_path / "a" / "s.json")]) == Exit.OK
    assert everything() == before
    assert "s.json" in capsys.readouterr().out


def bytes_read() -> int:
    with open("/proc/self/io") as file:
        return int(dict(line.split(": ") for line in file.read().splitlines())["read_bytes"])


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs /proc/self/io")
def test_cold_reads_from_the_medium(tmp_path: Path) -> None:
    """With `cold`, what is verified is what the medium holds, not what the page cache shows."""
    path = str(tmp_path / "s.json")
    with redundict.open(path) as state:
        state["pad"] = "x" * 2_000_000
    redundict.check(path, cold=True)
    start = bytes_read()
    redundict.check(path)
    warm = bytes_read() - start
    start = bytes_read()
    redundict.check(path, cold=True)
    cold = bytes_read() - start
    if cold == 0:
        pytest.skip("a file system in memory has no medium")
    assert warm == 0
    assert cold >= 4_000_000


def test_cold_verifies_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped from the page cache is not read whole before."""
    path, verified = make(tmp_path / "s.json"), []
    real = survey.verify

    def verify(slot: redundict.Slot) -> Any:
        verified.append(slot.name)
        return real(slot)

    monkeypatch.setattr(survey, "verify", verify)
    redundict.check(path, cold=True)
    assert sorted(verified) == [f"s.json.{slot}" for slot in ("a0", "a1", "b0", "b1")]


def test_watch_checks_again_until_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each round is a check of its own, and control-C ends it with its own code."""
    path = make(tmp_path / "s.json")
    rounds = []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert cli.main(["check", path, "--watch", "5"]) == Exit.INTERRUPTED
    assert rounds == [5.0, 5.0, 5.0]
    assert capsys.readouterr().out.count("store:") == 3
