"""`gradist.per_coordinate`: what single coordinates of a gradient estimate do, such as one feature's weight."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradist import _core
from gradist.measurement import in_order
from gradist.probe import Data, LossFunction, ModelSource, check_separable, fast_format, unchanged

__all__ = ["Coordinates", "per_coordinate"]

_CHUNK_BYTES = 1 << 26  # of the gradients that are formed at a time, float64


@dataclass(frozen=True)
class Coordinates:
    """Moments of one estimate, coordinate by coordinate: {parameter: tensor of its shape}, float64."""

    mean: dict[str, Tensor]
    """E[estimate_j], the full gradient."""
    variance: dict[str, Tensor]
    """Var[estimate_j]; their sum is the trace of the covariance."""

    @property
    def deviation(self) -> dict[str, Tensor]:
        """The square root of the variance."""
        return {name: each.sqrt() for name, each in self.variance.items()}


def per_coordinate(
    model: nn.Module,
    loss_fn: LossFunction,
    data: Data,
    *,
    snapshot: Mapping[str, Tensor] | None = None,
    batch_size: int = 128,
    replacement: bool = True,
) -> dict[str, Coordinates]:
    """Mean, deviation and variance of each coordinate of SGD's estimate ("sg-b") and, with a snapshot, SVRG's ("svrg").

    For a linear model a coordinate is a feature: where SVRG pays and where it does not can be seen feature by feature.
    Exact, from one pass over all N examples (two with a snapshot), for any module whose examples do not influence each other:

        sg-b   Var_i(g_ij) / B        svrg   Var_i(g_ij - g~_ij) / B

    over the examples i, times (N - B) / (N - 1) without replacement. Every g_i is formed, a chunk of examples at a time, so
    it costs more than `gradist.measure`, whose averages are of the same numbers. g~_i is of the snapshot; differences are
    taken in the model's floating-point type.

    Args:
        model: the module; it is left as it was.
        loss_fn: loss_fn(outputs, targets) -> [B], one loss an example.
        data: inputs and targets of all N examples.
        snapshot: a state dict of the model at an earlier iteration.
        batch_size: B, at most N.
        replacement: whether estimates draw examples with replacement.

    Raises:
        ValueError: a batch size below 1 or above N, a snapshot of another model, a model whose examples do not separate.

    Example:
        >>> c = gradist.per_coordinate(model, loss_fn, (inputs, targets), snapshot=state_dict)
        >>> ratio = c["svrg"].variance["weight"] / c["sg-b"].variance["weight"]     # [1, features]
    """
    source = ModelSource(model, loss_fn, data)
    if not 1 <= batch_size <= source.examples:
        raise ValueError(f"batch_size = {batch_size}, must lie in [1, {source.examples}], the number of examples")
    before = None if snapshot is None else _source_at(snapshot, source)
    with unchanged(source.layers):
        check_separable(source)
        source.format = fast_format(source)
        if before is not None:
            before.format = source.format
        plain, differences = _Spread(source), _Spread(source)
        for indices in _chunks(source):
            gradients = _formed(source, indices)
            plain.add(gradients)
            if before is not None:
                differences.add([g - h for g, h in zip(gradients, _formed(before, indices), strict=True)])
    share = 1.0 if replacement else (source.examples - batch_size) / max(source.examples - 1, 1)
    found = {"sg-b": plain} if before is None else {"sg-b": plain, "svrg": differences}
    mean = dict(zip(source.parameter_names, plain.mean, strict=True))
    return {
        name: Coordinates(mean, {each: share / batch_size * v for each, v in zip(mean, spread.variance(), strict=True)})
        for name, spread in found.items()
    }


class _Spread:
    """Mean and sum of squared deviations of rows that come in chunks. [Chan83]"""

    def __init__(self, source: ModelSource) -> None:
        self.mean = [torch.zeros_like(each, dtype=torch.float64, requires_grad=False) for each in source.parameters]
        self._squares = [torch.zeros_like(each) for each in self.mean]
        self._rows = 0

    def add(self, rows: list[Tensor]) -> None:
        new = len(rows[0])
        total = self._rows + new
        for mean, squares, each in zip(self.mean, self._squares, rows, strict=True):
            values = each.double()
            shift = values.mean(0) - mean
            squares += (values - values.mean(0)).square().sum(0) + shift.square() * (self._rows * new / total)
            mean += shift * (new / total)
        self._rows = total

    def variance(self) -> list[Tensor]:
        return [each / self._rows for each in self._squares]


def _formed(source: ModelSource, indices: Tensor) -> list[Tensor]:
    """g_i of the examples, [B, *shape] a parameter."""
    batch: _core.GradientBatch = source.gradients(indices)
    return [batch.dense(place).view(len(indices), *each.shape) for place, each in enumerate(source.parameters)]


def _chunks(source: ModelSource) -> Iterator[Tensor]:
    width = sum(each.numel() for each in source.parameters)
    rows = max(1, _CHUNK_BYTES // (8 * width))
    for begin in range(0, source.examples, rows):
        yield torch.arange(begin, min(begin + rows, source.examples))


def _source_at(snapshot: Mapping[str, Tensor], source: ModelSource) -> ModelSource:
    """The same model at the snapshot's trainable parameters; frozen ones and buffers are the present ones."""
    values = in_order(snapshot, source)
    other = ModelSource(copy.deepcopy(source.model), source.loss_fn, (source.inputs, source.targets))
    with torch.no_grad():
        for parameter, value in zip(other.parameters, values, strict=True):
            parameter.copy_(value)
    return other
