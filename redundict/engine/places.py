"""The folders of a store's copies: find them, and list them in a file in each folder.

Each folder of a store whose copies lie apart holds a file `NAME.copies`. It names the folder of
every copy. So the path in one folder is enough to find the others. An entry counts only if the
other folder lists the same folders. Otherwise a store that was copied to another place would open
a copy of the original. This module must not read any slot.

Invariant: only `write` changes a file, and only in folders that are not away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Final

from redundict import errors

from . import files
from .history import RECENT
from .layout import COPIES, LETTERS, Copies, Layout
from .lineage import NO_BRANCH
from .lock import noted, read_note
from .slots import Slot, SlotState
from .trailer import MIN_KEEP, NewerVersion, Trailer

_TITLE: Final = "redundict copies "  #: The first line, before the version of the file.
_VERSION: Final = "1"
_MOST: Final = 1 << 18  #: Bytes from which a list is not read. 26 long paths need fewer.


class ListError(ValueError):
    """The list of the copies does not say where they are."""


# --- the file: bytes to folders and back


def encode(folders: Sequence[str], own: str) -> bytes:
    """Return the content of a list.

    A folder is written relative to the folder of the list if possible. So the list remains true
    when all folders move together. Slashes are written on every platform.

    Args:
        folders: The real path of the folder of each copy, in the order of their letters.
        own: The real path of the folder that holds the list.

    """
    lines = [f"{_TITLE}{_VERSION}"]
    for letter, folder in zip(LETTERS, folders, strict=False):
        try:
            entry = os.path.relpath(folder, own)
        except ValueError:  # another drive of Windows
            entry = folder
        lines.append(f"{letter} {entry.replace(os.sep, '/')}")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def parse(content: bytes) -> list[str]:
    """Return the folder of each copy as a list names it, in the order of their letters.

    Raises:
        ListError: If it is not a whole list.
        NewerVersion: If a newer version of redundict wrote it.

    >>> parse(encode(["/one", "/the other"], "/one"))
    ['.', '../the other']

    """
    title, *lines = content.decode("utf-8", "surrogateescape").split("\n")
    version = title.removeprefix(_TITLE)
    if version == title or not version.isdecimal():
        raise ListError("is damaged: it has no first line that redundict writes")
    if version != _VERSION:
        raise NewerVersion
    entries = [line.partition(" ") for line in lines[:-1]]
    letters = "".join(letter for letter, _, _ in entries)
    folders = [folder for _, _, folder in entries]
    if not entries or lines[-1] or not all(folders) or "\0" in "".join(folders):
        raise ListError("is damaged: it is not whole")
    if letters != LETTERS[: len(entries)]:
        raise ListError(f"is damaged: it names the copies {letters!r}")
    return folders


# --- where the copies are


def find(
    path: str, copies: Copies, keep: int, history: str = RECENT, *, begins: bool = False
) -> Layout:
    """Return the layout of a store, with the folders where its copies are.

    Args:
        path: The path of the store.
        copies: The number of copies, or a list of folders. For a number, the list beside `path`
            counts if there is one.
        keep: How many generations each copy holds.
        history: The rule by which generations are kept.
        begins: True to begin a copy in a folder of `copies` that holds nothing of the store.

    Raises:
        TypeError: If `copies` is one path instead of a list.
        ValueError: If a value is out of bounds, or `copies` names a folder twice or lacks the
            folder of `path`.
        NewerVersionError: If a newer version of redundict wrote the list.

    """
    layout = Layout.of(path, copies, keep, history)
    if not isinstance(copies, int):
        return _given(layout, begins=begins)
    if not files.exists(layout.list_path):
        return layout
    try:
        return _listed(layout)
    except ListError as error:
        return replace(layout, doubt=str(error))


def assumed(path: str, copies: Copies | None = None, *, begins: bool = False) -> Layout:
    """Return the layout in which to look for a store before its trailers are known.

    Its `keep` is the smallest one. A survey also finds the slots beyond it.

    Args:
        path: The path of the store.
        copies: The number of copies or their folders. None assumes the default number.
        begins: As in `find`.

    Raises:
        TypeError: As `find` raises it.
        ValueError: As `find` raises it.
        NewerVersionError: As `find` raises it.

    """
    return find(path, COPIES if copies is None else copies, MIN_KEEP, begins=begins)


def claimed(layout: Layout, copies: Copies | None, newest: Trailer) -> Layout:
    """Return the layout that the newest trailer claims, with the folders that were found.

    Args:
        layout: The layout that was assumed.
        copies: The number of copies or their folders. None takes the number from the trailer.
        newest: The newest trailer.

    """
    known = layout.folders if layout.listed else copies
    fitting = Layout.claimed(layout.path, known, newest)
    return replace(layout, folders=fitting.folders, keep=fitting.keep, history=fitting.history)


def write(layout: Layout, survivor: Slot | None = None, mode: int | None = None) -> None:
    """Write the list of the copies into each folder that is not away, if it is not there yet.

    The list beside the path comes last. If it is there, the store was created as a whole. The
    caller holds the lock. A folder that this process must not write to is left out.

    Args:
        layout: The layout, with a given list of folders.
        survivor: The newest generation. A new list gets the owner and the permission bits of its
            file.
        mode: The permission bits. None takes those of the survivor.

    Raises:
        StorageError: If a list cannot be written, or its name belongs to a link, a folder or a
            device.

    """
    folders = [os.path.realpath(folder) for folder in layout.folders]
    here = os.path.dirname(layout.path)
    mode_if_new, owner = (survivor.mode, survivor.owner) if survivor else (None, None)
    facts = {"mode": mode, "mode_if_new": mode_if_new}
    for copy, folder in sorted(enumerate(layout.folders), key=lambda place: place[1] == here):
        path = os.path.join(folder, f"{layout.name}.copies")
        content = encode(folders, folders[copy])
        if copy in layout.away:
            continue
        try:
            if files.exists(path):
                data, stat = files.read(path, most=_MOST)
                is_wider = mode is not None and stat.owner and stat.mode & ~mode
                if data == content and not is_wider:
                    continue
            files.remove_leftovers(path, content.startswith, most=_MOST, owner=owner)
            files.overwrite(path, content, **facts, owner_if_new=owner, afresh=True)
        except OSError as error:
            errors.reraise_interrupt(error)
            if error.errno not in files.READ_ONLY:
                raise errors.not_listed(error, layout.path, path) from error


def is_elsewhere(layout: Layout, survivor: Slot | None, found: Iterable[Slot]) -> bool:
    """Return True if a whole copy is absent, and may lie in a folder that no list names.

    Version 0.1 wrote no lists. A later version did, so if its list is lost, the copy is made again
    beside the path.

    Args:
        layout: The layout of the store.
        survivor: The newest generation that verifies.
        found: Every slot, as it was seen.

    """
    if layout.listed or survivor is None or survivor.trailer is None:
        return False
    there = {slot.copy for slot in found if slot.state is not SlotState.MISSING}
    is_old = survivor.line.branch == NO_BRANCH
    wanted = range(min(survivor.trailer.copies, layout.copies))  # a claim binds no writer
    return is_old and not there.issuperset(wanted)


def _listed(layout: Layout) -> Layout:
    """Return the layout with the folders that the list beside the path names."""
    here = os.path.dirname(layout.path)
    folders = _read(here, layout.name)
    own = [copy for copy, folder in enumerate(folders) if is_same(folder, here)]
    if len(own) != 1:
        raise ListError(f"{layout.list_path} does not name its own folder once")
    folders[own[0]] = here
    away = set[int]()
    for copy, folder in enumerate(folders):
        if copy != own[0] and not (there := _names(folder, layout.name)):
            away.add(copy)
        elif copy != own[0]:
            _refuse_if_other(folders, folder, layout, has_list=there is None or "" in there)
    return replace(layout, folders=tuple(folders), away=frozenset(away), listed=True, found=True)


def _refuse_if_other(folders: list[str], folder: str, layout: Layout, *, has_list: bool) -> None:
    """Raise `ListError` if another folder does not list the same folders."""
    theirs = _read(folder, layout.name) if has_list else []
    if len(theirs) != len(folders) or not all(map(is_same, folders, theirs)):
        raise ListError(f"{layout.list_path} and the list in {folder} differ")


def _given(layout: Layout, *, begins: bool) -> Layout:
    """Return the layout with the folders of `copies=`, each under its letter."""
    here, given = os.path.dirname(layout.path), list(layout.folders)
    if any("\n" in folder for folder in given):
        raise ValueError("copies must not name a folder with a line feed in its path")
    at = [number for number, folder in enumerate(given) if is_same(folder, here)]
    if not at:
        call = f"redundict.open({os.path.join(given[0], layout.name)!r}, copies={given!r})"
        raise ValueError(f"copies must contain the folder of the path, as in {call}")
    given[at[0]] = here
    if any(is_same(one, two) for n, one in enumerate(given) for two in given[:n]):
        raise ValueError("copies names the same folder twice")
    there = [_names(folder, layout.name) for folder in given]
    order = _letters(layout.name, given, there)
    # The list beside the path is written last. So another list without a slot was left by a crash.
    is_bare = not there[at[0]] and not any(held is None or held - {""} for held in there)
    is_new = is_bare and not any(_was_written(folder, layout.name) for folder in given)
    bare = frozenset(copy for copy, number in enumerate(order) if there[number] == set())
    away = frozenset[int]() if begins or is_new else bare
    return replace(layout, folders=tuple(given[n] for n in order), away=away, listed=True)


def _letters(name: str, given: list[str], there: list[set[str] | None]) -> list[int]:
    """Return the position in `copies=` of each copy: lists decide, then slots, then the order."""
    taken: dict[int, int] = {}
    slots_first = sorted(range(len(given)), key=lambda number: len(there[number] or ()))
    by_slots = (
        (number, LETTERS.index(letter))
        for number in slots_first
        for letter in sorted(there[number] or ())
        if letter
    )
    for number, copy in chain(_by_lists(name, given, there), by_slots):
        if copy < len(given) and copy not in taken and number not in taken.values():
            taken[copy] = number
    rest = iter([number for number in range(len(given)) if number not in taken.values()])
    return [taken[copy] if copy in taken else next(rest) for copy in range(len(given))]


def _by_lists(
    name: str, given: list[str], there: list[set[str] | None]
) -> Iterator[tuple[int, int]]:
    """Yield a position in `copies=` and the copy that a list names there; own folders first."""
    found = []
    for number, held in enumerate(there):
        if held is None or "" in held:
            try:
                found.append((number, _read(given[number], name)))
            except ListError:
                continue  # it will be written again
    pairs = [
        (number == owner, number, copy)
        for owner, folders in found
        for copy, folder in enumerate(folders)
        for number, own in enumerate(given)
        if is_same(folder, own)
    ]
    for wanted in (True, False):
        yield from ((number, copy) for is_own, number, copy in pairs if is_own is wanted)


def is_same(one: str, two: str) -> bool:
    """Return True if two paths lead to the same folder, or to the same place for one."""
    if one == two:
        return True
    try:
        return os.path.samefile(one, two)
    except OSError as error:
        errors.reraise_interrupt(error)
    real = [os.path.normcase(os.path.realpath(path)) for path in (one, two)]
    return real[0] == real[1]


def _read(folder: str, name: str) -> list[str]:
    """Return the absolute folders that the list in a folder names.

    Raises:
        ListError: If there is no whole list.
        NewerVersionError: If a newer version of redundict wrote it.

    """
    path = os.path.join(folder, f"{name}.copies")
    try:
        content = files.read(path, most=_MOST)  # of a larger one, nothing is read
        real = os.path.realpath(folder)
        return [os.path.normpath(os.path.join(real, entry)) for entry in parse(content.data)]
    except NewerVersion:
        raise errors.newer_version(path) from None
    except OSError as error:
        errors.reraise_interrupt(error)
        raise ListError(f"{path} cannot be read: {errors.why(error)}") from error
    except ListError as error:
        raise ListError(f"{path} {error}") from None


def _names(folder: str, name: str) -> set[str] | None:
    """Return the letters of the slots in a folder, and "" if a list is there.

    Return None if the folder cannot be listed, although it exists. An empty set is the sign of a
    disk that is not mounted.
    """
    try:
        names = files.names(folder, f"{name}.")
    except OSError as error:
        errors.reraise_interrupt(error)
        return set() if error.errno in files.ABSENT else None
    layout = Layout(os.path.join(folder, name), (folder,), MIN_KEEP)
    found = {LETTERS[place[0]] for n in names if (place := layout.parse(n))}
    return found | ({""} if f"{name}.copies" in names else set())


def _was_written(folder: str, name: str) -> bool:
    """Return True if the lock note in a folder names a generation."""
    note = read_note(os.path.join(folder, f"{name}.lock"))
    return bool(note.get("settled") or noted(note).generation)
