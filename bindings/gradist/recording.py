"""Sends the layers of a running model through a tape: the Python side of the table of layer rules.

A torch function mode sees every operation the model calls, whatever module or function calls it. Operations of the table
(`_RULES`) that use a trainable parameter are recorded by the tape; everything else runs as it is, and parameters it uses are
found by autograd and left to the exact fallback.

Only where the batch is known to be (following.py) is a layer recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gradist import _core
from gradist.following import UNKNOWN, BatchFollower, tensors_in, unfollowed
from gradist.layers import Layers
from gradist.sequences import Recorder, Recorders, run_alone, sequence_forward, stands_alone

__all__ = ["Rule", "recorded", "recorded_output", "rule"]

Rule = Callable[[Any, tuple[Any, ...], Tensor], Mapping[str, Tensor]]
"""rule(layer, inputs, backprops) -> {parameter name: per-example gradients [B, *shape]}."""

_custom_rules: dict[type[nn.Module], Rule] = {}
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def rule(layer: type[nn.Module]) -> Callable[[Rule], Rule]:
    """Gives a layer of your own its per-example gradients, so that it needs no backward pass an example.

    The function gets the layer, its inputs (detached) and the backprops, the gradient of the summed loss with respect to its
    output, with the examples in dimension 0 of both. It returns the gradients of single examples, [B, *shape], for every
    parameter that the layer itself holds. Submodules are recorded as always. `gradist.check` tells whether the rule is right.

    Example:
        >>> @gradist.rule(Scale)
        ... def scale(layer, inputs, backprops):
        ...     return {"weight": backprops * inputs[0]}
    """
    if not (isinstance(layer, type) and issubclass(layer, nn.Module)):
        raise ValueError(f"rule({layer!r}): must be a class of layers, a subclass of torch.nn.Module")

    def register(function: Rule) -> Rule:
        _custom_rules[layer] = function
        return function

    return register


@contextlib.contextmanager
def recorded(layers: Layers, tape: _core.Tape) -> Iterator[Callable[[Tensor], int]]:
    """Within, the layers of a model go through `tape`; model and inputs are as before afterwards. Gives a function that tells
    which dimension of a tensor holds the examples, -1 where that is not known."""
    mode = _Recording(tape, layers)
    hooks = [layers.model.register_forward_pre_hook(mode.follow_call, with_kwargs=True)]
    changed: list[nn.Module] = []
    try:
        for _, layer in layers.named:
            if isinstance(layer, _RECURRENT):
                hooks.append(layer.register_forward_hook(mode.follow_recurrent))
            if "forward" not in layer.__dict__ and (forward := _forward_of(layer, mode)) is not None:
                changed.append(layer)
                layer.__dict__["forward"] = forward
        with mode:
            yield mode.batch_dimension
    finally:
        for hook in hooks:
            hook.remove()
        for layer in changed:
            layer.__dict__.pop("forward", None)
        mode.forget()


def recorded_output(layers: Layers, tape: _core.Tape, inputs: Any) -> Tensor | None:
    """The output of a model of which types alone tell what it does, recorded without the mode; nothing for other models. The tape
    may then hold some of its layers."""
    if not stands_alone(layers.model, inputs) or any(type(layer) in _custom_rules for _, layer in layers.named):
        return None
    follower = _Recording(tape, layers)
    try:
        follower.follow_call(layers.model, (inputs,), {})
        return run_alone(layers.model, follower, _RECORDERS, inputs)
    finally:
        follower.forget()


def _forward_of(layer: nn.Module, mode: _Recording) -> Callable[..., Any] | None:
    """What a layer runs while it is recorded, if not its own forward."""
    rule_of = _custom_rules.get(type(layer))  # a subclass may compute something else
    if rule_of is not None:
        return _custom_forward(layer, rule_of, mode)
    return sequence_forward(layer, mode, _RECORDERS) if type(layer) is nn.Sequential else None


class _Recording(BatchFollower, TorchFunctionMode):
    """The mode: records what the table knows, and follows the examples through everything."""

    def __init__(self, tape: _core.Tape, layers: Layers) -> None:
        BatchFollower.__init__(self)
        TorchFunctionMode.__init__(self)
        self.tape = tape
        self._own = {id(each) for _, each in layers.parameters}
        self.sparse = layers.sparse

    def follow_call(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        first = not self.examples
        with unfollowed():
            self.follow((args, kwargs))
        if first and self.examples:
            self.tape.follow(self.examples)

    def follow_recurrent(self, layer: nn.Module, inputs: Any, outputs: Any) -> None:
        """Recurrent layers run in one operation of the library's, which the mode does not see: where the examples are in what it
        gives follows from what it got."""
        if not inputs or not isinstance(inputs[0], Tensor):
            return
        where = self.batch_dimension(inputs[0])
        output, *states = outputs if isinstance(outputs, tuple) else (outputs,)
        if where != UNKNOWN and isinstance(output, Tensor):
            self.mark(output, where)
            for state in tensors_in(states):
                self.mark(state, 1 if isinstance(layer, nn.RNNBase) else where)

    def wants(self, parameter: Tensor | None) -> bool:
        """Whether gradients of this parameter are asked for; one computed from parameters counts."""
        return parameter is not None and parameter.requires_grad and (not parameter.is_leaf or id(parameter) in self._own)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        handler = _RULES.get(func)
        result = handler(self, *args, **kwargs) if handler is not None and torch.is_grad_enabled() else None
        if result is None:
            result = func(*args, **kwargs)
        if self.examples:
            self.follow_operation(func, args, kwargs, result)
        return result


# ---- the table: operation -> what records it; None where it is not recorded


def _at(mode: _Recording, input: Tensor, *parameters: Tensor | None, sparse: bool = False) -> int | None:
    """Where the examples of a layer's input are, 0 or 1, if there is something to record."""
    if not any(mode.wants(each) for each in parameters) or not (sparse or input.layout == torch.strided):
        return None
    dimension = mode.batch_dimension(input)
    return dimension if dimension in (0, 1) else None


def _linear(mode: _Recording, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    where = _at(mode, input, weight, bias, sparse=True)
    return None if where is None else mode.tape.linear(_dense(input), weight, bias, sequence_first=where == 1)


def _matmul(mode: _Recording, input: Tensor, other: Tensor) -> Tensor | None:
    if not isinstance(other, Tensor) or other.dim() != 2 or input.dim() < 2 or _at(mode, input, other, sparse=True) != 0:
        return None
    return mode.tape.matmul(_dense(input), other)


def _dense(input: Tensor) -> Tensor:
    """Sparse examples of a batch as the factor that linear layers keep of them: I numbers each, however large the data set."""
    return input if input.layout == torch.strided else input.to_dense()


def _convolution(dimensions: int) -> Callable[..., Tensor | None]:
    def convolution(
        mode: _Recording, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1,
    ) -> Tensor | None:  # fmt: skip
        if input.dim() != dimensions + 2 or _at(mode, input, weight, bias) != 0:
            return None
        dilation = _each(dilation, dimensions)
        if padding == "same":
            total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
            odd = [each % 2 for each in total]
            if any(odd):  # one more at the end, as torch pads
                input = F.pad(input, [n for each in reversed(odd) for n in (0, each)])
                mode.mark(input, 0)
            padding = [each // 2 for each in total]
        padding = _each(0 if padding == "valid" else padding, dimensions)
        return mode.tape.convolution(
            input, weight, bias, _each(stride, dimensions), padding, dilation, False, [0] * dimensions, groups
        )

    return convolution


def _transposed_convolution(dimensions: int) -> Callable[..., Tensor | None]:
    def convolution(
        mode: _Recording, input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
    ) -> Tensor | None:  # fmt: skip
        if input.dim() != dimensions + 2 or _at(mode, input, weight, bias) != 0:
            return None
        stride, padding, dilation, more = (_each(each, dimensions) for each in (stride, padding, dilation, output_padding))
        return mode.tape.convolution(input, weight, bias, stride, padding, dilation, True, more, groups)

    return convolution


def _each(value: Any, dimensions: int) -> list[int]:
    """One number a dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * dimensions if len(values) == 1 else values


def _embedding(
    mode: _Recording, input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None,
    norm_type: float = 2.0, scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor | None:  # fmt: skip
    if max_norm is not None or scale_grad_by_freq or (sparse and id(weight) not in mode.sparse):
        return None
    where = _at(mode, input, weight)
    padding = -1 if padding_idx is None else padding_idx % weight.shape[0]
    return None if where is None else mode.tape.embedding(input, weight, padding, sequence_first=where == 1)


def _layer_norm(
    mode: _Recording, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
    bias: Tensor | None = None, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    where = _at(mode, input, weight, bias)
    if where is None or input.dim() - len(normalized_shape) <= where:
        return None
    return mode.tape.layer_norm(input, list(normalized_shape), weight, bias, eps, sequence_first=where == 1)


def _rms_norm(
    mode: _Recording, input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor | None:
    where = _at(mode, input, weight)
    if where is None or input.dim() - len(normalized_shape) <= where:
        return None
    epsilon = torch.finfo(input.dtype).eps if eps is None else eps
    return mode.tape.rms_norm(input, list(normalized_shape), weight, epsilon, sequence_first=where == 1)


def _group_norm(
    mode: _Recording, input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor | None:
    return mode.tape.group_norm(input, num_groups, weight, bias, eps) if _at(mode, input, weight, bias) == 0 else None


def _instance_norm(
    mode: _Recording, input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    if _at(mode, input, weight, bias) != 0 or input.dim() < 3:
        return None
    if not use_input_stats:
        return mode.tape.batch_norm(input, running_mean, running_var, weight, bias, eps)
    if running_mean is not None:  # the running statistics change as ever
        with torch.no_grad():
            F.instance_norm(input, running_mean, running_var, None, None, True, momentum, eps)
    return mode.tape.group_norm(input, input.shape[1], weight, bias, eps)


def _batch_norm(
    mode: _Recording, input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor | None:  # fmt: skip
    if training or running_mean is None:
        raise ValueError(
            "batch_norm by the statistics of the batch mixes its examples, so single examples have no gradient of their own: must be "
            "called with training=False and running statistics"
        )
    if _at(mode, input, weight, bias) != 0:
        return None
    return mode.tape.batch_norm(input, running_mean, running_var, weight, bias, eps)


def _prelu(mode: _Recording, input: Tensor, weight: Tensor) -> Tensor | None:
    if _at(mode, input, weight) != 0 or weight.dim() != 1:
        return None
    kind = input.device.type
    if torch.is_autocast_enabled(kind):  # which has a type for PReLU, not for the operations it is made of here
        input = input.to(torch.get_autocast_dtype(kind))
        mode.mark(input, 0)
    negative = input.clamp(max=0)
    mode.mark(negative, 0)
    shape = [-1] + [1] * (input.dim() - 2) if input.dim() > 1 and weight.numel() > 1 else [1]
    scaled = mode.tape.scale(negative, weight if shape == [1] else weight.view(shape))
    return None if scaled is None else input.clamp(min=0) + scaled.to(input.dtype)


def _broadcasts(mode: _Recording, input: Any, parameter: Any) -> bool:
    """Whether a parameter is spread over the examples of the input."""
    return (
        isinstance(input, Tensor)
        and isinstance(parameter, Tensor)
        and _at(mode, input, parameter) == 0
        and not mode.knows(parameter)
        and (parameter.dim() < input.dim() or (parameter.dim() == input.dim() and parameter.shape[0] == 1))
    )


def _multiply(mode: _Recording, input: Any, other: Any, *, out: Tensor | None = None) -> Tensor | None:
    for x, weight in ((input, other), (other, input)):
        if out is None and _broadcasts(mode, x, weight):
            return mode.tape.scale(x, weight)
    return None


def _add(mode: _Recording, input: Any, other: Any, *, alpha: float = 1, out: Tensor | None = None) -> Tensor | None:
    if out is not None:
        return None
    if _broadcasts(mode, input, other):
        return mode.tape.shift(input, other, alpha)
    return mode.tape.shift(other, input, 1.0) if alpha == 1 and _broadcasts(mode, other, input) else None


def _subtract(mode: _Recording, input: Any, other: Any, *, alpha: float = 1, out: Tensor | None = None) -> Tensor | None:
    return mode.tape.shift(input, other, -alpha) if out is None and _broadcasts(mode, input, other) else None


def _expand(mode: _Recording, parameter: Tensor, *sizes: Any, **_: Any) -> Tensor | None:
    wanted = sizes[0] if len(sizes) == 1 and not isinstance(sizes[0], int) else sizes
    return _expanded(mode, parameter, list(wanted))


def _repeat(mode: _Recording, parameter: Tensor, *repeats: Any) -> Tensor | None:
    times = list(repeats[0] if len(repeats) == 1 and not isinstance(repeats[0], int) else repeats)
    if any(each != 1 for each in times[1:]):
        return None
    return _expanded(mode, parameter, [times[0], *parameter.shape[len(parameter.shape) - len(times) + 1 :]])


def _expanded(mode: _Recording, parameter: Tensor, sizes: list[int]) -> Tensor | None:
    """A parameter made one for each example: a class token, an initial state.

    That the size asked for is B may be chance, so a parameter without positions, and a batch as large as another dimension of the
    inputs, are left to the fallback.
    """
    if len(sizes) < 3 or mode.ambiguous:
        return None
    grows = len(sizes) > parameter.dim() or (len(sizes) == parameter.dim() and parameter.shape[0] == 1)
    if not mode.wants(parameter) or not grows or mode.knows(parameter) or sizes[0] != mode.examples:
        return None
    sizes = [own if size == -1 else size for size, own in zip(sizes, [1] * (len(sizes) - parameter.dim()) + list(parameter.shape), strict=True)]
    expanded = mode.tape.expand(parameter, sizes)
    if expanded is not None:
        mode.mark(expanded, 0)
    return expanded


def _attention(
    mode: _Recording, query: Tensor, key: Tensor, value: Tensor, embed_dim_to_check: int, num_heads: int,
    in_proj_weight: Tensor | None, in_proj_bias: Tensor | None, bias_k: Tensor | None, bias_v: Tensor | None,
    add_zero_attn: bool, dropout_p: float, out_proj_weight: Tensor, out_proj_bias: Tensor | None, training: bool = True,
    key_padding_mask: Tensor | None = None, need_weights: bool = True, attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Tensor | None = None, k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None, static_k: Tensor | None = None, static_v: Tensor | None = None,
    average_attn_weights: bool = True, is_causal: bool = False,
) -> tuple[Tensor, Tensor | None] | None:  # fmt: skip
    """Attention over q, k, v [S, B, E], as `nn.MultiheadAttention` calls it, by recorded projections."""
    unusual = bias_k is not None or bias_v is not None or add_zero_attn or static_k is not None or static_v is not None
    if unusual or query.dim() != 3 or any(mode.batch_dimension(each) != 1 for each in (query, key, value)):
        return None

    def project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        recorded = _linear(mode, x, weight, bias)
        return F.linear(x, weight, bias) if recorded is None else recorded

    if in_proj_weight is not None and query is key and key is value:
        mode.mark(query, 1)
        q, k, v = project(query, in_proj_weight, in_proj_bias).chunk(3, dim=-1)
    else:
        weights = in_proj_weight.chunk(3) if in_proj_weight is not None else (q_proj_weight, k_proj_weight, v_proj_weight)
        biases = in_proj_bias.chunk(3) if in_proj_bias is not None else (None, None, None)
        q, k, v = (project(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))  # type: ignore[arg-type]
    length, examples, width = query.shape
    q, k, v = (each.reshape(*each.shape[:-1], num_heads, -1).permute(1, 2, 0, 3) for each in (q, k, v))  # [B, heads, S, E / heads]
    mask = _attention_mask(attn_mask, key_padding_mask, examples, num_heads, q)
    dropout = dropout_p if training else 0.0
    if need_weights:
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        weights_of = F.softmax(scores if mask is None else scores + mask, dim=-1)
        weights_of = F.dropout(weights_of, dropout)
        attended = weights_of @ v
    else:
        weights_of = None
        attended = F.scaled_dot_product_attention(q, k, v, mask, dropout)
    output = attended.permute(2, 0, 1, 3).reshape(length, examples, width)
    mode.mark(output, 1)
    output = project(output, out_proj_weight, out_proj_bias)
    mode.mark(output, 1)
    if weights_of is not None and average_attn_weights:
        weights_of = weights_of.mean(dim=1)
    return output, weights_of


def _attention_mask(
    attention: Tensor | None, padding: Tensor | None, examples: int, heads: int, like: Tensor
) -> Tensor | None:
    """Both masks as one to add to the scores [B, heads, S, T]."""

    def to_add(mask: Tensor) -> Tensor:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, -torch.inf) if mask.dtype == torch.bool else mask.to(like.dtype)

    total = None
    if attention is not None:
        total = to_add(attention).reshape(examples, heads, *attention.shape[1:]) if attention.dim() == 3 else to_add(attention)
    if padding is not None:
        added = to_add(padding)[:, None, None, :]
        total = added if total is None else total + added
    return total


_RULES: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm), _matmul),
    **{operation: _convolution(n) for n, operation in enumerate((torch.conv1d, torch.conv2d, torch.conv3d), 1)},
    **{
        operation: _transposed_convolution(n)
        for n, operation in enumerate((torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d), 1)
    },
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.instance_norm: _instance_norm,
    F.batch_norm: _batch_norm,
    F.prelu: _prelu,
    F.multi_head_attention_forward: _attention,
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.multiply, Tensor.multiply), _multiply),
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _add),
    **dict.fromkeys((torch.sub, Tensor.sub, Tensor.__sub__), _subtract),
    Tensor.expand: _expand,
    Tensor.repeat: _repeat,
}


# ---- layers of torch's own, by type, for sequences of them


def _convolution_layer(operation: Any) -> Recorder:
    record = _RULES[operation]
    return lambda mode, layer, x: record(mode, x, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


_RECORDERS: Recorders = {
    nn.Linear: lambda mode, layer, x: _linear(mode, x, layer.weight, layer.bias),
    nn.Conv1d: _convolution_layer(torch.conv1d),
    nn.Conv2d: _convolution_layer(torch.conv2d),
    nn.LayerNorm: lambda mode, layer, x: _layer_norm(mode, x, layer.normalized_shape, layer.weight, layer.bias, layer.eps),
}


# ---- layers with a rule of the user's


def _custom_forward(layer: nn.Module, rule_of: Rule, mode: _Recording) -> Callable[..., Any]:
    forward = type(layer).forward

    def recorded_forward(*inputs: Any, **keywords: Any) -> Any:
        own = {name: each for name, each in layer._parameters.items() if each is not None and each.requires_grad}
        if not own or not torch.is_grad_enabled():
            return forward(layer, *inputs, **keywords)
        try:
            layer._parameters.update({name: each.detach() for name, each in own.items()})  # type: ignore[misc]
            output = forward(layer, *inputs, **keywords)
        finally:
            layer._parameters.update(own)
        read = tuple(each.detach() if isinstance(each, Tensor) else each for each in inputs)

        def gradients(backprops: Tensor) -> list[Tensor]:
            with torch.no_grad():
                found = rule_of(layer, read, backprops)
            return [_checked(layer, name, found, each, len(backprops)) for name, each in own.items()]

        watched = mode.tape.custom(output, list(own.values()), gradients) if isinstance(output, Tensor) else None
        if watched is None:
            return forward(layer, *inputs, **keywords)
        mode.mark(watched, 0)
        return watched

    return recorded_forward


def _checked(layer: nn.Module, name: str, found: Mapping[str, Tensor], parameter: Tensor, examples: int) -> Tensor:
    kind = type(layer).__name__
    if not isinstance(found, Mapping) or name not in found:
        raise ValueError(f"the rule of {kind} gives no gradients of parameter {name!r}, must give those of all its parameters")
    if list(found[name].shape) != [examples, *parameter.shape]:
        raise ValueError(f"the rule of {kind} gives {name!r} the shape {list(found[name].shape)}, must be {[examples, *parameter.shape]}")
    return found[name]
