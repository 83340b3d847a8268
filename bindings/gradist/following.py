"""Which dimension of a tensor holds the examples of the batch, followed from a model's inputs through its operations.

A layer that sees the examples in another dimension than 0, or in none, must not be recorded as if they were in dimension 0; where
they are lost, that is what is said.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import _pop_mode_temporarily

__all__ = ["UNKNOWN", "BatchFollower", "tensors_in", "unfollowed"]


def unfollowed() -> contextlib.AbstractContextManager[Any]:
    """Within, the innermost function mode does not see what is asked of tensors: that is no operation of the model."""
    return _pop_mode_temporarily() if torch._C._len_torch_function_stack() else contextlib.nullcontext()


def tensors_in(values: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    found: list[Tensor] = []
    _collect(values, found)
    return found


def _collect(values: Any, found: list[Tensor]) -> None:
    if isinstance(values, Tensor):
        found.append(values)
    elif isinstance(values, tuple | list):
        for each in values:
            _collect(each, found)
    elif isinstance(values, dict):
        for each in values.values():
            _collect(each, found)
    elif isinstance(values, Mapping):
        _collect(tuple(values.values()), found)
    elif isinstance(values, Sequence) and not isinstance(values, str):
        _collect(tuple(values), found)


UNKNOWN = -1
"""The dimension of a tensor that holds no examples, or is not known to."""
_FOLDED = -2
"""Dimension 0 holds the examples and what else they were folded with, examples first: [B, T, ...] as [B T, ...]."""
_followers = itertools.count()


class BatchFollower:
    """Follows the examples. A tensor known to hold them carries their dimension in an attribute of this follower's own."""

    def __init__(self) -> None:
        self.examples = 0
        """B; 0 until the model is called."""
        self.ambiguous = False
        """Whether B may be the size of another dimension by chance."""
        self._name = f"_gradist_batch_{next(_followers)}"
        self._marked: list[Tensor] = []

    def follow(self, inputs: Any) -> None:
        """Marks the inputs of the model: their dimension 0 is the batch."""
        batched = [each for each in tensors_in(inputs) if each.dim() > 0]
        if batched and torch.is_grad_enabled():
            self._check_size(batched[0].shape[0])
        for tensor in batched:
            self.ambiguous = self.ambiguous or tensor.shape[0] in tensor.shape[1:]
            self.examples = self.examples or tensor.shape[0]
            if tensor.shape[0] == self.examples:
                self.mark(tensor, 0)
                self._marked.append(tensor)

    def _check_size(self, size: int) -> None:
        if size == 0:
            raise ValueError("the model is called with a batch of 0 examples, must be at least one")
        if self.examples not in (0, size):
            raise ValueError(f"the model is called with {size} examples, must be the {self.examples} of its first call in this context")

    def forget(self) -> None:
        """No mark stays on the caller's tensors."""
        for tensor in self._marked:
            tensor.__dict__.pop(self._name, None)
        self._marked.clear()

    def mark(self, tensor: Tensor, dimension: int) -> None:
        tensor.__dict__[self._name] = dimension

    def knows(self, tensor: Tensor) -> bool:
        return self._name in tensor.__dict__

    def batch_dimension(self, tensor: Tensor) -> int:
        """The dimension that holds the examples; -1 where it is not known."""
        # Without a call of the whole model nothing is known: then it is dimension 0.
        return int(tensor.__dict__.get(self._name, UNKNOWN if self.examples else 0))

    def follow_operation(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        if not isinstance(result, Tensor | tuple | list):
            return
        if func in _REPEATS and not args[0].requires_grad and not self.knows(args[0]):
            # Data of no example's own, such as positions, once for each example; not where that B is B may be chance.
            if isinstance(result, Tensor) and result.dim() > 1 and result.shape[0] == self.examples and not self.ambiguous:
                self.mark(result, 0)
            return
        source = args[0] if args and isinstance(args[0], Tensor) and self.knows(args[0]) else None  # mostly the first one
        if source is None:
            source = next((each for each in _shallow_tensors(args, kwargs) if self.knows(each)), None)
            if source is not None and not _keeps_examples_of(func, args, kwargs, source) and func not in _TURNS_IN_PLACE:
                return
        if source is None or (dimension := self.batch_dimension(source)) == UNKNOWN or func in _LOST:
            return
        if func in _TURNS_IN_PLACE:
            source.__dict__.pop(self._name, None)
            return
        move = _MOVES.get(func) if dimension >= 0 else None
        move = self._reshaped if func in _RESHAPES else move
        for tensor in (result,) if isinstance(result, Tensor) else result:
            if isinstance(tensor, Tensor) and tensor is not source:
                where = move(dimension, source, tensor, args, kwargs) if move else self._kept(dimension, source, tensor)
                if where != UNKNOWN:
                    self.mark(tensor, where)

    def _reshaped(self, dimension: int, source: Tensor, result: Tensor, *_: Any) -> int:
        """Where the examples are after their dimension was folded with the next ones, or unfolded again."""
        if dimension not in (0, _FOLDED) or result.dim() == 0:
            return self._kept(dimension, source, result)
        if result.shape[0] == self.examples:
            return 0
        return _FOLDED if result.shape[0] % self.examples == 0 else UNKNOWN

    def _kept(self, dimension: int, source: Tensor, result: Tensor) -> int:
        """Where the examples are after an operation that leaves the dimensions before and after theirs alone."""
        if result.dim() > source.dim():  # a new dimension in front may be as large as B by chance
            return UNKNOWN
        if dimension == _FOLDED:
            return _FOLDED if result.dim() > 0 and result.shape[0] == source.shape[0] else UNKNOWN
        if result.dim() <= dimension or result.shape[dimension] != self.examples:
            return UNKNOWN
        return dimension if dimension == 0 or result.dim() == source.dim() else UNKNOWN


def _shallow_tensors(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    for each in (*args, *kwargs.values()):
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, tuple | list):
            yield from (inner for inner in each if isinstance(inner, Tensor))


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, *names: str) -> Any:
    if len(args) > position:
        return args[position]
    return next((kwargs[name] for name in names if name in kwargs), None)


def _keeps_examples_of(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], source: Tensor) -> bool:
    """Whether the examples of the result are those of this operand: the first one, or any where all are aligned."""
    first = next(_shallow_tensors(args, kwargs), None)
    return first is source or getattr(func, "__name__", "") in _ALIGNED


_ALIGNED = frozenset(
    f"{before}{name}{after}"
    for name in ("add", "sub", "mul", "div", "truediv", "pow", "rsub", "radd", "rmul", "rtruediv", "maximum", "minimum", "where", "cat",
                 "concat", "stack", "lerp", "multiply", "subtract", "divide", "logaddexp", "addcmul", "addcdiv", "bmm")
    for before, after in (("", ""), ("__", "__"), ("", "_"))
)  # fmt: skip
_REPEATS = frozenset((Tensor.repeat, Tensor.expand))
_LOST = frozenset((torch.as_strided, Tensor.as_strided, torch.cdist))
_TURNS_IN_PLACE = frozenset(
    getattr(Tensor, name)
    for name in ("transpose_", "swapaxes_", "swapdims_", "t_", "squeeze_", "unsqueeze_", "as_strided_", "resize_", "set_")
)


def _stacked(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    where = _argument(args, kwargs, 1, "dim") or 0
    return dimension + (where % result.dim() <= dimension)


def _widened(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    """After an operation that adds dimensions behind the others."""
    return dimension


def _unsqueezed(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    where = _argument(args, kwargs, 1, "dim")
    return dimension + (where % result.dim() <= dimension) if isinstance(where, int) else UNKNOWN


def _transposed(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    first, second = _argument(args, kwargs, 1, "dim0", "axis0"), _argument(args, kwargs, 2, "dim1", "axis1")
    if not isinstance(first, int) or not isinstance(second, int):
        return UNKNOWN
    first, second = first % source.dim(), second % source.dim()
    return {first: second, second: first}.get(dimension, dimension)


def _reversed(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    return source.dim() - 1 - dimension


def _permuted(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    order = _argument(args, kwargs, 1, "dims")
    order = args[1:] if isinstance(order, int) else order
    return [each % source.dim() for each in order].index(dimension) if order is not None else UNKNOWN


def _moved(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    start, end = _argument(args, kwargs, 1, "source"), _argument(args, kwargs, 2, "destination")
    if not isinstance(start, int) or not isinstance(end, int):
        return UNKNOWN
    order = list(range(source.dim()))
    order.insert(end % source.dim(), order.pop(start % source.dim()))
    return order.index(dimension)


def _dropped(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    """After an operation that takes one dimension away: an index, a reduction, one of the pieces of `unbind`."""
    which = _argument(args, kwargs, 1, "dim", "axis")
    which = 0 if which is None and result.dim() == source.dim() - 1 else which
    if not isinstance(which, int) or isinstance(which, bool) or result.dim() != source.dim() - 1:
        return dimension if dimension == 0 and result.dim() > 0 and result.shape[0] == source.shape[0] else UNKNOWN
    which %= source.dim()
    return UNKNOWN if which == dimension else dimension - (which < dimension)


def _indexed(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    if isinstance(args[1], int) and not isinstance(args[1], bool):
        return dimension - 1 if dimension > 0 else UNKNOWN
    indices = args[1] if isinstance(args[1], tuple) else (args[1],)
    grows = any(each is None for each in indices)
    if grows and (dimension != 0 or indices[0] is None or indices[0] is Ellipsis):
        return UNKNOWN
    same = result.dim() > dimension and result.shape[dimension] == source.shape[dimension]
    return dimension if same and (dimension == 0 or result.dim() == source.dim()) else UNKNOWN


def _contracted(dimension: int, source: Tensor, result: Tensor, args: Any, kwargs: Any) -> int:
    """After an einsum whose equation names its dimensions by letters alone."""
    terms, arrow, output = args[0].replace(" ", "").partition("->") if isinstance(args[0], str) else ("", "", "")
    for term, operand in zip(terms.split(","), _shallow_tensors(args, {}), strict=False):
        if operand is source and arrow and "." not in args[0]:
            return output.find(term[dimension])
    return UNKNOWN


_RESHAPES = frozenset(
    getattr(owner, name) for owner in (torch, Tensor) for name in ("reshape", "view", "flatten", "unflatten") if hasattr(owner, name)
)
_REDUCTIONS = ("mean", "sum", "amax", "amin", "max", "min", "logsumexp", "unbind", "select")
_MOVES: dict[Any, Callable[[int, Tensor, Tensor, Any, Any], int]] = {
    **dict.fromkeys((getattr(owner, name) for owner in (torch, Tensor) for name in ("transpose", "swapaxes", "swapdims")), _transposed),
    **dict.fromkeys((getattr(owner, name) for owner in (torch, Tensor) for name in ("movedim", "moveaxis")), _moved),
    **dict.fromkeys((getattr(owner, name) for owner in (torch, Tensor) for name in _REDUCTIONS), _dropped),
    **dict.fromkeys((torch.permute, Tensor.permute), _permuted),
    **dict.fromkeys((Tensor.t, torch.t, Tensor.T.__get__), _reversed),  # type: ignore[attr-defined]
    torch.einsum: _contracted,
    torch.stack: _stacked,
    **dict.fromkeys((F.embedding, torch.embedding, F.one_hot), _widened),
    **dict.fromkeys((torch.unsqueeze, Tensor.unsqueeze), _unsqueezed),
    Tensor.__getitem__: _indexed,
}
