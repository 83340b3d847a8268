"""`gradist.check`: the per-example gradients of a model against autograd, one example at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradist.layers import Layers
from gradist.methods import Method
from gradist.per_example import PerExample, per_example
from gradist.probe import Data, apply_model, data_of, gradients_of, refuse_coupled, refuse_random, take, trainable, unchanged

__all__ = ["Check", "check"]

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest relative error that is rounding: products and sums of a few thousand terms in each type."""


class Check:
    """What `check` found; `print` shows it as a table."""

    def __init__(
        self, names: Sequence[str], parameters: Sequence[Tensor], errors: Sequence[float], coverage: dict[str, Method],
        scale: str, examples: int,
    ) -> None:  # fmt: skip
        self.errors: dict[str, float] = dict(zip(names, errors, strict=True))
        """Largest |g_ij - g'_ij| over examples and coordinates by parameter, over the largest norm of one example's gradient:
        its own with respect to the parameter, or a millionth of the whole one's where that is larger."""
        self.coverage = coverage
        """How the gradients of every parameter were found."""
        self.scale = scale
        """"sum": g_i is the gradient of example i's loss; "mean": of 1/B of it, since loss_fn gives the mean of the batch."""
        self.examples = examples
        self._shapes = {name: list(each.shape) for name, each in zip(names, parameters, strict=True)}
        self._tolerances = {name: TOLERANCES[each.dtype] for name, each in zip(names, parameters, strict=True)}

    @property
    def largest(self) -> float:
        """The largest of `errors`."""
        return max(self.errors.values())

    @property
    def uncovered(self) -> list[str]:
        """Parameters without a rule: exact, but measured by one backward pass an example."""
        return [name for name, method in self.coverage.items() if method == "one-by-one"]

    @property
    def ok(self) -> bool:
        """Whether every error is rounding: <= 1e-10 in float64, 1e-5 in float32."""
        return all(self.errors[name] <= self._tolerances[name] for name in self.errors)

    def __str__(self) -> str:
        rows = [("parameter", "shape", "rule", "largest error", "")]
        for name, error in self.errors.items():
            verdict = "" if error <= self._tolerances[name] else "WRONG"
            rows.append((name, str(self._shapes[name]), str(self.coverage[name]), f"{error:.1e}", verdict))
        widths = [max(len(row[k]) for row in rows) for k in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        told = {
            "sum": "scale: sum; g_i is the gradient of example i's loss",
            "mean": f"scale: mean; loss_fn averages the batch, so g_i is the gradient of 1/{self.examples} of example i's loss",
        }
        lines += ["", f"{self.examples} examples against one backward pass each; largest relative error {self.largest:.1e}", told[self.scale]]
        if self.uncovered:
            lines.append(f"without a rule, so measured one example at a time (exact, slow): {', '.join(self.uncovered)}")
        lines.append("ok: every error is rounding" if self.ok else "WRONG: errors beyond rounding")
        return "\n".join(lines)


def check(model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], batch: Data) -> Check:
    """Holds per-example gradients against autograd, one example at a time: is your model measured right, and how?

    Args:
        model: any module whose examples do not influence each other; left as it was.
        loss_fn: loss_fn(outputs, targets) -> [B], one loss an example. One that gives the sum or mean of the batch is accepted
            here, and the report says which it is.
        batch: inputs and targets; a few examples are enough, each costs a backward pass.

    Raises:
        ValueError: a layer mixes the examples or drops at random.

    Example:
        >>> print(gradist.check(model, loss_fn, (x[:8], y[:8])))
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}, must be a torch.nn.Module")
    inputs, targets, examples = data_of(batch)
    layers = Layers(model)
    names, parameters = trainable(layers)
    refuse_coupled(layers)
    refuse_random(layers)
    saved = [each.grad for each in parameters]
    with unchanged(layers), torch.enable_grad():
        try:
            for each in parameters:
                each.grad = None
            with per_example(model) as px:
                loss = loss_fn(apply_model(model, inputs), targets)
                loss.sum().backward()  # type: ignore[no-untyped-call]
        finally:
            for each, former in zip(parameters, saved, strict=True):
                each.grad = former
        alone = [_alone(model, loss_fn, inputs, targets, i, parameters) for i in range(examples)]
    scale = _scale(loss.detach(), torch.stack([value for value, _ in alone]))
    factor = 1 / examples if scale == "mean" else 1.0
    expected = [torch.stack([gradients[k] for _, gradients in alone]) * factor for k in range(len(names))]
    return Check(names, parameters, _errors(px, names, expected), px.coverage, scale, examples)


def _alone(
    model: nn.Module, loss_fn: Callable[[Any, Any], Tensor], inputs: Any, targets: Any, example: int, parameters: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    """The loss of one example and its gradients by plain autograd."""
    index = torch.tensor([example])
    loss = loss_fn(apply_model(model, take(inputs, index)), take(targets, index)).sum()
    return loss.detach(), gradients_of(loss, parameters)


def _scale(loss: Tensor, alone: Tensor) -> str:
    """What a loss of one number is of the single examples' losses."""
    if loss.dim() > 0:
        return "sum"
    return "mean" if abs(loss - alone.mean()) <= abs(loss - alone.sum()) else "sum"


def _errors(px: PerExample, names: Sequence[str], expected: Sequence[Tensor]) -> list[float]:
    found = px.gradients()
    norms = px.per_parameter()
    whole = max(sum(float(each.double().square().sum()) for each in expected) ** 0.5, torch.finfo(torch.float64).tiny)
    errors = []
    for name, right in zip(names, expected, strict=True):
        right = right.reshape(len(right), -1).double()
        size = max(float(right.norm(dim=1).max()), 1e-6 * whole)
        coordinates = (found[name].reshape(right.shape).double() - right).abs().max()
        lengths = (norms[name].sqrt() - right.norm(dim=1)).abs().max()
        errors.append(float(torch.maximum(coordinates, lengths)) / size)
    return errors
