# ruff: noqa: D102 - `Program` documents the methods of every program
"""redundict and its peers behind one face: save a state, load it again. For `powercut.py`.

Run as a program it is the process that is put to the test: `peers.py work NAME PATH` saves one
state per line on its input and answers when the save has returned; `peers.py load` loads one
store per line, and answers with what it found. So a peer that kills its interpreter kills it alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))

KEEP: Final = 2  #: Generations that redundict keeps: the fewest, so the harshest test.
TWO_DISKS: Final = "two disks: "  #: Before the name of a program.
State = dict[str, Any]


def content(number: int) -> State:
    """Return the state that save `number` saves: every value tells which save it is of."""
    values = {f"k{i}": f"v{number:04}:{i};" * 8 for i in range(40 + 20 * (number // 4))}
    return {"generation": number, **values}


class Program(ABC):
    """A program under test."""

    needs: ClassVar[str] = ""  #: The module that has to be installed.
    said_so = False  #: On loading: that a newer state may be lost.

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def save(self, state: State) -> None:
        """Return once the program says that the state is saved."""

    @abstractmethod
    def load(self) -> State:
        """Return what is there; {} if the program says that nothing is."""

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Close what is open."""

    @classmethod
    def absent(cls) -> str:
        """Return the name of the module that is missing, or nothing."""
        return cls.needs if cls.needs and importlib.util.find_spec(cls.needs) is None else ""


class Redundict(Program):
    """`redundict.open`, `sync`; loaded by opening it for writing, as a program would."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.redundict = importlib.import_module("redundict")
        self.options: dict[str, Any] = {"keep": KEEP}
        self.opened: Any = None

    def save(self, state: State) -> None:
        if self.opened is None:
            self.opened = self.redundict.open(self.path, **self.options)
        self.opened.clear()
        self.opened.update(state)
        self.opened.sync()

    def load(self) -> State:
        warnings.simplefilter("ignore")  # what it warns of is in `recovery`
        try:
            with self.redundict.open(self.path, "w", **self.options) as opened:
                self.said_so = opened.recovery is not None and opened.recovery.newest_lost
                return dict(opened)
        except self.redundict.NotFoundError:
            return {}

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()


class Unsynced(Redundict):
    """redundict without its flushes: the control, which a test of durability has to catch."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        disk = importlib.import_module("redundict.engine.files").Disk
        for call in ("sync_data", "sync_all", "sync_directory"):
            setattr(disk, call, lambda *_: None)

    def load(self) -> State:
        return Redundict(self.path).load()


class TwoDisks(Redundict):
    """redundict with a copy on each of two disks, whose folders lie beside each other."""

    folders: ClassVar[tuple[str, str]] = ("first", "second")

    def __init__(self, path: str) -> None:
        super().__init__(path)
        beside = Path(path).parents[1]
        self.options["copies"] = [str(beside / folder) for folder in self.folders]


class UnsyncedTwoDisks(TwoDisks, Unsynced):
    """The same without its flushes."""

    def load(self) -> State:
        return TwoDisks(self.path).load()


class Recipe(Program):
    """The PersistentDict recipe as it is."""

    sync_file: ClassVar[bool] = False
    sync_directory: ClassVar[bool] = False

    def save(self, state: State) -> None:
        recipe = importlib.import_module("tests.recipe").PersistentDict
        synced = self.sync_file

        class Synced(recipe):  # type: ignore[misc, valid-type]
            def dump(self, file: Any) -> None:
                super().dump(file)
                if synced:
                    file.flush()
                    os.fsync(file.fileno())

        saved = Synced(self.path, "n")
        saved.update(state)
        saved.sync()
        if self.sync_directory:
            sync_directory(self.path)

    def load(self) -> State:
        return dict(importlib.import_module("tests.recipe").PersistentDict(self.path, "c"))


class RecipeFsync(Recipe):
    """The recipe, with an fsync before the move."""

    sync_file = True


class RecipeFsyncDirectory(RecipeFsync):
    """The recipe, with an fsync before the move and one of the directory after it."""

    sync_directory = True


class Overwrite(Program):
    """`json.dump` to the file itself."""

    synced: ClassVar[bool] = False

    def save(self, state: State) -> None:
        with open(self.path, "w") as file:
            json.dump(state, file)
            if self.synced:
                file.flush()
                os.fsync(file.fileno())

    def load(self) -> State:
        if not os.path.exists(self.path):
            return {}
        with open(self.path) as file:
            return dict(json.load(file))


class OverwriteFsync(Overwrite):
    """`json.dump` to the file itself, and an fsync."""

    synced = True


class Shelve(Program):
    """shelve, with the dbm that this Python makes, and its `sync`."""

    def save(self, state: State) -> None:
        with importlib.import_module("shelve").open(self.path) as shelf:
            shelf.update(state)
            shelf.sync()

    def load(self) -> State:
        with importlib.import_module("shelve").open(self.path) as shelf:
            return dict(shelf)


class SqliteDict(Program):
    """sqlitedict, one `commit` per state."""

    needs = "sqlitedict"

    def save(self, state: State) -> None:
        with importlib.import_module("sqlitedict").SqliteDict(self.path) as opened:
            opened.update(state)
            opened.commit(blocking=True)

    def load(self) -> State:
        with importlib.import_module("sqlitedict").SqliteDict(self.path) as opened:
            return dict(opened)


class DiskCache(Program):
    """diskcache.Cache, one transaction per state; the path is a folder."""

    needs = "diskcache"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.opened: Any = None

    def save(self, state: State) -> None:
        if self.opened is None:
            cache = importlib.import_module("diskcache").Cache
            self.opened = cache(self.path, eviction_policy="none")
        with self.opened.transact():
            for key, value in state.items():
                self.opened[key] = value

    def load(self) -> State:
        cache = importlib.import_module("diskcache").Cache
        with cache(self.path, eviction_policy="none") as opened:
            return {key: opened[key] for key in opened}

    def close(self) -> None:
        if self.opened is not None:
            self.opened.close()


class Lmdb(Program):
    """LMDB with its default flags, one transaction per state; the path is a folder."""

    needs = "lmdb"
    SIZE = 1 << 20

    def save(self, state: State) -> None:
        with (
            importlib.import_module("lmdb").open(self.path, map_size=self.SIZE) as opened,
            opened.begin(write=True) as transaction,
        ):
            for key, value in state.items():
                transaction.put(key.encode(), json.dumps(value).encode())

    def load(self) -> State:
        with (
            importlib.import_module("lmdb").open(self.path, map_size=self.SIZE) as opened,
            opened.begin() as transaction,
        ):
            return {bytes(k).decode(): json.loads(bytes(v)) for k, v in transaction.cursor()}


class TinyDb(Program):
    """TinyDB with its default storage; the state is one document."""

    needs = "tinydb"

    def save(self, state: State) -> None:
        with importlib.import_module("tinydb").TinyDB(self.path) as opened:
            if not opened.update(state, doc_ids=[1] if len(opened) else []):
                opened.insert(state)

    def load(self) -> State:
        with importlib.import_module("tinydb").TinyDB(self.path) as opened:
            found = opened.all()
            return dict(found[0]) if found else {}


PROGRAMS: dict[str, type[Program]] = {
    "redundict": Redundict,
    "redundict, unsynced": Unsynced,
    "recipe": Recipe,
    "recipe+fsync": RecipeFsync,
    "recipe+fsync+dir": RecipeFsyncDirectory,
    "overwrite": Overwrite,
    "overwrite+fsync": OverwriteFsync,
    "shelve": Shelve,
    "sqlitedict": SqliteDict,
    "diskcache": DiskCache,
    "lmdb": Lmdb,
    "tinydb": TinyDb,
}


#: These need two file systems: see `powercut_disks.py`.
ON_TWO_DISKS: dict[str, type[Program]] = {
    "redundict": TwoDisks,
    "redundict, unsynced": UnsyncedTwoDisks,
}


def sync_directory(path: str) -> None:
    """Make the names beside a file durable."""
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def program_of(name: str, path: str) -> Program:
    """Return a program; `two disks: NAME` has a copy on each of two disks."""
    kinds = ON_TWO_DISKS if name.startswith(TWO_DISKS) else PROGRAMS
    return kinds[name.removeprefix(TWO_DISKS)](path)


def found(name: str, path: str) -> str:
    """Load, and say what was found.

    `generation N` (`, said so` if the program warns that a newer one may be lost), `corrupt ...`,
    or `error ...`.
    """
    try:
        program = program_of(name, path)
        state = program.load()
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is what is measured
        base = importlib.import_module("redundict").RedundictError
        is_typed = not name.endswith("redundict") or isinstance(error, base)
        kind = "error" if is_typed else "untyped"
        return f"{kind} {type(error).__name__}: {error}".replace("\n", " ")
    if not state:
        return "generation 0"
    number = state.get("generation")
    if not isinstance(number, int) or state != content(number):
        return f"corrupt content, generation {number!r}"
    return f"generation {number}" + (", said so" if program.said_so else "")


def main() -> None:
    """Work, or load, as told by the arguments."""
    if sys.argv[1] == "load":
        for line in sys.stdin:
            name, path = line.rstrip("\n").split("\t")
            print(found(name, path), flush=True)
        return
    program = program_of(sys.argv[2], sys.argv[3])
    for line in sys.stdin:
        try:
            program.save(content(int(line)))
            print("saved", flush=True)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is what is measured
            print(f"error {type(error).__name__}: {error}".replace("\n", " "), flush=True)
    program.close()


if __name__ == "__main__":
    main()
