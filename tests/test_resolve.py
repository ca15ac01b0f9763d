"""`resolve`: which format a name or an object asks for, and what no format can hold."""

from __future__ import annotations

import csv
import json
import marshal
import pickle
from pathlib import Path
from typing import Any

import pytest

from redundict import errors
from redundict.errors import FormatError, UnstorableError
from redundict.formats.resolve import Format, read_plain, resolve, safe_format

from .formats import (
    CSV,
    JSON,
    LITERAL,
    MARSHAL,
    OBJECTS,
    PICKLE,
    Mute,
    Opaque,
    State,
    in_itself,
    namespace,
    nested,
    refusal_of,
    text_dumps,
)


@pytest.mark.parametrize(
    ("format", "kind"),
    [
        ("json", "JsonFormat"),
        (json, "JsonFormat"),
        ("csv", "CsvFormat"),
        ("literal", "LiteralFormat"),
        ("pickle", "PickleFormat"),
        (pickle, "PickleFormat"),
        (marshal, "CustomFormat"),
    ],
)
def test_modules_that_have_a_format_of_their_own_get_it(format: object, kind: str) -> None:
    """`format=json` is `format="json"`."""
    assert type(resolve(format)).__name__ == kind


@pytest.mark.parametrize("name", ["yaml", "JSON", "", "object"])
def test_an_unknown_name_is_refused(name: str) -> None:
    """The error lists the names that are known."""
    with pytest.raises(ValueError, match="known are csv, json, literal, pickle"):
        resolve(name)


@pytest.mark.parametrize(
    "target",
    [
        None,
        1,
        csv,
        namespace(dumps=str),
        namespace(dump=json.dump, loads=json.loads),
        namespace(dumps="not callable", loads=eval),
    ],
)
def test_an_object_without_a_pair_of_functions_is_refused(target: object) -> None:
    """Half a pair is none."""
    with pytest.raises(TypeError, match="neither dumps and loads nor dump and load"):
        resolve(target)


@pytest.mark.parametrize("kind", ["dict", "list", "state"])
@pytest.mark.parametrize("format", [JSON, LITERAL], ids=["json", "literal"])
def test_a_state_that_contains_itself_is_refused(format: Format, kind: str) -> None:
    """A cycle is an error, and no endless loop."""
    refusal_of(format, in_itself(kind))


@pytest.mark.parametrize("kind", ["dict", "list", "state"])
@pytest.mark.parametrize("format", [PICKLE, MARSHAL], ids=["pickle", "marshal"])
def test_a_state_that_contains_itself_is_stored_by_a_format_that_can(
    format: Format, kind: str
) -> None:
    """The comparison of what comes back ends, too, and what comes back contains itself."""
    back = format.decode(format.encode(in_itself(kind)))
    found = back["a"]["b"][0]
    inner = found if kind == "list" else found["b"] if kind == "dict" else found["a"]["b"]
    assert inner is back["a"]["b"]


HUGE = 10**5000


@pytest.mark.parametrize(
    ("format", "state"),
    [
        (JSON, {HUGE: 1}),
        (JSON, {"a": {HUGE: 1}}),
        (JSON, {"a": (HUGE,)}),
        (CSV, {HUGE: "1"}),
        (LITERAL, {HUGE: 1}),
        (LITERAL, {"a": {(1, HUGE)}}),
        (CSV, {"a": HUGE}),
        (PICKLE, {HUGE: lambda: 0}),
        (MARSHAL, {HUGE: Opaque()}),
        *((format, {"a": Mute()}) for format in (JSON, CSV, LITERAL, PICKLE, MARSHAL)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_be_shown_is_refused_all_the_same(format: Format, state: State) -> None:
    """A value of which the message cannot show anything does not turn it into another error."""
    refusal_of(format, state)


@pytest.mark.parametrize("format", [JSON, LITERAL, PICKLE, MARSHAL])
def test_too_deep_a_state_is_refused(format: Format) -> None:
    """Nesting beyond what the interpreter can follow is a typed error, not a RecursionError."""
    refusal_of(format, nested(20_000))


def tupled(depth: int) -> State:
    inner: tuple[Any, ...] = ()
    for _ in range(depth):
        inner = (inner,)
    return {"deep": inner}


@pytest.mark.parametrize(
    ("format", "state"),
    [(JSON, tupled(20_000)), (CSV, tupled(20_000)), (CSV, nested(20_000))],
    ids=["json tuple", "csv tuple", "csv list"],
)
def test_what_is_too_deep_to_be_shown_is_refused(format: Format, state: State) -> None:
    """The refusal of a value of which the repr goes too deep is a typed error too."""
    assert refusal_of(format, state).item == "state['deep']"


# -- plain files


@pytest.mark.parametrize("asked", ["json", "csv", "literal", "pickle", marshal], ids=str)
@pytest.mark.parametrize(
    "content",
    [b'{"a": "1"}', b' \n{"a": "1"}\n', b'\xef\xbb\xbf{"a": "1"}', b"a,1\r\n", b'"a","1"'],
)
def test_a_plain_file_is_read_in_whichever_format_the_recipe_left(
    asked: object, content: bytes
) -> None:
    """The recipe tried every loader on a file, so the format asked for may not be the file's."""
    assert read_plain(content, resolve(asked)) == {"a": "1"}


@pytest.mark.parametrize("asked", ["pickle", marshal], ids=str)
def test_a_plain_file_is_first_read_in_the_format_asked_for(asked: object) -> None:
    """What pickle or a foreign format wrote is read by it, if it is what the caller asked for."""
    format = resolve(asked)
    assert read_plain(format.encode({"a": (1,)}), format) == {"a": (1,)}


def test_the_format_asked_for_is_believed_before_json() -> None:
    """What looks like JSON may be something else to the format that wrote it."""
    format = resolve(namespace(dumps=text_dumps, loads=lambda text: {"mine": text}))
    assert read_plain(b'{"a": 1}', format) == {"mine": '{"a": 1}'}


def test_a_plain_file_of_json_is_never_read_as_a_literal() -> None:
    r"""Both read `"\ud83d\ude00"`, JSON as one character, and Python as two surrogates."""
    format = resolve("literal")
    assert read_plain(b'{"a": "\\ud83d\\ude00"}', format) == {"a": "\U0001f600"}
    assert read_plain(b"{'a': (1,)}", format) == {"a": (1,)}
    with pytest.raises(FormatError):
        read_plain(b"{'a': (1,)}", resolve("json"))


FORMATS = ["json", "csv", "literal", "pickle", marshal]


@pytest.mark.parametrize("asked", FORMATS, ids=str)
@pytest.mark.parametrize("content", [b"", b"\0", b"\0" * 4096, b"\n", b" \t\r\n\0"])
def test_an_empty_plain_file_is_not_an_empty_dict(asked: object, content: bytes) -> None:
    """Emptiness and NULs are what a crash makes of a good file."""
    with pytest.raises(FormatError, match="it is empty or filled with NUL bytes"):
        read_plain(content, resolve(asked))


def is_read(content: bytes, asked: object) -> bool:
    try:
        read_plain(content, resolve(asked))
    except FormatError:
        return False
    return True


DOCUMENT = b'{"a": 1, "b": [2]}'


@pytest.mark.parametrize("asked", FORMATS, ids=str)
@pytest.mark.parametrize("before", [b"", b"\n ", b"\xef\xbb\xbf"])
def test_half_a_json_file_is_never_taken_for_csv(asked: object, before: bytes) -> None:
    """Cut at any length, a JSON file is refused, though the rest looks like a row of two fields."""
    whole = before + DOCUMENT
    assert is_read(whole, asked)
    assert not [whole[:size] for size in range(len(whole)) if is_read(whole[:size], asked)]


@pytest.mark.parametrize("asked", FORMATS, ids=str)
def test_a_json_file_of_which_a_part_is_nul_is_never_taken_for_csv(asked: object) -> None:
    """Blocks that never reached the medium read as NULs; what is left is no row of two fields."""
    size = len(DOCUMENT)
    holes = [(start, end) for start in range(size) for end in range(start + 1, size)]
    torn = [DOCUMENT[:start] + b"\0" * (end - start) + DOCUMENT[end:] for start, end in holes]
    assert not [content for content in torn if is_read(content, asked)]


@pytest.mark.parametrize(
    "content", [b"[1, 2]", b'["a", "b"]', b'[["a", "b"]]', b"1", b'"a,b"', b"nothing\n", b"a,b,c\n"]
)
def test_a_plain_file_in_no_known_format_is_refused(content: bytes) -> None:
    """What holds no dict is an error that says what was tried."""
    for asked, tried in (("json", ["json"]), ("pickle", ["pickle", "json"])):
        with pytest.raises(FormatError) as caught:
            read_plain(content, resolve(asked))
        for name in tried:
            assert f"not readable as {name}: " in caught.value.what


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "x")


def planted(path: Path, protocol: int) -> bytes:
    return pickle.dumps({"a": Planted(path)}, protocol)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("asked", ["json", "csv", OBJECTS["text"]], ids=["json", "csv", "object"])
def test_pickle_is_never_tried_on_a_file_unless_asked_for(
    tmp_path: Path, asked: object, protocol: int
) -> None:
    """A planted file runs no code: the one it would write is not there."""
    assert not is_read(planted(tmp_path / "ran", protocol), asked)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_planted_file_would_run(tmp_path: Path) -> None:
    """The test above shows something: asked for by name, the same pickle does run."""
    state = read_plain(planted(tmp_path / "ran", 0), PICKLE)
    state["a"].close()
    assert (tmp_path / "ran").exists()


def test_unasked_only_what_runs_no_code_is_decoded() -> None:
    """A trailer that names pickle, or a format unknown here, decides nothing."""
    names = ["json", "csv", "literal"]
    assert [getattr(safe_format(name), "name", None) for name in names] == names
    for name in ("pickle", "marshal", "", "yaml"):
        assert safe_format(name) is None


def test_a_format_error_is_no_unstorable_error() -> None:
    """What cannot be read and what cannot be written are told apart, and share a base."""
    assert issubclass(UnstorableError, FormatError)
    assert issubclass(FormatError, errors.RedundictError)
