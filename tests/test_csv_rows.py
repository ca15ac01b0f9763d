"""CSV: a dict of texts comes back as it was, or is refused with the path of the item."""

from __future__ import annotations

import csv

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from redundict.errors import FormatError
from redundict.formats.resolve import resolve

from .formats import (
    CSV,
    State,
    Word,
    comes_back,
    refusal_of,
)


@given(st.dictionaries(st.text(), st.text()))
@example({"": ""})
@example({"a": "x\r"})
@example({"\r": "x"})
@example({"a\r\nb": 'x\n"y",\n'})
@example({"a": "\0", " b ": " ", "#": "\ufeff", "\u2028": "\x0b"})
def test_any_text_comes_back_from_csv(state: dict[str, str]) -> None:
    """Separators, quotes and every kind of line end included."""
    assert list(comes_back(CSV, state)) == list(state)


def test_csv_is_a_row_an_item() -> None:
    """A payload is what any spreadsheet reads."""
    rows = CSV.encode({"ö": "1,5", "b": 'say "x"'}).decode().splitlines()
    assert rows == ['ö,"1,5"', 'b,"say ""x"""']
    assert CSV.encode({}) == b""


@pytest.mark.parametrize(
    ("state", "item", "why"),
    [
        ({"a": 1}, "state['a']", "1 (int) would come back as a str"),
        ({"a": "x", "b": None}, "state['b']", "None (NoneType) would come back as a str"),
        ({"a": b"x"}, "state['a']", "b'x' (bytes) would come back as a str"),
        ({"a": ["x"]}, "state['a']", "['x'] (list) would come back as a str"),
        ({1: "a"}, "state[1]", "1 (int) would come back as a str"),
        ({"a": "\ud800"}, "state['a']", r"'\ud800' (str): 'utf-8' codec can't encode character "),
        ({"\ud800": "a"}, r"state['\ud800']", r"'\ud800' (str): 'utf-8' codec can't encode "),
    ],
    ids=repr,
)
def test_what_csv_would_change_is_refused_by_its_path(state: State, item: str, why: str) -> None:
    """Nothing silently becomes a string."""
    error = refusal_of(CSV, state)
    assert error.item == item
    assert error.what.startswith(f"{item}: {why}")


class Folded(str):
    """A text that differs from "a" and stands for it all the same."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("state", [{"a": Word.YES}, {Word.YES: "a"}], ids=repr)
def test_a_subclass_of_str_is_refused_or_told(state: State) -> None:
    """CSV gives a plain str back, which is accepted only by a caller that wants to be told."""
    assert "would come back as a str" in refusal_of(CSV, state).what
    told: list[tuple[str, object]] = []
    format = resolve("csv", lambda item, value: told.append((item, value)))
    assert type(format.decode(format.encode(state)).popitem()[1]) is str
    assert format.encode(state) == CSV.encode({str(key): str(state[key]) for key in state})
    ((item, value), *_) = told
    assert item in ("state['a']", "state[<Word.YES: 'yes'>]")
    assert value is Word.YES


def test_two_keys_that_would_be_one_are_refused() -> None:
    """Two rows with one key could not be read."""
    format = resolve("csv", lambda *_: None)
    assert "would come back as one" in refusal_of(format, {"a": "1", Folded("a"): "2"}).what


def test_a_field_longer_than_csv_reads_is_refused() -> None:
    """What the reader would not take is not written; up to that, it comes back."""
    limit = csv.field_size_limit()
    comes_back(CSV, {"a": "x" * limit, "y" * limit: '"' * limit})
    for state in ({"a": "x" * (limit + 1)}, {"x" * (limit + 1): "a"}):
        assert "is longer than csv.field_size_limit()" in refusal_of(CSV, state).what


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"a,b,c\n", "a row has not exactly two fields"),
        (b"a\n", "a row has not exactly two fields"),
        (b"a,1\nb\n", "a row has not exactly two fields"),
        (b"a,1\n\nb,2\n", "a row has not exactly two fields"),
        (b"a,1\na,2\n", "a key stands there twice"),
        (b'a,"b\n', "Error: unexpected end of data"),
        (b'a,"b"c\n', "Error: ',' expected after '\"'"),
        (b"a,\xff\n", "UnicodeDecodeError: "),
        (b"a," + b"x" * 200_000 + b"\n", "Error: field larger than field limit"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_not_csv_of_pairs_is_a_format_error(payload: bytes, reason: str) -> None:
    """A row too short or too long is no item, and no key counts twice."""
    with pytest.raises(FormatError) as caught:
        CSV.decode(payload)
    assert caught.value.what.startswith(f"not readable as csv: {reason}")


def test_csv_with_windows_line_ends_is_read() -> None:
    """The recipe wrote its rows with a carriage return."""
    assert CSV.decode(b"a,1\r\nb,2\r\n") == {"a": "1", "b": "2"}
