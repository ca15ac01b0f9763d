"""The tests. They import the package that is installed, and the scripts that lie beside them.

`python -m pytest` puts the checkout on the path, where `import redundict` would find it before the
installed package. So the checkout is taken off the path before anything is imported. To test the
checkout itself, install it with `pip install -e`, or name it in PYTHONPATH.
"""

import contextlib
import json
import os
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _is_root(entry: str) -> bool:
    return Path(entry or os.curdir).resolve() == ROOT


def _is_editable() -> bool:
    """Return True if the package was installed with `pip install -e`."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        origin = metadata.distribution("redundict").read_text("direct_url.json")
        return bool(json.loads(origin or "{}").get("dir_info", {}).get("editable"))
    return False


ASKED_FOR = _is_editable() or any(
    map(_is_root, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
)
"""Whether the checkout itself is to be tested."""

if not ASKED_FOR:
    sys.path[:] = [entry for entry in sys.path if not _is_root(entry)]
sys.path.append(str(ROOT / "scripts"))
