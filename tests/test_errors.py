"""`errors`: what a person and a program get from each."""

from __future__ import annotations

import inspect
import pickle
import warnings

import pytest

import redundict
from redundict import errors

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, redundict.RedundictError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling(kind: type[redundict.RedundictError]) -> None:
    """A worker process may raise it: type, facts, number and message come back."""
    facts = {"path": "/s", "slot": "s.a0", "generation": 7, "safe": "all of it", "action": "do x"}
    error = kind("it broke", pid=5, **facts)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error) == "/s: it broke. Safe: all of it. Next: do x"
    assert {
        **facts,
        "what": "it broke",
        "reason": kind.REASON,
        "pid": 5,
    }.items() <= back.__dict__.items()


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_public_and_says_what_it_means(kind: type) -> None:
    """It can be caught by its name in the package, and has a sentence of its own."""
    assert getattr(redundict, kind.__name__) is kind
    assert kind.__name__ in redundict.__all__
    assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.NotFoundError, FileNotFoundError),
        (errors.NotFoundError, LookupError),
        (errors.StorageError, OSError),
        (errors.AccessError, PermissionError),
        (errors.CommitError, OSError),
        (errors.LockedError, TimeoutError),
        (errors.LostError, ValueError),
        (errors.FormatError, ValueError),
        (errors.UnstorableError, TypeError),
        (errors.ReadOnlyError, PermissionError),
        (errors.ClosedError, ValueError),
    ],
)
def test_an_error_is_what_a_caller_without_us_would_catch(kind: type, builtin: type) -> None:
    """Each derives from the built-in that fits."""
    assert issubclass(kind, builtin)


def test_an_errno_survives() -> None:
    """The number of the system's error can be compared, and pickles."""
    error = errors.CommitError("full", errno=28, failures={"/s.a0": "No space left on device"})
    back = pickle.loads(pickle.dumps(error))
    assert (back.errno, back.failures) == (28, {"/s.a0": "No space left on device"})


def test_typed_turns_the_systems_refusals_into_ours() -> None:
    """Permission, absence and the rest get their types; our own errors pass."""
    for raised, wanted in [
        (PermissionError(13, "Permission denied"), errors.AccessError),
        (FileNotFoundError(2, "No such file"), errors.NotFoundError),
        (OSError(5, "Input/output error"), errors.StorageError),
        (errors.LostError("ours"), errors.LostError),
    ]:
        with pytest.raises(wanted) as caught, errors.typed("doing", path="/s"):
            raise raised
        assert type(caught.value) is wanted


def test_a_warning_points_outside_the_package() -> None:
    """What is warned of is the caller's line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        errors.warn("text")
    assert caught[0].filename == __file__
