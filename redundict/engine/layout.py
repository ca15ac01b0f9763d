"""The layout of a store: the names and folders of its files.

The store ``state.json`` has the slot ``state.json.a0`` for copy A and index 0, and so on. Its lock
is ``state.json.lock``. The copies lie in the folder of the store, or each in a folder of its own.
A layout follows from the options of a caller or from the newest trailer. This module also quotes
the commands that errors show. It must not look at any file.

Invariant: a layout that exists is valid. Its numbers of copies and generations are within bounds.
"""

from __future__ import annotations

import os
import re
import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from redundict import errors

from .history import HISTORIES, MIN_THINNED, RECENT, THINNED, History
from .trailer import MAX_COPIES, MAX_KEEP, MIN_KEEP, Trailer

Copies = int | Sequence[str | os.PathLike[str]]  #: The number of copies, or their folders.

COPIES: Final = 2  #: Copies, by default.
KEEP: Final = 4  #: Generations, by default: the last two, the one at opening, and an older one.
LETTERS: Final = string.ascii_lowercase[:MAX_COPIES]
_ENDING: Final = r"\.([a-z])(0|[1-9][0-9]{0,3})"
#: The name of a slot: the store's name, the copy's letter, the index.
SLOT: Final = re.compile(f"(.+){_ENDING}", re.DOTALL)
_SAFE_IN_CMD: Final = re.compile(r"[\w.:/\\=+-]+")
_FILE: Final = re.compile(rf"(.+)(?:{_ENDING}|\.lock|\.copies)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Layout:
    """The names and folders of a store's files.

    Attributes:
        path: The absolute path of the store. No file has exactly this name.
        folders: The folder of each copy, in the order of their letters.
        keep: How many generations each copy holds.
        history: Which generations are kept.
        away: The numbers of the copies whose folders hold nothing of the store. Their disks may
            not be mounted. They are neither read nor written.
        listed: True if the folders were given as a list, or found in one.
        found: True if they were found in the list beside `path`. Then no command has to name them.
        doubt: The reason why the list beside `path` does not count; '' if there is none. Then only
            the files beside `path` are known, and no writer may open the store.

    """

    path: str
    folders: tuple[str, ...]
    keep: int
    history: History = RECENT
    away: frozenset[int] = frozenset()
    listed: bool = False
    found: bool = False
    doubt: str = ""

    @classmethod
    def of(
        cls,
        path: str,
        copies: Copies,
        keep: int,
        history: str = RECENT,
    ) -> Layout:
        """Return the layout that the options of a caller describe.

        Args:
            path: The path of the store. It is made absolute.
            copies: The number of copies, all in the folder of `path`, or a list of folders.
            keep: How many generations each copy holds.
            history: "recent" keeps the last generations, "thinned" spreads them out over time.

        Raises:
            TypeError: If `copies` is one path instead of a list.
            ValueError: If a value is out of bounds, or `copies` names a folder twice.
            PathError: If no store can have this path.

        """
        _refuse_bad_path(path)
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
    def claimed(cls, path: str, copies: Copies | None, newest: Trailer) -> Layout:
        """Return the layout that the newest trailer claims.

        A history that this version does not know counts as "recent".

        Args:
            path: The path of the store.
            copies: The number of copies or their folders. None takes the number from the trailer.
            newest: The newest trailer.

        Raises:
            TypeError: As `of` raises it.
            ValueError: As `of` raises it.

        """
        known = newest.history in HISTORIES and newest.keep >= MIN_THINNED
        history = newest.history if known else RECENT
        return cls.of(path, newest.copies if copies is None else copies, newest.keep, history)

    @property
    def copies(self) -> int:
        """The number of copies."""
        return len(self.folders)

    @property
    def name(self) -> str:
        """The store's name, without the folder."""
        return os.path.basename(self.path)

    @property
    def lock_path(self) -> str:
        """The path of the lock file."""
        return f"{self.path}.lock"

    @property
    def list_path(self) -> str:
        """The path of the list of the copies, beside the store."""
        return f"{self.path}.copies"

    def lock_paths(self) -> list[str]:
        """Return the paths of the lock files, one in each folder that is not away."""
        here = os.path.dirname(self.path)
        folders = [f for copy, f in enumerate(self.folders) if copy not in self.away]
        return [f"{os.path.join(f, self.name)}.lock" for f in dict.fromkeys([here, *folders])]

    def slot_path(self, copy: int, index: int) -> str:
        """Return the path of a slot, given the number of its copy (0 is A) and its index."""
        name = f"{os.path.basename(self.path)}.{LETTERS[copy]}{index}"
        return os.path.join(self.folders[copy], name)

    def paths(self, index: int) -> list[str]:
        """Return the paths of the slots with this index, one for each copy."""
        return [self.slot_path(copy, index) for copy in range(self.copies)]

    def command(self, verb: str, *arguments: str, begins: bool = False) -> str:
        """Return a redundict command for this store, quoted so that a shell accepts it.

        Args:
            verb: The command, such as "check".
            *arguments: More words of the command.
            begins: True for a repair that begins a copy in a folder that is away. No other command
                names folders that it can find, because a repair would begin that copy, too.

        """
        apart = (begins or not (self.away or self.found)) and any(
            folder != os.path.dirname(self.path) for folder in self.folders
        )
        options = [f"--copies={folder}" for folder in self.folders] if apart else []
        return command_line("redundict", verb, self.path, *arguments, *options)

    def parse(self, name: str) -> tuple[int, int] | None:
        """Return the copy number and the index of a slot of this store, from its file name.

        Returns:
            The two numbers; None if no slot of this store has such a name.

        """
        match = SLOT.fullmatch(name)
        if match is None or match[1] != self.name:
            return None
        return LETTERS.index(match[2]), int(match[3])


def _refuse_bad_path(path: str) -> None:
    """Raise `PathError` for a path that names no file in a folder."""
    name = os.path.basename(path)
    if path and "\0" not in path and name not in ("", ".", ".."):
        return
    inside = os.path.join(path.rstrip("/"), "state.json")
    if not path:
        raise errors.bad_path(path, "it is empty", "name a file; a setting may be unset")
    if "\0" in path:
        raise errors.bad_path(path, "it contains a NUL character", "name a file without it")
    raise errors.bad_path(path, "it is a folder", f"name a file in it, such as {inside}")


def owner(path: str) -> str | None:
    """Return the path of the store to which a file belongs, by its name alone.

    Return None if no slot, no lock and no list of copies has such a name.

    >>> owner("state.json.a0"), owner("state.json.lock"), owner("state.json")
    ('state.json', 'state.json', None)
    """
    match = _FILE.fullmatch(path)
    return match[1] if match else None


def command_line(*words: str) -> str:
    r"""Return a command that can be pasted into a shell of this platform.

    Spaces, quotes and control characters in a word are quoted for the shell.

    >>> print(command_line("check", "plain", "two words", "a\nb"))
    check plain 'two words' "$(printf %b 'a\0012b')"
    """
    return " ".join(map(_for_cmd if os.name == "nt" else _for_sh, words))


def _for_sh(word: str) -> str:
    """Quote a word for a POSIX shell. Write unprintable bytes as octal numbers.

    Every shell has printf, but a shell drops the line feeds at the end of its output. Only for such
    a word, ``$'...'`` is written, which dash does not know.
    """
    if word.isprintable():
        return shlex.quote(word)
    plain = string.ascii_letters + string.digits + "/._-= "
    zero = "" if word.endswith("\n") else "0"
    escaped = (chr(b) if chr(b) in plain else f"\\{zero}{b:03o}" for b in os.fsencode(word))
    quoted = f"'{''.join(escaped)}'"
    return f'"$(printf %b {quoted})"' if zero else f"${quoted}"


def _for_cmd(word: str) -> str:
    r"""Quote a word for cmd.exe and the C runtime, which know only double quotes.

    >>> print(_for_cmd(r"C:\data\s.json"), _for_cmd(r"--copies=D:\my disk\\"))
    C:\data\s.json "--copies=D:\my disk\\\\"
    """
    if _SAFE_IN_CMD.fullmatch(word):
        return word
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ("\\" + m[2] if m[2] else ""), word)
    return f'"{escaped}"'
