"""`redundict browse`: a store's history in a terminal, to look at and to roll back with a key.

The screen shows the health of the store on top, the generations on the left, and on the right what
the chosen generation changed and holds. Never unpickles, and writes only through `recovery`.
textual is an extra (`tui`) that only this module imports.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Label, Static, TabbedContent, TabPane

from redundict import errors, recovery, report
from redundict.engine import survey, trailer
from redundict.engine.layout import Copies
from redundict.engine.slots import Generation, StoreState
from redundict.formats.resolve import safe_format
from redundict.report import Report

from . import differences, exits, records, render
from .differences import plain

COLOURS: Final = {StoreState.HEALTHY: "green", StoreState.DEGRADED: "yellow"}  #: Others are red.
LINES: Final = 500  #: The most lines of a state, or of its changes, that are shown.
WIDTH: Final = 1000  #: The most characters of a line that are shown.
UNREADABLE: Final = "Not shown: to decode this format may run stored code."


class Confirm(ModalScreen[bool]):
    """Shows what a rollback would change, and asks."""

    CSS = """
    Confirm { align: center middle; }
    Confirm > Vertical { width: 80%; height: auto; max-height: 80%; padding: 1 2;
                         border: round $warning; background: $surface; }
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
            yield Label(Text.from_markup("[b]y[/b]  roll back      [b]n[/b]  leave it as it is"))


class Browser(App[None]):
    """The history of one store. It raises what `check` raises before the screen changes."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; padding: 0 1; margin: 0 0 1 0; }
    #generations { width: auto; max-width: 60%; height: 1fr; margin: 0 1 0 0; }
    TabbedContent { width: 1fr; }
    TabPane { padding: 0 1; }
    TabPane Static { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "roll_back", "Roll back to it"),
        Binding("c", "refresh_store", "Check again"),
        Binding("j", "simulate_key('down')", show=False),
        Binding("k", "simulate_key('up')", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, path: str, copies: Copies | None = None, timeout: float = 0.0) -> None:
        super().__init__()
        self._path, self._copies, self._timeout = path, copies, timeout
        self.report = report.check(path, copies=copies)
        self.chosen_digest = ""

    def compose(self) -> ComposeResult:
        """Lay out the head, the list, the two tabs and the keys."""
        yield Static(id="head")
        with Horizontal():
            yield DataTable(
                id="generations",
                cursor_type="row",
                zebra_stripes=True,
                cursor_foreground_priority="renderable",
            )
            with TabbedContent():
                with TabPane("What it changed", id="changes"), VerticalScroll():
                    yield Static(id="changed")
                with TabPane("What it holds", id="content"), VerticalScroll():
                    yield Static(id="held")
        yield Footer()

    def on_mount(self) -> None:
        """Fill the list, with the newest generation chosen."""
        self.title = "redundict"
        self._table.add_columns("", "generation", "age", "bytes", "copies")
        self._table.focus()
        self._fill()

    def on_data_table_row_highlighted(self) -> None:
        """Show the generation that the cursor is on."""
        if generation := self.chosen:
            self._show(generation)

    def action_refresh_store(self) -> None:
        """Check the store again."""
        with self._telling():
            self._check()

    def action_roll_back(self) -> None:
        """Ask, and commit the chosen generation again."""
        generation = self.chosen
        newest = next(iter(self.report.generations), None)
        if generation is None or newest is None or generation.number == newest.number:
            self.notify("Choose an older generation to roll back to.")
            return
        if [g.number for g in self.report.generations].count(generation.number) > 1:
            self.notify("The copies hold different states of it: repair the store first.")
            return
        question = f"Roll back from generation {newest.number} to {generation.number}?"

        def answered(agreed: bool | None) -> None:
            if agreed:
                self._roll_back(newest.number, generation.number)

        self.push_screen(Confirm(question, _changes(newest, generation)), answered)

    @property
    def chosen(self) -> Generation | None:
        """The generation that the cursor is on."""
        generations = self.report.generations
        row = self._table.cursor_row
        return generations[row] if 0 <= row < len(generations) else None

    @property
    def _table(self) -> DataTable[Text]:
        return self.query_one("#generations", DataTable)

    def _roll_back(self, seen: int, to: int) -> None:
        """Roll back `to` a generation, if the newest is still the one that was `seen`."""
        with self._telling():
            with recovery.prepared_rollback(
                self._path, to, copies=self._copies, timeout=self._timeout
            ) as prepared:
                newest = prepared.newest.generation
                said = f"Nothing was changed: generation {newest} was committed meanwhile."
                if newest == seen:
                    said = f"Committed as generation {prepared.do()}; roll back again to undo it."
            self._check()
            self._table.move_cursor(row=0)
            self.notify(said)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Show warnings and errors as notices."""
        with warnings.catch_warnings(record=True) as met:
            warnings.simplefilter("always", errors.RedundancyWarning)
            try:
                yield
            except (errors.RedundictError, OSError) as error:
                self.notify(
                    render.failure(exits.typed(error)), severity="error", markup=False, timeout=10
                )
        for warning in met:
            said = plain(str(warning.message))
            self.notify(said, severity="warning", markup=False, timeout=10)

    def _check(self) -> None:
        self.report = report.check(self._path, copies=self._copies)
        self._fill()

    def _fill(self) -> None:
        chosen = self.chosen_digest
        self.query_one("#head", Static).update(_head(self.report))
        self._table.clear()
        now = trailer.now()
        for generation in self.report.generations:
            health = records.copies(self.report, generation)
            colour = "green" if set(health.values()) == {"valid"} else "yellow"
            self._table.add_row(
                Text("●", style=colour),
                Text(str(generation.number), justify="right"),
                Text(render.age((now - generation.written).total_seconds()), justify="right"),
                Text(f"{generation.length:,}", justify="right"),
                Text("  ").join(_copy(letter, state) for letter, state in health.items()),
            )
        digests = [generation.digest for generation in self.report.generations]
        if chosen in digests:
            self._table.move_cursor(row=digests.index(chosen))
        if selected := self.chosen:
            self._show(selected)

    def _show(self, generation: Generation) -> None:
        self.chosen_digest = generation.digest
        older = [g for g in self.report.generations if g.number < generation.number]
        parents = [g for g in older if g.digest.startswith(generation.parent)]
        self._read(next(iter(parents + older), None), generation)

    @work(thread=True, exclusive=True)
    def _read(self, older: Generation | None, generation: Generation) -> None:
        """Read and compare in a thread, so that the keys go on working meanwhile."""
        changed, held = _changes(older, generation), _held(generation)
        if self.is_running:
            self.call_from_thread(self._put, generation.digest, changed, held)

    def _put(self, digest: str, changed: Text, held: Text) -> None:
        if digest == self.chosen_digest:  # otherwise the cursor has moved on
            self.query_one("#changed", Static).update(changed)
            self.query_one("#held", Static).update(held)


def _head(checked: Report) -> Text:
    text = Text(render.head(checked))
    text.highlight_regex(r"(?m)^ *\w+:", "dim")
    colour = COLOURS.get(checked.state, "red")
    text.highlight_words([f" state: {checked.state}"], f"bold {colour}")
    return text


def _copy(letter: str, state: str) -> Text:
    return Text.assemble(f"{letter}:", (state, "green" if state == "valid" else "bold yellow"))


def _changes(old: Generation | None, new: Generation) -> Text:
    if old is None:
        return Text("There is no older generation to compare it with.", style="dim")
    try:
        before, after = _decoded(old), _decoded(new)
    except errors.RedundictError as error:
        return Text(render.failure(error), style="red")
    if before is None or after is None:
        return Text(UNREADABLE, style="dim")
    styles = {"+": "green", "-": "red"}
    lines = map(differences.line, differences.differences(before, after))
    changes = _bounded(Text(line, styles.get(line[0], "")) for line in lines)
    return changes or Text("Nothing.", style="dim")


def _held(generation: Generation) -> Text:
    if safe_format(generation.format) is None:
        facts = f"{generation.length:,} bytes of {generation.format}, written "
        facts += f"{render.local(generation.written)}\nsha256 {generation.digest}\n\n"
        return Text(facts + UNREADABLE)
    try:
        lines = render.payload(_payload(generation), generation.format).splitlines()
    except errors.RedundictError as error:
        return Text(render.failure(error), style="red")
    return _bounded(map(_cut, lines))


def _bounded(lines: Iterator[Text]) -> Text:
    text = Text("\n").join(itertools.islice(lines, LINES))
    if left_out := sum(1 for _ in lines):
        text.append(f"\n... and {left_out:,} more line{'s' * (left_out > 1)}", style="dim")
    return text


def _cut(line: str) -> Text:
    text = Text(line[:WIDTH])
    if len(line) > WIDTH:
        text.append(f" ... and {len(line) - WIDTH:,} more characters", style="dim")
    return text


def _decoded(generation: Generation) -> dict[str, object] | None:
    safe = safe_format(generation.format)
    return safe.decode(_payload(generation)) if safe else None


def _payload(generation: Generation) -> bytes:
    """Return the payload from the slots in which the report found it: a number may be ambiguous."""
    for slot in generation.slots:
        _, verified = survey.verify(slot)
        if verified and verified.trailer.digest == generation.digest:
            return verified.payload
    raise errors.generation_gone(generation.slots[0].path, generation.number)
