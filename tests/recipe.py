"""The PersistentDict recipe (ActiveState 576642), from its description, faults and all.

It is the "before" of every comparison: it leaves the plain files that redundict takes over, and it
loses what redundict does not lose. Never mend it.
"""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from typing import IO, Any, Self


class PersistentDict(dict[Any, Any]):
    """A dict that is read when it is made, and written whole at `sync` and `close`.

    `flag` is ``r`` (read only), ``c`` (create if need be) or ``n`` (start empty); `mode` the file's
    permission bits; `format` is ``json``, ``csv`` or ``pickle``, and what a file is in is found out
    by trying.
    """

    def __init__(
        self,
        filename: str,
        flag: str = "c",
        mode: int | None = None,
        format: str = "json",
        *args: Any,
        **kwds: Any,
    ) -> None:
        self.filename, self.flag, self.mode, self.format = filename, flag, mode, format
        if flag != "n" and os.access(filename, os.R_OK):
            with self._open(filename, "r") as file:
                self.load(file)
        self.update(*args, **kwds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sync(self) -> None:
        """Write the dict to NAME.tmp, and move that over NAME."""
        if self.flag == "r":
            return
        unfinished = self.filename + ".tmp"
        file = self._open(unfinished, "w")
        try:
            self.dump(file)
        except Exception:
            os.remove(unfinished)
            raise
        finally:
            file.close()
        shutil.move(unfinished, self.filename)
        if self.mode is not None:
            os.chmod(self.filename, self.mode)

    def close(self) -> None:
        """Write the dict; it can still be used."""
        self.sync()

    def dump(self, file: IO[Any]) -> None:
        """Write the dict to an open file."""
        if self.format == "csv":
            csv.writer(file).writerows(self.items())
        elif self.format == "json":
            json.dump(self, file, separators=(",", ":"))
        elif self.format == "pickle":
            pickle.dump(dict(self), file, 2)
        else:
            raise NotImplementedError(f"Unknown format: {self.format!r}")

    def load(self, file: IO[Any]) -> None:
        """Take what is in an open file, in whichever format it turns out to be."""
        for loader in (pickle.load, json.load, csv.reader):
            file.seek(0)
            try:
                self.update(loader(file))
            except Exception:  # noqa: BLE001 - so the recipe goes on to the next
                continue
            return
        raise ValueError("File not in a supported format")

    def _open(self, name: str, mode: str) -> IO[Any]:

        return open(name, mode + "b") if self.format == "pickle" else open(name, mode)
