"""A block device that logs every write and every flush: a loop device over a FUSE file.

The FUSE server is the thread of `BlockLog`; it speaks the kernel's protocol itself (one file, eight
requests), so nothing has to be installed. As root on Linux.

Run as a program (`block_log.py IMAGE POINT SECONDS IDLE_SECONDS`), it serves a device in a process
of its own, whose flushes take so long: prints its name, keeps no log, and ends with its input.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from typing import Final, Self

FLUSH: Final = (-1, b"")
Entry = tuple[int, bytes]  #: The offset and the bytes of a write, or `FLUSH`.

_HEADER: Final = struct.Struct("<IIQQIIIHH")
_MAX_WRITE: Final = 1 << 17
_GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 3, 4, 14, 15, 16
_RELEASE, _FSYNC, _FLUSH, _INIT, _INTERRUPT, _DESTROY, _FORGET = 18, 20, 25, 26, 36, 38, 2
_libc = ctypes.CDLL(None, use_errno=True)


def run(*command: str) -> str:
    """Run a command; return what it printed. Raises `OSError` if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OSError(errno.EIO, f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def flush_of(base: int) -> Entry:
    """Return the entry of a flush of the device whose offsets begin at `base`."""
    return FLUSH[0] - base, FLUSH[1]


class BlockLog:
    """A context in which `device` is a block device over the file `image`, and `log` its log.

    A flush takes `flush_seconds`, as it does on a medium that is slower than a file, or
    `idle_seconds` if nothing was written since the last one. With `keep` False, nothing is logged.

    Several devices may share one `log`, so that the order of all writes is known. Then each has a
    `base` of its own, which is added to the offsets of its writes; `flush_of(base)` is its flush.
    """

    def __init__(
        self,
        image: str,
        point: str,
        flush_seconds: float = 0.0,
        idle_seconds: float = 0.0,
        *,
        keep: bool = True,
        log: list[Entry] | None = None,
        base: int = 0,
    ) -> None:
        self.log: list[Entry] = [] if log is None else log
        self._base = base
        self._keep = keep
        self._flush_seconds = {True: flush_seconds, False: idle_seconds}
        self._is_dirty = False
        self.device = ""
        self._point = point
        self._image = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._image).st_size
        self._fuse = os.open("/dev/fuse", os.O_RDWR)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        with open(self._point, "w"):
            pass
        options = f"fd={self._fuse},rootmode={stat.S_IFREG:o},user_id=0,group_id=0"
        if _libc.mount(b"powercut", self._point.encode(), b"fuse.powercut", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "cannot mount a FUSE file")
        self._thread.start()
        try:
            self.device = run("losetup", "--find", "--show", "--direct-io=on", self._point)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.device:
            run("losetup", "--detach", self.device)
        run("umount", "--lazy", self._point)
        self._thread.join(10)
        os.close(self._fuse)
        os.close(self._image)

    def _serve(self) -> None:
        while True:
            try:
                request = os.read(self._fuse, _MAX_WRITE + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # unmounted
            _, opcode, unique, *_rest = _HEADER.unpack_from(request)
            if opcode in (_INTERRUPT, _FORGET):
                continue
            try:
                status, reply = 0, self._answer(opcode, request[_HEADER.size :])
            except OSError as error:
                status, reply = -(error.errno or errno.EIO), b""
            try:
                os.write(self._fuse, struct.pack("<IiQ", 16 + len(reply), status, unique) + reply)
            except OSError as error:
                if error.errno != errno.ENOENT:  # the request was interrupted
                    return

    def _answer(self, opcode: int, body: bytes) -> bytes:
        if opcode == _WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            os.pwrite(self._image, data, offset)
            self._is_dirty = True
            if self._keep:
                self.log.append((self._base + offset, data))
            return struct.pack("<II", size, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return os.pread(self._image, size, offset)
        if opcode == _FSYNC:
            time.sleep(self._flush_seconds[self._is_dirty])
            self._is_dirty = False
            if self._keep:
                self.log.append(flush_of(self._base))
            return b""
        if opcode == _INIT:
            _, minor, readahead = struct.unpack_from("<III", body)
            big_writes = 1 << 5
            return struct.pack(
                "<IIIIHHIIHHI28x",
                7, min(minor, 31), readahead, big_writes, 16, 12, _MAX_WRITE, 1, 0, 0, 0,
            )  # fmt: skip
        if opcode in (_GETATTR, _SETATTR):
            attributes = (1, self._size, self._size // 512, 0, 0, 0, 0, 0, 0)
            return struct.pack("<QII", 0, 0, 0) + struct.pack(
                "<QQQQQQIIIIIIIIII", *attributes, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0
            )
        if opcode == _OPEN:
            direct_io = 1
            return struct.pack("<QII", 1, direct_io, 0)
        if opcode in (_RELEASE, _FLUSH, _DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not needed")


if __name__ == "__main__":
    with BlockLog(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]), keep=False) as served:
        sys.stdout.write(f"{served.device}\n")
        sys.stdout.flush()
        sys.stdin.read()
