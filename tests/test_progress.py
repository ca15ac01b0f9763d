"""`progress`: a bar on a terminal when the work takes long, and nothing at any other time."""

from __future__ import annotations

import importlib.util
import io
import sys

import pytest

from redundict import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def look(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal on standard error, in the test: pytest has its own there between phases."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def unmeasured() -> int:
    raise AssertionError("measured for nobody")


def test_nothing_is_measured_or_shown_where_nobody_looks(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a pipe, the work is not counted beforehand."""
    with progress.bar(unmeasured) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_of_what_takes_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short work leaves the terminal alone."""
    terminal, measured = look(monkeypatch), []
    with progress.bar(lambda: measured.append(1) or 2) as advance:
        advance(1)
    assert measured
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("rich", [True, False])
def test_long_work_shows_share_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, rich: bool
) -> None:
    """With rich or without it, and the line is gone in the end."""
    terminal = look(monkeypatch)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    if not rich:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with progress.bar(lambda: 4_000_000) as advance:
        advance(2_000_000)
        if not rich:
            shown = terminal.getvalue()
            assert " 50% of 4 MB" in shown
            assert "MB/s" in shown
            assert "s left" in shown
    if rich:
        assert "50%" in terminal.getvalue()
    else:
        assert terminal.getvalue().endswith("\r")
