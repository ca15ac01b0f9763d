"""Literals: Python's own types come back as they were, or are refused with the path of the item."""

from __future__ import annotations

import ast
import contextlib
import math
import os
import subprocess
import sys
import warnings
from collections import OrderedDict, defaultdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import redundict
from redundict.errors import FormatError, UnstorableError
from redundict.formats.refusals import MAX_DEPTH
from redundict.formats.resolve import resolve, safe_format

from .formats import LITERAL, Colour, Opaque, Point, State, Word, comes_back, refusal_of, same

TEXT = st.text(st.characters(exclude_categories=[]))  # lone surrogates, too
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.complex_numbers()
    | st.builds(complex, st.sampled_from([0.0, -0.0, 1.5]), st.sampled_from([0.0, -0.0, -1.5]))
    | st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 1e16, 1e22])
    | TEXT
    | st.binary()
    | st.just(...)
)
HASHABLE = st.recursive(LEAVES, lambda inner: st.tuples(inner) | st.tuples(inner, inner))
#: What no literal stands for, among what has one.
FOREIGN = st.sampled_from(
    [frozenset(), frozenset({1}), Opaque(), Colour.RED, Word.YES, Point(1, 2)]
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=15,
)
STATES = st.dictionaries(HASHABLE, VALUES, max_size=5)
ODD_VALUES = st.recursive(
    LEAVES | FOREIGN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHABLE | FOREIGN, inner, max_size=3)
        | st.sets(HASHABLE | FOREIGN, max_size=3)
    ),
    max_leaves=10,
)


def has_literal(value: object) -> bool:
    """Tell whether a literal stands for a value, looking at each part by itself."""
    if type(value) is dict:
        return all(has_literal(key) and has_literal(item) for key, item in value.items())
    if type(value) in (list, tuple, set):
        return all(map(has_literal, value))  # type: ignore[call-overload] # it is one of these
    if type(value) is float:
        return not math.isnan(value)
    if type(value) is complex:
        real, imaginary = repr(value.real), repr(value.imag)
        is_kept = real != "-0.0" or imaginary.startswith("-")
        is_kept &= imaginary != "-0.0" or real == "-0.0"
        return is_kept and "nan" not in (real, imaginary)
    return value is None or value is ... or type(value) in (bool, int, str, bytes)


@given(STATES)
@example({"a": {True}, "b": {(1,), (True, 1.0)}, -1: -0.0, -0.0: {-1, -1.5, -2j, 1 - 2j}})
@example({"a": "\ud83d\ude00", "\ud83d": ["\ude00", "é'\"\\\n\r\0\x85\u2028\ufeff"]})
@example({(): ((),), ((1, (2,)),): set(), b"'": b'\0"', None: ..., ...: None, 1e999: -1e999})
def test_what_has_a_literal_comes_back_as_it_was_and_the_rest_is_refused(state: State) -> None:
    """The types, the order of dicts and the signs of zeros are the same, in keys and sets, too."""
    if has_literal(state):
        assert same(LITERAL.decode(LITERAL.encode(state)), state)
    else:
        refusal_of(LITERAL, state)


@given(st.dictionaries(HASHABLE | FOREIGN, ODD_VALUES, max_size=4))
def test_exact_types_only(state: State) -> None:
    """A subclass at any place, an object or a frozenset is refused; nothing else is raised."""
    if has_literal(state):
        assert same(LITERAL.decode(LITERAL.encode(state)), state)
    else:
        refusal_of(LITERAL, state)


def test_a_payload_has_one_line_for_each_item_and_is_a_python_literal() -> None:
    """A person reads it with `head`, and another program with `ast.literal_eval`."""
    state = {"ö": (1,), 2: {"b", "a"}, (3, 4): {"x": [b"\0\n", None, ...]}, "inf": -math.inf}
    payload = LITERAL.encode(state)
    assert payload.decode().split("\n") == [
        "{'ö': (1,),",
        " 2: {'a', 'b'},",
        " (3, 4): {'x': [b'\\x00\\n', None, ...]},",
        " 'inf': -1e999}",
    ]
    assert ast.literal_eval(payload.decode()) == state
    assert LITERAL.encode({}) == b"{}"


def test_a_set_has_the_same_payload_in_each_process() -> None:
    """Hashes of texts differ between processes. An unchanged state is not written again."""
    program = """
from redundict.formats.resolve import resolve
words = {f"word {n}" for n in range(50)} | {b"x", None, 1.5, (1, "a")}
print(resolve("literal").encode({"s": words, "t": ({"a", "b", "c"},)}))
"""
    payloads = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(payloads) == 1


def test_an_unchanged_store_with_sets_is_not_written_again(path: str) -> None:
    """A set that was built in another order is the same set."""
    with redundict.open(path, format="literal") as state:
        state["s"] = set(map(str, range(100)))
        generation = state.sync()
        state["s"] = set(map(str, reversed(range(100))))
        assert state.sync() == generation


@pytest.mark.parametrize(
    ("state", "item", "why"),
    [
        ({"a": math.nan}, "state['a']", "nan (float) has no literal"),
        ({"a": [complex(0, math.nan)]}, "state['a'][0]", "nanj (complex) has no literal"),
        ({"a": complex(-0.0, 1)}, "state['a']", "(-0+1j) (complex) has no literal"),
        ({"a": complex(1, -0.0)}, "state['a']", "(1-0j) (complex) has no literal"),
        (
            {"a": (1, {2: frozenset()})},
            "state['a'][1][2]",
            "frozenset() (frozenset) has no literal",
        ),
        ({"a": bytearray(b"x")}, "state['a']", "bytearray(b'x') (bytearray) has no literal"),
        ({"a": range(3)}, "state['a']", "range(0, 3) (range) has no literal"),
        ({"a": {1, frozenset()}}, "state['a']", "its item frozenset() (frozenset) has no literal"),
        ({"a": {math.nan: 1}}, "state['a']", "key nan (float) has no literal"),
        ({(1, (2, math.nan)): 1}, "state", "key (1, (2, nan)) (tuple): (2, nan) (tuple): nan "),
        ({"a": 10**5000}, "state['a']", "... (int) has no literal"),
        (
            {"a": Colour.RED},
            "state['a']",
            "<Colour.RED: 1> (Colour) would come back as a plain int",
        ),
        ({"a": [Word.YES]}, "state['a'][0]", "<Word.YES: 'yes'> (Word) would come back as a plain"),
        ({"a": Point(1, 2)}, "state['a']", "Point(x=1, y=2) (Point) would come back as a plain tu"),
        ({"a": OrderedDict()}, "state['a']", "OrderedDict() (OrderedDict) would come back as a pl"),
        ({"a": {"b": {Word.YES}}}, "state['a']['b']", "its item <Word.YES: 'yes'> (Word) would "),
        ({Point(1, 2): 1}, "state", "key Point(x=1, y=2) (Point) would come back as a plain tuple"),
        ({(1, Colour.RED): 1}, "state", "key (1, <Colour.RED: 1>) (tuple): <Colour.RED: 1> (Colo"),
    ],
)
def test_what_has_no_literal_is_refused_by_its_path(state: State, item: str, why: str) -> None:
    """Nothing silently becomes something else."""
    error = refusal_of(LITERAL, state)
    assert error.item == item
    assert error.what.startswith(f"{item}: {why}")


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_what_contains_itself_is_refused(kind: type) -> None:
    """The repr of such a list reads back as a list that holds an Ellipsis."""
    inner: Any = []
    inner.append(inner)
    assert ast.literal_eval(repr(inner)) == [[...]]
    holder: Any = {"x": inner} if kind is dict else kind([inner])
    inner.append(holder)
    assert "which so contains itself" in refusal_of(LITERAL, {"a": holder}).what
    state: State = {}
    state["self"] = (state,)
    refusal_of(LITERAL, state)
    comes_back(LITERAL, {"a": [...], "b": [[...]]})


def nest(kind: type, depth: int, inner: Any) -> State:
    """Return a state that is `depth` containers deep, the state and `inner` included."""
    for _ in range(depth - 2):
        inner = {"k": inner} if kind is dict else kind([inner])
    return {"a": inner}


@pytest.mark.parametrize("inner", [[], (), set(), {}, {1 - 2j}, [-1.5 - 1e999j], {-1: -1j}, (1,)])
@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_what_is_as_deep_as_may_be_is_decoded(kind: type, inner: Any) -> None:
    """Python's parser takes 200 brackets, and so does the format; one level more is refused."""
    state = nest(kind, MAX_DEPTH, inner)
    assert repr(LITERAL.decode(LITERAL.encode(state))) == repr(state)
    assert "nested more than" in refusal_of(LITERAL, nest(kind, MAX_DEPTH + 1, inner)).what


def test_the_depth_of_keys_counts() -> None:
    """A tuple in a key takes a bracket of the parser, too."""
    key: Any = ()
    for _ in range(MAX_DEPTH - 2):
        key = (key,)
    comes_back(LITERAL, {key: 1})
    refusal_of(LITERAL, {(key,): 1})
    refusal_of(LITERAL, {"a": {(key,)}})


def test_a_full_stack_is_a_refusal() -> None:
    """A deep state is refused if the caller's own calls leave too little of the stack."""
    state = nest(list, MAX_DEPTH, [1])

    def dig(levels: int) -> bytes:
        return dig(levels - 1) if levels else LITERAL.encode(state)

    assert dig(10) == LITERAL.encode(state)
    for used in range(250, 300, 7):
        with pytest.raises(UnstorableError, match="nested too deep for this call"):
            dig(sys.getrecursionlimit() - used)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[1]",
        b"None",
        b"{1}",
        b"'a'",
        b"{'a': 1}}",
        b"{'a': 1} x",
        b"{'a': 1}\n{'b': 2}",
        b"{'a': nan}",
        b"{'a': inf}",
        b"{'a': frozenset()}",
        b"{'a': set([1])}",
        b"{'a': Ellipsis}",
        b"{'a': f'{1}'}",
        b"{'a': 1 + 1}",
        b"{'a': 1j + 1}",
        b"{'a': 2 ** 99}",
        b"{[1]: 2}",
        b"{{}: 2}",
        b"{**{}}",
        b"{'a': __import__('os').system('true')}",
        b"{'a': (lambda: 0)()}",
        b"{'a': [x for x in ()]}",
        b"{'a': '\0'}",
        b"{'a': '\xff'}",
        b"\xef\xbb\xbf{'a': 1}",
        "{'a': 1}".encode("utf-16"),
        b"\0" * 100,
        b"{'a': '\\ud800",
        b"{'a': b'\xc3\xa9'}",
        b"{'a': 0777}",
        b"{'a': " + b"1" * 5000 + b"}",
        b"(" * 100_000 + b")" * 100_000,
        b"{'a': " * 300 + b"1" + b"}" * 300,
        b"{'a': " + b"-" * 100_000 + b"1}",
        b"{'a': " + b"-+" * 3_000 + b"1}",
        b"{'a': " + b"~" * 5_000 + b"1}",
        b"{'a': " + b"1+" * 100_000 + b"1j}",
        b"{'a': x" + b".x" * 100_000 + b"}",
        b"{'a': " + b"not " * 100_000 + b"1}",
        b"{'a': " + b"lambda: " * 50_000 + b"1}",
    ],
    ids=lambda payload: repr(payload)[:40],
)
def test_what_is_no_literal_of_a_dict_is_a_format_error(payload: bytes) -> None:
    """Cut, followed by more, or made by somebody else: no code runs, and the error is typed."""
    with pytest.raises(FormatError, match=r"^not readable as literal: ") as caught:
        LITERAL.decode(payload)
    assert not isinstance(caught.value, UnstorableError)


@given(st.binary() | TEXT.map(lambda text: f"{{{text}}}".encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_dict_or_a_format_error(payload: bytes) -> None:
    """Whatever the parser raises, the caller gets one type of error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the parser warns of "\d"
        with contextlib.suppress(FormatError):
            assert type(LITERAL.decode(payload)) is dict


@given(STATES.filter(has_literal), st.data())
def test_a_payload_that_was_cut_is_never_another_state(state: State, data: st.DataObject) -> None:
    """The first bracket closes at the last byte."""
    payload = LITERAL.encode(state)
    with pytest.raises(FormatError):
        LITERAL.decode(payload[: data.draw(st.integers(0, len(payload) - 1))])


def test_subclasses_are_stored_for_a_caller_that_is_told() -> None:
    """Plain values stand for them, in keys, sets and tuples, too; each place is told once."""
    told: list[tuple[str, object]] = []
    format = resolve("literal", lambda item, value: told.append((item, value)))
    grown = defaultdict(list, a=[Colour.RED])
    state = {
        "o": OrderedDict(b=1),
        "p": Point(1, Word.YES),  # type: ignore[arg-type] # any value does
        "s": {Word.YES, 2},
        (1, Point(Colour.RED, 2)): grown,
        Word.YES: b"x",
    }
    plain = {"o": {"b": 1}, "p": (1, "yes"), "s": {"yes", 2}, (1, (1, 2)): {"a": [1]}, "yes": b"x"}
    assert same(format.decode(format.encode(state)), plain)
    assert [item for item, _ in told] == [
        "state",
        "state",
        "state['o']",
        "state['p']",
        "state['p'][1]",
        "state['s']",
        "state[(1, (1, 2))]",
        "state[(1, (1, 2))]['a'][0]",
    ]
    assert told[0][1] == (1, Point(1, 2))
    told.clear()
    refusal_of(format, state | {"x": Opaque()})
    assert told == []


def test_load_and_the_readers_need_not_be_told_the_format(path: str) -> None:
    """To decode it runs no code, so a trailer that names it is believed."""
    state = {(1, 2): {"a"}, "b": b"\xff", "c": 1j}
    with redundict.open(path, format="literal") as store:
        store.update(state)
    assert same(redundict.load(path), state)
    assert safe_format("literal") is not None
    with redundict.open(path, format="literal") as store:
        assert same(dict(store), state)
    with pytest.raises(FormatError):
        redundict.open(path)


def test_permadict_stores_literals(path: str) -> None:
    """`format='literal'` works as JSON does: subclasses are told, the plain value comes back."""
    with redundict.PermaDict(path, format="literal") as state:
        state["p"] = Point(1, 2)
        state[(1,)] = {Word.YES}
        with pytest.warns(UserWarning, match="is stored as its plain value"):
            state.sync()
    assert same(redundict.load(path), {"p": (1, 2), (1,): {"yes"}})
