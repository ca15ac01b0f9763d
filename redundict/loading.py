"""From payloads to dicts: `load`, the choice of the format, and the recipe's plain file.

The dict and the command line decode here. A format that runs code when it decodes is used only if
the caller named it. Takes no lock and writes nothing. Knows no slot files.
"""

from __future__ import annotations

import os
from typing import Any

from . import errors
from .engine import files, newest, places
from .engine.layout import Copies, Layout, command_line
from .engine.newest import Loaded
from .events import Events
from .formats.resolve import Format, is_name, read_plain, resolve, safe_format
from .report import file_of_a_store, not_found, recovery_of

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


def load(
    path: Path,
    generation: int | None = None,
    *,
    format: object = None,
    copies: Copies | None = None,
) -> dict[Any, Any]:
    """Return the newest state of the store at `path` as a plain dict.

    Takes no lock and writes nothing. If a newer generation may have been lost, a
    `RedundancyWarning` says so. A writer may have the store open: its last durable generation
    is returned. After a crash, that is the newest generation that verifies in any copy. If there is
    no slot, the plain file that the PermaDict recipe left at `path` is read.

    Args:
        path: The store, without a slot's ending.
        generation: The number of an older generation to return instead.
        format: The format to decode in, as for `redundict.open`. None takes the format that the
            slot names if that is JSON, CSV or literal. Any other format, pickle above all, must be
            named.
        copies: How many copies there are, or the folder of each. None looks beside `path`.

    Returns:
        The state. Changes to it are not saved.

    Raises:
        NotFoundError: There is no store, or it does not hold `generation`.
        LostError: Slots exist and none verifies.
        FormatError: The payload is in another format, or cannot be decoded.
        AccessError: The permissions hide a slot that may hold the newest generation.
        NewerVersionError: A newer redundict wrote a slot.
        StorageError: The operating system refused to read.

    """
    layout = places.assumed(os.fsdecode(path), copies)
    found = newest.load(layout, generation)
    if not found.is_empty:
        loaded = decoded(found, None if format is None else resolve(format))
        if generation is None:
            _warn_if_doubtful(found)
            if warning := newer_plain_file(found, loaded, resolve(format or found.format)):
                errors.warn(warning)
        return loaded
    if error := file_of_a_store(layout.path):
        raise error
    state = None
    if generation is None:
        state = left_by_the_recipe(layout, resolve(format or "json"))
    if state is None:
        raise not_found(layout.path)
    return state


def _warn_if_doubtful(found: Loaded) -> None:
    """Warn if there may be a newer state than the one that was loaded, or another one."""
    recovery = recovery_of(found)
    if recovery and (found.layout.doubt or recovery.newest_doubtful):
        Events(found.layout.path).recovered(recovery)


def decoded(found: Loaded, format: Format | None = None) -> dict[Any, Any]:
    """Return the state that was loaded.

    Args:
        found: The generation that was loaded.
        format: The format that the caller named. None takes the one that the slot names, if
            decoding it runs no code.

    Raises:
        FormatError: It is stored in another format, or its format must be named.

    """
    chosen = format or safe_format(found.format)
    try:
        if chosen and found.survivor and found.survivor.target and not safe_format(chosen.name):
            slot = found.survivor
            raise errors.pickle_behind_link(found.layout.path, slot.name, slot.target)
        if chosen is None or (found.survivor and found.format != chosen.name):
            wanted, own = format.name if format else None, not is_name(found.format)
            raise errors.wrong_format(found.layout.path, found.format, wanted, own=own)
        return chosen.decode(found.payload)
    except errors.FormatError as error:
        complete(
            error,
            path=found.layout.path,
            action=found.layout.command("show"),
            slot=found.survivor.name if found.survivor else None,
            generation=found.generation or None,
        )
        raise


def newer_plain_file(found: Loaded, state: dict[Any, Any], format: Format) -> str | None:
    """Return a warning if the recipe's plain file is newer than the store and holds another state.

    Args:
        found: The generation that was loaded.
        state: Its state.
        format: The format of the store.

    """
    path = found.layout.path
    modified = files.plain_modified(path)
    if modified is None or modified <= max(slot.modified for slot in found.slots):
        return None
    try:
        content = files.read_plain(path)
        if content is None or read_plain(content, format) == state:
            return None
    except (OSError, errors.FormatError) as error:
        errors.reraise_interrupt(error)  # what cannot be read is not what the program wrote
        return None
    return errors.newer_plain_file(path, command_line("redundict", "import", path, path))


def left_by_the_recipe(layout: Layout, format: Format) -> dict[Any, Any] | None:
    """Return the state in the plain file at the store's own path; None if there is no file."""
    try:
        content = files.read_plain(layout.path)
    except OSError as error:
        raise errors.plain_file_refused(error, layout.path) from error
    if content is None:
        return None
    try:
        return read_plain(content, format)
    except errors.FormatError as error:
        complete(error, path=layout.path, action=errors.MEND_PLAIN_FILE)
        raise


def complete(error: errors.FormatError, **facts: object) -> None:
    """Give a `FormatError` the facts that a format does not know; keep those that it has."""
    for name, fact in facts.items():
        if getattr(error, name) is None:
            setattr(error, name, fact)
