"""`redundict browse`: a store's history in a terminal, to look at and to roll back with a key.

Generations on the left, what the chosen one changed and what it holds on the right, the health of
the store on top. Never unpickles, and writes only through `recovery`. textual is an extra (`tui`);
only this module imports it.
"""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Static, TabbedContent, TabPane

from . import differences, errors, integrity, loading, records, recovery, render, serializers
from .integrity import Report
from .loading import Loaded
from .slots import COPIES, KEEP, Generation, Layout, StoreState
from .survey import Folders

COLOURS: Final = {
    StoreState.HEALTHY: "green",
    StoreState.DEGRADED: "yellow",
    StoreState.ROLLED_BACK: "red",
    StoreState.LOST: "red",
}
LINES: Final = 500  #: Of a state or of its changes that are shown: a terminal is no pager.


class Confirm(ModalScreen[bool]):
    """Shows what a rollback would change, and asks."""

    CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical { width: 80%; height: auto; max-height: 80%; padding: 1 2;
                         border: thick $warning; background: $surface; }
    Confirm VerticalScroll { height: auto; max-height: 20; margin: 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Roll back"),
        Binding("n,escape", "dismiss(False)", "Leave it"),
    ]

    def __init__(self, question: str, changes: Text) -> None:
        super().__init__()
        self._question, self._changes = question, changes

    def compose(self) -> ComposeResult:
        """Lay out the question, the changes and the keys."""
        with Vertical():
            yield Label(Text(self._question, style="bold"))
            with VerticalScroll():
                yield Static(self._changes)
            yield Label(Text("y  roll back      n  leave it as it is"))


class Browser(App[None]):
    """The history of one store."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; padding: 0 1; margin: 0 0 1 0; }
    #generations { width: auto; max-width: 60%; height: 1fr; margin: 0 1 0 0; }
    TabPane { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "roll_back", "Roll back to it"),
        Binding("c", "refresh_store", "Check again"),
        Binding("j", "cursor(1)", show=False),
        Binding("k", "cursor(-1)", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self, path: str | os.PathLike[str], folders: Folders | None = None, timeout: float = 0.0
    ) -> None:
        super().__init__()
        self._path, self._folders, self._timeout = os.fspath(path), folders, timeout
        self._layout = Layout.of(self._path, folders or COPIES, KEEP)
        self.report = integrity.check(self._path, folders=folders)

    def compose(self) -> ComposeResult:
        """Lay out the head, the list, the two tabs and the keys."""
        yield Static(id="head")
        with Horizontal():
            yield DataTable(id="generations", cursor_type="row", zebra_stripes=True)
            with TabbedContent():
                with TabPane("What it changed", id="changes"), VerticalScroll():
                    yield Static(id="changed")
                with TabPane("What it holds", id="content"), VerticalScroll():
                    yield Static(id="held")
        yield Footer()

    def on_mount(self) -> None:
        """Fill the list, with the newest generation chosen."""
        self.title = "redundict"
        table = self._table
        table.add_columns("", "generation", "age", "bytes", "copies")
        table.focus()
        self._fill()

    def on_data_table_row_highlighted(self) -> None:
        """Show the generation that the cursor is on."""
        if generation := self.chosen:
            self._show(generation)

    def action_cursor(self, step: int) -> None:
        """Move the cursor."""
        self._table.move_cursor(row=self._table.cursor_row + step)

    def action_refresh_store(self) -> None:
        """Check the store again."""
        try:
            self._check()
        except (errors.RedundictError, OSError) as error:
            self._tell(error)

    def action_roll_back(self) -> None:
        """Ask, and commit the chosen generation again."""
        generation = self.chosen
        if generation is None or generation.number == self.report.generation:
            self.notify("Choose an older generation to roll back to.")
            return
        question = f"Roll back from generation {self.report.generation} to {generation.number}?"
        changes = self._changes(self.report.generation, generation.number)

        def answered(agreed: bool | None) -> None:
            if agreed:
                self._roll_back(generation.number)

        self.push_screen(Confirm(question, changes), answered)

    @property
    def chosen(self) -> Generation | None:
        """The generation that the cursor is on."""
        generations = self.report.generations
        row = self._table.cursor_row
        return generations[row] if 0 <= row < len(generations) else None

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#generations", DataTable)

    def _roll_back(self, to: int) -> None:
        try:
            number = recovery.rollback(self._path, to, folders=self._folders, timeout=self._timeout)
            self._check()
        except (errors.RedundictError, OSError) as error:
            self._tell(error)
        else:
            self.notify(f"Committed as generation {number}; roll back again to undo it.")

    def _check(self) -> None:
        self.report = integrity.check(self._path, folders=self._folders)
        self._fill()

    def _fill(self) -> None:
        self.query_one("#head", Static).update(_head(self.report))
        self._table.clear()
        now = datetime.now(UTC)
        for generation in self.report.generations:
            health = records.copies(self.report, generation)
            colour = "green" if set(health.values()) == {"valid"} else "yellow"
            cells = (
                str(generation.number),
                render.age((now - generation.written).total_seconds()),
                f"{generation.length:,}",
                " ".join(f"{copy}:{state}" for copy, state in health.items()),
            )
            self._table.add_row(Text("●", style=colour), *(Text(cell) for cell in cells))
        if chosen := self.chosen:
            self._show(chosen)

    def _show(self, generation: Generation) -> None:
        numbers = [g.number for g in self.report.generations]
        older = numbers[numbers.index(generation.number) + 1 :]
        changed = (
            self._changes(older[0], generation.number)
            if older
            else Text("There is no older generation to compare it with.", style="dim")
        )
        self.query_one("#changed", Static).update(changed)
        self.query_one("#held", Static).update(self._held(generation.number))

    def _changes(self, old: int, new: int) -> Text:
        try:
            before, after = (_decoded(loading.load(self._layout, n)) for n in (old, new))
        except errors.RedundictError as error:
            return Text(str(error), style="red")
        if before is None or after is None:
            return Text("Not shown: it would have to be unpickled.", style="dim")
        styles = {"+": "green", "-": "red"}
        lines = map(differences.line, differences.differences(before, after))
        shown = itertools.islice(lines, LINES)
        text = Text("\n").join(Text(line, styles.get(line[0], "")) for line in shown)
        if next(lines, None) is not None:
            text.append("\n... and more", style="dim")
        return text if text.plain else Text("Nothing.", style="dim")

    def _held(self, number: int) -> Text:
        try:
            loaded = loading.load(self._layout, number)
        except errors.RedundictError as error:
            return Text(str(error), style="red")
        lines = render.payload(loaded.payload, loaded.format).splitlines()
        text = Text("\n".join(line[:1000] for line in lines[:LINES]))
        if len(lines) > LINES:
            text.append(f"\n... and {len(lines) - LINES:,} more lines", style="dim")
        return text

    def _tell(self, error: Exception) -> None:
        self.notify(str(error), severity="error", markup=False, timeout=10)


def run(path: str, folders: Folders | None = None, timeout: float = 0.0) -> None:
    """Browse the store at `path`; raises what `check` raises before the screen is taken."""
    Browser(path, folders, timeout).run()


def _head(report: Report) -> Text:
    head = Text()
    head.append(report.path, style="bold")
    head.append(f"\n{report.state}", style=f"bold {COLOURS[report.state]}")
    head.append(f"  {report.status}")
    if report.action:
        head.append(f"\n{report.action}", style="italic")
    return head


def _decoded(loaded: Loaded) -> dict[object, object] | None:
    format = serializers.by_trailer_name(loaded.format)
    return format.decode(loaded.payload) if format else None
