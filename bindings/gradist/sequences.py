"""Sequences of well-known layers, run without asking of every operation what it does with the batch.

An `nn.Sequential` whose layers are of torch's own types does what its types say, with the examples in dimension 0 before and
after each. So it is run layer by layer through the tape, outside the function mode that follows everything else; that is most
of what recording a small network costs. From the first layer on that is not of this kind, or that somebody hooked or changed,
the rest runs as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from gradist.following import BatchFollower, unfollowed
from gradist.layers import layers_of

__all__ = ["Recorder", "known_sequences"]

Recorder = Callable[[Any, Any, Tensor], Tensor | None]
"""recorder(mode, layer, x) -> the layer's output if the tape has recorded it."""


@contextlib.contextmanager
def known_sequences(model: nn.Module, mode: BatchFollower, recorders: dict[type[nn.Module], Recorder]) -> Iterator[None]:
    """Within, the model's sequences run known layers by themselves."""
    sequences = [each for each in layers_of(model) if type(each) is nn.Sequential and "forward" not in each.__dict__]
    try:
        for each in sequences:
            each.__dict__["forward"] = _forward(each, mode, recorders)
        yield
    finally:
        for each in sequences:
            each.__dict__.pop("forward", None)


def _forward(sequence: nn.Sequential, mode: BatchFollower, recorders: dict[type[nn.Module], Recorder]) -> Callable[[Any], Any]:
    def forward(input: Any) -> Any:
        layers = iter(sequence._modules.values())
        layer = next(layers, None)
        # A function mode of somebody else's wants to see the operations.
        if type(input) is Tensor and torch.is_grad_enabled() and torch._C._len_torch_function_stack() == 1 and not _has_any_global_hook():
            with unfollowed():
                known = mode.examples > 0 and mode.batch_dimension(input) == 0
                while known and layer is not None and _keeps_batch(layer, input):
                    recorder = recorders.get(type(layer))
                    output = recorder(mode, layer, input) if recorder else None
                    input = layer(input) if output is None else output
                    mode.mark(input, 0)
                    layer = next(layers, None)
        while layer is not None:
            input = layer(input)
            layer = next(layers, None)
        return input

    return forward


def _keeps_batch(layer: nn.Module, input: Tensor) -> bool:
    """Whether the layer is one of torch's as it was made, and sees one example in each entry of dimension 0."""
    fits = _FITTING.get(type(layer))
    return (
        fits is not None
        and fits(layer, input.dim())
        and not (
            layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
            or "forward" in layer.__dict__ or layer._compiled_call_impl is not None
        )
    )  # fmt: skip


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
