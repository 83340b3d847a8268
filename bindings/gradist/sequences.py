"""Sequences of well-known layers, run without asking of every operation what it does with the batch.

An `nn.Sequential` whose layers are of torch's own types does what its types say, with the examples in dimension 0 before and
after each. So it is run layer by layer through the tape, outside the function mode that follows everything else; that is most
of what recording a small network costs. From the first layer on that is not of this kind, or that somebody hooked or changed,
the rest runs as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from gradist.following import BatchFollower, unfollowed

__all__ = ["Recorder", "Recorders", "run_alone", "sequence_forward", "stands_alone"]

Recorder = Callable[[Any, Any, Tensor], Tensor | None]
"""recorder(mode, layer, x) -> the layer's output if the tape has recorded it."""
Recorders = dict[type[nn.Module], Recorder]


def sequence_forward(sequence: nn.Sequential, mode: BatchFollower, recorders: Recorders) -> Callable[[Any], Any]:
    """The sequence's forward while its model is recorded."""

    def forward(input: Any) -> Any:
        layers = iter(sequence._modules.values())
        layer = next(layers, None)
        if type(input) is Tensor and torch.is_grad_enabled() and _nobody_else_sees(modes=1):
            with unfollowed():
                input, layer = _run_known(layer, layers, mode, recorders, input)
        while layer is not None:
            input = layer(input)
            layer = next(layers, None)
        return input

    return forward


def stands_alone(model: nn.Module, input: Any) -> bool:
    """Whether the model is a sequence of known layers and nothing else, and no function mode at work that wants to see them."""
    return (
        type(model) is nn.Sequential and type(input) is Tensor and _untouched(model)
        and all(type(layer) in _FITTING and _untouched(layer) for layer in model._modules.values() if layer is not None)
        and _nobody_else_sees(modes=0)
    )  # fmt: skip


def run_alone(sequence: nn.Module, mode: BatchFollower, recorders: Recorders, input: Tensor) -> Tensor | None:
    """Its output; nothing where a layer does not fit its input after all."""
    layers = iter(sequence._modules.values())
    output, rest = _run_known(next(layers, None), layers, mode, recorders, input)
    return output if rest is None else None


def _run_known(
    layer: nn.Module | None, others: Iterator[nn.Module | None], mode: BatchFollower, recorders: Recorders, input: Tensor
) -> tuple[Tensor, nn.Module | None]:
    """Runs the layer and the others up to the first that is not known: its input, and itself."""
    known = mode.examples > 0 and mode.batch_dimension(input) == 0
    while known and layer is not None and _keeps_batch(layer, input):
        recorder = recorders.get(type(layer))
        output = recorder(mode, layer, input) if recorder else None
        input = layer(input) if output is None else output
        mode.mark(input, 0)
        layer = next(others, None)
    return input, layer


def _nobody_else_sees(modes: int) -> bool:
    """Whether there are so many function modes, gradist's own, and no hooks of all modules, which want to see every layer."""
    return torch._C._len_torch_function_stack() == modes and not _has_any_global_hook()  # type: ignore[no-untyped-call]


def _untouched(layer: nn.Module) -> bool:
    """Whether a call of the layer runs its class's forward and nothing else."""
    return not (
        layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
        or "forward" in layer.__dict__ or layer._compiled_call_impl is not None
    )  # fmt: skip


def _keeps_batch(layer: nn.Module, input: Tensor) -> bool:
    """Whether the layer is one of torch's as it was made, and sees one example in each entry of dimension 0."""
    fits = _FITTING.get(type(layer))
    return fits is not None and fits(layer, input.dim()) and _untouched(layer)


_FITTING: dict[type[nn.Module], Callable[[Any, int], bool]] = {
    **dict.fromkeys(
        (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity, nn.Dropout),
        lambda layer, dimensions: True,
    ),
    nn.Linear: lambda layer, dimensions: dimensions > 1,
    nn.Conv1d: lambda layer, dimensions: dimensions == 3 and layer.padding_mode == "zeros",
    nn.Conv2d: lambda layer, dimensions: dimensions == 4 and layer.padding_mode == "zeros",
    nn.MaxPool2d: lambda layer, dimensions: dimensions == 4 and not layer.return_indices,
    **dict.fromkeys((nn.AvgPool2d, nn.AdaptiveAvgPool2d), lambda layer, dimensions: dimensions == 4),
    nn.Flatten: lambda layer, dimensions: dimensions > 1 and layer.start_dim > 0,
    nn.LayerNorm: lambda layer, dimensions: dimensions > len(layer.normalized_shape),
}  # fmt: skip
"""By type: whether dimension 0 of an input of so many dimensions stays what it is."""
