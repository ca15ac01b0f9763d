"""Find the format that a caller or a trailer names. This module knows no encoding itself.

No pickle and no format of a caller's is ever tried on bytes unless the caller asked for it.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from types import ModuleType
from typing import Final, Protocol

from redundict import errors

from .csv_rows import CsvFormat
from .custom import CustomFormat
from .literal import LiteralFormat
from .pickles import PickleFormat
from .refusals import OnSubclass, State, undecodable
from .strict_json import JsonFormat


class Format(Protocol):
    """The methods that the rest of the package needs of a format."""

    name: str  #: The trailer names the format so.

    def encode(self, state: State) -> bytes:
        """Return the payload for a state.

        Other threads may change the state meanwhile: a format that needs its own copy of the dicts
        and lists takes one. So their changes never make this call fail.

        Args:
            state: The dict, or an instance of a subclass of dict such as `RedunDict`.

        Returns:
            The payload. `decode` makes an equal state of it, whose items have the same types.

        Raises:
            UnstorableError: There is no such payload. `item` names the first item at fault.

        """
        ...

    def decode(self, payload: bytes) -> State:
        """Return the state that a payload holds.

        Args:
            payload: The bytes, from any source.

        Returns:
            A plain dict.

        Raises:
            FormatError: The payload is not in this format, or holds no dict.

        """
        ...


def resolve(format: object, on_subclass: OnSubclass | None = None) -> Format:
    """Return the format that a caller asks for.

    Args:
        format: "json", "csv", "literal" or "pickle", the module `json` or `pickle`, or any object
            with ``dumps`` and ``loads``, or with ``dump`` and ``load``. A format stays what it is.
        on_subclass: What happens to an item of a subclass, such as `OrderedDict` or `IntEnum`, if
            the format can only give the plain value back. None refuses it. Otherwise the plain
            value is stored if it is equal, and each `encode` calls this with the item's path and
            value, after it has encoded the whole state. It may be a key, too: the path is that of
            the dict then, or of the CSV row.
            Pickle never calls it.

    Returns:
        The format.

    Raises:
        ValueError: No format has this name.
        TypeError: The object has no fitting pair of functions.

    >>> resolve("json").encode({"a": [1, None]})
    b'{"a":[1,null]}'

    """
    if isinstance(format, JsonFormat | CsvFormat | LiteralFormat | PickleFormat | CustomFormat):
        return format
    name = format
    if isinstance(format, ModuleType) and format.__name__ in (JsonFormat.name, PickleFormat.name):
        name = format.__name__
    if not isinstance(name, str):
        return CustomFormat(format, on_subclass)
    if name not in _BY_NAME:
        raise ValueError(f"unknown format {name!r}: known are {', '.join(sorted(_BY_NAME))}")
    return _BY_NAME[name](on_subclass)


#: To decode these runs no code in the payload.
_SAFE: Final = (JsonFormat.name, CsvFormat.name, LiteralFormat.name)
_BY_NAME: Final[dict[str, Callable[[OnSubclass | None], Format]]] = {
    JsonFormat.name: JsonFormat,
    CsvFormat.name: CsvFormat,
    LiteralFormat.name: LiteralFormat,
    PickleFormat.name: lambda _: PickleFormat(),
}


def is_name(name: str) -> bool:
    """Return True if `resolve` knows this name. The format of an application has no such name."""
    return name in _BY_NAME


def safe_format(name: str) -> Format | None:
    """Return the format of this name if it may decode a payload that nobody vouches for.

    Args:
        name: The format that a trailer names.

    Returns:
        The format, for "json", "csv" and "literal". None for pickle, which would run code, and for
        names that are not known.

    """
    return resolve(name) if name in _SAFE else None


def read_plain(content: bytes, format: Format) -> State:
    """Return the state in a plain file that the PermaDict recipe left.

    The recipe tried one loader after the other, so a file may be in another format than the one it
    is opened with. This function tries the format asked for, then JSON, then CSV with exactly two
    fields a row. It tries pickle only if that is the format asked for. It tries JSON before
    literals, because most JSON is a literal, too, in which escapes mean something else.

    Args:
        content: The bytes of the file.
        format: The format asked for.

    Returns:
        A plain dict.

    Raises:
        FormatError: No format fits. An empty file fits none, because a crash may have emptied it.

    """
    if not content.strip(b"\0 \t\r\n"):
        raise undecodable(format.name, "it is empty or filled with NUL bytes")
    candidates: list[Format] = [JsonFormat(), CsvFormat()]
    if format.name not in (JsonFormat.name, CsvFormat.name):
        candidates.insert(format.name == LiteralFormat.name, format)
    # A crash may cut a JSON file. Half of one could pass for a CSV row, so it is never read as CSV.
    start = content.removeprefix(codecs.BOM_UTF8).lstrip()
    if b"\0" in content or start.startswith((b"{", b"[")):
        candidates = [candidate for candidate in candidates if candidate.name != CsvFormat.name]
    objections = []
    for candidate in candidates:
        try:
            return candidate.decode(content)
        except errors.FormatError as error:
            errors.reraise_interrupt(error)
            objections.append(error.what)
    raise errors.FormatError("; ".join(objections))
