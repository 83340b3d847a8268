"""`gradist.run`: a trajectory of minibatch SGD, measured on the way."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gradist import _core
from gradist.progress import ProgressBar
from gradist.trace import Trace

__all__ = ["run"]


def run(*, preset: str = "", config: str | os.PathLike[str] = "", progress: bool = True, **options: Any) -> Trace:
    """Trains by minibatch SGD, measures the gradient estimators on the way, and returns the trace.

    Args:
        preset: named settings, those of `gradist --list-presets`.
        config: a TOML file with options.
        progress: whether to show a progress bar.
        **options: the options of `gradist run` with underscores, such as `iterations=500`, `hidden=[64, 64]`,
            `estimator=["sg-b", "gc"]` or `replacement=False`. They win over the file, the file over the preset.
            Without `out` the trace goes to a temporary file that lives as long as the returned object.

    Raises:
        ValueError: an unknown option, or a value that breaks its rule.
        KeyboardInterrupt: Ctrl-C; the file named by `out` holds what was measured.

    Example:
        >>> trace = gradist.run(data="digits", iterations=500, hidden=[64])
        >>> trace["gc"].average_variance / trace["sg-b"].average_variance
    """
    names = {name.replace("-", "_"): name for name, _, _ in _core.run_options()}
    if options.get("out", ".") == "":
        raise ValueError("out = '', must name a file; leave it out for a temporary one")
    for name in options:
        _check_known(name, names)
    folder = None
    if "out" not in options:
        folder = TemporaryDirectory(prefix="gradist-", ignore_cleanup_errors=True)
        options["out"] = Path(folder.name) / "trace.h5"
    texts = [(names[name], os.fsencode(_text(name, value))) for name, value in options.items()]
    bar = ProgressBar() if progress else None
    try:
        _core.run(preset=preset or "", config=os.fsencode(config or ""), options=texts, progress=bar)
    except ValueError as error:
        raise ValueError(_in_python_words(str(error))) from None
    finally:
        if bar is not None:
            bar.end()
    return Trace(options["out"], folder)


def _check_known(name: str, names: dict[str, str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ValueError(f"unknown option {name!r}; {hint}")


def _text(name: str, value: Any) -> str:
    """The value as on the command line; NumPy's and torch's scalars and arrays are as good as Python's own."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str | bytes | os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Sequence):
        return ",".join(_text(name, each) for each in value)
    if value is None:
        raise ValueError(f"{name} = None, must have a value; leave the option out for its default")
    return str(value)


def _in_python_words(message: str) -> str:
    """An error of the core names the option as the command line does."""
    return re.sub(r"^[a-z0-9-]+(?= = )", lambda match: match[0].replace("-", "_"), message)
