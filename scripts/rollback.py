#!/usr/bin/env python3
"""Roll a store back from a plain checkout, as `redundict rollback PATH [--to N]` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from redundict.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["rollback", *sys.argv[1:]]))
