"""Where a store's files are: names and folders, from the options or the trailer that tell of them.

A store at ``state.json`` has a slot ``state.json.a0`` for copy A and index 0, and so on, and a lock
``state.json.lock``. Its copies are beside it, or each in a folder of its own under the same names.
Knows how names are made and taken apart, and how a command is written down; looks at nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from .history import HISTORIES, MIN_THINNED, RECENT, THINNED, History
from .trailer import MAX_COPIES, MAX_KEEP, MIN_KEEP, Trailer

Copies = int | Sequence[str | os.PathLike[str]]  #: How many, or the folder of each.

COPIES: Final = 2  #: By default.
KEEP: Final = 4  #: Generations by default: the last two, the one at opening, an older one.
LETTERS: Final = string.ascii_lowercase[:MAX_COPIES]
_ENDING: Final = r"\.([a-z])(0|[1-9][0-9]{0,3})"
#: A slot's name: its store's, the copy's letter, the index.
SLOT: Final = re.compile(f"(.+){_ENDING}", re.DOTALL)
_SAFE_IN_CMD: Final = re.compile(r"[\w.:/\\=+-]+")
_FILE: Final = re.compile(rf"(.+)(?:{_ENDING}|\.lock)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a store's files are: a name, one folder per copy, and how many generations are kept."""

    path: str
    folders: tuple[str, ...]
    keep: int
    history: History = RECENT

    @classmethod
    def of(
        cls,
        path: str,
        copies: Copies,
        keep: int,
        history: str = RECENT,
    ) -> Layout:
        """Return the layout that a caller's options describe; `copies` is a number, or folders."""
        path = os.path.abspath(path)
        if isinstance(copies, str | bytes | os.PathLike):
            raise TypeError(f"copies is a number or a list of folders, not {copies!r}")
        if isinstance(copies, int):
            folders = [os.path.dirname(path)] * copies
        else:
            folders = [os.path.abspath(folder) for folder in copies]
            if len(set(folders)) < len(folders):
                raise ValueError("copies names the same folder twice")
        if not 1 <= len(folders) <= len(LETTERS):
            raise ValueError(f"copies must be 1 to {len(LETTERS)}, not {len(folders)}")
        if not MIN_KEEP <= keep <= MAX_KEEP:
            raise ValueError(f"keep must be {MIN_KEEP} to {MAX_KEEP}, not {keep}")
        if history not in HISTORIES:
            raise ValueError(f"history must be one of {', '.join(HISTORIES)}, not {history!r}")
        if history == THINNED and keep < MIN_THINNED:
            raise ValueError(f"history={history!r} needs keep={MIN_THINNED} or more, not {keep}")
        return cls(path, tuple(folders), keep, cast("History", history))

    @classmethod
    def assumed(cls, path: str, copies: Copies | None = None) -> Layout:
        """Return the layout in which to look for a store of which nothing is known yet."""
        return cls.of(path, COPIES if copies is None else copies, MIN_KEEP)

    @classmethod
    def claimed(cls, path: str, copies: Copies | None, newest: Trailer) -> Layout:
        """Return the layout that the newest trailer claims; a later version's history is ours."""
        known = newest.history in HISTORIES and newest.keep >= MIN_THINNED
        history = newest.history if known else RECENT
        return cls.of(path, newest.copies if copies is None else copies, newest.keep, history)

    @property
    def copies(self) -> int:
        """How many copies there are."""
        return len(self.folders)

    @property
    def name(self) -> str:
        """The store's name, without the folder."""
        return os.path.basename(self.path)

    @property
    def lock_path(self) -> str:
        """Where the writer's lock is."""
        return f"{self.path}.lock"

    def slot_path(self, copy: int, index: int) -> str:
        """Return the path of a slot."""
        return os.path.join(self.folders[copy], f"{self.name}.{LETTERS[copy]}{index}")

    def paths(self, index: int) -> list[str]:
        """Return the paths of the slots with an index, one in each copy."""
        return [self.slot_path(copy, index) for copy in range(self.copies)]

    def command(self, verb: str, *arguments: str) -> str:
        """Return the command line that does `verb` to this store, ready to be pasted."""
        apart = any(folder != os.path.dirname(self.path) for folder in self.folders)
        options = [f"--copies={folder}" for folder in self.folders] if apart else []
        return command_line("redundict", verb, self.path, *arguments, *options)

    def parse(self, name: str) -> tuple[int, int] | None:
        """Return the copy and the index that a file name stands for, None if it is no slot's."""
        match = SLOT.fullmatch(name)
        if match is None or match[1] != self.name:
            return None
        return LETTERS.index(match[2]), int(match[3])


def owner(path: str) -> str | None:
    """Return the store that a slot or a lock of this name is of, None if neither is named so.

    >>> owner("state.json.a0"), owner("state.json.lock"), owner("state.json")
    ('state.json', 'state.json', None)
    """
    match = _FILE.fullmatch(path)
    return match[1] if match else None


def command_line(*words: str) -> str:
    r"""Return a command that can be pasted into a shell of this platform, whatever a path holds.

    >>> print(command_line("check", "plain", "two words", "a\nb"))
    check plain 'two words' $'a\012b'
    """
    return " ".join(map(_for_cmd if os.name == "nt" else _for_sh, words))


def _for_sh(word: str) -> str:
    """Quote a word for a POSIX shell; what cannot be shown is written by its number.

    bash, zsh and POSIX 2024 know ``$'...'``.
    """
    if word.isprintable():
        return shlex.quote(word)
    plain = string.ascii_letters + string.digits + "/._-= "
    escaped = (chr(b) if chr(b) in plain else f"\\{b:03o}" for b in os.fsencode(word))
    return f"$'{''.join(escaped)}'"


def _for_cmd(word: str) -> str:
    r"""Quote a word for cmd.exe and the C runtime, which know double quotes only.

    >>> print(_for_cmd(r"C:\data\s.json"), _for_cmd(r"--copies=D:\my disk\\"))
    C:\data\s.json "--copies=D:\my disk\\\\"
    """
    if _SAFE_IN_CMD.fullmatch(word):
        return word
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), word)
    return f'"{escaped}"'
