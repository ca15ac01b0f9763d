"""`docs/format.md` and the code say the same."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import redundict
from redundict import SlotState

from .inside import LETTERS, Layout, files, trailer

TEXT = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
PAYLOAD = b'{"chat":{"width":640,"height":480}}'
PARAMETERS = inspect.signature(redundict.open).parameters
DEFAULTS = (PARAMETERS["copies"].default, PARAMETERS["keep"].default)
WRITTEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def section(title: str) -> str:
    """Return the text below a heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def prose(title: str) -> str:
    """Return the text below a heading, with its lines joined."""
    return " ".join(section(title).split())


def table(title: str, number: int = 0) -> list[list[str]]:
    """Return the rows of a table below a heading, without its head."""
    tables = re.findall(r"(?:^\|.*\n)+", section(title), re.MULTILINE)
    rows = [line.strip("|").split("|") for line in tables[number].splitlines()[2:]]
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def blocks(title: str, language: str) -> list[str]:
    """Return the blocks of code below a heading."""
    return re.findall(rf"^```{language}\n(.*?)^```", section(title), re.MULTILINE | re.DOTALL)


def example() -> bytes:
    """Return the slot that the worked example shows."""
    _, ending = trailer.seal(
        PAYLOAD,
        generation=1,
        format="json",
        parent=trailer.NO_PARENT,
        copies=2,
        keep=2,
        written=WRITTEN,
    )
    return PAYLOAD + ending


def ran(code: str) -> dict[str, Any]:
    """Run a block of the document, and return the names that it defines."""
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_fields_stand_there_in_their_order() -> None:
    """The table of fields is `trailer.FIELDS` and `trailer.OPTIONAL`."""
    fields = (*trailer.FIELDS[:-1], *trailer.OPTIONAL, trailer.FIELDS[-1])
    assert tuple(row[0] for row in table("The trailer")) == fields


def test_the_ranges_of_the_fields_are_the_codes() -> None:
    """Each limit that the table states is the one that the code enforces."""
    ranges = {row[0]: row[2] for row in table("The trailer")}
    assert ranges["generation"] == f"1 to {trailer.MAX_GENERATION}"
    assert ranges["copies"] == f"1 to {trailer.MAX_COPIES}"
    assert ranges["keep"] == f"{trailer.MIN_KEEP} to {trailer.MAX_KEEP}"
    length, alphabet = re.fullmatch(r"1 to (\d+) of `(.*)", ranges["format"]).groups()
    for name, fits in (("x" * int(length), True), ("x" * (int(length) + 1), False)):
        assert trailer.is_format_name(name) is fits
    listed = alphabet.replace("A-Z", "AMZ").replace("a-z", "amz").replace("0-9", "059").split()
    allowed = set("".join(listed))
    for code in range(33, 127):
        if not chr(code).isalnum():
            assert trailer.is_format_name(chr(code)) is (chr(code) in allowed)


def test_the_limits_of_the_trailer_are_the_codes() -> None:
    """Its longest line, its first words, its last 65 bytes, and what a reader has to read."""
    assert f"At most {trailer.LIMIT} bytes, the newline included" in prose("The trailer")
    assert f"Read the last {trailer.TAIL} bytes of every slot" in prose("How a reader chooses")
    assert f"at most {trailer.LIMIT} bytes" in prose("Versions")
    assert f"the last {trailer.DIGEST_BYTES} bytes of the file" in prose("Versions")
    assert TEXT.startswith(f"# The slot format, version {trailer.VERSION}\n")
    assert f"{trailer.MAGIC} {trailer.VERSION} ... sha256=" in blocks("A slot", "text")[0]
    assert f"size - {trailer.DIGEST_BYTES}" in blocks("A slot", "text")[0]
    parent = next(row for row in table("The trailer") if row[0] == "parent")
    assert parent[1] == f"{len(trailer.NO_PARENT)} hex"


def test_the_formula_of_the_size_classes_is_the_codes() -> None:
    """The three lines of the document give the sizes that the code gives."""
    (formula,) = blocks("Size classes", "python")
    compiled = compile(formula, "docs/format.md", "exec")
    for n in [*range(1, 10_000, 97), *((1 << k) + d for k in range(12, 40) for d in (-1, 0, 1))]:
        names: dict[str, Any] = {"n": n}
        exec(compiled, names)
        assert names["size"] == trailer.size_class(n)
    text = prose("Size classes")
    assert f"Always a multiple of {trailer.BLOCK}" in text
    assert f"at most 1/{trailer.WASTE} more than is needed" in text


def test_the_table_of_size_classes_is_computed() -> None:
    """Each row is what `size_class` returns."""
    rows = [row[:2] for row in table("Size classes")]
    needed = [int(row[0].replace(",", "")) for row in rows]
    assert rows == [[f"{n:,}", f"{trailer.size_class(n):,}"] for n in needed]
    for n, (*_, more) in zip(needed, table("Size classes"), strict=True):
        assert more == ("" if n == 1 else f"{100 * (trailer.size_class(n) - n) / n:.1f} %")


def test_the_worked_example_is_what_seal_makes() -> None:
    """The bytes that the document builds by hand are the code's, to the last."""
    (code,) = blocks("The law of the trailer", "python")
    slot = ran(code)["slot"]
    assert slot == example()
    line = len(slot) - slot.rfind(b"\n", 0, -1) - 1
    padding = len(slot) - len(PAYLOAD) - line
    sizes = f"({len(PAYLOAD)} of payload, {padding} newlines, {line} of trailer)"
    assert f"These {len(slot)} bytes {sizes}" in prose("The law of the trailer")
    assert trailer.verify(slot).payload == PAYLOAD


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="needs the GNU tools")
def test_the_commands_print_what_is_shown(tmp_path: Path) -> None:
    """Each command of the worked example, run on its slots, prints just that."""
    for name in ("state.json.a0", "state.json.b0"):
        (tmp_path / name).write_bytes(example())
    (shown,) = blocks("The law of the trailer", "console")
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", shown, re.MULTILINE)
    assert len(commands) == shown.count("$ ")
    for command, output in commands:
        printed = subprocess.run(
            ["/bin/sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        assert printed.splitlines() == output.splitlines(), command
    assert "head -c -65 state.json.a0 | sha256sum" in shown
    assert "tail -c 65 state.json.a0" in shown


def test_the_states_of_a_slot_are_the_codes() -> None:
    """The table names each state that a report can show."""
    listed = [row[0] for row in table("States of a slot")]
    assert listed == [state.value for state in SlotState if state is not SlotState.CLAIMED]


def test_the_names_of_the_files_are_the_codes() -> None:
    """The table of files is what a layout of the default size calls them."""
    assert "With {} copies and {} generations, the default".format(*DEFAULTS) in prose("Files")
    layout = Layout.of("/folder/state.json", *DEFAULTS)
    rows = [row[1:] for row in table("Files")]
    assert rows == [
        [layout.slot_path(copy, index).rpartition("/")[2] for index in range(layout.keep)]
        for copy in range(layout.copies)
    ]
    assert f"(`{LETTERS[0]}` to `{LETTERS[-1]}`)" in prose("Files")
    assert f"`{layout.name}.lock`" in section("Files")


def test_the_name_of_what_is_put_aside_is_the_codes(tmp_path: Path) -> None:
    """A repair's leavings are called what the document calls them."""
    slot = tmp_path / "NAME.a0"
    slot.write_bytes(b"")
    aside = re.sub(r"\d", "0", Path(files.put_aside(str(slot))).name)
    assert f"`{aside}`" in re.sub(r"\d", "0", section("Files"))


def test_every_link_leads_to_a_section() -> None:
    """The list of contents names the sections in their order."""
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    anchors = [re.sub(r"[^a-z -]", "", title.lower()).replace(" ", "-") for title in titles]
    contents = TEXT[: TEXT.index("\n## ")]
    assert re.findall(r"\[(.*?)\]\(#(.*?)\)", contents) == list(zip(titles, anchors, strict=True))
    assert set(re.findall(r"\]\(#(.*?)\)", TEXT)) <= set(anchors)
