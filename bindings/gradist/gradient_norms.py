"""Per-example gradient norms of a batch in a loop of gradist's own, which chooses chunks and memory format."""

from __future__ import annotations

import math
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from gradist import _core
from gradist.following import tensors_in
from gradist.methods import Method, choices
from gradist.probe import Data, LossFunction, ModelSource, check_alone_as_in_batch, refuse_coupled, unchanged

__all__ = ["GradientNorms", "gradient_norms"]


class GradientNorms:
    """Squared norms of all per-example gradients of a batch and their sum; made by `gradient_norms`."""

    def __init__(self, names: Sequence[str], chunk: int) -> None:
        self._names = list(names)
        self.chunk = chunk
        """Examples that went through the model at once."""
        self._total: _core.ReducedGradients | None = None

    def _add(self, part: _core.ReducedGradients) -> None:
        if self._total is None:
            self._total = part
        else:
            self._total.append(part)

    @property
    def _found(self) -> _core.ReducedGradients:
        assert self._total is not None
        return self._total

    @property
    def coverage(self) -> dict[str, Method]:
        """How the gradients of every parameter were found."""
        methods = (Method(each.method, each.reason) for each in self._found.parameters)
        return dict(zip(self._names, methods, strict=True))

    @property
    def losses(self) -> Tensor:
        """f_i, [B]."""
        return self._found.losses

    @property
    def per_parameter(self) -> dict[str, Tensor]:
        """||g_il||^2 by parameter, [B] float64."""
        return {name: each.squared_norms.double() for name, each in zip(self._names, self._found.parameters, strict=True)}

    @property
    def squared_norms(self) -> Tensor:
        """||g_i||^2, [B] float64."""
        return self._found.squared_norms()

    @property
    def gradient(self) -> dict[str, Tensor]:
        """sum_i g_i by parameter: what a backward pass from the summed loss leaves in `.grad`."""
        return {name: each.sum for name, each in zip(self._names, self._found.parameters, strict=True)}


def gradient_norms(
    model: nn.Module, loss_fn: LossFunction, batch: Data, *, max_bytes: int = 0, chunk: int = 0
) -> GradientNorms:
    """All squared gradient norms of a batch and the summed gradient, at the price of a plain forward and backward pass or less.

    The batch goes through the model in chunks, images in the memory format that convolutions like best, and linear layers by Intel's
    AMX where the processor has it and that is faster (as exact as float32 is, but rounded otherwise than torch does); what is fastest
    is measured the first time for a model and shape of batch, and kept in `choices`: call it again for the speed. The model, its
    `.grad`, its buffers and torch's random state are left as they were.

    Args:
        model: any module whose examples do not influence each other.
        loss_fn: loss_fn(outputs, targets) -> [B], one loss an example; loss weights and token masks are its own affair.
        batch: inputs and targets, with the examples in dimension 0.
        max_bytes: bound on the memory of a chunk's factors, what layers read and what flows back to them, and of the copies made
            of them; what autograd keeps besides is not in it. 0: none.
        chunk: examples at once; 0: the fastest.

    Example:
        >>> n = gradist.gradient_norms(model, torch.nn.CrossEntropyLoss(reduction="none"), (x, y))
        >>> n.squared_norms.topk(5)
    """
    for name, value in (("max_bytes", max_bytes), ("chunk", chunk)):
        if value < 0:
            raise ValueError(f"{name} = {value}, must be >= 0")
    source = ModelSource(model, loss_fn, batch)
    refuse_coupled(source.layers)
    with unchanged(source.layers):
        setting = _fastest(source, source.largest_chunk(max_bytes), chunk)
        return _pass(source, setting, source.examples)


def _pass(source: ModelSource, setting: _Setting, examples: int) -> GradientNorms:
    """The first `examples` examples in chunks."""
    result = GradientNorms(source.parameter_names, setting.chunk)
    source.format = setting.format
    for begin in range(0, examples, setting.chunk):
        result._add(source.reduced(begin, min(begin + setting.chunk, examples), choices))
    return result


@dataclass(frozen=True)
class _Setting:
    """How a batch goes through the model."""

    chunk: int
    format: torch.memory_format = torch.contiguous_format

    @property
    def way(self) -> str:
        """As `choices` keeps it."""
        return f"chunks of {self.chunk}" + _CHANNELS_LAST * (self.format == torch.channels_last)

    @classmethod
    def of(cls, way: str, limit: int) -> _Setting:
        size = way.removeprefix("chunks of ").removesuffix(_CHANNELS_LAST)
        if not size.isdecimal() or int(size) == 0:
            raise ValueError(f"choices: {way!r}, must be such as 'chunks of 32' or 'chunks of 32{_CHANNELS_LAST}'")
        format = torch.channels_last if way.endswith(_CHANNELS_LAST) else torch.contiguous_format
        return cls(min(int(size), limit), format)


_CHANNELS_LAST = ", channels last"
_described: weakref.WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], str]] = weakref.WeakKeyDictionary()
"""By model and shapes, under which name `choices` has how a batch goes through it."""


def _fastest(source: ModelSource, limit: int, chunk: int) -> _Setting:
    """The setting in `choices`, or what trying finds once for a model and shape."""
    shapes = tuple((*each.shape, each.dtype) for each in tensors_in((source.inputs, source.targets)))
    key = (shapes, torch.get_num_threads(), limit, chunk)
    known = _described.setdefault(source.model, {})
    if key not in known:
        check_alone_as_in_batch(source, may_be_random=True)
        known[key] = _description(source, shapes, limit, chunk)
    way = choices.way(known[key])
    if way is None:
        found = _tried(source, limit, chunk)
        choices.keep(known[key], found.way, "measured")
        return found
    return _Setting.of(way, limit)


def _description(source: ModelSource, shapes: tuple[Any, ...], limit: int, chunk: int) -> str:
    """The same in every process for the same kind of model."""
    kind = f"{type(source.model).__name__} {zlib.crc32(repr(source.model).encode()):08x}"
    data = " ".join(f"{list(sizes)} {str(dtype).removeprefix('torch.')}" for *sizes, dtype in shapes)
    bound = f", chunks up to {limit}" if limit < source.examples else ""
    size = f", chunks of {chunk}" if chunk else ""
    return f"pass: {kind}, {data}{bound}{size}, {torch.get_num_threads()} threads"


def _tried(source: ModelSource, limit: int, chunk: int) -> _Setting:
    """The faster of images channel by channel and with the channels last, and then of halves, quarters, ... of the batch until they
    get slower."""
    search = _Search(source, _Setting(min(chunk or source.examples, limit)))
    if source.has_images():
        search.tries(replace(search.best, format=torch.channels_last))
    size = search.best.chunk // 2
    while size and not chunk and search.tries(replace(search.best, chunk=size)):
        size //= 2
    return search.best


_HOPELESS = 1.1
"""A chunk this much slower than the best ends the search for smaller ones."""

_WORTH = 0.98
"""A setting must take at most this part of the best one's time: less may be chance."""


class _Search:
    """Settings tried one after the other. One that seems faster than the best is timed again in turn with that one: a machine is
    not equally fast at all times."""

    def __init__(self, source: ModelSource, first: _Setting) -> None:
        self._source = source
        self._devices = {each.device for each in source.parameters if not each.is_cpu}
        self.best = first
        self._least = self._first_seconds(first)

    def tries(self, setting: _Setting) -> bool:
        """Takes the setting if it is faster; false where it is hopelessly slow."""
        try:
            taken = self._first_seconds(setting, 2 * self._least)
        except RuntimeError:
            if setting.format == torch.contiguous_format:
                raise
            return False  # the model refuses the memory format
        for _ in range(_AGAIN):
            if taken <= _WORTH * self._least:
                self._least = min(self._least, self._seconds(self.best))
                taken = min(taken, self._seconds(setting))
        if taken <= _WORTH * self._least:
            self.best, self._least = setting, taken
        return taken <= _HOPELESS * self._least

    def _first_seconds(self, setting: _Setting, too_long: float = math.inf) -> float:
        _pass(self._source, setting, setting.chunk)  # chooses the layers' ways for this shape
        taken = self._seconds(setting)
        return taken if taken > too_long else min(taken, self._seconds(setting), self._seconds(setting))

    def _seconds(self, setting: _Setting) -> float:
        start = perf_counter()
        _pass(self._source, setting, self._source.examples)
        for device in self._devices:
            torch.accelerator.synchronize(device)
        return perf_counter() - start


_AGAIN = 2
"""Times that the two are timed again."""
