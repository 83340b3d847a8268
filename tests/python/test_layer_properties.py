"""The layer rules over shapes: per-example gradients of one layer equal one-by-one autograd, whatever its options."""

import dataclasses
import math

import one_by_one
import pytest
import torch
import zoo
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import gradist

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

over_shapes = settings(
    derandomize=True, deadline=None, database=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
small = st.integers(1, 3)
seeds = st.integers(0, 2**16)


def weighted(outputs, weights):
    """A loss that is not linear in the outputs, with a weight an output."""
    return (weights * outputs.sin()).reshape(len(weights), -1).sum(dim=1)


def problem_of(layer, inputs, seed):
    """The layer behind a fixed nonlinearity of its inputs, with parameters and weights at random."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        outputs = layer(inputs)
    weights = torch.randn(outputs.shape, generator=generator, dtype=torch.float64)
    return zoo.Problem(nn.Sequential(layer), inputs, weights, weighted, ())


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_exact(problem):
    """Gradients, norms, inner products and the summed gradient, to 1e-10 of the largest, by a rule."""
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    inputs = problem.inputs.requires_grad_() if problem.inputs.is_floating_point() else problem.inputs
    with gradist.per_example(problem.model) as px:
        dataclasses.replace(problem, inputs=inputs).losses().sum().backward()
    rows = one_by_one.flat(wanted)
    gram = rows @ rows.T
    largest = gram.diagonal().max()
    assert (px.gram() - gram).abs().max() <= 1e-10 * largest
    assert (px.squared_norms() - gram.diagonal()).abs().max() <= 1e-10 * largest
    for name, gradients in wanted.items():
        allowed = 1e-10 * largest.sqrt()
        assert (px.gradients()[name] - gradients).abs().max() <= allowed, name
        squares = gradients.square().reshape(len(gradients), -1).sum(dim=1)
        assert (px.per_parameter()[name] - squares).abs().max() <= 1e-10 * largest, name
        assert (px.second_moments()[name] - gradients.square().mean(dim=0)).abs().max() <= 1e-10 * largest, name
        assert (problem.model.get_parameter(name).grad - gradients.sum(dim=0)).abs().max() <= len(rows) * allowed, name
        assert px.coverage[name] != "one-by-one", px.coverage[name].reason


def tuples(dimensions, low, high):
    return st.lists(st.integers(low, high), min_size=dimensions, max_size=dimensions).map(tuple)


@st.composite
def convolutions(draw):
    dimensions = draw(st.integers(1, 3))
    groups = draw(small)
    kernel, dilation = draw(tuples(dimensions, 1, 3)), draw(tuples(dimensions, 1, 2))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    padding = draw(st.sampled_from(["valid", "same"]) | tuples(dimensions, 0, 2))
    stride = (1,) * dimensions if padding == "same" else draw(tuples(dimensions, 1, 3))
    layer = getattr(nn, f"Conv{dimensions}d")(
        groups * draw(small), groups * draw(small), kernel, stride, padding, dilation, groups, draw(st.booleans()), mode
    )
    # Room for the kernel without padding, and for a padding that wraps or reflects.
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    positions = tuple(max(e, 3 if mode != "zeros" else 1) + draw(st.integers(0, 2)) for e in extent)
    return layer, (draw(small), layer.in_channels, *positions)


@over_shapes
@given(convolutions(), seeds)
def test_convolutions(convolution, seed):
    layer, shape = convolution
    assert_exact(problem_of(layer, normal(seed, *shape), seed))


@st.composite
def transposed_convolutions(draw):
    dimensions = draw(st.integers(1, 3))
    groups = draw(small)
    kernel, stride, dilation = draw(tuples(dimensions, 1, 3)), draw(tuples(dimensions, 1, 3)), draw(tuples(dimensions, 1, 2))
    extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    padding = draw(tuples(dimensions, 0, 1))
    positions = draw(tuples(dimensions, 1, 4))
    sizes = [
        (n - 1) * s - 2 * p + d * (k - 1) + e + 1
        for n, s, p, d, k, e in zip(positions, stride, padding, dilation, kernel, extra, strict=True)
    ]
    assume(min(sizes) > 0)
    layer = getattr(nn, f"ConvTranspose{dimensions}d")(
        groups * draw(small), groups * draw(small), kernel, stride, padding, extra, groups, draw(st.booleans()), dilation
    )
    return layer, (draw(small), layer.in_channels, *positions)


@over_shapes
@given(transposed_convolutions(), seeds)
def test_transposed_convolutions(convolution, seed):
    layer, shape = convolution
    assert_exact(problem_of(layer, normal(seed, *shape), seed))


@over_shapes
@given(tuples(3, 1, 5), st.lists(st.integers(1, 4), max_size=3), st.booleans(), seeds)
def test_linear_with_any_leading_dimensions(sizes, positions, bias, seed):
    examples, inputs, outputs = sizes
    assert_exact(problem_of(nn.Linear(inputs, outputs, bias), normal(seed, examples, *positions, inputs), seed))


@over_shapes
@given(tuples(3, 1, 5), st.lists(st.integers(1, 4), max_size=3), st.booleans(), seeds)
def test_embedding_with_repeated_tokens(sizes, positions, padded, seed):
    examples, vocabulary, width = sizes
    tokens = torch.randint(vocabulary, (examples, *positions), generator=torch.Generator().manual_seed(seed))
    layer = nn.Embedding(vocabulary, width, padding_idx=seed % vocabulary if padded else None)
    assert_exact(problem_of(layer, tokens, seed))


@over_shapes
@given(
    st.integers(1, 4), st.lists(st.integers(1, 3), max_size=2), tuples(2, 2, 4), st.integers(1, 2),
    st.sampled_from([nn.LayerNorm, nn.RMSNorm]), seeds,
)  # fmt: skip
def test_norms_over_trailing_dimensions(examples, positions, shape, dimensions, norm, seed):
    normalized = shape[-dimensions:]
    assert_exact(problem_of(norm(normalized, eps=1e-3), normal(seed, examples, *positions, *normalized), seed))


@over_shapes
@given(st.integers(1, 4), small, small, tuples(2, 1, 3), st.integers(0, 2), seeds)
def test_group_norm(examples, groups, channels, positions, dimensions, seed):
    positions = positions[:dimensions]
    assume(channels * math.prod(positions) > 1)  # torch refuses to normalise one value
    layer = nn.GroupNorm(groups, groups * channels, eps=1e-3)
    assert_exact(problem_of(layer, normal(seed, examples, groups * channels, *positions), seed))


@over_shapes
@given(st.integers(1, 4), small, tuples(3, 2, 3), st.integers(1, 3), st.booleans(), st.booleans(), seeds)
def test_instance_norm(examples, channels, positions, dimensions, tracked, train, seed):
    layer = getattr(nn, f"InstanceNorm{dimensions}d")(channels, eps=1e-3, affine=True, track_running_stats=tracked).train(train)
    if tracked:
        layer.running_mean.copy_(normal(seed, channels))
        layer.running_var.copy_(normal(seed, channels).square() + 0.5)
    assert_exact(problem_of(layer, normal(seed, examples, channels, *positions[:dimensions]), seed))


@over_shapes
@given(st.integers(1, 4), small, tuples(3, 2, 3), st.integers(1, 3), st.sampled_from([0.1, 0.7]), seeds)
def test_running_statistics_of_instance_norm_move_as_ever(examples, channels, positions, dimensions, momentum, seed):
    make = getattr(nn, f"InstanceNorm{dimensions}d")
    layers = (make(channels, momentum=momentum, affine=True, track_running_stats=True) for _ in range(2))
    plain, recorded = (nn.Sequential(layer).double() for layer in layers)
    inputs = normal(seed, examples, channels, *positions[:dimensions])
    wanted = plain(inputs)
    with gradist.per_example(recorded):
        found = recorded(inputs)
        found.square().sum().backward()
    assert (found - wanted).abs().max() <= 1e-12
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffer, recorded.get_buffer(name)), name


@over_shapes
@given(st.integers(1, 4), small, tuples(3, 1, 3), st.integers(0, 3), seeds)
def test_batch_norm_in_eval_mode(examples, channels, positions, dimensions, seed):
    layer = getattr(nn, f"BatchNorm{max(dimensions, 1)}d")(channels).eval()
    layer.running_mean.copy_(normal(seed, channels))
    layer.running_var.copy_(normal(seed, channels).square() + 0.5)
    assert_exact(problem_of(layer, normal(seed, examples, channels, *positions[:dimensions]), seed))


class Affine(nn.Module):
    """x * scale + shift, parameters of any shapes that broadcast against one example."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(scale)), nn.Parameter(torch.randn(shift))

    def forward(self, x):
        return x * self.scale + self.shift


@st.composite
def broadcast_shapes(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    kept = lambda: tuple(size if draw(st.booleans()) else 1 for size in shape)  # noqa: E731
    return kept(), kept()[draw(st.integers(0, len(shape) - 1)) :], (1, *kept())


@over_shapes
@given(st.integers(1, 4), broadcast_shapes(), seeds)
def test_scale_and_shift_that_broadcast(examples, shapes, seed):
    shape, scale, shift = shapes
    assert_exact(problem_of(Affine(scale, shift), normal(seed, examples, *shape), seed))


@over_shapes
@given(st.integers(1, 4), tuples(2, 1, 4), st.integers(1, 2), st.booleans(), st.booleans(), seeds)
def test_multihead_attention(examples, positions, heads, bias, causal, seed):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(2 * heads, heads, bias=bias, batch_first=True)

        def forward(self, x):
            length = x.shape[1]
            mask = torch.ones(length, length, dtype=torch.bool).triu(1) if causal else None
            return self.attention(x, x, x, attn_mask=mask)[0]

    assert_exact(problem_of(Attention(), normal(seed, examples, positions[0], 2 * heads), seed))
