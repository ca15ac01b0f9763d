"""`records`: what programs read validates against the schema, in every state a store may be in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import redundict
from redundict.cli import exits, records
from redundict.cli import parser as cli
from redundict.cli.differences import Kind
from redundict.errors import Fault

from . import damage
from .inside import slots

SCHEMA = json.loads(
    (Path(__file__).parents[1] / "docs" / "record.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(
    SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> list[dict[str, Any]]:
    """Return the records that a command prints, each valid, each with the process's exit code."""
    code = cli.main([*args, "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found
    for record in found:
        VALIDATOR.validate(record)
    assert code == exits.worst([exits.Exit(record["exit"]) for record in found])
    return found


@pytest.fixture
def store(path: str) -> str:
    """Return a store of three generations, of which two are kept."""
    with redundict.open(path, keep=2) as state:
        for state["n"] in (1, 2, 3):
            state.sync()
    for slot in ("a0", "a1", "b0", "b1"):
        damage.age(f"{path}.{slot}")
    return path


def test_a_healthy_store_is_valid(capsys: pytest.CaptureFixture[str], store: str) -> None:
    """Numbers are numbers, and nothing is said to be wrong."""
    (record,) = printed(capsys, "check", store)
    assert (record["state"], record["generation"], record["action"]) == ("healthy", 3, None)
    assert [slot["generation"] for slot in record["slots"]] == [3, 2, 3, 2]
    assert {slot["fault"] for slot in record["slots"]} == {None}


DAMAGES: dict[str, tuple[Any, str, Fault]] = {
    "missing": (lambda p: Path(f"{p}.b0").unlink(), "b0", Fault.MISSING),
    "empty": (lambda p: damage.truncate(f"{p}.a0", 0), "a0", Fault.EMPTY),
    "nul": (lambda p: damage.overwrite(f"{p}.a1", bytes(4096)), "a1", Fault.NUL),
    "cut": (lambda p: damage.truncate(f"{p}.a0", 1000), "a0", Fault.NO_TRAILER),
    "lie": (lambda p: damage.overwrite(f"{p}.a0", b"x\nredundict 1 a=\n"), "a0", Fault.BAD_TRAILER),
    "flip": (lambda p: damage.flip(f"{p}.b1", 0), "b1", Fault.DIGEST),
    "folder": (
        lambda p: (Path(f"{p}.b0").unlink(), Path(f"{p}.b0").mkdir()),
        "b0",
        Fault.NOT_A_FILE,
    ),
    "behind": (
        lambda p: damage.overwrite(f"{p}.b0", damage.read(f"{p}.b1")),
        "b0",
        Fault.BEHIND,
    ),
}


@pytest.mark.damages
@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_has_its_token(
    capsys: pytest.CaptureFixture[str], store: str, name: str
) -> None:
    """A program can tell what is wrong without reading English."""
    harm, slot, fault = DAMAGES[name]
    harm(store)
    (record,) = printed(capsys, "check", store)
    assert record["state"] != "healthy"
    faults = {found["name"]: found["fault"] for found in record["slots"]}
    assert faults[f"state.json.{slot}"] == fault
    assert record["action"]


@pytest.mark.damages
def test_errors_and_lost_stores_are_records_as_well(
    capsys: pytest.CaptureFixture[str], store: str, tmp_path: Path
) -> None:
    """One line a store, whatever came of it."""
    for slot in ("a0", "a1", "b0", "b1"):
        damage.truncate(f"{store}.{slot}", 0)
    lost, absent = printed(capsys, "check", store, str(tmp_path / "nothing"))
    assert (lost["state"], lost["generation"], lost["exit"]) == ("lost", None, 4)
    assert absent["error"] == {
        "type": "NotFoundError",
        "reason": "no-store",
        "what": "there is no store here",
        "safe": "nothing was changed",
        "action": absent["error"]["action"],
    }
    assert absent["exit"] == exits.Exit.NO_STORE


def test_the_log_says_what_changed(capsys: pytest.CaptureFixture[str], store: str) -> None:
    """Newest first, each with the health of its copies."""
    (record,) = printed(capsys, "log", store)
    assert [g["generation"] for g in record["generations"]] == [3, 2]
    assert [g["changes"] for g in record["generations"]] == ["~1", None]
    assert record["generations"][0]["copies"] == {"a": "valid", "b": "valid"}


def test_a_diff_is_a_list_of_changes(capsys: pytest.CaptureFixture[str], store: str) -> None:
    """The changes come with their paths, as values."""
    (record,) = printed(capsys, "diff", store)
    assert (record["old"], record["new"]) == (2, 3)
    assert record["changes"] == [
        {"path": ["n"], "shown": "n", "change": "changed", "old": 2, "new": 3}
    ]


def test_the_schema_knows_what_the_code_does() -> None:
    """Every token, state and exit code of the code is in the schema, and no other."""
    definitions = SCHEMA["$defs"]
    assert definitions["fault"]["enum"] == [str(f) for f in Fault]
    assert definitions["slot"]["properties"]["state"]["enum"] == [str(s) for s in slots.SlotState]
    assert definitions["check"]["properties"]["state"]["enum"] == [str(s) for s in slots.StoreState]
    assert SCHEMA["properties"]["exit"]["enum"] == sorted(exits.Exit)
    assert SCHEMA["properties"]["schema"]["const"] == records.SCHEMA
    changes = definitions["diff"]["properties"]["changes"]["items"]["properties"]
    assert changes["change"]["enum"] == [str(kind) for kind in Kind]


@pytest.mark.parametrize("wrong", [{"exit": "0"}, {"schema": 1}, {"state": "fine"}, {"more": 1}])
def test_the_schema_refuses_what_is_not_a_record(
    capsys: pytest.CaptureFixture[str], store: str, wrong: dict[str, Any]
) -> None:
    """A schema that takes anything would prove nothing."""
    (record,) = printed(capsys, "check", store)
    assert not VALIDATOR.is_valid(record | wrong)
