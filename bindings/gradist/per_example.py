"""Per-example gradients of a model in the caller's own training loop."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError
from torch.utils.hooks import RemovableHandle

from gradist import _core
from gradist.following import tensors_in, unfollowed
from gradist.layers import Layers
from gradist.methods import Method, choices
from gradist.probe import is_random, refuse_coupled, rows, trainable, unchanged
from gradist.recording import recorded

__all__ = ["PerExample", "per_example"]

_measured: set[int] = set()
"""The identities of the parameters that a context measures at present."""


class PerExample:
    """What one backward pass says of single examples; made by `per_example`. Results are there after the context has ended.

    B examples, g_i the gradient of example i's part of the loss that was back-propagated: of f_i for a summed loss, of f_i / B
    for a mean. Nothing is divided by B here.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = getattr(model, "_orig_mod", model)
        self._layers = Layers(self._model)
        self._names, self._parameters = trainable(self._layers)
        refuse_coupled(self._layers)
        self._sparse = [k for k, each in enumerate(self._parameters) if id(each) in self._layers.sparse] if self._layers.sparse else []
        self._exit = contextlib.ExitStack()
        self._calls: list[_Call] = []
        self._reached: set[int] = set()
        self._tape: _core.Tape | None = None
        self._reduced: list[_core.NormsAndSum | None] = []
        self._formed: dict[int, Tensor] = {}
        self._examples = 0
        self._done = False
        self._twice_inside = 0
        self._batch: _core.GradientBatch | None = None

    def __enter__(self) -> PerExample:
        if self._tape is not None:
            raise ValueError("this context was entered before, must be a new gradist.per_example(model) for each pass")
        own = {id(each) for each in self._parameters}
        if not _measured.isdisjoint(own):
            raise ValueError("the model is measured by another gradist.per_example already, must leave that context first")
        tape = self._tape = _core.Tape(reduce=True, choices=choices, plain_backprops=False)
        hooks: list[RemovableHandle] = []

        def leave() -> None:
            for each in hooks:
                each.remove()
            _measured.difference_update(own)
            tape.close()

        with contextlib.ExitStack() as entered:
            entered.callback(leave)
            _measured.update(own)
            if "torch._dynamo" in sys.modules:  # a compiled model calls no layers that could be seen
                entered.enter_context(torch.compiler.set_stance("force_eager"))
            hooks.append(self._model.register_forward_hook(self._called, with_kwargs=True))
            for position, parameter in enumerate(self._parameters):
                hooks.append(parameter.register_hook(lambda _, position=position: self._reached.add(position)))  # type: ignore[no-untyped-call]
            self._batch_dimension = entered.enter_context(recorded(self._layers, tape))
            self._exit = entered.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.close()
        if isinstance(error, CheckpointError):
            raise ValueError(
                "the model runs layers again in the backward pass (torch.utils.checkpoint), so that their gradients are not known: "
                "must be measured without checkpoints"
            ) from error
        if kind is None:
            self._finish()
            return
        assert self._tape is not None
        if self._tape.complete:
            with contextlib.suppress(Exception):  # the caller's error is the one to be seen
                self._reduced = self._tape.norms_and_sums(self._parameters)
                self._complete_grad()

    def _called(self, model: nn.Module, args: Any, kwargs: Any, outputs: Any) -> None:
        assert self._tape is not None
        self._twice_inside = self._tape.twice
        if torch.is_grad_enabled():
            with unfollowed():
                self._calls.append(_Call(args, kwargs, outputs, self._batch_dimension))

    def _finish(self) -> None:
        assert self._tape is not None
        if self._tape.twice > self._twice_inside:
            raise ValueError(
                "a gradient was differentiated again (create_graph) outside the model, so that single examples' gradients are "
                "not known: must be computed inside the model's forward, or without gradist.per_example"
            )
        again = self._tape.differentiated_twice(self._parameters) if self._tape.twice else []
        if both := [self._names[each] for each in again if each in self._reached]:
            raise ValueError(f"parameter {both[0]!r} is used where no layer rule sees it and in a gradient of a gradient, must not be in both")
        inputs = tensors_in([(call.args, call.kwargs) for call in self._calls])
        self._tape.settle(self._parameters, [each for each in inputs if each.layout == torch.strided])
        self._reduced = self._tape.norms_and_sums(self._parameters)
        for position in again:
            self._reduced[position] = None
        self._examples = self._tape.examples or next((call.examples for call in self._calls if call.examples), 0)
        if uncovered := sorted(self._reached | set(again)):
            self._formed = dict(zip(uncovered, self._one_by_one(uncovered), strict=True))
        self._complete_grad()
        for position, rows in self._formed.items():
            squared_norms = rows.reshape(self._examples, -1).double().square().sum(1)
            self._reduced[position] = _core.NormsAndSum(squared_norms, rows.sum(0), "one-by-one", "used where no layer rule sees it")
        if again:  # did not reach the parameters either
            _core.add_to_grad(self._parameters, [each if k in again else None for k, each in enumerate(self._reduced)], self._sparse)
        self._done = any(each is not None for each in self._reduced)

    def _complete_grad(self) -> None:
        """Adds to `.grad` what autograd has not, for the layers have detached their parameters."""
        _core.add_to_grad(self._parameters, self._reduced, self._sparse)

    def _one_by_one(self, positions: Sequence[int]) -> list[Tensor]:
        """Gradients [B, *shape] of the parameters at these positions, by running the model on each example alone and pulling
        back the gradient of its outputs."""
        names = ", ".join(repr(self._names[each]) for each in positions)
        if not self._calls or not self._examples:
            raise ValueError(
                f"parameters {names} are used outside the layers with a rule, which takes a call of the whole model on a batch "
                "to measure: call model(...) inside the context"
            )
        if drop := next((name for name, layer in self._layers.named if is_random(layer)), None):
            raise ValueError(
                f"parameters {names} are used outside the layers with a rule, and layer {drop!r} drops at random, so that no "
                "second run of the model sees the same: call model.eval() first, or give the layer a rule by gradist.rule"
            )
        parameters = [self._parameters[each] for each in positions]
        rows: list[list[Tensor]] = [[] for _ in positions]
        with unchanged(self._layers), torch.enable_grad():
            for i in range(self._examples):
                total = [torch.zeros_like(each) for each in parameters]
                for call in self._calls:
                    for found, sum_ in zip(call.gradients_of(self._model, i, self._examples, parameters), total, strict=True):
                        sum_ += found
                for row, gradient in zip(rows, total, strict=True):
                    row.append(gradient)
        return [torch.stack(each) for each in rows]

    # ---- results

    def _result(self) -> None:
        if not self._done:
            raise ValueError("there are no gradients yet, must be read after the end of the with block, and a backward pass must have run in it")

    def per_parameter(self) -> dict[str, Tensor]:
        """||g_il||^2 by parameter, [B] float64."""
        self._result()
        norms = {}
        for name, parameter, found in zip(self._names, self._parameters, self._reduced, strict=True):
            if found is not None:
                norms[name] = found.squared_norms.double()
            else:
                norms[name] = torch.zeros(self._examples, dtype=torch.float64, device=parameter.device)
        return norms

    def squared_norms(self) -> Tensor:
        """||g_i||^2, [B] float64."""
        self._result()
        if (total := _core.squared_norms(self._reduced)) is not None:
            return total
        norms = list(self.per_parameter().values())
        if len({each.device for each in norms}) > 1:
            norms = [each.cpu() for each in norms]
        return torch.stack(norms).sum(0)

    def _gradients(self) -> _core.GradientBatch:
        self._result()
        assert self._tape is not None
        if self._batch is None:
            places = list(self._formed)
            self._batch = self._tape.batch(self._parameters, self._examples, places, [self._formed[each] for each in places])
        return self._batch

    def gradients(self) -> dict[str, Tensor]:
        """g_i by parameter, [B, *shape]. Takes the memory of B models."""
        batch = self._gradients()
        return {name: batch.dense(position) for position, name in enumerate(self._names)}

    def gram(self) -> Tensor:
        """<g_i, g_j>, [B, B] float64."""
        batch = self._gradients()
        return batch.gram(batch)

    def inner(self, other: PerExample | Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
        """<g_i, v> for a direction v, by parameter name or in the order of the model's parameters; or <g_i, h_i> for the same
        examples in another pass of the same model. [B] float64."""
        batch = self._gradients()
        if isinstance(other, PerExample):
            if self._names != other._names or self._examples != other._examples:
                raise ValueError(
                    f"inner: the other pass has {other._examples} examples and {len(other._names)} parameters, must be the same "
                    f"{self._examples} examples and {len(self._names)} parameters"
                )
            return batch.inner(other._gradients())
        if isinstance(other, str) or not isinstance(other, Mapping | Sequence):
            raise ValueError(f"inner: the direction is a {type(other).__name__}, must be tensors by parameter name or in order, or another pass")
        direction = self._in_order(other)
        for name, each, own in zip(self._names, direction, self._parameters, strict=True):
            if each.shape != own.shape:
                raise ValueError(f"inner: {name!r} has shape {list(each.shape)}, must have the parameter's, {list(own.shape)}")
        return batch.inner_direction([each.detach().to(own) for each, own in zip(direction, self._parameters, strict=True)])

    def _in_order(self, direction: Mapping[str, Tensor] | Sequence[Tensor]) -> list[Tensor]:
        if isinstance(direction, Mapping):
            if missing := [name for name in self._names if name not in direction]:
                raise ValueError(f"inner: the direction has no {missing[0]!r}, must have all parameters")
            return [direction[name] for name in self._names]
        if len(direction) != len(self._names):
            raise ValueError(f"inner: the direction has {len(direction)} tensors, must have one for each of the {len(self._names)} parameters")
        return list(direction)

    def second_moments(self) -> dict[str, Tensor]:
        """(1/B) sum_i g_ij^2 of every coordinate j, by parameter, of its shape."""
        batch = self._gradients()
        return {name: batch.sum_squares(position) / self._examples for position, name in enumerate(self._names)}

    def sketch(self, dim: int, seed: int = 0) -> Tensor:
        """Random projections s_i [B, dim] with E<s_i, s_j> = <g_i, g_j> over seeds; linear in g_i for a seed.

        Factor by factor to ceil(sqrt(dim)) on each side, then all parameters together to `dim`, normal entries.
        """
        for name, value, least in (("dim", dim, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} = {value}, must be >= {least}")
        layers = self._gradients().sketch(math.isqrt(dim - 1) + 1, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        projection = torch.randn(layers.shape[1], dim, generator=generator, dtype=torch.float64) / math.sqrt(dim)
        return layers @ projection.to(layers)

    @property
    def coverage(self) -> dict[str, Method]:
        """How the gradients of every parameter were found: a rule's name, "one-by-one" for the exact fallback, "unused"."""
        self._result()
        unused = Method("unused", "the loss does not depend on it")
        methods = (unused if each is None else Method(each.method, each.reason) for each in self._reduced)
        return dict(zip(self._names, methods, strict=True))

    def __repr__(self) -> str:
        return f"<gradist.PerExample: {self._examples} examples, {len(self._names)} parameters>"


def per_example(model: nn.Module) -> PerExample:
    """Per-example gradients of any model in your own training loop, at about the price of the plain backward pass.

    Dimension 0 of what the model is called with is the batch. Within the context the layers' gradients are measured as the
    backward pass goes through them; after it `.grad` is as after any backward pass, and nothing stays on the model.

    Raises:
        ValueError: a layer mixes the examples (batch norm in train mode), or the model has nothing to measure.

    Example:
        >>> with gradist.per_example(model) as px:
        ...     loss_fn(model(x), y).sum().backward()
        >>> px.squared_norms()
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}, must be a torch.nn.Module")
    return PerExample(model)


class _Call:
    """One call of the model, so that the fallback can repeat it on an example: its inputs, and the gradients of its outputs."""

    def __init__(self, args: Any, kwargs: Any, outputs: Any, batch_dimension: Callable[[Tensor], int]) -> None:
        self.args, self.kwargs = args, kwargs
        tensors = tensors_in(outputs)
        self._dimensions = [batch_dimension(each) for each in tensors]
        self._backprops = [_core.GradientOf(each) if each.requires_grad else None for each in tensors]

    @property
    def examples(self) -> int:
        return next((each.shape[0] for each in tensors_in((self.args, self.kwargs)) if each.dim() > 0), 0)

    def gradients_of(self, model: nn.Module, example: int, examples: int, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        """The part of this call in g_i of the parameters."""

        def alone(values: Any) -> Any:
            if isinstance(values, Tensor):
                own = values.dim() > 0 and values.shape[0] == examples
                return rows(values.detach(), example, example + 1) if own else values
            if isinstance(values, Mapping):
                return {name: alone(each) for name, each in values.items()}
            return type(values)(alone(each) for each in values) if isinstance(values, tuple | list) else values

        outputs = list(tensors_in(model(*alone(self.args), **alone(self.kwargs))))
        pairs = [
            (output, self._own(dimension, found.sum, example, examples))
            for output, dimension, found in zip(outputs, self._dimensions, self._backprops, strict=True)
            if output.requires_grad and found is not None and found.sum is not None
        ]
        if not pairs:
            return [torch.zeros_like(each) for each in parameters]
        return torch.autograd.grad(
            [output for output, _ in pairs], list(parameters), [d.reshape(output.shape) for output, d in pairs],
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip

    @staticmethod
    def _own(dimension: int, backprops: Tensor, example: int, examples: int) -> Tensor:
        """The example's part of the gradient of an output, which holds the examples in this dimension; negative: not known."""
        if dimension < 0:
            fitting = [k for k, size in enumerate(backprops.shape) if size == examples]
            if len(fitting) != 1 and not (fitting and fitting[0] == 0):
                raise ValueError(
                    f"an output of the model has shape {list(backprops.shape)} for {examples} examples, must hold them in one dimension"
                )
            dimension = fitting[0]
        return backprops.narrow(dimension, example, 1)
