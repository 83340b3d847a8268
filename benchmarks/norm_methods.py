"""The ways to get all squared gradient norms and the mean gradient of a batch that per_example_norms.py compares: gradist's, its
peers', and plain passes. Each takes a model of its own and returns the step to be timed."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from networks import LossFunction

Data = tuple[Tensor, Tensor]
Answer = tuple[Tensor, dict[str, Tensor]]
"""Squared norms [B] and the summed gradient by parameter name."""
Step = Callable[[], Answer]

MIB = 2**20
NO_NORMS = torch.empty(0)
OWN_LOOP = "gradist gradient_norms"


class Unfit(Exception):
    """The method has nothing to measure on this network; it gets no row."""


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def plain(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    inputs, targets = data

    def step() -> Answer:
        model.zero_grad(set_to_none=True)
        loss_fn(model(inputs), targets).sum().backward()
        return NO_NORMS, gradients_of(model)

    return step


def channels_last(model: nn.Module, data: Data) -> tuple[nn.Module, Data]:
    """The model and its images in the memory format that many convolutions are fastest in."""
    inputs, targets = data
    if inputs.dim() != 4:
        raise Unfit("no images")
    return model.to(memory_format=torch.channels_last), (inputs.to(memory_format=torch.channels_last), targets)


def plain_channels_last(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    model, data = channels_last(model, data)
    return plain(model, loss_fn, data)


class Products(TorchDispatchMode):
    """Keeps the products of matrices, the convolutions and the attention that are computed within it."""

    kinds = {
        torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default,
        torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
    }  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = partial(func, *args, **(kwargs or {}))
        if func in self.kinds:
            self.calls.append(call)
        return call()


def products_alone(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    """The products of matrices, the convolutions and the attention of a plain pass once more, and nothing else: what takes the mean
    gradient by them cannot be faster."""
    with Products() as products:
        gradients = plain(model, loss_fn, data)()[1]

    def step() -> Answer:
        with torch.no_grad():
            for call in products.calls:
                call()
        return NO_NORMS, gradients

    return step


def gradist_in_the_users_loop(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    import gradist

    inputs, targets = data

    def step() -> Answer:
        model.zero_grad(set_to_none=True)
        with gradist.per_example(model) as px:
            loss_fn(model(inputs), targets).sum().backward()
        return px.squared_norms(), gradients_of(model)

    return step


def gradist_owns_the_loop(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    import gradist

    def step() -> Answer:
        norms = gradist.gradient_norms(model, loss_fn, data)
        return norms.squared_norms, norms.gradient

    return step


def backpack(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    from backpack import backpack as quantities
    from backpack import extend
    from backpack.extensions import BatchL2Grad

    inputs, targets = data
    model = extend(model)

    def backward() -> None:
        model.zero_grad(set_to_none=True)
        with quantities(BatchL2Grad()):
            loss_fn(model(inputs), targets).sum().backward()

    def step() -> Answer:
        backward()
        return torch.stack([each.batch_l2 for each in model.parameters()]).sum(dim=0), gradients_of(model)

    backward()
    if uncovered := {
        type(layer).__name__
        for layer in model.modules()
        if any(not hasattr(each, "batch_l2") for each in layer.parameters(recurse=False))
    }:
        raise NotImplementedError(f"no rule for {', '.join(sorted(uncovered))}")
    return step


def opacus_ghost(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    """Ghost norms where Opacus has them (linear layers, embeddings), gradients formed and dropped layer by layer elsewhere."""
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping

    inputs, targets = data
    wrapped = GradSampleModuleFastGradientClipping(model, loss_reduction="sum")

    def step() -> Answer:
        wrapped.zero_grad(set_to_none=True)
        loss_fn(wrapped(inputs), targets).sum().backward()
        return wrapped.get_norm_sample().square(), gradients_of(model)

    return step


def torch_func(model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    """vmap(grad), chunk by chunk so that the gradients of one chunk only are in memory; the fastest chunk and memory format."""
    settings = [(chunk, own, each) for own, each in _formats(model, data) for chunk in _chunks(model, len(data[0]))]
    return fastest([torch_func_in_chunks(chunk, own, loss_fn, each) for chunk, own, each in settings])


def _formats(model: nn.Module, data: Data) -> list[tuple[nn.Module, Data]]:
    images = data[0].dim() == 4
    return [(model, data), channels_last(copy.deepcopy(model), data)] if images else [(model, data)]


def _chunks(model: nn.Module, examples: int) -> list[int]:
    """Halves, quarters, ... whose per-example gradients take 2 GiB at most."""
    fitting = 2048 * MIB // sum(each.nbytes for each in model.parameters())
    return [chunk for part in (1, 2, 4, 8, 16) if 1 <= (chunk := examples // part) <= fitting] or [1]


def torch_func_in_chunks(chunk: int, model: nn.Module, loss_fn: LossFunction, data: Data) -> Step:
    from torch.func import functional_call, grad, vmap

    inputs, targets = data
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def loss(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss_fn(functional_call(model, values, (x.unsqueeze(0),)), y.unsqueeze(0)).squeeze(0)

    gradients = vmap(grad(loss), in_dims=(None, 0, 0))

    def step() -> Answer:
        norms: list[Tensor] = []
        totals: list[Tensor] = []
        for x, y in zip(inputs.split(chunk), targets.split(chunk), strict=True):
            formed = list(gradients(parameters, x, y).values())
            layers = torch.stack([torch.linalg.vector_norm(each.flatten(1), dim=1) for each in formed])
            norms.append(layers.square().sum(dim=0))
            sums = [each.sum(dim=0) for each in formed]
            totals = [total.add_(each) for total, each in zip(totals, sums, strict=True)] if totals else sums
        return torch.cat(norms), dict(zip(parameters, totals, strict=True))

    return step


def seconds_of(step: Step, times: int = 1) -> float:
    finish_device()
    start = time.perf_counter()
    for _ in range(times):
        step()
    finish_device()
    return (time.perf_counter() - start) / times


def finish_device() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def fastest(steps: list[Step]) -> Step:
    """By the best of five times each; the first time alone rules out what takes twice as long as the best so far."""
    best, least = steps[0], math.inf
    for step in steps:
        taken = seconds_of(step)
        if taken < 2 * least:
            taken = min(taken, *(seconds_of(step) for _ in range(4)))
        if taken < least:
            best, least = step, taken
    return best


METHODS: dict[str, Callable[[nn.Module, LossFunction, Data], Step]] = {
    "plain": plain,
    "plain channels_last": plain_channels_last,
    "plain products alone": products_alone,
    "gradist per_example": gradist_in_the_users_loop,
    OWN_LOOP: gradist_owns_the_loop,
    "BackPACK BatchL2Grad": backpack,
    "Opacus ghost": opacus_ghost,
    "torch.func": torch_func,
}
