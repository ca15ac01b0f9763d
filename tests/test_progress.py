"""`progress`: a bar on a terminal when the work takes long, and nothing at any other time."""

from __future__ import annotations

import importlib.util
import io
import sys

import pytest

from redundict.cli import progress


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
    with progress.bar(unmeasured) as bar:
        bar.advance(1)
        bar.hide()
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_of_what_takes_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short work leaves the terminal alone."""
    terminal, measured = look(monkeypatch), []
    with progress.bar(lambda: measured.append(1) or 2) as bar:
        bar.advance(1)
    assert measured
    assert terminal.getvalue() == ""


@pytest.fixture(params=["rich", "plain"])
def long_work(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Draw at once, with rich or without it; say which."""
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    if request.param == "plain":
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    return str(request.param)


def test_long_work_shows_share_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, long_work: str
) -> None:
    """With rich or without it, and the line is gone in the end."""
    terminal = look(monkeypatch)
    with progress.bar(lambda: 4_000_000) as bar:
        bar.advance(2_000_000)
        if long_work == "plain":
            shown = terminal.getvalue()
            assert " 50% of 4 MB" in shown
            assert "MB/s" in shown
            assert "s left" in shown
    if long_work == "rich":
        assert "50%" in terminal.getvalue()
    else:
        assert terminal.getvalue().endswith("\r")


def test_what_is_printed_meanwhile_goes_where_it_should(
    monkeypatch: pytest.MonkeyPatch, long_work: str
) -> None:
    """A pipe gets each record, whole, though a bar is drawn on the terminal beside it."""
    terminal, pipe = look(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    with progress.bar(lambda: 4) as bar:
        for number in range(4):
            bar.advance(1)
            print(f"record {number}")
    assert pipe.getvalue() == "record 0\nrecord 1\nrecord 2\nrecord 3\n"
    assert "record" not in terminal.getvalue()


def test_a_hidden_bar_comes_back(monkeypatch: pytest.MonkeyPatch, long_work: str) -> None:
    """Between two draws, the line belongs to whoever prints."""
    terminal = look(monkeypatch)
    with progress.bar(lambda: 4) as bar:
        bar.advance(1)
        bar.hide()
        before = terminal.getvalue()
        bar.advance(1)
    assert " 50%" in terminal.getvalue().removeprefix(before)


@pytest.mark.parametrize("columns", [40, 80])
def test_the_plain_line_does_not_wrap(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """One that wraps could not be written over."""
    terminal = look(monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with progress.bar(lambda: 4_000_000) as bar:
        bar.advance(1_000_000)
    assert " 25%" in terminal.getvalue()
    assert max(map(len, terminal.getvalue().split("\r"))) < columns
