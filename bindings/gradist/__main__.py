"""The console script `gradist`: the program of the core, and `report`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status; arguments default to the command line's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["report"]:
            from gradist import report

            return report.main(words[1:])
        return _program(words)
    except KeyboardInterrupt:
        print("gradist: interrupted", file=sys.stderr)
        return 130


def _program(words: list[str]) -> int:
    from gradist import _core
    from gradist.progress import ProgressBar

    bar = ProgressBar(unit="model" if words[:1] == ["rf"] else "it") if sys.stderr.isatty() else None
    try:
        return _core.program([os.fsencode(word) for word in words], bar)
    finally:
        if bar is not None:
            bar.end()


if __name__ == "__main__":
    sys.exit(main())
