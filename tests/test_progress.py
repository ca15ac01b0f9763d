"""`progress`: a bar on a terminal when the work takes long, and nothing at any other time."""

from __future__ import annotations

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
    """Short work is not measured, and leaves the terminal alone."""
    terminal = look(monkeypatch)
    with progress.bar(unmeasured) as bar:
        bar.advance(1)
    assert terminal.getvalue() == ""


@pytest.fixture
def long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw at once."""
    pytest.importorskip("rich")
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    monkeypatch.setattr(progress, "_EVERY", 0.0)


@pytest.mark.usefixtures("long_work")
def test_long_work_shows_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of more than a moment has a bar with the share that is done."""
    terminal = look(monkeypatch)
    with progress.bar(lambda: 4_000_000) as bar:
        bar.advance(2_000_000)
    assert "50%" in terminal.getvalue()


@pytest.mark.usefixtures("long_work")
def test_without_rich_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich is an extra: without it the work goes on, is not measured, and nothing is shown."""
    terminal = look(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich", None)
    with progress.bar(unmeasured) as bar:
        bar.advance(1)
        bar.advance(1)
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("long_work")
def test_what_is_printed_meanwhile_goes_where_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets each record, whole, though a bar is drawn on the terminal beside it."""
    terminal, pipe = look(monkeypatch), io.StringIO()
    monkeypatch.setattr(sys, "stdout", pipe)
    with progress.bar(lambda: 4) as bar:
        for number in range(4):
            bar.advance(1)
            print(f"record {number}")
    assert pipe.getvalue() == "record 0\nrecord 1\nrecord 2\nrecord 3\n"
    assert "record" not in terminal.getvalue()


@pytest.mark.usefixtures("long_work")
def test_a_hidden_bar_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two updates, the line is free for other output."""
    terminal = look(monkeypatch)
    with progress.bar(lambda: 4) as bar:
        bar.advance(1)
        bar.hide()
        before = terminal.getvalue()
        bar.advance(1)
    assert " 50%" in terminal.getvalue().removeprefix(before)
