"""Slots that an adversary or a broken program wrote: typed errors, and never wrong content.

The long run of the parser is `scripts/fuzz.py`; every flip and every truncation of one slot is in
`test_damage_exhaustive`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import fuzz
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import redundict

from . import damage, inside
from .disk import Image, SimulatedDisk
from .inside import Exit, Layout, trailer

Simulate = Callable[[Image], SimulatedDisk]
FIELDS = [*trailer.FIELDS[:-1], *trailer.OPTIONAL]


def test_the_parser_takes_only_what_verifies() -> None:
    """Of many mutants and random bytes, what is accepted is what it says, and errors are typed."""
    counts = fuzz.run(20_000, seed=5)
    assert counts["inputs"] == 20_000
    assert not any(counts[bad] for bad in fuzz.BAD)
    assert counts["accepted"] > 100


@pytest.mark.parametrize("mutant", ["digest", "error", "slow"])
def test_the_fuzzer_sees_a_parser_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    """A parser that believes any digest, fails with another error, or takes too long, is caught."""

    def stumble(slot: bytes) -> trailer.Verified:
        raise IndexError(len(slot))

    def dawdle(slot: bytes) -> trailer.Verified:
        sum(range(20_000))
        return verify(slot)

    verify = trailer.verify
    monkeypatch.setattr(fuzz, "PATIENCE", 0.0001 if mutant == "slow" else fuzz.PATIENCE)
    mutants = {"digest": inside.believe, "error": stumble, "slow": dawdle}
    inside.verify_with(monkeypatch, mutants[mutant])
    assert any(fuzz.run(500, seed=5)[bad] for bad in fuzz.BAD)


# --- whole slots in the wrong place


def store(path: str, keep: int) -> dict[int, dict[str, object]]:
    """Make a store of which every slot is full; return what each generation holds."""
    contents: dict[int, dict[str, object]] = {}
    with redundict.open(path, keep=keep) as state:
        for number in range(1, keep + 2):
            state["n"], state["pad"] = number, f"{number}" * 3000
            contents[state.sync()] = dict(state)
    for name in os.listdir(os.path.dirname(path)):
        damage.age(os.path.join(os.path.dirname(path), name))
    return contents


def slot_paths(path: str, keep: int) -> list[str]:
    return [f"{path}.{copy}{index}" for copy in "ab" for index in range(keep)]


@pytest.mark.damages
@pytest.mark.parametrize("keep", [2, 3])
def test_any_two_slots_may_be_swapped(tmp_path: Path, keep: int) -> None:
    """Names are hints: the newest generation loads, and opening for writing goes on from there."""
    count = 0
    for one, other in itertools.combinations(range(2 * keep), 2):
        path = str(tmp_path / f"{one}-{other}" / "state.json")
        os.mkdir(os.path.dirname(path))
        contents = store(path, keep)
        slots = slot_paths(path, keep)
        os.rename(slots[one], f"{path}.swap")
        os.rename(slots[other], slots[one])
        os.rename(f"{path}.swap", slots[other])
        newest = max(contents)
        assert redundict.load(path) == contents[newest]
        with pytest.WarningsRecorder(_ispytest=True), redundict.open(path, keep=keep) as state:
            assert state == contents[newest]
            state["n"] = "next"
            assert state.sync() == newest + 1
        assert redundict.load(path)["n"] == "next"
        redundict.repair(path)
        assert redundict.check(path).state is redundict.StoreState.HEALTHY
        count += 1
    assert count == keep * (2 * keep - 1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("copies", ["a", "ab"])
def test_no_splice_of_two_generations_loads_as_one(copies: str, simulate: Simulate) -> None:
    """The head of one slot with the tail of another is damage, at every sector and boundary."""
    layout = Layout.of("/simulated/state.json", 2, 2)
    sealed = [fuzz_slot(number) for number in (1, 2)]
    count = 0
    for old, new in itertools.permutations(sealed):
        size = len(new)
        line = new.rfind(b"\n", 0, -1) + 1
        length = trailer.parse(new[-trailer.TAIL :], size).length
        edges = {length, line, size - trailer.DIGEST_BYTES, size - 1, 1}
        near = {edge + off for edge in edges for off in (-1, 0, 1)}
        for at in sorted((set(range(0, size, 512)) | near) & set(range(1, size))):
            splice = old[:at] + new[at:]
            files = {"a0": sealed[0], "b0": sealed[0], "a1": sealed[1], "b1": sealed[1]}
            index = sealed.index(new)
            for copy in copies:
                files[f"{copy}{index}"] = splice
            image = tuple((layout.path + "." + name, held) for name, held in sorted(files.items()))
            simulate(image)
            loaded = inside.load(layout)
            newest_is_gone = index == 1 and splice != new and copies == "ab"
            expected = sealed[0] if newest_is_gone else sealed[1]
            assert loaded.payload == payload_of(expected)
            count += 1
    assert count > 30


def fuzz_slot(generation: int) -> bytes:
    payload = (b"<%d>" % generation) * 700
    _, ending = trailer.seal(
        payload,
        generation=generation,
        format="json",
        parent=trailer.NO_PARENT,
        copies=2,
        keep=2,
    )
    return payload + ending


def payload_of(slot: bytes) -> bytes:
    return trailer.verify(slot).payload


@pytest.mark.exhaustive
@pytest.mark.usefixtures("slots_are_parsed_once")
def test_no_flip_in_every_slot_at_once_loads_wrong_content(simulate: Simulate) -> None:
    """The same byte flipped in all four slots leaves a typed error, and never other content."""
    sealed = {"0": fuzz_slot(1), "1": fuzz_slot(2)}
    layout = Layout.of("/simulated/state.json", 2, 2)
    for at in range(len(sealed["0"])):
        flipped = {index: bytes_flipped(slot, at) for index, slot in sealed.items()}
        image = tuple(
            (f"{layout.path}.{copy}{index}", flipped[index]) for copy in "ab" for index in "01"
        )
        simulate(image)
        with pytest.raises(redundict.LostError) as caught:
            inside.load(layout)
        assert len(caught.value.slots) == 4


@pytest.mark.exhaustive
@pytest.mark.usefixtures("slots_are_parsed_once")
@pytest.mark.parametrize("how", ["flip", "cut"])
@pytest.mark.parametrize("index", [0, 1])
def test_the_same_harm_to_both_copies_of_a_generation_leaves_the_other(
    how: str, index: int, simulate: Simulate
) -> None:
    """At whichever byte both copies of one generation are harmed, the other loads, unharmed."""
    sealed = [fuzz_slot(1), fuzz_slot(2)]
    layout = Layout.of("/simulated/state.json", 2, 2)
    for at in range(len(sealed[index])):
        held = list(sealed)
        held[index] = bytes_flipped(held[index], at) if how == "flip" else held[index][:at]
        image = tuple((layout.slot_path(c, n), held[n]) for c in (0, 1) for n in (0, 1))
        simulate(image)
        loaded = inside.load(layout)
        other = 1 - index
        assert (loaded.generation, loaded.payload) == (other + 1, payload_of(sealed[other]))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("slots_are_parsed_once")
def test_every_slot_cut_at_the_same_length_is_lost_and_never_empty(simulate: Simulate) -> None:
    """However short all four slots are cut, it is a typed error that names each of them."""
    sealed = [fuzz_slot(1), fuzz_slot(2)]
    layout = Layout.of("/simulated/state.json", 2, 2)
    for size in range(len(sealed[0])):
        image = tuple((layout.slot_path(c, n), sealed[n][:size]) for c in (0, 1) for n in (0, 1))
        simulate(image)
        with pytest.raises(redundict.LostError) as caught:
            inside.load(layout)
        assert len(caught.value.slots) == 4


def bytes_flipped(slot: bytes, at: int) -> bytes:
    return slot[:at] + bytes([slot[at] ^ 0x10]) + slot[at + 1 :]


# --- signed lies: the digest agrees, and what it signs is absurd


def signed(line: bytes, payload: bytes = b'{"n": 1}\n', padding: int = 0) -> bytes:
    """Return a slot whose digest agrees with whatever it says."""
    body = payload + b"\n" * padding + line + b" sha256="
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n"


TRUE_FIELDS = {
    "generation": "7",
    "length": "8",
    "format": "json",
    "written": "2026-01-02T03:04:05.678901Z",
    "parent": "0" * 16,
    "copies": "2",
    "keep": "2",
}


def line_of(fields: list[tuple[str, str]], version: str = "1") -> bytes:
    named = "".join(f" {name}={value}" for name, value in fields)
    return f"redundict {version}{named}".encode()


def lies() -> Iterator[tuple[str, str]]:
    numbers = ["0", "-1", "00", "1e9", "٣", "9" * 18, "9" * 19, str(2**60), str(2**64), "", "x"]
    yield from (("copies", value) for value in ("26", "27"))
    yield from (("keep", value) for value in ("1000", "1001"))
    for name in ("generation", "length", "copies", "keep"):
        yield from ((name, value) for value in numbers)
    yield from (("format", value) for value in ("", "j son", "../json", "x" * 65, "pickle"))
    yield from (("written", value) for value in ("", "now", "2026-02-30T00:00:00.000000Z"))
    yield from (("parent", value) for value in ("", "0" * 15, "g" * 16, "A" * 16))
    yield from (("history", value) for value in ("", "thinned", "x" * 65))


def everything_with(path: str) -> list[object]:
    """Do with a store all that may be done with it; return what came of it, typed errors too."""
    outcomes: list[object] = []
    for act in (
        lambda: redundict.load(path),
        lambda: redundict.check(path).state,
        lambda: dict(redundict.open(path, "r")),
        lambda: redundict.repair(path).path,
        lambda: _opened(path),
    ):
        try:
            outcomes.append(act())
        except redundict.RedundictError as error:
            outcomes.append(error)
    return outcomes


def _opened(path: str) -> dict[object, object]:
    with redundict.open(path) as state:
        return dict(state)


@pytest.mark.damages
@pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning")
@pytest.mark.parametrize(("name", "value"), list(lies()))
def test_a_signed_lie_is_a_typed_error_or_what_it_says(path: str, name: str, value: str) -> None:
    """A correct digest over an absurd claim is refused, or gives the bytes that were signed."""
    fields = {**TRUE_FIELDS, name: value}
    slot = signed(line_of(list(fields.items())))
    for copy in "ab":
        damage.overwrite(f"{path}.{copy}0", slot)
    for outcome in everything_with(path):
        if isinstance(outcome, dict):
            assert outcome == {"n": 1}


def hostile_store(path: str, payload: bytes = b'{"n": 1}', **lies: str) -> None:
    """Write two copies of one slot, with a digest that agrees, of what it is to claim."""
    fields = {**TRUE_FIELDS, "length": str(len(payload)), **lies}
    for copy in "ab":
        slot = signed(line_of(list(fields.items())), payload, padding=1)
        damage.overwrite(f"{path}.{copy}0", slot)


@pytest.mark.damages
@pytest.mark.filterwarnings("ignore::redundict.RedundancyWarning")
@pytest.mark.parametrize("name", ["copies", "keep"])
def test_what_is_claimed_of_copies_and_keep_does_not_bind_a_writer(path: str, name: str) -> None:
    """The writer's own options stand: 26 copies or 1000 generations are not made of a claim."""
    hostile_store(path, **{name: {"copies": "26", "keep": "1000"}[name]})
    with redundict.open(path) as state:
        state["n"] = 2
        assert state.sync() == 8
    assert redundict.load(path) == {"n": 2}
    assert sorted(os.listdir(os.path.dirname(path))) == [
        *(f"state.json.{slot}" for slot in ("a0", "a1", "b0", "b1", "lock")),
    ]


class Counting(inside.QuickDisk):
    """A disk that counts how often a file is opened, and does not wait for the medium."""

    def __init__(self) -> None:
        self.opened = 0

    def open_read(self, path: str) -> int:
        """Count it."""
        self.opened += 1
        return super().open_read(path)


@pytest.mark.damages
def test_a_repair_is_not_quadratic_in_what_a_trailer_claims_to_keep(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many generations claimed cost a repair about twice as many looks."""
    looks = []
    for keep in (20, 40, 1000):
        disk = Counting()
        inside.use_disk(monkeypatch, disk)
        hostile_store(f"{path}.{keep}", keep=str(keep), parent="a" * 16)
        redundict.repair(f"{path}.{keep}")
        looks.append(disk.opened)
    assert looks[1] < 2.5 * looks[0]
    assert looks[2] < 60 * looks[0]


@pytest.mark.damages
def test_a_repair_writes_no_more_than_twice_in_each_copy_that_is_claimed(path: str) -> None:
    """999 generations that never were are not made up: what is there is committed once."""
    hostile_store(path, copies="3", keep="1000", parent="a" * 16)
    done = redundict.repair(path)
    assert done.report.state is redundict.StoreState.HEALTHY
    assert redundict.load(path) == {"n": 1}
    assert sorted(os.listdir(os.path.dirname(path))) == [
        *(f"state.json.{copy}{index}" for copy in "abc" for index in "01"),
        "state.json.lock",
    ]


NOT_JSON = {
    "empty": b"",
    "list": b"[1]",
    "null": b"null",
    "not UTF-8": b'{"a": "\xff"}',
    "two documents": b'{"n":1}{"n":2}',
    "cut": b'{"n": 1',
    "NUL": bytes(300),
    "pickle": b"\x80\x04}\x94.",
    "a slot": b"redundict 1 generation=1",
}


@pytest.mark.damages
@pytest.mark.parametrize("flag", "rwc")
@pytest.mark.parametrize("payload", NOT_JSON.values(), ids=NOT_JSON)
def test_a_signed_payload_that_is_not_json_is_refused_and_stays(
    path: str, payload: bytes, flag: str
) -> None:
    """It verifies and cannot be decoded: a `FormatError`, with every slot as it was."""
    hostile_store(path, payload)
    before = damage.read(f"{path}.a0"), damage.read(f"{path}.b0")
    with pytest.raises(redundict.FormatError):
        redundict.load(path)
    with pytest.raises(redundict.FormatError) as caught:
        redundict.open(path, flag)
    assert (caught.value.path, caught.value.generation) == (path, 7)
    assert (damage.read(f"{path}.a0"), damage.read(f"{path}.b0")) == before


@pytest.mark.damages
def test_load_says_which_store_cannot_be_decoded(path: str) -> None:
    """The `FormatError` of `load` names the store and the generation, as that of `open` does."""
    hostile_store(path, b"[1]")
    with pytest.raises(redundict.FormatError) as caught:
        redundict.load(path)
    assert (caught.value.path, caught.value.generation) == (path, 7)


NAMES = st.sampled_from([*FIELDS, "sha256", "later", "Generation", ""])
VALUES = st.one_of(
    st.sampled_from([*TRUE_FIELDS.values(), "thinned", "=", "é", "\t"]),
    st.integers(-2, 2**70).map(str),
    st.text(max_size=20),
)


@settings(max_examples=200)
@given(
    fields=st.lists(st.tuples(NAMES, VALUES), max_size=12),
    version=st.sampled_from(["1", "0", "2", "01", "", "x", "1 1"]),
    payload=st.binary(max_size=60),
    padding=st.integers(0, 3),
)
@example(fields=list(TRUE_FIELDS.items()), version="1", payload=b'{"n": 1}', padding=1)
@example(fields=list(TRUE_FIELDS.items())[::-1], version="1", payload=b'{"n": 1}', padding=1)
@example(fields=list(TRUE_FIELDS.items()) * 2, version="1", payload=b'{"n": 1}', padding=1)
@example(fields=list(TRUE_FIELDS.items()), version="2", payload=b'{"n": 1}', padding=1)
def test_a_trailer_of_any_structure_is_refused_or_as_it_says(
    fields: list[tuple[str, str]], version: str, payload: bytes, padding: int
) -> None:
    """Fields reordered, repeated, missing, huge or foreign: typed errors, or the bytes it names."""
    slot = signed(line_of(fields, version), payload, padding)
    assert fuzz.judge(slot) in ("accepted", "rejected")


def test_the_structured_trailers_include_one_that_is_accepted() -> None:
    """The examples above are not all refused for some other reason."""
    slot = signed(line_of(list(TRUE_FIELDS.items())), b'{"n": 1}', padding=1)
    assert fuzz.judge(slot) == "accepted"


# --- time and memory


@pytest.mark.damages
@pytest.mark.parametrize("claimed", [2**31, 10**18 - 1, 2**60])
@pytest.mark.parametrize(
    "act",
    [
        redundict.load,
        redundict.open,
        redundict.repair,
        lambda path: lost(redundict.check(path)),
    ],
    ids=["load", "open", "repair", "check"],
)
def test_a_claimed_length_allocates_nothing(
    path: str, claimed: int, act: Callable[[str], object]
) -> None:
    """What is read and set aside is bounded by the file, whatever its trailer claims."""
    slot = signed(line_of(list({**TRUE_FIELDS, "length": str(claimed)}.items())), padding=1)
    damage.overwrite(f"{path}.a0", slot)
    tracemalloc.start()
    try:
        with pytest.raises(redundict.LostError):
            act(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


def lost(report: redundict.Report) -> None:
    """Raise what a reader would, where a check only reports."""
    assert report.state is redundict.StoreState.LOST
    raise redundict.LostError(report.status)


@pytest.mark.damages
def test_time_is_bounded_by_the_file_s_size(path: str) -> None:
    """A slot of a megabyte of anything is judged in a moment: nothing is quadratic in it."""
    for filling in (b"\n", b"=", b" ", b"a=1 ", b"redundict 1 ", b"\0"):
        damage.overwrite(f"{path}.a0", filling * (1_000_000 // len(filling)))
        started = time.process_time()
        with pytest.raises(redundict.LostError):
            redundict.load(path)
        assert time.process_time() - started < 1


def nested(kind: str, depth: int) -> bytes:
    opening, closing = {"list": (b"[", b"]"), "dict": (b'{"a":', b"}")}[kind]
    return b'{"a":' + opening * depth + b"1" + closing * depth + b"}"


@pytest.mark.damages
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_json_nested_100000_deep_is_a_typed_error(
    path: str, kind: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A payload that no parser should recurse into is refused; its bytes can still be shown."""
    payload = nested(kind, 100_000)
    fields = {**TRUE_FIELDS, "length": str(len(payload))}
    for copy in "ab":
        damage.overwrite(
            f"{path}.{copy}0", signed(line_of(list(fields.items())), payload, padding=1)
        )
    with pytest.raises(redundict.FormatError):
        redundict.load(path)
    with pytest.raises(redundict.FormatError):
        redundict.open(path)
    assert redundict.check(path).generation == 7
    assert inside.command_line(["show", path]) in (Exit.OK, Exit.DEGRADED)
    assert capfdbinary.readouterr().out == payload


@pytest.mark.damages
@pytest.mark.parametrize("depth", [100, 300, 950, 1000, 3000, 10_000, 30_000])
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_at_any_depth_loading_and_saving_fail_with_typed_errors_only(
    path: str, kind: str, depth: int
) -> None:
    """Between what is shallow and what no parser takes, nothing but `FormatError` is raised."""
    hostile_store(path, nested(kind, depth))
    outcomes = []
    for act in (redundict.load, _synced):
        try:
            outcomes.append(act(path))
        except redundict.FormatError:
            outcomes.append(None)
    assert redundict.check(path).generation == (outcomes[1] or 7)
    assert depth > 100 or None not in outcomes


def _synced(path: str) -> int:
    with redundict.open(path) as state:
        state["more"] = 1
        return state.sync()


@pytest.mark.damages
def test_a_plain_file_nested_100000_deep_is_a_typed_error(path: str) -> None:
    """The recipe's file is no less hostile than a slot."""
    Path(path).write_bytes(nested("list", 100_000))
    with pytest.raises(redundict.FormatError):
        redundict.open(path)


@pytest.mark.damages
def test_a_number_of_a_million_digits_is_a_typed_error(path: str) -> None:
    """Python's own limit on digits is met as a `FormatError`, not as a hang or another error."""
    payload = b'{"n":' + b"9" * 1_000_000 + b"}"
    fields = {**TRUE_FIELDS, "length": str(len(payload))}
    damage.overwrite(f"{path}.a0", signed(line_of(list(fields.items())), payload, padding=1))
    with pytest.raises(redundict.FormatError):
        redundict.load(path)
