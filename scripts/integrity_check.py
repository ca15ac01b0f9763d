#!/usr/bin/env python3
"""Verify stores from a plain checkout, as `redundict check PATH...` does: for cron and rescue."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from redundict.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["check", *sys.argv[1:]]))
