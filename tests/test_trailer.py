"""`trailer`: what makes a slot, and what is refused as one."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from .inside import NewerVersion, TrailerError, trailer

WRITTEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CLAIMS: dict[str, Any] = {
    "generation": 7,
    "format": "json",
    "parent": "0123456789abcdef",
    "copies": 2,
    "keep": 3,
    "written": WRITTEN,
}
TORN = "no trailer at its end: cut short, or something follows it"


def sealed(payload: bytes = b"{}", **changes: Any) -> bytes:
    """Return a whole slot."""
    return payload + trailer.seal(payload, **(CLAIMS | changes))[1]


def signed(unsigned: bytes) -> bytes:
    """Return what somebody else's software would sign: any bytes, and their digest."""
    return unsigned + hashlib.sha256(unsigned).hexdigest().encode() + b"\n"


def fields(**changes: Any) -> list[str]:
    """Return the words of a good trailer but for `changes`; None leaves a field out."""
    values: dict[str, Any] = {"generation": 7, "length": 2, "format": "json"}
    values |= {"written": "2026-01-02T03:04:05.678901Z", "parent": "0" * 16}
    values |= {"copies": 2, "keep": 2} | changes
    return [f"{name}={value}" for name, value in values.items() if value is not None]


def forged(
    *words: str, payload: bytes = b"{}", padding: bytes = b"\n", version: str = "1", **changes: Any
) -> bytes:
    """Return a slot whose digest agrees, whatever its trailer says; `words` are added to it."""
    line = " ".join(["redundict", version, *fields(**changes), *words, "sha256="])
    return signed(payload + padding + line.encode())


def test_a_forged_slot_without_a_change_is_a_good_one() -> None:
    """The helper of the tests below forges slots that differ from a good one in one thing only."""
    assert trailer.verify(forged()).trailer.generation == 7


@given(st.binary(max_size=20_000))
@example(b"")
@example(b"\n\n")
@example(b"\0" * 4096)
@example(sealed())
def test_any_payload_comes_back_as_it_was(payload: bytes) -> None:
    """Even what looks like padding or like a slot comes back exactly."""
    claimed, ending = trailer.seal(payload, **CLAIMS)
    slot = payload + ending
    verified = trailer.verify(slot)
    assert verified.payload == payload
    assert verified.payload_digest == hashlib.sha256(payload).digest()
    assert verified.trailer == claimed == trailer.parse(slot[-trailer.TAIL :], len(slot))


@given(
    st.fixed_dictionaries(
        {
            "generation": st.integers(1, 10**18 - 1),
            "format": st.from_regex(r"[A-Za-z0-9._+-]{1,64}", fullmatch=True),
            "parent": st.text("0123456789abcdef", min_size=16, max_size=16),
            "copies": st.integers(1, 26),
            "keep": st.integers(2, 1000),
            "written": st.datetimes(
                datetime(1970, 1, 1),  # noqa: DTZ001
                datetime(8999, 12, 31),  # noqa: DTZ001
                timezones=st.just(UTC),
            ),
        }
    )
)
def test_every_claim_comes_back_as_it_was(claims: dict[str, Any]) -> None:
    """All that `seal` was told stands in the trailer, which stays within its limit."""
    slot = sealed(**claims)
    found = trailer.verify(slot).trailer
    assert {name: getattr(found, name) for name in claims} == claims
    assert found.unknown == {}
    assert len(slot) - slot.rfind(b"\n", 0, -1) - 1 <= trailer.LIMIT


def test_the_digest_is_what_head_and_sha256sum_print(tmp_path: Path) -> None:
    """Anybody can verify a slot without software of ours."""
    slot = tmp_path / "slot"
    slot.write_bytes(sealed(b"any bytes\0\xff"))
    printed = subprocess.run(
        ["/bin/sh", "-c", 'head -c -65 "$0" | sha256sum | cut -c -64', slot],
        capture_output=True,
        check=True,
    ).stdout
    assert printed == slot.read_bytes()[-65:]


def test_a_digest_begins_as_the_parent_of_the_next() -> None:
    """A generation refers to the one before by the first 16 digits of its digest."""
    first, _ = trailer.seal(b"1", **CLAIMS)
    assert first.as_parent == first.digest[:16]
    second = sealed(b"2", parent=first.as_parent)
    assert trailer.verify(second).trailer.parent == first.digest[:16]


def test_a_hash_that_is_given_is_used_and_not_changed() -> None:
    """The payload is hashed once, for its own digest and for the digest of the slot."""
    payload_hash = hashlib.sha256(b"payload")
    sealed = trailer.seal(b"payload", **CLAIMS, payload_hash=payload_hash)
    assert sealed == trailer.seal(b"payload", **CLAIMS)
    assert payload_hash.digest() == hashlib.sha256(b"payload").digest()


def test_the_time_is_written_in_utc() -> None:
    """A time in any zone is the same moment when it comes back."""
    there = WRITTEN.astimezone(timezone(timedelta(hours=-5)))
    slot = sealed(written=there)
    assert slot == sealed(written=WRITTEN)
    assert b" written=2026-01-02T03:04:05.678901Z " in slot


def test_without_a_time_it_is_now() -> None:
    """A slot says when it was sealed."""
    before = datetime.now(UTC)
    assert before <= trailer.verify(sealed(written=None)).trailer.written <= datetime.now(UTC)


@pytest.mark.parametrize(
    "unreadable",
    [
        {"generation": 0},
        {"generation": 10**18},
        {"format": "two words"},
        {"format": ""},
        {"format": "x" * 65},
        {"parent": "0" * 15},
        {"parent": "g" * 16},
        {"copies": 0},
        {"copies": 27},
        {"keep": 1},
        {"keep": 1001},
        {"written": datetime(1969, 12, 31, tzinfo=UTC)},
        {"written": datetime(9000, 1, 1, tzinfo=UTC)},
    ],
    ids=str,
)
def test_nothing_is_sealed_that_would_not_verify(unreadable: dict[str, Any]) -> None:
    """A slot that no reader would take is refused before it is written, not after."""
    with pytest.raises(ValueError):
        sealed(**unreadable)


@given(st.binary(max_size=200), st.integers(min_value=0), st.integers(1, 255))
def test_any_changed_byte_is_refused(payload: bytes, where: int, bits: int) -> None:
    """There is no byte of a slot that may change, in any way, without being noticed."""
    slot = bytearray(sealed(payload))
    slot[where % len(slot)] ^= bits
    with pytest.raises(TrailerError):
        trailer.verify(bytes(slot))


@pytest.mark.parametrize("bits", [0x01, 0x02, 0x20, 0x80, 0xFF])
def test_a_changed_byte_is_refused_at_every_offset(bits: int) -> None:
    """One byte after the other, the last newline included; a claim to be newer does not help."""
    slot = sealed(b'{"a": 1}')
    for where in range(len(slot)):
        changed = bytearray(slot)
        changed[where] ^= bits
        with pytest.raises(TrailerError):
            trailer.verify(bytes(changed))


def test_a_slot_cut_short_is_refused_at_every_length() -> None:
    """Only the last byte makes a slot whole."""
    slot = sealed(b'{"a": 1}')
    for size in range(len(slot)):
        with pytest.raises(TrailerError) as caught:
            trailer.verify(slot[:size])
        assert caught.value.torn or size == len(slot) - 1


@given(st.binary(min_size=1, max_size=600))
@example(b"\n")
@example(b"\0" * 600)
@example(sealed()[-300:])
def test_anything_appended_is_refused(more: bytes) -> None:
    """The trailer is the end of the file, even for what looks like another trailer."""
    with pytest.raises(TrailerError):
        trailer.verify(sealed() + more)


@given(st.binary(min_size=1, max_size=600))
def test_anything_put_before_it_is_refused(more: bytes) -> None:
    """The digest covers the file from its first byte."""
    with pytest.raises(TrailerError):
        trailer.verify(more + sealed())


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused(content: bytes) -> None:
    """No content makes the reader fail in any other way."""
    with pytest.raises(TrailerError):
        trailer.verify(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty (0 bytes)"),
        (b"\0", "filled with NUL bytes"),
        (b"\0" * 5000, "filled with NUL bytes"),
        (b"\n", TORN),
        (b"{}", TORN),
        (sealed()[:-1], TORN),
        (sealed()[:100], TORN),
        (sealed() + b"\n", TORN),
        (sealed() + b"x", TORN),
        (sealed() + b"\0" * 4096, "filled with NUL bytes"),
        (b"{}\nredundict 1\n", TORN),
        (b"{}\nRedundict 1 a sha256=0\n", TORN),
        (b"{}\n redundict 1 a sha256=0\n", TORN),
        ("{}\nredundict 1 ä sha256=0\n".encode(), TORN),
        (forged(generation="\N{ARABIC-INDIC DIGIT SEVEN}"), TORN),
        (b"x" * 600 + b"\n", TORN),
    ],
)
def test_a_slot_without_a_trailer_is_torn(content: bytes, reason: str) -> None:
    """What an interrupted write leaves is told from what has a trailer that does not hold."""
    for refuse in (
        lambda: trailer.verify(content),
        lambda: trailer.parse(content[-trailer.TAIL :], len(content)),
    ):
        with pytest.raises(TrailerError) as caught:
            refuse()
        assert caught.value.torn
        assert str(caught.value) == reason


BAD_NUMBERS = ["", "-1", "+1", "07", "00", "1.0", "1e3", "0x1", "1_0", "seven", 2**60, 10**18]


@pytest.mark.parametrize("name", ["generation", "length", "copies", "keep"])
@pytest.mark.parametrize("value", BAD_NUMBERS)
def test_a_number_has_one_spelling(name: str, value: object) -> None:
    """Decimal digits without sign or leading zero, and at most 18 of them."""
    with pytest.raises(TrailerError) as caught:
        trailer.verify(forged(**{name: value}))
    assert str(caught.value) == f"the trailer's {name} is {str(value)!r}"
    assert not caught.value.torn


@pytest.mark.parametrize(
    ("slot", "reason"),
    [
        (forged(generation=0), "the trailer claims generation 0"),
        (forged(copies=0), "the trailer claims 0 copies and keep 2"),
        (forged(copies=27), "the trailer claims 27 copies and keep 2"),
        (forged(keep=1), "the trailer claims 2 copies and keep 1"),
        (forged(keep=1001), "the trailer claims 2 copies and keep 1001"),
        (forged(length=3), "the trailer claims 3 bytes of payload, more than there are"),
        (
            forged(length=10**18 - 1),
            "the trailer claims 999999999999999999 bytes of payload, more than there are",
        ),
        (forged(length=1), "something other than newlines pads the payload"),
        (forged(padding=b"\n \n"), "something other than newlines pads the payload"),
        (forged(padding=b"\0\n"), "something other than newlines pads the payload"),
        (forged(format=""), "the trailer's format is ''"),
        (forged(format="a/b"), "the trailer's format is 'a/b'"),
        (forged(format="x" * 65), f"the trailer's format is {'x' * 65!r}"),
        (forged(parent="0" * 15), "the trailer's parent has 15 digits, not 16"),
        (forged(parent="0" * 17), "the trailer's parent has 17 digits, not 16"),
        (forged(parent="A" * 16), f"the trailer's parent is {'A' * 16!r}"),
        (forged("flag"), "the trailer has a field without a value"),
        (forged(""), "the trailer has a field without a value"),
        (forged("generation=7"), "the trailer names a field twice"),
        (forged("new=1", "new=2"), "the trailer names a field twice"),
        (forged("sha256=" + "0" * 64), "the trailer names a field twice"),
        (forged(version="0"), "the trailer claims version '0'"),
        (forged(version="01"), "the trailer claims version '01'"),
        (forged(version="1.1"), "the trailer claims version '1.1'"),
        (forged(version="-1"), "the trailer claims version '-1'"),
        (forged(version="x"), "the trailer claims version 'x'"),
        (forged(version="9" * 19), f"the trailer claims version {'9' * 19!r}"),
        (forged(payload=b"", padding=b""), "nothing stands before the trailer"),
        (forged()[:-2] + b"\n", "the trailer's sha256 has 63 digits, not 64"),
        (forged()[:-1] + b"0\n", "the trailer's sha256 has 65 digits, not 64"),
        (forged()[:-1] + b"\r\n", None),
        (forged()[:-1] + b" more=1\n", "the trailer does not end in its digest"),
        (forged()[:-65] + forged()[-65:].upper(), None),
        (forged()[:-65] + b"0" * 64 + b"\n", "its content does not match its digest"),
    ],
)
def test_a_trailer_that_does_not_hold_is_damage(slot: bytes, reason: str | None) -> None:
    """Each way to be wrong is named, and none of them is taken for an interrupted write."""
    with pytest.raises(TrailerError) as caught:
        trailer.verify(slot)
    assert not caught.value.torn
    assert reason is None or str(caught.value) == reason


def test_the_same_line_is_taken_apart_once() -> None:
    """Copies end in the same line; what depends on the rest of the slot is judged each time."""
    slot = sealed(payload=b"x" * 5000)
    tail = slot[-trailer.TAIL :]
    assert trailer.parse(tail, len(slot)) is trailer.parse(tail, len(slot))
    with pytest.raises(TrailerError, match="more than there are"):
        trailer.parse(tail, len(tail))


@pytest.mark.parametrize("name", trailer.FIELDS[:-1])
def test_every_field_is_needed(name: str) -> None:
    """A field that is left out is damage, even if the digest agrees."""
    with pytest.raises(TrailerError, match=f"^the trailer's {name} is ''$"):
        trailer.verify(forged(**{name: None}))


@pytest.mark.parametrize(
    "time",
    [
        "2026-02-30T00:00:00.000000Z",
        "2026-01-02T25:04:05.678901Z",
        "2026-01-02T03:04:61.678901Z",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.678901",
        "2026-01-02T03:04:05.678901+00:00",
        "1969-12-31T23:59:59.999999Z",
        "9000-01-01T00:00:00.000000Z",
        "now",
    ],
)
def test_a_time_has_one_spelling(time: str) -> None:
    """UTC with microseconds, in years that every time zone can show."""
    with pytest.raises(TrailerError) as caught:
        trailer.verify(forged(written=time))
    assert str(caught.value) == f"the trailer's written is {time!r}"


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00.000000Z", "8999-12-31T23:59:59.999999Z"])
def test_the_first_and_the_last_moment_are_taken(time: str) -> None:
    """The ends of the range of times belong to it."""
    found = trailer.verify(forged(written=time)).trailer.written
    assert found == datetime.fromisoformat(time)


@pytest.mark.parametrize(
    "ends",
    [
        {"generation": 1},
        {"generation": 10**18 - 1},
        {"copies": 1},
        {"copies": 26},
        {"keep": 1000},
        {"length": 0, "payload": b""},
        {"format": "x" * 64},
        {"format": "A-z_0.9+"},
    ],
    ids=str,
)
def test_the_ends_of_each_range_are_taken(ends: dict[str, Any]) -> None:
    """What is just within a limit verifies."""
    found = trailer.verify(forged(**ends)).trailer
    name, value = next(iter(ends.items()))
    assert getattr(found, name) == value


def test_unknown_fields_are_kept_and_ignored() -> None:
    """A later minor version may say more, in any place before the digest."""
    found = trailer.verify(forged("new=a=b", "empty=", "=")).trailer
    assert found.generation == 7
    assert found.unknown == {"new": "a=b", "empty": "", "": ""}


def test_the_order_of_the_fields_is_free() -> None:
    """Only the digest has its place: the end."""
    line = " ".join(["redundict", "1", "later=1", *reversed(fields()), "sha256="])
    assert trailer.verify(signed(b"{}\n" + line.encode())).trailer.copies == 2


def of_length(line: int, padding: bytes = b"\n", **changes: Any) -> bytes:
    """Return a slot whose trailer is `line` bytes long."""
    bare = len(forged("fill=", padding=b"", payload=b""))
    return forged("fill=" + "x" * (line - bare), padding=padding, **changes)


def test_a_trailer_may_be_as_long_as_its_limit() -> None:
    """Its newline is one of the 512 bytes, the newline before it is not."""
    slot = of_length(512)
    assert len(slot) == 3 + 512
    assert trailer.verify(slot).payload == b"{}"
    assert trailer.parse(slot[-trailer.TAIL :], len(slot)).generation == 7


def test_a_trailer_longer_than_its_limit_is_no_trailer() -> None:
    """What a reader does not see whole it does not take, whoever signed it."""
    with pytest.raises(TrailerError, match=TORN) as caught:
        trailer.verify(of_length(513))
    assert caught.value.torn


def test_a_trailer_at_its_limit_still_begins_a_line() -> None:
    """The byte before the 512 that are read has to be padding too."""
    with pytest.raises(TrailerError):
        trailer.verify(of_length(512, payload=b"a\nb", padding=b""))


@pytest.mark.parametrize("version", ["2", "10", "9" * 18])
def test_a_newer_version_is_told_from_damage(version: str) -> None:
    """If the digest agrees, the major number is believed, whatever the rest of the line says."""
    for slot in (
        forged(version=version),
        signed(b"{}\nredundict %s anything at all " % version.encode()),
        signed(b"redundict %s and=no-payload sha256=" % version.encode()),
    ):
        with pytest.raises(NewerVersion):
            trailer.parse(slot[-trailer.TAIL :], len(slot))
        with pytest.raises(NewerVersion):
            trailer.verify(slot)


@pytest.mark.parametrize(
    "wrong",
    [
        forged(version="2").replace(b"{}", b"[]"),
        sealed().replace(b"redundict 1 ", b"redundict 3 "),
        forged(version="2")[:-65] + b"0" * 64 + b"\n",
        b"{}\nredundict 2 x\n",
        b"redundict 2 x\n",
    ],
)
def test_a_newer_version_is_believed_only_with_its_digest(wrong: bytes) -> None:
    """A version number in a rotten trailer is rot."""
    with pytest.raises(TrailerError) as caught:
        trailer.verify(wrong)
    assert str(caught.value) == "its content does not match its digest"


@pytest.mark.parametrize(
    ("name", "fits"),
    [("json", True), ("A.b_c+d-9", True), ("x" * 64, True)]
    + [(name, False) for name in ("", "x" * 65, "a b", "a=b", "a\n", "ä", "a/b")],
)
def test_a_format_name_is_one_word(name: str, fits: bool) -> None:
    """What cannot stand in a trailer is known beforehand."""
    assert trailer.is_format_name(name) is fits


SIZES = st.integers(1, 1 << 45)


@given(SIZES)
@example(1)
@example(4096)
@example(4097)
@example(32768)
@example(1 << 40)
def test_a_size_class_fits_and_wastes_little(needed: int) -> None:
    """It is a multiple of 4096, and beyond 32 KiB at most an eighth larger than what it holds."""
    size = trailer.size_class(needed)
    assert size % trailer.BLOCK == 0
    assert needed <= size < needed + max(trailer.BLOCK, needed / trailer.WASTE)
    assert trailer.size_class(size) == size


@given(SIZES, SIZES)
def test_size_classes_grow_with_what_they_hold(one: int, other: int) -> None:
    """More bytes never get a smaller slot."""
    smaller, larger = sorted([one, other])
    assert trailer.size_class(smaller) <= trailer.size_class(larger)


def test_size_classes_are_coarse() -> None:
    """From 64 KiB on there are eight sizes to each power of two, so that sizes seldom change."""
    for power in range(16, 30):
        sizes = {trailer.size_class((1 << power) + (i << power) // 64 + 1) for i in range(64)}
        assert len(sizes) == 8


@given(st.binary(max_size=100), st.integers(0, 100_000))
def test_a_slot_is_of_a_size_class(payload: bytes, more: int) -> None:
    """The padding, at least one newline, fills the slot up to its size class and no further."""
    slot = sealed(payload + b"x" * more)
    line = len(slot) - slot.rfind(b"\n", 0, -1) - 1
    assert len(slot) == trailer.size_class(len(payload) + more + 1 + line)
