"""How gradients are computed: the ways there are, and which are chosen."""

from __future__ import annotations

from gradist import _core

__all__ = ["Method", "choices"]

choices: _core.MethodChoices = _core.MethodChoices(measure=True)
"""Which way each layer and shape is computed here, and in which chunks and memory format `gradient_norms` runs a model: tried once
each and kept for the process. `choices.write(path)` keeps them in a file, `choices.read(path)` takes them from one, so that another
process computes in the same ways."""


class Method(str):
    """How the gradients of a parameter were found: "linear", "conv", ..., "one-by-one", "unused"; `.reason` says which way and why."""

    reason: str = ""

    def __new__(cls, name: str, reason: str = "") -> Method:
        made = super().__new__(cls, name)
        made.reason = reason or "from its factors, in the one way there is"
        return made
