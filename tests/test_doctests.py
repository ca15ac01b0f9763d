"""The examples in docstrings: what they show is what the installed package does."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import redundict


def modules() -> list[str]:
    """Return the names of all modules of the package."""
    found = pkgutil.walk_packages(redundict.__path__, "redundict.")
    return ["redundict", *(info.name for info in found if not info.name.endswith("__main__"))]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_do_what_they_show(name: str) -> None:
    """Each example of a module prints what stands below it."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module).failed == 0
