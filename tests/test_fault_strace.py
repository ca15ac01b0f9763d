"""Hazard: the kernel refuses a system call; the long run is `scripts/inject.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import inject
import pytest

import redundict

from . import inside

needs_strace = pytest.mark.skipif(bool(inject.unavailable()), reason=inject.unavailable())
FAILED = {"error": "CommitError('full')", "typed": True, "told": True}


def returned(number: int | None, *, told: bool = False) -> dict[str, Any]:
    return {"error": "", "number": number, "told": told}


def judged(path: str, phase: str, *result: dict[str, Any] | None, lasting: bool = False) -> str:
    """Return what the script finds wrong with what a process did, and with the store at `path`."""
    case = inject.Case(phase, 2, "write", 1, "EIO", lasting=lasting)
    return inject.judge(case, path, list(result)).partition(" ")[0]


@pytest.fixture
def store(path: str) -> str:
    """Return the path of the store that the script begins with."""
    inject.whole(path, 2)
    return path


@needs_strace
@pytest.mark.exhaustive
def test_a_refused_call_loses_nothing_and_raises_typed_errors() -> None:
    """A sample of all calls, errors and phases: nothing is older, empty, untyped or stuck."""
    counts = inject.run(0.004, seed=1)
    assert counts.pop("calls refused") > 100
    assert not any(counts.values()), counts


@needs_strace
@pytest.mark.parametrize("keep", inject.KEEP)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EACCES", "EINVAL", "ESTALE"])
def test_a_flush_that_is_refused_for_ever_is_a_commit_error(
    path: str, keep: int, error: str
) -> None:
    """The process is told, and the generation before the commit still loads."""
    inject.whole(path, keep)
    refusal = f"-e trace=getppid,fdatasync,fsync -e inject=fdatasync,fsync:error={error}"
    result = inject.traced(inject.PHASES["sync"], path, keep, f"{path}.strace", refusal)
    assert result is not None
    assert [it["error"].partition("(")[0] for it in result] == ["CommitError"] * 2
    assert not judged(path, "sync", *result, lasting=True)


@needs_strace
def test_a_flush_that_is_interrupted_is_repeated(store: str) -> None:
    """EINTR is no failure: the commit returns, and is on disk."""
    refusal = "-e trace=getppid,fsync -e inject=fsync:error=EINTR:when=1"
    result = inject.traced(inject.PHASES["sync"], store, 2, f"{store}.strace", refusal)
    assert result == [returned(inject.BEFORE + 1), None]
    assert not judged(store, "sync", *result)


@needs_strace
@pytest.mark.parametrize("phase", sorted(inject.PHASES.keys() - {"an unchanged sync"}))
def test_every_phase_makes_calls_that_can_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """Each phase touches the store, and calls that do not are not counted."""
    inside.no_patience(monkeypatch)
    calls = list(inject.calls(inject.PHASES[phase], 2, str(tmp_path)))
    assert len(calls) == len(set(calls)) > 5


@pytest.mark.parametrize(
    ("phase", "result", "fault"),
    [
        ("open", (returned(6), None), ""),
        ("open", (returned(5, told=True), None), ""),
        ("open", (returned(5), None), "older"),
        ("open", (returned(0, told=True), None), "empty"),
        ("load", (returned(-1, told=True), None), "corrupt"),
        ("sync", (returned(7), None), "older"),
        ("sync", (FAILED, returned(7)), "older"),
        ("sync", (FAILED, FAILED), "stuck"),
        ("check", (returned(None), None), ""),
        ("check", ({"error": "OSError(5)", "typed": False, "told": True}, None), "untyped"),
    ],
)
def test_the_judge_sees_what_must_not_be(
    store: str, phase: str, result: tuple[dict[str, Any] | None, ...], fault: str
) -> None:
    """Generation 6 is on disk: a sync that claims to have returned 7 has lost it."""
    assert judged(store, phase, *result) == fault


def test_the_judge_allows_a_failed_commit_either_state(store: str) -> None:
    """A commit that failed for ever leaves the state before it, or its own."""
    assert not judged(store, "sync", FAILED, FAILED, lasting=True)
    with redundict.open(store, keep=2) as state:
        inject.fill(state, inject.BEFORE + 2)
    assert judged(store, "sync", FAILED, FAILED, lasting=True) == "older"


def test_the_judge_sees_a_store_that_is_lost(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of which nothing loads is lost."""
    inside.fail_on(monkeypatch, "read", 5)
    inside.no_patience(monkeypatch)
    assert judged(store, "open", returned(6), None) == "lost"
