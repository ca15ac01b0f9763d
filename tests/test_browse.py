"""`browse`: the history on a terminal, driven as a person drives it."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import Slot
from redundict.cli import parser as cli
from redundict.cli.exits import Exit

from . import damage
from .inside import Verified, survey

textual = pytest.importorskip("textual")

from textual.pilot import Pilot  # noqa: E402 - only where it is installed
from textual.widgets import DataTable, Static  # noqa: E402

from redundict.cli.browse import LINES, UNREADABLE, WIDTH, Browser, Confirm  # noqa: E402


@pytest.fixture
def store(path: str) -> str:
    """Return a store of three generations."""
    with redundict.open(path, keep=3) as state:
        for width in (640, 800, 1024):
            state["chat"] = {"width": width}
            state.sync()
    for copy in "ab":
        for index in range(3):
            damage.age(f"{path}.{copy}{index}")
    return path


def drive(
    path: str,
    acts: Callable[[Browser, Pilot[None]], Awaitable[Any]],
    size: tuple[int, int] = (110, 30),
) -> Browser:
    """Run the browser without a screen, and let somebody act on it."""

    async def main() -> Browser:
        app = Browser(path)
        async with app.run_test(size=size) as pilot:
            await settle(app, pilot)
            await acts(app, pilot)
        return app

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # textual's own
        return asyncio.run(main())


async def settle(app: Browser, pilot: Pilot[None]) -> None:
    """Wait until what was read in a thread is on the screen."""
    await pilot.pause()
    await app.workers.wait_for_complete([each for each in app.workers if not each.is_cancelled])
    await pilot.pause()


def drawn(app: Browser) -> str:
    """Return what goes to the terminal, with no styles."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in strip) for strip in strips)


def shown(app: Browser, where: str) -> str:
    return str(app.query_one(f"#{where}", Static).render())


def test_the_newest_is_chosen_with_what_it_changed_and_holds(store: str) -> None:
    """Newest first; the right side shows the chosen one, the head the store's health."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        table = app.query_one(DataTable)
        assert [str(table.get_cell_at((row, 1))) for row in range(3)] == ["3", "2", "1"]  # type: ignore[arg-type]
        assert shown(app, "changed") == "chat.width: 800 -> 1024"
        assert '"width": 1024' in shown(app, "held")
        assert "healthy" in shown(app, "head")
        await pilot.press("down")
        await settle(app, pilot)
        assert shown(app, "changed") == "chat.width: 640 -> 800"
        await pilot.press("j")
        assert "no older generation" in shown(app, "changed")
        await pilot.press("k", "k")
        await settle(app, pilot)
        assert shown(app, "changed") == "chat.width: 800 -> 1024"

    drive(store, acts)


@pytest.mark.parametrize("columns", [40, 80])
def test_a_narrow_terminal_shows_all_of_a_change(store: str, columns: int) -> None:
    """What does not fit beside the list is wrapped, not cut off."""

    async def acts(app: Browser, _: Pilot[None]) -> None:
        assert app.query_one("#changed").region.right <= columns
        assert "1024" in drawn(app)

    drive(store, acts, size=(columns, 24))


@pytest.mark.parametrize(("key", "generation"), [("y", 4), ("n", 3), ("escape", 3)])
def test_a_rollback_is_asked_for_and_done_only_on_a_yes(
    store: str, key: str, generation: int
) -> None:
    """The question shows what would change; after a yes, the new generation is in the list."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "r")
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        asked = " ".join(str(each.render()) for each in app.screen.query(Static))
        assert "from generation 3 to 1" in asked
        assert "chat.width: 1024 -> 640" in asked
        await pilot.press(key)
        await pilot.pause()
        assert not isinstance(app.screen, Confirm)
        assert app.report.generation == generation

    drive(store, acts)
    assert redundict.load(store) == {"chat": {"width": 640 if key == "y" else 1024}}


def test_the_newest_cannot_be_rolled_back_to(store: str) -> None:
    """Nothing is asked where there is nothing to do."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("r")
        await pilot.pause()
        assert not isinstance(app.screen, Confirm)

    assert drive(store, acts).report.generation == 3


def test_a_locked_store_is_told_of_and_nothing_is_changed(store: str) -> None:
    """A program that is running keeps its store; the browser goes on."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        with redundict.open(store, keep=3):
            await pilot.press("down", "r")
            await pilot.pause()
            await pilot.press("y")
            await pilot.pause()
        told = [note for note in app._notifications if "open for writing" in note.message]
        assert told
        assert not any(note.markup for note in told)
        assert app.report.generation == 3

    drive(store, acts)


@pytest.mark.damages
def test_damage_is_shown_in_words_and_found_again(store: str) -> None:
    """A key checks again: what was damaged meanwhile is named, copy by copy."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        damage.flip(f"{store}.b2", 0)
        await pilot.press("c")
        await pilot.pause()
        assert "degraded" in shown(app, "head")
        assert "redundict repair" in shown(app, "head")
        health = str(app.query_one(DataTable).get_cell_at((0, 4)))  # type: ignore[arg-type]
        assert health == "a:valid  b:digest-mismatch"

    drive(store, acts)


def test_markup_and_escapes_in_a_state_are_shown_as_they_are(path: str) -> None:
    """What stands in a state cannot paint the screen."""
    with redundict.open(path) as state:
        state["a"] = 1
        state.sync()
        state["b"] = "[bold red]x[/] \x1b[2J"

    async def acts(app: Browser, _: Pilot[None]) -> None:
        assert shown(app, "changed") == "+ b: '[bold red]x[/] \\x1b[2J'"
        assert "\\u001b[2J" in shown(app, "held")

    drive(path, acts)


def test_a_large_state_is_shown_in_part(path: str) -> None:
    """What is drawn is bounded, and says how much was left out."""
    with redundict.open(path) as state:
        state["a"] = 0
        state.sync()
        state.update({f"key {n}": n for n in range(5 * LINES)})

    async def acts(app: Browser, _: Pilot[None]) -> None:
        left_out = 5 * LINES - LINES
        assert shown(app, "changed").endswith(f"\n... and {left_out:,} more lines")
        assert shown(app, "changed").count("\n") == LINES
        assert shown(app, "held").endswith(f"\n... and {left_out + 3:,} more lines")

    drive(path, acts)


def test_a_pickle_is_not_loaded_to_look_at_it(path: str) -> None:
    """Its facts are shown, and why its content is not."""
    with redundict.open(path, format="pickle") as state:
        for state["n"] in (1, 2):
            state.sync()

    async def acts(app: Browser, _: Pilot[None]) -> None:
        assert shown(app, "changed") == UNREADABLE
        assert "bytes of pickle" in shown(app, "held")
        assert UNREADABLE in shown(app, "held")

    drive(path, acts)


def test_a_path_without_a_store_is_an_error_before_the_screen_is_taken(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every command: one line, and the exit code."""
    assert cli.main(["browse", path]) == Exit.NO_STORE
    assert "there is no store here" in capsys.readouterr().err


def test_browse_without_its_extra_says_what_to_install(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command to get the extra stands alone on the last line, quoted for the shell."""
    monkeypatch.delitem(sys.modules, "redundict.cli.browse")
    monkeypatch.delattr("redundict.cli.browse")
    monkeypatch.setitem(sys.modules, "textual", None)
    assert cli.main(["browse", path]) == Exit.FAILED
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "error: browse needs the module textual"
    assert said[-1] == "next: pip install 'redundict[tui]'"


def test_a_long_line_says_how_much_of_it_is_left_out(path: str) -> None:
    """A state may be one line of megabytes."""
    with redundict.open(path) as state:
        state["text"] = "x" * 5 * WIDTH

    async def acts(app: Browser, _: Pilot[None]) -> None:
        line = shown(app, "held").splitlines()[1]
        left_out = len(f'  "text": "{"x" * 5 * WIDTH}"') - WIDTH
        assert line.endswith(f"x ... and {left_out:,} more characters")

    drive(path, acts)


@pytest.mark.parametrize("name", ["esc\x1b[2J.json", "line\nfeed.json", os.fsdecode(b"b\xff.json")])
def test_no_path_can_attack_the_terminal(tmp_path: Path, name: str) -> None:
    """A control character or an undecodable byte in a path is drawn as its escape."""
    path = str(tmp_path / name)
    try:
        redundict.open(path).close()
    except OSError:
        pytest.skip("the file system refuses such names")

    async def acts(app: Browser, _: Pilot[None]) -> None:
        head = shown(app, "head")
        assert len(head.splitlines()) == 3
        assert all(c.isprintable() for c in head.replace("\n", ""))
        drawn(app).encode()
        assert "\x1b" not in drawn(app)

    drive(path, acts)


def test_checking_again_leaves_the_choice_alone(store: str) -> None:
    """The cursor stays on the generation that it is on."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down", "down", "c")
        await settle(app, pilot)
        assert app.chosen is not None
        assert app.chosen.number == 1
        assert "no older generation" in shown(app, "changed")

    drive(store, acts)


def test_a_rollback_is_not_done_over_what_was_not_seen(store: str) -> None:
    """What another program commits while the question stands is not undone by the answer."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down", "r")
        await pilot.pause()
        with redundict.open(store, keep=3) as state:
            state["chat"] = "of another program"
        await pilot.press("y")
        await settle(app, pilot)
        assert any("committed meanwhile" in note.message for note in app._notifications)
        assert app.report.generation == 4

    drive(store, acts)
    assert redundict.load(store) == {"chat": "of another program"}


@pytest.mark.damages
def test_a_rollback_that_is_not_durable_in_every_copy_says_so(store: str) -> None:
    """The library's warning is a notice on the screen."""
    for index in range(3):
        os.remove(f"{store}.b{index}")
        os.mkdir(f"{store}.b{index}")

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        await pilot.press("down", "r")
        await pilot.pause()
        await pilot.press("y")
        await settle(app, pilot)
        notes = [note for note in app._notifications if note.severity == "warning"]
        assert any("not in every copy" in note.message for note in notes)
        assert app.report.generation == 4

    drive(store, acts)


@pytest.mark.damages
def test_diverged_copies_are_each_shown_with_what_they_hold(path: str, tmp_path: Path) -> None:
    """Two states of one number are told apart, and neither is rolled back to by a guess."""
    other = str(tmp_path / "other.json")
    for store, who in ((path, "A"), (other, "B")):
        with redundict.open(store) as state:
            for state["who"] in (who.lower(), who):
                state.sync()
    for index in range(2):
        shutil.copyfile(f"{other}.b{index}", f"{path}.b{index}")
        for copy in "ab":
            damage.age(f"{path}.{copy}{index}")

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        assert '"who": "A"' in shown(app, "held")
        await pilot.press("down")
        await settle(app, pilot)
        assert '"who": "B"' in shown(app, "held")
        assert shown(app, "changed") == "who: 'b' -> 'B'"
        await pilot.press("down", "r")
        await pilot.pause()
        assert not isinstance(app.screen, Confirm)
        assert any("repair" in note.message for note in app._notifications)

    drive(path, acts)


def test_a_store_that_goes_away_is_told_of_where_it_was_shown(store: str) -> None:
    """Nothing is shown as if it were still there, and the browser goes on."""

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        for copy in "ab":
            for index in range(3):
                os.remove(f"{store}.{copy}{index}")
        await pilot.press("down")
        await settle(app, pilot)
        assert "no longer there" in shown(app, "changed")
        assert "no longer there" in shown(app, "held")
        await pilot.press("c")
        await pilot.pause()
        assert any("no store here" in note.message for note in app._notifications)

    drive(store, acts)


def test_the_keys_go_on_working_while_a_state_is_read(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading is done beside the screen, and what is no longer wanted is not shown."""
    release, verify = threading.Event(), survey.verify

    def slow(slot: Slot) -> tuple[Slot, Verified | None]:
        assert slot.generation != 2 or release.wait(10)
        return verify(slot)

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        monkeypatch.setattr(survey, "verify", slow)
        await pilot.press("down")
        await pilot.press("down")
        await settle(app, pilot)
        assert not release.is_set()
        assert '"width": 640' in shown(app, "held")
        put: list[str] = []
        kept = app._put
        monkeypatch.setattr(app, "_put", lambda d, *texts: (put.append(d), kept(d, *texts)))
        release.set()
        while not put:
            await pilot.pause(0.01)
        assert '"width": 640' in shown(app, "held")

    drive(store, acts)


@pytest.mark.parametrize("disk", [0, 1])
def test_a_store_on_two_disks_is_browsed_and_rolled_back_from_either(
    tmp_path: Path, disk: int
) -> None:
    """The path in one folder finds both copies, and a rollback reaches both."""
    disks = [tmp_path / "one", tmp_path / "two"]
    for folder in disks:
        folder.mkdir()
    with redundict.open(disks[0] / "state.json", copies=disks, keep=2) as state:
        for state["n"] in (1, 2):
            state.sync()

    async def acts(app: Browser, pilot: Pilot[None]) -> None:
        assert "healthy" in shown(app, "head")
        assert '"n": 2' in shown(app, "held")
        await pilot.press("down", "r")
        await settle(app, pilot)
        await pilot.press("y")
        await settle(app, pilot)

    drive(str(disks[disk] / "state.json"), acts)
    for folder in disks:
        assert redundict.load(folder / "state.json") == {"n": 1}
    newest = redundict.check(disks[0] / "state.json").generations[0]
    assert (newest.number, [slot.letter for slot in newest.slots]) == (3, ["a", "b"])
