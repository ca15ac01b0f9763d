"""From payloads to states: in which format, and, if that fails, where.

What opening a store and `load` have in common. Knows dicts and formats, and takes no lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from . import errors
from .engine import files
from .engine import newest as loading
from .engine.layout import COPIES, KEEP, Layout
from .engine.newest import Loaded
from .engine.slots import Slot
from .engine.survey import Folders
from .formats import resolve as serializers
from .formats.resolve import Format
from .report import not_found

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def load(
    path: Path,
    generation: int | None = None,
    *,
    format: object = None,
    folders: Folders | None = None,
) -> dict[Any, Any]:
    """Return the newest state at `path`, or that of `generation`, as a plain dict; take no lock.

    The format is what the slot says, if that is JSON or CSV; any other, pickle above all, only if
    `format` asks for it. Raises `NotFoundError`, `NoGenerationError`, `LostError`, `AccessError`,
    `FormatError`, `NewerVersionError`.
    """
    layout = Layout.of(os.fsdecode(path), folders or COPIES, KEEP)
    loaded = loading.load(layout, generation)
    if loaded.is_empty and generation is not None:
        raise not_found(layout.path)
    if loaded.is_empty:
        state = left_by_the_recipe(layout, serializers.resolve(format or "json"))
        if state is None:
            raise not_found(layout.path)
        return state
    chosen = (
        serializers.by_trailer_name(loaded.format)
        if format is None
        else serializers.resolve(format)
    )
    if chosen is None or chosen.name != loaded.format:
        raise errors.FormatError(
            f"it is stored as {loaded.format}",
            path=layout.path,
            generation=loaded.generation,
            safe="nothing was changed, and nothing was decoded",
            action=f"pass format={loaded.format!r}, if you trust who wrote it",
        )
    with located(layout, loaded):
        return chosen.decode(loaded.payload)


def decoded(loaded: Loaded, serializer: Format) -> dict[Any, Any]:
    """Return the state that was loaded; raise `FormatError` if it is stored in another format."""
    if loaded.survivor and loaded.format != serializer.name:
        refuse_format(loaded.layout, loaded.survivor, serializer.name)
    with located(loaded.layout, loaded):
        return serializer.decode(loaded.payload)


def left_by_the_recipe(layout: Layout, serializer: Format) -> dict[Any, Any] | None:
    """Return the state in the plain file at the store's own path, None if there is no file."""
    content = plain_file(layout.path)
    if content is None:
        return None
    with located(layout):
        return serializers.read_plain(content, serializer)


@contextmanager
def located(layout: Layout, loaded: Loaded | None = None) -> Iterator[None]:
    """Tell a `FormatError` where it happened."""
    try:
        yield
    except errors.FormatError as error:
        error.path = layout.path
        error.safe = "nothing was changed"
        error.action = layout.command("show")
        if loaded and loaded.survivor:
            error.slot, error.generation = loaded.survivor.name, loaded.generation
        raise


def refuse_format(layout: Layout, slot: Slot, format: str) -> NoReturn:
    """Raise, for a store that is to be opened in another format than it is stored in."""
    stored = slot.trailer.format if slot.trailer else "?"
    raise errors.FormatError(
        f"it is stored as {stored}, not as {format}",
        path=layout.path,
        slot=slot.name,
        generation=slot.generation,
        safe="nothing was changed",
        action=f"open it with format={stored!r}",
    )


def plain_file(path: str) -> bytes | None:
    """Return the content of the file at the store's own path, None if there is none."""
    try:
        return files.read_plain(path)
    except OSError as error:
        raise errors.refused(
            error,
            "the plain file there cannot be read",
            path=path,
            safe="nothing was changed, and the store is not taken for empty",
            action="make it readable, or move it away",
        ) from error
