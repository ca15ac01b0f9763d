"""The bytes of a slot, version 1: payload, padding, trailer.

The padding is one newline or more. It makes the size of the file a size class. The trailer is the
last line. Its last 65 bytes are the SHA-256 of every byte before them, as 64 hex digits and a
newline. So ``head -c -65 SLOT | sha256sum`` verifies a slot. ``docs/format.md`` is the
specification.

A `Trailer` is only a claim. A `Verified` is a claim whose digest was recomputed. This module is
pure: bytes in, bytes out. It must not touch a file or know a path.

Invariants: only `verify` makes a `Verified`. Every trailer that `seal` makes, `parse` accepts.
"""

from __future__ import annotations

import functools
import hashlib
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from redundict import errors
from redundict.errors import Fault

from . import lineage
from .history import RECENT
from .lineage import NO_LINE, Line

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC: Final = "redundict"
VERSION: Final = 1
LIMIT: Final = 512  #: The maximal length of a trailer in bytes, with its newline.
TAIL: Final = LIMIT + 1  #: Bytes at the end of a slot: the trailer, and the newline before it.
DIGEST_BYTES: Final = 65  #: 64 hex digits and a newline. The digest does not cover them.
BLOCK: Final = 4096  #: Bytes. Every size class is a multiple of this.
WASTE: Final = 8  #: A large slot is at most 1/8 larger than its content needs.
MAX_COPIES: Final = 26  #: The name of a copy is a letter.
MIN_KEEP: Final = 2  #: Generations: the survivor and the victim.
MAX_KEEP: Final = 1000
# Times between these two can be shown in every time zone.
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(8999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
NO_PARENT: Final = "0" * 16  #: The parent of the first generation.
_PARENT_DIGITS: Final = len(NO_PARENT)
_ENDING: Final = len(" sha256=") + DIGEST_BYTES  #: Bytes of a trailer after all other fields.

FIELDS: Final = ("generation", "length", "format", "written", "parent", "copies", "keep", "sha256")
#: Left out if the history is `RECENT`, and by version 0.1, which knew no lineage.
OPTIONAL: Final = ("history", "branch", "without", "from")
_CLAIMS: Final = f"{MAGIC} {VERSION} " + " ".join(f"{name}=%s" for name in FIELDS[:-1])
_DEFAULTS: Final = {"history": RECENT, "without": "-", "from": ""}
_KNOWN: Final = frozenset(FIELDS + OPTIONAL)
MISMATCH: Final = "its content does not match its digest"
_NO_TRAILER: Final = "no trailer at its end: cut short, or something follows it"
_FORMAT_NAME: Final = re.compile(r"[A-Za-z0-9._+-]{1,64}")
MAX_GENERATION: Final = 10**18 - 1
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_HEX: Final = re.compile(r"[0-9a-f]+")
_TIME: Final = re.compile(
    r"(19[7-9]|[2-8][0-9]{2})[0-9]-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII
)


class TrailerError(ValueError):
    """The bytes are not a valid slot.

    Attributes:
        fault: The token for the fault.

    """

    def __init__(self, reason: str, fault: Fault = Fault.BAD_TRAILER) -> None:
        super().__init__(reason)
        self.fault = fault

    @property
    def torn(self) -> bool:
        """True if the bytes end without a trailer, as after an interrupted write."""
        return self.fault in (Fault.EMPTY, Fault.NUL, Fault.NO_TRAILER)


class NewerVersion(Exception):  # noqa: N818 - a signal between two modules; the error is NewerVersionError
    """The version in a trailer is greater than `VERSION`."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """The claims of a slot about itself. Trust them only as part of a `Verified`."""

    generation: int
    length: int  #: Bytes of payload.
    format: str
    written: datetime
    parent: str  #: The first 16 hex digits of the digest of the generation before it.
    copies: int  #: The number of copies when the slot was written.
    keep: int  #: The number of generations that each copy kept then.
    digest: str
    unknown: Mapping[str, str]  #: Fields that a later version of redundict added.
    history: str = RECENT  #: The rule by which generations were kept.
    line: Line = NO_LINE  #: The lineage of the generation.

    @property
    def as_parent(self) -> str:
        """The start of the digest, which the next generation names as its parent."""
        return self.digest[:_PARENT_DIGITS]


@dataclass(frozen=True, slots=True)
class Verified:
    """The content of a slot whose digest was recomputed and agrees. Only `verify` makes it."""

    trailer: Trailer
    payload: bytes
    payload_digest: bytes  #: SHA-256 of the payload alone. It recognises an unchanged state.


def is_format_name(name: str) -> bool:
    """Return True if a trailer can hold `name` as the name of a format."""
    return _FORMAT_NAME.fullmatch(name) is not None


def size_class(needed: int) -> int:
    """Return the size in bytes of a slot whose content needs `needed` bytes.

    Sizes are multiples of 4096. Larger sizes grow in steps of an eighth of the next lower power of
    two. So most commits do not change the size of the file, and little space is wasted.

    >>> size_class(1), size_class(4097), size_class(1_000_000)
    (4096, 8192, 1048576)
    """
    power = 1 << (max(needed, 1).bit_length() - 1)
    step = max(BLOCK, power // WASTE)
    return -(-needed // step) * step


def seal(
    payload: bytes,
    *,
    generation: int,
    format: str,
    parent: str,
    copies: int,
    keep: int,
    history: str = RECENT,
    line: Line = NO_LINE,
    written: datetime | None = None,
    payload_hash: hashlib._Hash | None = None,
) -> tuple[Trailer, bytes]:
    """Make the trailer of a new slot. Hash every byte, and write nothing (law 12).

    Args:
        payload: The payload of the slot.
        generation: The number of the generation.
        format: The format of the payload.
        parent: The first 16 hex digits of the digest of the generation before, or `NO_PARENT`.
        copies: The number of copies of the store.
        keep: The number of generations that each copy keeps.
        history: The rule by which generations are kept.
        line: The lineage of the generation. A trailer without room leaves out its oldest points.
        written: The time of the commit; by default, `now`.
        payload_hash: A SHA-256 object that has hashed the payload already. It is not changed.

    Returns:
        The trailer, and the bytes that follow the payload in the slot: the padding and the trailer.

    Raises:
        TrailerError: If a trailer cannot hold a value.

    """
    written = written.astimezone(UTC) if written else now()
    claims = (generation, len(payload), format, written, parent, copies, keep)
    _refuse_unfit(Trailer(*claims, "", {}, history, line))
    named = _CLAIMS % (generation, len(payload), format, _to_text(written), parent, copies, keep)
    named += f" {OPTIONAL[0]}={history}" if history != RECENT else ""
    fields, line = lineage.encode(line, LIMIT - len(named) - _ENDING)
    named += fields
    head = f"{named} {FIELDS[-1]}=".encode("ascii")
    needed = len(payload) + 1 + len(head) + DIGEST_BYTES
    covered = b"\n" * (1 + size_class(needed) - needed) + head
    hasher = payload_hash.copy() if payload_hash else hashlib.sha256(payload)
    hasher.update(covered)
    digest = hasher.hexdigest()
    return Trailer(*claims, digest, {}, history, line), b"%b%b\n" % (covered, digest.encode())


def parse(tail: bytes, size: int) -> Trailer:
    """Return the claims of a slot, from its last bytes. Verify nothing.

    No memory is allocated by a number in the trailer, because a file may hold any number.

    Args:
        tail: The last `TAIL` bytes of the slot, or the whole slot if it is shorter.
        size: The size of the slot in bytes.

    Raises:
        TrailerError: If there is no trailer, or it contradicts itself or `size`.
        NewerVersion: If its version is greater than `VERSION`.

    """
    if size == 0:
        raise TrailerError("empty (0 bytes)", Fault.EMPTY)
    if not tail.strip(b"\0"):
        raise TrailerError("filled with NUL bytes", Fault.NUL)
    start = tail.rfind(b"\n", 0, -1) + 1
    line = tail[start:]
    if start == 0:
        _words(line)
        if len(line) == size:
            raise TrailerError("nothing stands before the trailer")
        raise TrailerError(_NO_TRAILER, Fault.NO_TRAILER)
    trailer = _claimed(line)
    if trailer.length > size - len(line) - 1:
        raise TrailerError(
            f"the trailer claims {trailer.length} bytes of payload, more than there are"
        )
    return trailer


@functools.lru_cache(maxsize=16)  # the copies of a generation end in the same line
def _claimed(line: bytes) -> Trailer:
    """Return the claims of the last line of a slot."""
    fields = _fields(_words(line)[2:])
    trailer = Trailer(
        generation=_number(fields, "generation"),
        length=_number(fields, "length"),
        format=_matching(fields, "format", _FORMAT_NAME),
        written=_time(fields),
        parent=_hex(fields, "parent", _PARENT_DIGITS),
        copies=_number(fields, "copies"),
        keep=_number(fields, "keep"),
        digest=_hex(fields, "sha256", DIGEST_BYTES - 1),
        unknown={n: value for n, value in fields.items() if n not in _KNOWN},
        history=_matching(_DEFAULTS | fields, "history", _FORMAT_NAME),
        line=_line(fields),
    )
    _refuse_unfit(trailer)
    return trailer


def _refuse_unfit(trailer: Trailer) -> None:
    """Raise `TrailerError` for values out of bounds, when reading and when writing."""
    if not 1 <= trailer.generation <= MAX_GENERATION:
        raise TrailerError(f"the trailer claims generation {trailer.generation}")
    if not (1 <= trailer.copies <= MAX_COPIES and MIN_KEEP <= trailer.keep <= MAX_KEEP):
        raise TrailerError(f"the trailer claims {trailer.copies} copies and keep {trailer.keep}")
    if not _FORMAT_NAME.fullmatch(trailer.format) or not _FORMAT_NAME.fullmatch(trailer.history):
        raise TrailerError(f"the trailer claims {trailer.format!r} and {trailer.history!r}")
    if len(trailer.parent) != _PARENT_DIGITS or not _HEX.fullmatch(trailer.parent):
        raise TrailerError(f"the trailer's parent is {trailer.parent!r}")
    if not EARLIEST <= trailer.written <= LATEST:
        raise TrailerError(f"the trailer's written is {trailer.written}")


def verify(slot: bytes) -> Verified:
    """Recompute the digest of a whole slot; return its trailer and payload.

    Args:
        slot: Every byte of the slot.

    Raises:
        TrailerError: If there is no valid trailer, or the digest does not agree.
        NewerVersion: If the version is greater than `VERSION` and the digest agrees. Without an
            agreeing digest, the version number may be damage.

    """
    newer = False
    try:
        trailer = parse(slot[-TAIL:], len(slot))
        length, digest = trailer.length, trailer.digest
    except NewerVersion:
        newer, length = True, 0
        digest = slot[-DIGEST_BYTES:-1].decode("ascii", "replace")
    view = memoryview(slot)
    hasher = hashlib.sha256(view[:length])
    payload_digest = hasher.digest()
    hasher.update(view[length:-DIGEST_BYTES])
    if hasher.hexdigest() != digest:
        raise TrailerError(MISMATCH, Fault.DIGEST)
    if newer:
        raise NewerVersion
    start = slot.rfind(b"\n", 0, -1) + 1
    if slot.count(b"\n", length, start) != start - length:
        raise TrailerError("something other than newlines pads the payload")
    return Verified(trailer, slot[:length], payload_digest)


def _words(line: bytes) -> list[str]:
    """Split the last line into words; raise if it is no trailer of this version."""
    try:
        words = line.decode("ascii").removesuffix("\n").split(" ")
    except UnicodeDecodeError:
        words = []
    if words[:1] != [MAGIC] or not line.endswith(b"\n") or len(words) < 3:
        raise TrailerError(_NO_TRAILER, Fault.NO_TRAILER)
    if not _NUMBER.fullmatch(words[1]) or int(words[1]) < VERSION:
        raise TrailerError(f"the trailer claims version {words[1]!r}")
    if int(words[1]) > VERSION:
        raise NewerVersion
    return words


def _fields(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=")[::2] for word in words if "=" in word]
    if len(pairs) != len(words):
        raise TrailerError("the trailer has a field without a value")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise TrailerError("the trailer names a field twice")
    if pairs[-1][0] != FIELDS[-1]:
        raise TrailerError("the trailer does not end in its digest")
    return fields


def _matching(fields: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        raise TrailerError(f"the trailer's {name} is {value!r}")
    return value


def _number(fields: Mapping[str, str], name: str) -> int:
    return int(_matching(fields, name, _NUMBER))


def _hex(fields: Mapping[str, str], name: str, digits: int) -> str:
    value = _matching(fields, name, _HEX)
    if len(value) != digits:
        raise TrailerError(f"the trailer's {name} has {len(value)} digits, not {digits}")
    return value


def _line(fields: dict[str, str]) -> Line:
    if "branch" not in fields:  # version 0.1
        return NO_LINE
    fields = _DEFAULTS | fields
    try:
        return lineage.decode(fields["branch"], fields["without"], fields["from"])
    except ValueError as error:
        raise TrailerError(f"the trailer's lineage is not well-formed: {error}") from None


def _to_text(written: datetime) -> str:
    return written.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(fields: Mapping[str, str]) -> datetime:
    value = _matching(fields, "written", _TIME)
    try:
        written = datetime.fromisoformat(value)
    except ValueError:
        raise TrailerError(f"the trailer's written is {value!r}") from None
    return written


def now() -> datetime:
    """Return the present time in UTC, or the nearest time that a trailer can hold."""
    try:
        return min(max(datetime.now(UTC), EARLIEST), LATEST)
    except (ValueError, OverflowError, OSError) as error:  # a year that `datetime` does not know
        errors.reraise_interrupt(error)
        return LATEST if time.time() > 0 else EARLIEST


def stamp() -> str:
    """Return the present time, such as ``2026-01-02T03:04:05Z``."""
    # Not `strftime`, which imports a module at its first call.
    return now().isoformat(timespec="seconds").replace("+00:00", "Z")
