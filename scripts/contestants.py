"""What `bench.py` compares: each saves a whole state, changes one key of it, and loads it again.

A contestant keeps one state in a folder. It is `durable` if what it saved is on the medium when the
call returns; one that does not sync is fast because it is unsafe, so no ratio counts against it.
"""

from __future__ import annotations

import importlib
import json
import os
import shelve
import shutil
import sqlite3
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Final

sys.path.append(str(Path(__file__).resolve().parents[1]))

import redundict
from redundict.formats import strict_json

KEEP: Final = 2  #: Generations that redundict keeps: as many as in every published figure.
State = dict[str, Any]


class Contestant(ABC):
    """One way to keep a state."""

    name: ClassVar[str]
    needs: ClassVar[str] = ""  #: A module.
    durable: ClassVar[bool] = True
    stays: ClassVar[bool] = False  #: Takes part at every size, however slow.

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "state")

    def take(self, state: State) -> None:  # noqa: B027 - most keep no state in memory
        """Take the whole state into memory, and save nothing."""

    def save_taken(self, state: State) -> None:
        """Save the whole state, which it has taken."""
        self.save(state)

    @abstractmethod
    def save(self, state: State) -> None:
        """Take and save the whole state."""

    def change(self, state: State, key: str) -> None:
        """Save a state of which only `key` has changed."""
        del key
        self.save(state)

    @abstractmethod
    def load(self) -> State:
        """Return the state from disk, as a program does that starts."""

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Close what is open."""


def missing(kind: type[Contestant]) -> str:
    """Return the module that a contestant needs and that is not there; '' if it is."""
    try:
        if kind.needs:
            importlib.import_module(kind.needs)
    except ImportError:
        return kind.needs
    return ""


class Redundict(Contestant):
    """redundict, as it is installed."""

    name = "redundict"
    stays = True
    fast: ClassVar[bool] = False

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.state = self._with_its_encoder(
            lambda: redundict.open(self.path, copies=self.copies(), keep=KEEP)
        )

    def copies(self) -> int | list[str]:
        """Return what the store is opened with."""
        return 2

    def _with_its_encoder(self, act: Any) -> Any:
        before = strict_json._orjson  # noqa: SLF001 - to compare both on one machine
        found = before() if self.fast else None
        strict_json._orjson = lambda: found  # type: ignore[assignment]  # noqa: SLF001 - as above
        try:
            return act()
        finally:
            strict_json._orjson = before  # noqa: SLF001 - as above

    def take(self, state: State) -> None:
        if len(self.state) != len(state):
            self.state.clear()
        self.state.update(state)

    def save_taken(self, state: State) -> None:
        del state
        self.sync()

    def save(self, state: State) -> None:
        self.take(state)
        self.sync()

    def change(self, state: State, key: str) -> None:
        self.state[key] = state[key]
        self._with_its_encoder(self.state.sync)

    def sync(self) -> None:
        """Commit what is there."""
        self._with_its_encoder(self.state.sync)

    def load(self) -> State:
        return dict(
            self._with_its_encoder(lambda: redundict.open(self.path, "r", copies=self.copies()))
        )

    def close(self) -> None:
        self._with_its_encoder(self.state.close)


class FastRedundict(Redundict):
    """redundict with the extra `fast`."""

    name = "redundict, orjson"
    needs = "orjson"
    fast = True


class OnTwoDisks(Redundict):
    """redundict with each copy on a disk of its own."""

    name = "redundict, on two disks"
    other: ClassVar[str]  #: A folder on the second one.

    def __init__(self, folder: str) -> None:
        self._second = tempfile.mkdtemp(dir=self.other)
        super().__init__(folder)

    def copies(self) -> list[str]:
        return [os.path.dirname(self.path), self._second]

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._second)


class FastOnTwoDisks(OnTwoDisks):
    """The same with the extra `fast`."""

    name = "redundict, orjson, on two disks"
    needs = "orjson"
    fast = True


class Recipe(Contestant):
    """The PersistentDict recipe: `NAME.tmp`, then a move."""

    name = "recipe"
    durable = False

    def dump(self, state: State) -> None:
        """Write the temporary file as the recipe does."""
        with open(self.path + ".tmp", "w") as file:
            json.dump(state, file, separators=(",", ":"))

    def save(self, state: State) -> None:
        self.dump(state)
        os.replace(self.path + ".tmp", self.path)

    def load(self) -> State:
        state: State = json.loads(Path(self.path).read_bytes())
        return state


class DurableRecipe(Recipe):
    """The recipe made durable: dumps, write, fsync, rename, fsync of the directory. One copy."""

    name = "durable recipe"
    durable = True
    stays = True

    def encode(self, state: State) -> bytes:
        """Return the file's content."""
        return json.dumps(state).encode()

    def dump(self, state: State) -> None:
        with open(self.path + ".tmp", "wb", buffering=0) as file:
            file.write(self.encode(state))
            os.fsync(file.fileno())

    def save(self, state: State) -> None:
        super().save(state)
        fd = os.open(os.path.dirname(self.path), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


class FastRecipe(DurableRecipe):
    """The same with orjson."""

    name = "durable recipe, orjson"
    needs = "orjson"

    def encode(self, state: State) -> bytes:
        encoded: bytes = importlib.import_module("orjson").dumps(state)
        return encoded


class KeyByKey(Contestant):
    """A mapping of the standard library or of a package, that stores each key by itself."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.store = self.open()

    @abstractmethod
    def open(self) -> Any:
        """Return the mapping."""

    def commit(self) -> None:
        """Make what was set durable."""

    def save(self, state: State) -> None:
        self.store.update(state)
        self.commit()

    def change(self, state: State, key: str) -> None:
        self.store[key] = state[key]
        self.commit()

    def load(self) -> State:
        self.close()
        self.store = self.open()
        return dict(self.store)

    def close(self) -> None:
        self.store.close()


class ShelveDumb(KeyByKey):
    """The standard library's, over the dbm that every Python has; none of them syncs."""

    name = "shelve, dbm.dumb"
    needs = "dbm.dumb"
    durable = False

    def open(self) -> Any:
        return shelve.Shelf(importlib.import_module(self.needs).open(self.path, "c"))

    def commit(self) -> None:
        if hasattr(self.store.dict, "sync"):
            self.store.dict.sync()


class ShelveGnu(ShelveDumb):
    """Over GNU dbm, where Python was built with it."""

    name = "shelve, dbm.gnu"
    needs = "dbm.gnu"


class ShelveNdbm(ShelveDumb):
    """Over the system's ndbm, where Python was built with it."""

    name = "shelve, dbm.ndbm"
    needs = "dbm.ndbm"


class ShelveSqlite(ShelveDumb):
    """Over SQLite, from Python 3.13 on, which syncs: every key is a transaction of its own."""

    name = "shelve, dbm.sqlite3"
    needs = "dbm.sqlite3"
    durable = True


class SqliteDict(KeyByKey):
    """sqlitedict: `synchronous=OFF`, and no way to change that."""

    name = "sqlitedict"
    needs = "sqlitedict"
    durable = False

    def open(self) -> Any:
        return importlib.import_module("sqlitedict").SqliteDict(self.path)

    def commit(self) -> None:
        self.store.commit(blocking=True)


class DiskCache(KeyByKey):
    """diskcache, told to sync."""

    name = "diskcache"
    needs = "diskcache"

    def open(self) -> Any:
        return importlib.import_module("diskcache").Cache(
            self.path, sqlite_synchronous=2, eviction_policy="none"
        )

    def save(self, state: State) -> None:
        with self.store.transact():
            for key, value in state.items():
                self.store[key] = value

    def load(self) -> State:
        return {key: self.store[key] for key in self.store}


class Lmdb(Contestant):
    """LMDB, a transaction a save; JSON values."""

    name = "LMDB"
    needs = "lmdb"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._env = importlib.import_module("lmdb").open(self.path, map_size=1 << 31)

    def save(self, state: State) -> None:
        with self._env.begin(write=True) as transaction:
            for key, value in state.items():
                transaction.put(key.encode(), json.dumps(value).encode())

    def change(self, state: State, key: str) -> None:
        with self._env.begin(write=True) as transaction:
            transaction.put(key.encode(), json.dumps(state[key]).encode())

    def load(self) -> State:
        with self._env.begin() as transaction:
            return {bytes(k).decode(): json.loads(bytes(v)) for k, v in transaction.cursor()}

    def close(self) -> None:
        self._env.close()


class Sqlite(Contestant):
    """sqlite3 with a write-ahead log and `synchronous=FULL`; JSON values."""

    name = "sqlite3, WAL, FULL"
    insert: ClassVar[str] = "insert or replace into state values (?, ?)"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._database = sqlite3.connect(self.path)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=full")
        self._database.execute("create table state (key text primary key, value text)")

    def save(self, state: State) -> None:
        rows = ((key, json.dumps(value)) for key, value in state.items())
        with self._database:
            self._database.executemany(self.insert, rows)

    def change(self, state: State, key: str) -> None:
        with self._database:
            self._database.execute(self.insert, (key, json.dumps(state[key])))

    def load(self) -> State:
        found = self._database.execute("select key, value from state")
        return {key: json.loads(value) for key, value in found}

    def close(self) -> None:
        self._database.close()


class TinyDb(Contestant):
    """TinyDB: one JSON file, written over in place, and synced."""

    name = "TinyDB"
    needs = "tinydb"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._database = importlib.import_module("tinydb").TinyDB(self.path)

    def save(self, state: State) -> None:
        self._database.drop_tables()
        self._database.insert(state)

    def load(self) -> State:
        return dict(self._database.all()[0])

    def close(self) -> None:
        self._database.close()


class PickleDb(Contestant):
    """pickleDB: one JSON file by orjson, written to a temporary file and moved."""

    name = "pickleDB"
    needs = "pickledb"
    durable = False

    def save(self, state: State) -> None:
        database = importlib.import_module("pickledb").PickleDB(self.path)
        for key, value in state.items():
            database.set(key, value)
        database.save()

    def load(self) -> State:
        database = importlib.import_module("pickledb").PickleDB(self.path)
        database.load()
        return {key: database.get(key) for key in database.all()}


class Zodb(Contestant):
    """ZODB's FileStorage: an object a key, appended to a log."""

    name = "ZODB FileStorage"
    needs = "ZODB"

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._open()

    def _open(self) -> None:
        zodb = importlib.import_module("ZODB")
        storage = importlib.import_module("ZODB.FileStorage").FileStorage(self.path)
        self._database = zodb.DB(storage)
        self._connection = self._database.open()
        root = self._connection.root()
        if "state" not in root:
            root["state"] = importlib.import_module("BTrees.OOBTree").OOBTree()
        self._tree = root["state"]

    def save(self, state: State) -> None:
        self._tree.update(state)
        self._commit()

    def change(self, state: State, key: str) -> None:
        self._tree[key] = state[key]
        self._commit()

    def _commit(self) -> None:
        importlib.import_module("transaction").commit()

    def load(self) -> State:
        self._connection.cacheMinimize()
        return dict(self._tree)

    def close(self) -> None:
        self._connection.close()
        self._database.close()


class PersiDict(KeyByKey):
    """persidict: a file a key, each of them synced."""

    name = "persidict"
    needs = "persidict"

    def open(self) -> Any:
        return importlib.import_module("persidict").FileDirDict(
            base_dir=self.path, serialization_format="json"
        )

    def load(self) -> State:
        return {key[0]: value for key, value in self.store.items()}

    def close(self) -> None:
        """Nothing is open."""


CONTESTANTS: tuple[type[Contestant], ...] = (
    Redundict,
    FastRedundict,
    DurableRecipe,
    FastRecipe,
    DiskCache,
    Lmdb,
    Sqlite,
    Zodb,
    Recipe,
    ShelveDumb,
    ShelveGnu,
    ShelveNdbm,
    ShelveSqlite,
    SqliteDict,
    TinyDb,
    PickleDb,
    PersiDict,
)
