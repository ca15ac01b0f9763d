"""A simulated disk: what a machine may find on its medium after the power went.

It takes the place of the real `Disk`. Reads see the page cache; what is on the medium is a set of
possibilities, kept sector by sector:

- a write adds the new bytes of each sector it touches to what that sector may hold, until a sync
  of the file succeeds and leaves that one possibility. So a cut keeps any subset of the sectors
  that were not synced, in any order, of any of the writes since;
- the length is kept apart from the content, and `sync_data` does not make it durable (harsher than
  POSIX asks); a sector that a growing file gained may be NULs;
- a name is durable once its directory was synced, whatever was done to the file itself;
- a sync that fails leaves its sectors clean: a later sync that succeeds does not write them (as
  Linux does). The page cache goes on showing them.

What it does not model: a sector that is torn itself, a medium that reorders across a flush, a
directory whose sync failed and is not tried again.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from .inside import Disk, Stat

Image = tuple[tuple[str, bytes], ...]  #: The files of a medium, sorted by path.


@dataclass(frozen=True)
class Inode:
    """A file: what the page cache shows, and what each sector of the medium may hold.

    It never changes, so that the disks of many moments share it: what changes a file returns
    another.
    """

    sector: int
    cache: bytes
    lengths: frozenset[int]
    sectors: tuple[frozenset[bytes], ...]
    dirty: frozenset[int] = frozenset()

    @classmethod
    def clean(cls, sector: int, content: bytes = b"") -> Inode:
        """Return a file that is on the medium as it is."""
        parts = _split(sector, content)
        return cls(sector, content, frozenset({len(content)}), tuple(frozenset({p}) for p in parts))

    def written(self, data: bytes, offset: int) -> Inode:
        grown = self.cache.ljust(offset, b"\0")
        cache = grown[:offset] + data + grown[offset + len(data) :]
        first, last = offset // self.sector, (offset + len(data) - 1) // self.sector
        sectors, dirty = list(self.sectors), set(self.dirty)
        for number, part in enumerate(_split(self.sector, cache)):
            if number == len(sectors):
                sectors.append(frozenset({b"\0" * self.sector}))
            if first <= number <= last:
                sectors[number] |= {part}
                dirty.add(number)
        lengths = self.lengths | {len(cache)}
        return Inode(self.sector, cache, lengths, tuple(sectors), frozenset(dirty))

    def truncated(self, size: int) -> Inode:
        return replace(
            self, cache=self.cache[:size].ljust(size, b"\0"), lengths=self.lengths | {size}
        )

    def synced(self, *, length: bool) -> Inode:
        parts = _split(self.sector, self.cache)
        sectors = list(self.sectors)
        for number in self.dirty & set(range(len(parts))):
            sectors[number] = frozenset({parts[number]})
        clean = replace(self, sectors=tuple(sectors), dirty=frozenset())
        if length:
            lengths = frozenset({len(self.cache)})
            return replace(clean, lengths=lengths, sectors=clean.sectors[: len(parts)])
        return clean

    def not_synced(self) -> Inode:
        """Return the file after a sync that failed: its pages are clean, and were not written."""
        return replace(self, dirty=frozenset())

    @cached_property
    def contents(self) -> frozenset[bytes]:
        """Every content that a cut may leave."""
        found = set()
        for length in self.lengths:
            used = self.sectors[: -(-length // self.sector)]
            found |= {b"".join(parts)[:length] for parts in product(*used)}
        return frozenset(found)


def _split(step: int, content: bytes) -> list[bytes]:
    return [content[i : i + step].ljust(step, b"\0") for i in range(0, len(content), step)]


class SimulatedDisk(Disk):
    """A `Disk` on a simulated medium; calls `on_step` after each step that changes it.

    `fail` is asked before each call that may fail, with the method's name and the path, and raises
    what the call is to raise.
    """

    least_sector = 0  #: Bytes; where so much is volatile at once that there are too many states.

    def __init__(self, image: Image = (), sector: int = 1024) -> None:
        self.sector = max(sector, self.least_sector)
        self.inodes = [Inode.clean(sector, content) for _, content in image]
        self.names_now: dict[str, int] = {path: n for n, (path, _) in enumerate(image)}
        self.names_durable: dict[str, set[int | None]] = {p: {n} for p, n in self.names_now.items()}
        self.handles: dict[int, str] = {}
        self.on_step: Callable[[SimulatedDisk], None] = lambda _: None
        self.fail: Callable[[str, str], None] = lambda *_: None
        self.folders: set[str] = set()  #: Folders that exist, besides `FOLDER`.

    def copy(self) -> SimulatedDisk:
        """Return the disk as a killed process leaves it: the page cache stays, handles do not."""
        twin = SimulatedDisk(sector=self.sector)
        twin.inodes = list(self.inodes)
        twin.names_now = dict(self.names_now)
        twin.names_durable = {path: set(held) for path, held in self.names_durable.items()}
        return twin

    def state(self) -> object:
        """Return what two disks have in common that cannot be told apart."""
        durable_names = {(path, frozenset(held)) for path, held in self.names_durable.items()}
        return tuple(self.inodes), frozenset(self.names_now.items()), frozenset(durable_names)

    def images(self, besides: str | None = None) -> Iterator[Image]:
        """Yield every image that a power cut may leave at this moment, each once.

        Files whose names end in `besides` are left out.
        """
        files = []
        for path, held in sorted(self.names_durable.items()):
            if besides and path.endswith(besides):
                continue
            contents: set[bytes | None] = set()
            for number in held:
                contents |= {None} if number is None else self.inodes[number].contents
            files.append([(path, content) for content in contents])
        for chosen in product(*files):
            yield tuple((path, content) for path, content in chosen if content is not None)

    def any_image(self, rng: random.Random) -> Image:
        """Return one image that a power cut may leave at this moment."""
        found = []
        for path, held in sorted(self.names_durable.items()):
            number = rng.choice(sorted(held, key=str))
            if number is not None:
                inode = self.inodes[number]
                length = rng.choice(sorted(inode.lengths))
                parts = [rng.choice(sorted(p)) for p in inode.sectors[: -(-length // self.sector)]]
                found.append((path, b"".join(parts)[:length]))
        return tuple(found)

    # --- the calls of `Disk`

    def open_read(self, path: str) -> int:
        self.fail("open_read", path)
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        handle = 1 + max(self.handles, default=2)
        self.handles[handle] = path
        return handle

    def open_write(self, path: str) -> int:
        self.fail("open_write", path)
        return self.open_read(path)

    def create(self, path: str, mode: int) -> int:
        self.fail("create", path)
        if path in self.names_now:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self.inodes.append(Inode.clean(self.sector))
        self.names_durable.setdefault(path, {self.names_now.get(path)})
        self._name(path, len(self.inodes) - 1)
        self.on_step(self)
        return self.open_read(path)

    def stat(self, fd: int) -> Stat:
        self.fail("stat", self.handles[fd])
        size = len(self._inode(fd).cache)
        return Stat(size=size, allocated=size, modified=0, mode=0o644)

    def signature(self, fd: int | str) -> tuple[int, ...]:
        return ()

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self.fail("read", self.handles[fd])
        cache = self._inode(fd).cache
        start = offset + len(cache) if offset < 0 else offset
        if start < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return cache[start : start + size]

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        self.fail("write", self.handles[fd])
        content = bytes(data)
        half = self._inode(fd).written(content[: len(content) // 2], offset)
        # A process that is killed in its write leaves the first part of it in the page cache.
        self._set_inode(fd, half)
        self.on_step(self)
        self._set_inode(fd, half.written(content, offset))
        self.on_step(self)
        return len(content)

    def truncate(self, fd: int, size: int) -> None:
        self.fail("truncate", self.handles[fd])
        self._set_inode(fd, self._inode(fd).truncated(size))
        self.on_step(self)

    def chmod(self, fd: int, mode: int) -> None:
        self.fail("chmod", self.handles[fd])

    def write_out(self, fd: int) -> None:
        """Change nothing that is not possible without it."""

    def sync_data(self, fd: int) -> None:
        self._sync(fd, "sync_data", length=False)

    def sync_all(self, fd: int) -> None:
        self._sync(fd, "sync_all", length=True)

    def sync_directory(self, path: str) -> None:
        self.fail("sync_directory", path)
        for name in self.names_durable:
            if os.path.dirname(name) == path:
                self.names_durable[name] = {self.names_now.get(name)}
        self.on_step(self)

    def close(self, fd: int) -> None:
        path = self.handles.pop(fd)
        self.fail("close", path)

    def rename(self, old: str, new: str) -> None:
        self.fail("rename", old)
        self.names_durable.setdefault(new, {self.names_now.get(new)})
        self._name(new, self.names_now[old])
        self._name(old, None)
        self.on_step(self)

    def remove(self, path: str) -> None:
        self.fail("remove", path)
        self.names_durable.setdefault(path, {self.names_now.get(path)})
        self._name(path, None)
        self.on_step(self)

    def exists(self, path: str) -> bool:
        return path in self.names_now or path == FOLDER or path in self.folders

    def names(self, directory: str) -> list[str]:
        self.fail("names", directory)
        return [os.path.basename(p) for p in self.names_now if os.path.dirname(p) == directory]

    def _inode(self, fd: int) -> Inode:
        return self.inodes[self.names_now[self.handles[fd]]]

    def _set_inode(self, fd: int, inode: Inode) -> None:
        self.inodes[self.names_now[self.handles[fd]]] = inode

    def _name(self, path: str, inode: int | None) -> None:
        self.names_durable[path].add(inode)
        if inode is None:
            del self.names_now[path]
        else:
            self.names_now[path] = inode

    def _sync(self, fd: int, call: str, *, length: bool) -> None:
        inode = self._inode(fd)
        try:
            self.fail(call, self.handles[fd])
        except OSError:
            self._set_inode(fd, inode.not_synced())
            self.on_step(self)
            raise
        self._set_inode(fd, inode.synced(length=length))
        self.on_step(self)


FOLDER = os.path.abspath(os.path.join(os.sep, "simulated"))
