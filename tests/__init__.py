"""The tests. They import the package that is installed, and the scripts that lie beside them.

`python -m pytest` puts the checkout on the path, where `import redundict` would find it before what
is installed. So the checkout is taken off the path before anything is imported. Whoever wants the
checkout installs it with `pip install -e`, or names it in PYTHONPATH.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _is_root(entry: str) -> bool:
    return Path(entry or os.curdir).resolve() == ROOT


ASKED_FOR = any(map(_is_root, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))))
"""Whether PYTHONPATH names the checkout."""

if not ASKED_FOR:
    sys.path[:] = [entry for entry in sys.path if not _is_root(entry)]
sys.path.append(str(ROOT / "scripts"))
