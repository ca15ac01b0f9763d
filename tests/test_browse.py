"""`browse`: the history on a terminal, driven as a person drives it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import redundict
from redundict import cli
from redundict.exits import Exit

from . import damage

textual = pytest.importorskip("textual")

from textual.pilot import Pilot  # noqa: E402 - only where it is installed
from textual.widgets import DataTable, Static  # noqa: E402

from redundict.browse import LINES, Browser, Confirm  # noqa: E402


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


def drive(path: str, acts: Callable[[Browser, Pilot[None]], Awaitable[Any]]) -> Browser:
    """Run the browser without a screen, and let somebody act on it."""

    async def main() -> Browser:
        app = Browser(path)
        async with app.run_test(size=(110, 30)) as pilot:
            await pilot.pause()
            await acts(app, pilot)
        return app

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # textual's own
        return asyncio.run(main())


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
        assert shown(app, "changed") == "chat.width: 640 -> 800"
        await pilot.press("j")
        assert "no older generation" in shown(app, "changed")
        await pilot.press("k", "k")
        assert shown(app, "changed") == "chat.width: 800 -> 1024"

    drive(store, acts)


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
        assert any("open for writing" in note.message for note in app._notifications)
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
        assert health == "a:valid b:digest-mismatch"

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
        assert shown(app, "changed").endswith("... and more")
        assert shown(app, "changed").count("\n") == LINES
        assert "more lines" in shown(app, "held")

    drive(path, acts)


def test_a_pickle_is_not_loaded_to_look_at_it(path: str) -> None:
    """Its facts are shown, and why its content is not."""
    with redundict.open(path, format="pickle") as state:
        for state["n"] in (1, 2):
            state.sync()

    async def acts(app: Browser, _: Pilot[None]) -> None:
        assert "unpickled" in shown(app, "changed")
        assert "bytes of pickle" in shown(app, "held")

    drive(path, acts)


def test_a_path_without_a_store_is_an_error_before_the_screen_is_taken(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every command: one line, and the exit code."""
    assert cli.main(["browse", path]) == Exit.NO_STORE
    assert "there is no store here" in capsys.readouterr().err
