"""`python -m redundict`: runs the command line, and imports it only if there is work to do."""

import sys

from . import __version__


def main() -> int:
    """Run the command line; return the exit code."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"redundict {__version__}\n")
        return 0
    from .cli.parser import main as run  # noqa: PLC0415 - it imports everything

    return run()


if __name__ == "__main__":
    sys.exit(main())
