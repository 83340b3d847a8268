"""`gradist.per_example` and `gradist.gradient_norms` against one-by-one autograd over the zoo, and what they leave behind."""

import dataclasses
import functools
import operator
import re
import sys
import tomllib
import types

import one_by_one
import pytest
import torch
import zoo
from fresh_process import in_a_fresh_process
from torch import nn

import gradist

EXACT = 1e-10  # float64, relative to the largest norm of a parameter's gradients
# float32, u = 6e-8: a sum of n terms is off by about sqrt(n) u, forward and backward of a zoo network are some ten such sums in
# a row with n <= 100. Plain autograd is within 2e-6 of float64 on all of them.
SINGLE = 1e-5

every_architecture = pytest.mark.parametrize("name", zoo.NAMES)


@functools.cache
def expected(name):
    """g_i by parameter, {name: [B, *shape]}."""
    problem = zoo.make(name)
    return one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)


def measured(problem, weights=1.0):
    """The context of a whole pass."""
    with gradist.per_example(problem.model) as px:
        (weights * problem.losses()).sum().backward()
    return px


@functools.cache
def results(name):
    """The context of the zoo's problem, made once for the tests that only read it."""
    return measured(zoo.make(name))


def plain_gradients(problem):
    """{name: .grad} after an ordinary backward pass, from no .grad."""
    problem.model.zero_grad()
    problem.losses().sum().backward()
    return {name: each.grad for name, each in problem.model.named_parameters()}


def norms(gradients):
    """[B] of [B, ...]."""
    return gradients.double().reshape(len(gradients), -1).norm(dim=1)


def assert_near(found, wanted, tolerance, scale=None):
    """Whether the largest error of an example, as a norm, is small beside the largest norm, or `scale`."""
    assert found.shape == wanted.shape
    scale = norms(wanted).max() if scale is None else scale
    assert norms(found.detach().double() - wanted.double()).max() <= tolerance * scale


def assert_all_near(found, wanted, tolerance):
    assert set(found) == set(wanted)
    for name, gradients in wanted.items():
        assert_near(found[name], gradients, tolerance)


# ---- the zoo, float64


@every_architecture
def test_gradients_and_squared_norms_are_those_of_one_by_one_autograd(name):
    px, wanted = results(name), expected(name)
    assert_all_near(px.gradients(), wanted, EXACT)
    assert_all_near(px.per_parameter(), {name: norms(each).square() for name, each in wanted.items()}, EXACT)
    assert_near(px.squared_norms(), one_by_one.flat(wanted).square().sum(dim=1), EXACT)
    assert px.squared_norms().dtype == torch.float64
    assert all(each.dtype == torch.float64 for each in px.per_parameter().values())


@every_architecture
def test_gram_matrix_and_second_moments(name):
    px, wanted = results(name), expected(name)
    rows = one_by_one.flat(wanted)
    assert_near(px.gram(), rows @ rows.T, EXACT)
    assert px.gram().dtype == torch.float64
    moments = px.second_moments()
    assert set(moments) == set(wanted)
    for parameter, gradients in wanted.items():
        assert moments[parameter].shape == gradients.shape[1:]
        assert_near(moments[parameter][None], gradients.square().mean(dim=0)[None], EXACT, scale=norms(gradients).max() ** 2)


@every_architecture
def test_inner_products_with_a_direction_and_with_other_gradients(name):
    px, wanted = results(name), expected(name)
    rows = one_by_one.flat(wanted)
    generator = torch.Generator().manual_seed(3)
    direction = {name: torch.randn(each.shape[1:], generator=generator).double() for name, each in wanted.items()}
    flat_direction = torch.cat([each.reshape(-1) for each in direction.values()])
    scale = norms(rows).max() * flat_direction.norm()
    for form in (direction, dict(reversed(direction.items())), list(direction.values())):
        assert_near(px.inner(form), rows @ flat_direction, EXACT, scale)

    moved = zoo.make(name)
    with torch.no_grad():
        for parameter in filter(lambda each: each.requires_grad, moved.model.parameters()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter)
    others = one_by_one.flat(one_by_one.per_parameter(moved.model, moved.loss_fn, *moved.data))
    assert_near(px.inner(measured(moved)), (rows * others).sum(dim=1), EXACT, norms(rows).max() * norms(others).max())


@every_architecture
def test_grad_is_added_to_as_by_a_plain_backward(name):
    problem = zoo.make(name)
    wanted = plain_gradients(problem)
    for start in (0, 1):
        for parameter in problem.model.parameters():
            parameter.grad = torch.full_like(parameter, start) if start and parameter.requires_grad else None
        measured(problem)
        for parameter_name, parameter in problem.model.named_parameters():
            plain = wanted[parameter_name]
            if plain is None and not start:
                assert parameter.grad is None, parameter_name
            elif parameter.requires_grad:
                plain = torch.zeros_like(parameter) if plain is None else plain
                assert_near(parameter.grad[None], (plain + start)[None], EXACT)
            assert parameter.grad is None or type(parameter.grad) is torch.Tensor


@every_architecture
def test_coverage_names_every_parameter_and_what_falls_back_is_what_the_zoo_says(name):
    problem, coverage = zoo.make(name), results(name).coverage
    assert set(coverage) == set(expected(name))
    for parameter, method in coverage.items():
        assert isinstance(method, str) and method
        assert isinstance(method.reason, str) and "\n" not in method.reason
        assert (method == "unused") == (not expected(name)[parameter].any()), f"{parameter}: {method}"
        # Both ways round: a parameter that got a rule must leave the zoo's list, so that losing the rule fails.
        assert (method == "one-by-one") == problem.falls_back(parameter), f"{parameter}: {method.reason}"


@pytest.mark.parametrize(
    "name, parameter, ways",
    [
        ("cnn", "3.weight", ["in registers", "grouped convolution", "unfolded", "gram"]),
        ("gpt", "blocks.0.0.layers.0.1.project_in.weight", ["gram", "formed", "formed by AMX"]),
    ],
)
def test_the_reason_says_which_ways_were_tried_and_how_long_each_took(name, parameter, ways):
    """Ways with many times the fewest operations are not tried, so not every way need be there."""
    reason = results(name).coverage[parameter].reason
    chosen, tried = re.fullmatch(r"([\w ]+) \(measured: (.+)\)", reason).groups()
    times = dict(re.fullmatch(r"([\w ]+) ([\d.e-]+) ms", each).groups() for each in tried.split(", "))
    assert set(times) <= set(ways)
    assert len(times) > 1
    assert float(times[chosen]) == min(map(float, times.values()))


@every_architecture
def test_gradient_norms_in_chunks_of_any_size(name):
    problem, wanted = zoo.make(name), expected(name)
    losses = problem.losses().detach()
    for chunk in sorted({0, 1, min(2, problem.examples), problem.examples}):
        for each in problem.model.parameters():
            each.grad = None
        n = gradist.gradient_norms(problem.model, problem.loss_fn, problem.data, chunk=chunk)
        assert_near(n.squared_norms, one_by_one.flat(wanted).square().sum(dim=1), EXACT)
        assert_all_near(n.per_parameter, {name: norms(each).square() for name, each in wanted.items()}, EXACT)
        assert_near(n.losses, losses, EXACT)
        assert set(n.gradient) == set(wanted)
        for parameter, gradients in wanted.items():
            assert_near(n.gradient[parameter][None], gradients.sum(dim=0)[None], EXACT, norms(gradients).max())
        assert set(n.coverage) == set(wanted)
        assert all(each.grad is None for each in problem.model.parameters())
        assert n.chunk == chunk or (chunk == 0 and 1 <= n.chunk <= problem.examples)


# ---- float32, bfloat16


@every_architecture
def test_float32_is_near_float64(name):
    problem = zoo.make(name).to(torch.float32)
    px = measured(problem)
    found = px.gradients()
    problem = problem.to(torch.float64)  # the same numbers
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    assert_all_near(found, wanted, SINGLE)
    # Squares double the relative error.
    assert_near(px.squared_norms(), one_by_one.flat(wanted).square().sum(dim=1), 2 * SINGLE)
    assert px.squared_norms().dtype == torch.float64


def autocast_pass(model, inputs, weights, dtype, backward):
    """The context of a pass under autocast, the backward pass inside or after its block."""
    with gradist.per_example(model) as px:
        with torch.autocast("cpu", dtype=dtype):
            loss = (model(inputs) * weights).float().sum()
            if backward == "inside":
                loss.backward()
        if backward == "after":
            loss.backward()
    return px


def rounded_problem(kind):
    """A layer of 8 inputs and 4 outputs as a model, inputs, weights of its outputs, and gradients from rounded factors, float64.

    Inputs of 1 to 2 in steps of 1/16, which both low precisions hold, plus what both round away; the weights are exact in both.
    So a gradient from factors in float32 differs from the expected one, and 900 products of 2^-7 or coarser sum exactly in
    float32, not in 8 or 11 bits. The sums are over positions and examples, or over examples alone.
    """
    generator = torch.Generator().manual_seed(4)
    sizes = (300, 1) if kind == "one position" else (3, 300)
    exact = torch.randint(16, 32, (*sizes, 8), generator=generator) / 16
    weights = torch.randint(1, 16, (*sizes, 4), generator=generator) / 8
    layer = nn.Conv1d(8, 4, 1) if kind == "convolution" else nn.Linear(8, 4)
    wanted = {
        "0.weight": torch.einsum("bso,bsi->boi", weights.double(), exact.double()).reshape(-1, *layer.weight.shape),
        "0.bias": weights.double().sum(dim=1),
    }
    shaped = {
        "one position": lambda each: each.squeeze(1),
        "positions": lambda each: each,
        "convolution": lambda each: each.transpose(1, 2).contiguous(),
    }[kind]
    return nn.Sequential(layer), shaped(exact + 2**-13), shaped(weights), wanted


low_precision = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
rounded_layer = pytest.mark.parametrize("kind", ["one position", "positions", "convolution"])


@low_precision
@pytest.mark.parametrize("backward", ["after", "inside"])
@rounded_layer
def test_under_autocast_factors_are_in_low_precision_and_sums_are_not(kind, backward, dtype):
    model, inputs, weights, wanted = rounded_problem(kind)
    px = autocast_pass(model, inputs, weights, dtype, backward)
    for name, gradients in wanted.items():
        assert torch.equal(px.gradients()[name].double(), gradients), name
        assert_near(px.per_parameter()[name], gradients.square().flatten(1).sum(dim=1), 1200 * 2**-24)
        summed = model.get_parameter(name).grad
        assert summed.dtype == torch.float32
        assert torch.equal(summed.double(), gradients.sum(dim=0)), name
    rows = one_by_one.flat(wanted)
    assert_near(px.gram(), rows @ rows.T, 1200 * 2**-24)
    total = wanted["0.weight"].sum(dim=0)
    assert not torch.equal(total.to(dtype).double(), total)


@low_precision
@rounded_layer
def test_gradient_norms_inside_autocast(kind, dtype):
    model, inputs, weights, wanted = rounded_problem(kind)
    loss_fn = lambda outputs, weights: (outputs * weights).float().flatten(1).sum(dim=1)  # noqa: E731
    with torch.autocast("cpu", dtype=dtype):
        n = gradist.gradient_norms(model, loss_fn, (inputs, weights))
    for name, gradients in wanted.items():
        assert n.gradient[name].dtype == torch.float32
        assert torch.equal(n.gradient[name].double(), gradients.sum(dim=0)), name
        assert_near(n.per_parameter[name], gradients.square().flatten(1).sum(dim=1), 1200 * 2**-24)


@low_precision
@pytest.mark.parametrize(
    "layer, shape",
    [
        (nn.Linear(4, 3), (5, 4)),
        (nn.Linear(4, 3), (5, 7, 4)),
        (nn.Conv1d(4, 3, 2), (5, 4, 7)),
        (nn.Conv2d(4, 3, 2), (5, 4, 7, 7)),
        (nn.ConvTranspose1d(4, 3, 2), (5, 4, 7)),
        (nn.LayerNorm(4), (5, 7, 4)),
        (nn.GroupNorm(2, 4), (5, 4, 7)),
        (nn.RMSNorm(4), (5, 7, 4)),
        (nn.PReLU(4), (5, 4, 7)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else str(len(each)),
)
def test_under_autocast_a_recorded_layer_gives_what_it_gives_unrecorded(layer, shape, dtype):
    """In the same type, so that what comes after it computes as it would."""
    model = nn.Sequential(layer, nn.Tanh())
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=dtype):
        plain = model(inputs)
        with gradist.per_example(model):
            recorded = model(inputs)
            recorded.float().sum().backward()
    assert recorded.dtype == plain.dtype
    assert_near(recorded.float(), plain.float(), SINGLE)


@low_precision
@pytest.mark.parametrize("backward", ["after", "inside"])
@pytest.mark.parametrize("name", ["mlp", "residual mlp", "cnn", "vgg", "encoder", "gpt", "mixer", "llama"])
def test_under_autocast_gradients_are_near_those_of_float32(name, backward, dtype):
    problem = zoo.make(name).to(torch.float32)
    with gradist.per_example(problem.model) as px:
        with torch.autocast("cpu", dtype=dtype):
            losses = problem.losses()
            if backward == "inside":
                losses.sum().backward()
        if backward == "after":
            losses.sum().backward()
    found = one_by_one.flat(px.gradients())
    sums = torch.cat([each.grad.double().reshape(-1) for each in problem.model.parameters()])
    problem = problem.to(torch.float64)
    wanted = one_by_one.flat(one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data))
    # Each layer rounds its input, weight and output to 8 bits (float16: 11), forward and again backward: 6 roundings of up to u.
    # They are independent, so that those of n layers in a row add up as sqrt(6 n); no zoo network here has more than 16 in a row.
    tolerance = torch.finfo(dtype).eps / 2 * (6 * 16) ** 0.5
    assert_near(found, wanted, tolerance)
    assert_near(sums[None], wanted.sum(dim=0)[None], tolerance, len(wanted) * norms(wanted).max())
    # The sum is the sum of what was formed for single examples, in float32.
    assert_near(sums[None], found.double().sum(dim=0)[None], SINGLE, len(wanted) * norms(wanted).max())


# ---- embeddings with sparse gradients


class MeanEmbedding(nn.Module):
    """By its layer, or by a function that only autograd sees."""

    def __init__(self, function):
        super().__init__()
        self.head = nn.Linear(4, 3)
        if function:
            self.weight = nn.Parameter(torch.randn(11, 4))
        else:
            self.tokens = nn.Embedding(11, 4, sparse=True)

    def forward(self, x):
        found = nn.functional.embedding(x, self.weight, sparse=True) if hasattr(self, "weight") else self.tokens(x)
        return self.head(found.mean(1))


@pytest.mark.parametrize("function", [False, True])
def test_embeddings_with_sparse_gradients(function):
    torch.manual_seed(5)
    model, loss_fn = MeanEmbedding(function).double(), nn.CrossEntropyLoss(reduction="none")
    x, y = torch.randint(11, (5, 6)), torch.randint(3, (5,))
    weight = model.weight if function else model.tokens.weight
    loss_fn(model(x), y).sum().backward()
    wanted, rows = weight.grad.to_dense(), []
    for i in range(5):
        rows.append(torch.autograd.grad(loss_fn(model(x[i : i + 1]), y[i : i + 1]).sum(), weight)[0].to_dense())
    squares = torch.stack(rows).square().sum((1, 2))
    name, way = ("weight", "one-by-one") if function else ("tokens.weight", "embedding")

    for passes in (1, 2):  # .grad accumulates
        with gradist.per_example(model) as px:
            loss_fn(model(x), y).sum().backward()
        assert px.coverage[name] == way
        assert torch.allclose(px.per_parameter()[name], squares, rtol=EXACT, atol=0)
        assert weight.grad.layout == torch.sparse_coo
        assert torch.allclose(weight.grad.to_dense(), (1 + passes) * wanted, rtol=EXACT, atol=EXACT)

    n = gradist.gradient_norms(model, loss_fn, (x, y))
    assert torch.allclose(n.per_parameter[name], squares, rtol=EXACT, atol=0)
    assert torch.allclose(n.gradient[name], wanted, rtol=EXACT, atol=EXACT)
    assert gradist.check(model, loss_fn, (x, y)).ok
    moments = gradist.measure(model, loss_fn, (x, y), batch_size=2, estimators=["sg-b"])
    sampled = gradist.measure(model, loss_fn, (x, y), batch_size=2, estimators=["sg-b"], method="sampled", draws=4)
    assert moments["sg-b"].average_variance > 0 and sampled["sg-b"].average_variance > 0


# ---- chunks, weights, scale


def test_max_bytes_makes_chunks_smaller_and_changes_no_number():
    problem = zoo.make("vgg")
    inputs, targets = problem.inputs.repeat(8, 1, 1, 1), problem.targets.repeat(8)
    whole = gradist.gradient_norms(problem.model, problem.loss_fn, (inputs, targets))
    # Room for two or three examples if all a layer's factors were kept, 8 x 8 images in 4 channels and less.
    small = gradist.gradient_norms(problem.model, problem.loss_fn, (inputs, targets), max_bytes=100_000)
    assert small.chunk < len(targets)
    assert_near(small.squared_norms, whole.squared_norms, EXACT)
    assert_near(small.squared_norms, one_by_one.flat(expected("vgg")).square().sum(dim=1).repeat(8), EXACT)
    assert_all_near(small.per_parameter, whole.per_parameter, EXACT)
    assert_near(small.losses, whole.losses, EXACT)
    for name in whole.gradient:
        assert_near(small.gradient[name][None], whole.gradient[name][None], EXACT)


@pytest.mark.parametrize(("seconds_of_four", "taken"), [(0.9, 4), (0.99, 8), (1.5, 8)])
def test_a_chunk_must_be_worth_it_at_the_same_time(monkeypatch, seconds_of_four, taken):
    """The machine becomes three times as fast while chunks are tried: chunks of 4 seem best, whatever they take."""
    search = sys.modules["gradist.gradient_norms"]
    clock, passes = [0.0], [0]

    def fake_pass(source, setting, examples):
        if examples == source.examples:
            passes[0] += 1
            clock[0] += (1 if passes[0] <= 3 else 1 / 3) * {8: 1, 4: seconds_of_four}.get(setting.chunk, 9)

    monkeypatch.setattr(search, "_pass", fake_pass)
    monkeypatch.setattr(search, "perf_counter", lambda: clock[0])
    source = types.SimpleNamespace(examples=8, has_images=lambda: False, parameters=[])
    assert search._tried(source, limit=8, chunk=0).chunk == taken
    assert passes[0] < 20


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_a_setting_is_what_the_table_of_choices_says(format):
    Setting = sys.modules["gradist.gradient_norms"]._Setting
    setting = Setting(4, format)
    assert Setting.of(setting.way, 9) == setting
    assert Setting.of(setting.way, 3) == Setting(3, format)


def test_a_chunk_that_does_not_divide_the_batch():
    problem = zoo.make("mlp")
    n = gradist.gradient_norms(problem.model, problem.loss_fn, problem.data, chunk=3)
    assert problem.examples % 3
    assert_near(n.squared_norms, one_by_one.flat(expected("mlp")).square().sum(dim=1), EXACT)
    assert n.chunk == 3


@pytest.mark.parametrize("name", ["mlp", "cnn", "gpt", "lstm", "swin"])
def test_weights_of_examples_scale_their_gradients(name):
    problem = zoo.make(name)
    weights = torch.linspace(0, 2, problem.examples).double()
    wanted = {name: weights.view(-1, *[1] * (each.dim() - 1)) * each for name, each in expected(name).items()}
    px = measured(problem, weights)
    assert_all_near(px.gradients(), wanted, EXACT)
    assert px.squared_norms()[0] == 0


def test_nothing_is_divided_by_the_batch_size_but_what_the_user_divides():
    problem = zoo.make("mlp")
    with gradist.per_example(problem.model) as px:
        problem.losses().mean().backward()
    assert_near(px.squared_norms(), results("mlp").squared_norms() / problem.examples**2, EXACT)


def test_masked_tokens_have_no_part_in_a_gradient():
    problem = zoo.make("gpt with masks and weights")
    tokens = problem.targets["tokens"]
    changed = torch.where(problem.targets["mask"], tokens, (tokens + 1) % zoo.VOCABULARY)
    assert not torch.equal(changed, tokens)
    problem.targets["tokens"] = changed
    assert_all_near(measured(problem).gradients(), expected("gpt with masks and weights"), EXACT)


# ---- sketches

SKETCHED = ["mlp", "cnn", "encoder", "embedding", "gru"]


@pytest.mark.parametrize("name", SKETCHED)
def test_inner_products_of_sketches_are_unbiased(name):
    px = results(name)
    seeds = 400
    sketches = torch.stack([px.sketch(32, seed=seed) for seed in range(seeds)]).double()
    assert sketches.shape == (seeds, zoo.make(name).examples, 32)
    products = sketches @ sketches.transpose(1, 2)
    error = (products.mean(dim=0) - px.gram()).abs()
    # Means of 400 independent draws: beyond 5 standard errors once in a million, and the seeds are fixed.
    assert (error <= 5 * products.std(dim=0) / seeds**0.5 + EXACT * px.squared_norms().max()).all()


@pytest.mark.parametrize("name", SKETCHED)
def test_wide_sketches_are_more_exact(name):
    px = results(name)
    seeds = range(60)

    def mean_squared_error(dim):
        found = torch.stack([px.sketch(dim, seed=seed).double().square().sum(dim=1) for seed in seeds])
        return (found - px.squared_norms()).square().mean()

    # 64 times as wide: by theory 8 (products of two sketches, one a side of a matrix) to 64 times (one sketch) less.
    assert mean_squared_error(1024) < mean_squared_error(16) / 4


@pytest.mark.parametrize("name", SKETCHED)
def test_a_sketch_is_one_linear_map_of_an_example_alone(name):
    problem, px = zoo.make(name), results(name)
    sketch = px.sketch(24, seed=5).double()
    assert torch.equal(px.sketch(24, seed=5).double(), sketch)
    assert not torch.allclose(px.sketch(24, seed=6).double(), sketch)
    scale = norms(one_by_one.flat(expected(name))).max()
    weights = torch.linspace(-1, 2, problem.examples).double()
    assert_near(measured(problem, weights).sketch(24, seed=5), weights[:, None] * sketch, EXACT, scale)
    last = slice(problem.examples - 1, None)
    alone = measured(dataclasses.replace(problem, inputs=problem.inputs[last], targets=problem.targets[last]))
    assert_near(alone.sketch(24, seed=5), sketch[last], EXACT, scale)


# ---- memory


def table_of_choices(path, table):
    """The path, for a call to use, of a file with this table."""
    path.write_text("[choices]\n" + "".join(f"'{layer}' = '{way}'\n" for layer, way in table.items()))
    return path


ROOM = 32 * 2**20  # bytes that an allocator and code that is loaded late may take

LONG = """
import torch
from torch import nn
import gradist

torch.set_num_threads(1)
positions, width, table = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if table:
    gradist.choices.read(table)
model = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, width))
loss_fn = lambda outputs, targets: (outputs - targets).square().flatten(1).sum(dim=1)

def use(positions):
    inputs, targets = torch.randn(2, positions, width), torch.randn(2, positions, width)
    with gradist.per_example(model) as px:
        loss_fn(model(inputs), targets).sum().backward()
    n = gradist.gradient_norms(model, loss_fn, (inputs, targets), chunk=2)
    assert torch.allclose(px.squared_norms(), n.squared_norms, rtol=1e-4)
    assert torch.allclose(px.squared_norms(), px.gram().diagonal(), rtol=1e-4)
    return px.coverage["0.weight"].reason

use(50)
before = peak()
reason = use(positions)
print(json.dumps({"grown": peak() - before, "reason": reason}))
"""


@pytest.mark.parametrize("way", ["", "gram"], ids=["as it chooses", "by Gram matrices"])
def test_long_sequences_need_no_memory_that_is_quadratic_in_them(way, tmp_path):
    positions, width = 20_000, 8
    layer = f"linear [2, {positions}, {width}] -> [2, {positions}, {width}] Float cpu, 1 threads"
    table = table_of_choices(tmp_path / "gram.toml", {layer: way}) if way else ""
    found = in_a_fresh_process(LONG, positions, width, table)
    assert way in found["reason"]
    # Inputs, targets, outputs of the layers, what flows back to these, and copies: fewer than 20 tensors of an activation's size.
    # A Gram matrix of the positions of one example would be 1.6 GB.
    activation = 4 * 2 * positions * width
    assert found["grown"] < 20 * activation + ROOM < 4 * positions**2 / 10


CHUNKS = """
import torch
from torch import nn
import gradist

max_bytes = int(sys.argv[1])
model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 8))
loss_fn = lambda outputs, targets: (outputs - targets).square().flatten(1).sum(dim=1)
inputs, targets = torch.randn(2048, 128, 16), torch.randn(2048, 128, 8)
gradist.gradient_norms(model, loss_fn, (inputs[:8], targets[:8]), chunk=8)
before = peak()
n = gradist.gradient_norms(model, loss_fn, (inputs, targets), max_bytes=max_bytes, chunk=0 if max_bytes else 2048)
print(json.dumps({"grown": peak() - before, "chunk": n.chunk}))
"""


def test_max_bytes_bounds_the_factors_of_a_chunk():
    """The factors of an example are the inputs of its three layers and what flows back to their outputs."""
    factors = 4 * 128 * ((16 + 32) + (32 + 32) + (32 + 8))
    max_bytes = 8 * 2**20
    bounded, whole = (in_a_fresh_process(CHUNKS, each) for each in (max_bytes, 0))
    assert bounded["chunk"] <= max_bytes / factors < 2048
    allowed = 2 * max_bytes + ROOM  # what autograd keeps is as large as the factors
    assert bounded["grown"] < allowed
    assert whole["chunk"] == 2048 and whole["grown"] > 2 * allowed  # else the test would see nothing


# ---- the same ways in another process


CHOOSING = """
import torch
from torch import nn
import gradist

table, written = sys.argv[1:]
found = {"refused": ""}
try:
    if table:
        gradist.choices.read(table)
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), nn.Flatten(2), nn.Linear(16, 5), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)
    model = nn.Sequential(*layers).double()
    inputs, targets = torch.randn(6, 2, 6, 6).double(), torch.randn(6, 3).double()
    with gradist.per_example(model) as px:
        (model(inputs) - targets).square().sum().backward()
    n = gradist.gradient_norms(model, lambda outputs, targets: (outputs - targets).square().sum(dim=1), (inputs, targets))
    found["norms"], found["chunk"] = [px.squared_norms().tolist(), n.squared_norms.tolist()], n.chunk
    found["reasons"] = {name: each.reason for name, each in px.coverage.items()}
    found["choices"] = gradist.choices.choices
    if written:
        gradist.choices.write(written)
except ValueError as error:
    found["refused"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """What a process found that had no table, and the table it wrote."""
    path = tmp_path_factory.mktemp("choices") / "choices.toml"
    return in_a_fresh_process(CHOOSING, "", path), path


def test_a_table_of_choices_holds_what_was_measured(chosen):
    found, path = chosen
    table = tomllib.loads(path.read_text())
    assert list(table) == ["choices"]
    assert table["choices"] == {layer: way for layer, (way, _) in found["choices"].items()}
    assert {layer.split()[0] for layer in table["choices"]} == {"convolution", "linear", "pass:"}
    assert "measured" in found["reasons"]["0.weight"] and "measured" in found["reasons"]["2.weight"]


def test_a_table_of_choices_gives_the_same_bits_without_a_trial(chosen, tmp_path):
    found, path = chosen
    again = in_a_fresh_process(CHOOSING, path, tmp_path / "again.toml")
    assert not again["refused"]
    assert again["norms"] == found["norms"] and again["chunk"] == found["chunk"]
    # What is tried says "measured"; what is read says from where, and no layer came besides.
    assert {layer: reason for layer, (_, reason) in again["choices"].items()} == dict.fromkeys(found["choices"], f"from {path}")
    assert again["reasons"]["0.weight"].endswith(f"(from {path})")
    assert tomllib.loads((tmp_path / "again.toml").read_text()) == tomllib.loads(path.read_text())


def test_a_table_of_choices_that_was_changed_by_hand_is_obeyed(chosen, tmp_path):
    found, path = chosen
    others = {
        "convolution": ("grouped convolution", "unfolded"),
        "linear": ("gram", "formed"),
        "pass:": ("chunks of 2", "chunks of 3"),
    }
    table = tomllib.loads(path.read_text())["choices"]
    changed = {layer: next(each for each in others[layer.split()[0]] if each != way) for layer, way in table.items()}
    own = table_of_choices(tmp_path / "changed.toml", changed)
    forced = in_a_fresh_process(CHOOSING, own, "")
    assert not forced["refused"]
    for layer, way in changed.items():
        assert forced["choices"][layer] == [way, f"from {own}"]
    chunks = next(way for layer, way in changed.items() if layer.startswith("pass:"))
    assert forced["chunk"] == int(chunks.removeprefix("chunks of "))
    for name, kind in (("0.weight", "convolution"), ("2.weight", "linear")):
        # gradient_norms has tried chunks of other sizes.
        way = next(way for layer, way in changed.items() if layer.startswith(kind) and "[6, " in layer)
        assert forced["reasons"][name] == f"{way} (from {own})" != found["reasons"][name]
    for values, wanted in zip(forced["norms"], found["norms"], strict=True):
        assert values == pytest.approx(wanted, rel=EXACT)


@pytest.mark.parametrize("kind, wrong", [("convolution", "by magic"), ("pass:", "chunks of some")])
def test_an_unknown_way_is_refused_in_one_line_with_the_ways_there_are(chosen, tmp_path, kind, wrong):
    table = tomllib.loads(chosen[1].read_text())["choices"]
    table |= {layer: wrong for layer in table if layer.startswith(kind)}
    refused = in_a_fresh_process(CHOOSING, table_of_choices(tmp_path / "wrong.toml", table), "")["refused"]
    assert repr(wrong) in refused and "must be" in refused
    assert "\n" not in refused


@pytest.mark.parametrize(
    "text",
    ["[choices", "", "ways = 3\n", "choices = 3\n", "[choices]\nlinear = 3\n", "[choices]\n[other]\n", None],
    ids=["no TOML", "empty", "no table", "a number", "a way that is a number", "a second table", "no file"],
)
def test_a_bad_table_of_choices_is_refused_in_one_line_by_its_name(tmp_path, text):
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_text(text)
    before = gradist.choices.choices
    with pytest.raises(ValueError, match="bad.toml") as error:
        gradist.choices.read(str(path))
    assert "\n" not in str(error.value)
    assert gradist.choices.choices == before


def test_a_table_of_choices_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be written") as error:
        gradist.choices.write(str(tmp_path / "missing" / "choices.toml"))
    assert "\n" not in str(error.value)


# ---- what stays


def attributes(model):
    """All that a context could leave on a model: every module's class and attributes, every tensor's hooks and attributes."""
    found = {}
    for name, module in model.named_modules(remove_duplicate=False):
        found[name, "class"] = type(module)
        for key, value in vars(module).items():
            found[name, key] = tuple(value.items()) if isinstance(value, dict) else value
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        found[name, "attributes"] = tuple(vars(tensor).items())
        found[name, "hooks"] = (len(tensor._backward_hooks or ()), len(tensor._post_accumulate_grad_hooks or ()))
        found[name, "state"] = (tensor.requires_grad, tensor.data_ptr(), type(tensor), tensor.detach().clone())
    return found


def process_state():
    """What a context could leave on torch."""
    hooks = vars(nn.modules.module)
    functions = [vars(each)["forward"] for each in vars(nn).values() if isinstance(each, type) and "forward" in vars(each)]
    tensor_methods = [getattr(torch.Tensor, name) for name in ("__add__", "__mul__", "__matmul__", "__torch_function__")]
    return (
        functions,
        list(vars(nn.functional).items()),
        tensor_methods,
        nn.Module.__call__,
        nn.Module.__getattr__,
        [len(value) for name, value in hooks.items() if name.startswith("_global") and isinstance(value, dict)],
        len(torch.overrides._get_current_function_mode_stack()),
        len(torch.utils._python_dispatch._get_current_dispatch_mode_stack()),
        torch.is_grad_enabled(),
    )


def same(left, right):
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left is right or torch.equal(left, right)
    if isinstance(left, tuple | list):
        return len(left) == len(right) and all(map(same, left, right))
    methods = (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType)
    return left is right or (isinstance(left, (str, int, float, bool, *methods)) and left == right)


def assert_same_attributes(before, after):
    assert set(before) == set(after)
    for key in before:
        assert same(before[key], after[key]), key


@every_architecture
def test_nothing_stays_on_the_model(name):
    problem = zoo.make(name)
    zoo.apply(problem.model, problem.inputs)  # a pruned layer makes its weight anew
    before, torch_before = attributes(problem.model), process_state()
    px = measured(problem)
    px.squared_norms(), px.gram(), px.gradients()
    gradist.gradient_norms(problem.model, problem.loss_fn, problem.data)
    assert_same_attributes(before, attributes(problem.model))
    assert same(torch_before, process_state())
    outputs = zoo.apply(problem.model, problem.inputs)
    assert all(type(each) is torch.Tensor for each in zoo.leaves(outputs))


class Interrupted(Exception):
    pass


def interrupt(*_):
    raise Interrupted


# A layer in the middle, so that gradients have flowed through those after it when its output's gradient raises.
MIDDLE = {
    "cnn": "3",
    "mlp in place": "2",
    "resnet with group norm": "3",
    "resnet with batch norm": "3",
    "gpt": "blocks.0",
    "lstm": "layers.0",
    "weight norm": "0",
    "scale and shift": "layers.0",
    "learned queries": "key",
}


def interrupt_backward(layer, inputs, outputs):
    output = zoo.leaves(outputs)[0]
    if output.requires_grad:
        output.register_hook(interrupt)


def interrupt_at(place, name, model):
    """The handle of a hook that raises where the last layer has run, or where the gradient comes to a middle one."""
    if place == "forward":
        return list(model.modules())[-1].register_forward_hook(interrupt)
    return model.get_submodule(MIDDLE[name]).register_forward_hook(interrupt_backward) if place == "backward" else None


def assert_as_before(problem, name, handle, wanted):
    """Whether the model gives what it gave, once nothing interrupts any more."""
    if handle is not None:
        handle.remove()
    for parameter, gradient in plain_gradients(problem).items():
        assert gradient is wanted[parameter] is None or torch.equal(gradient, wanted[parameter])
    problem.model.zero_grad()
    assert_all_near(measured(problem).gradients(), expected(name), EXACT)


@pytest.mark.parametrize("place", ["forward", "loss", "backward", "after backward"])
@pytest.mark.parametrize("name", MIDDLE)
def test_nothing_stays_on_the_model_after_an_exception(name, place):
    problem = zoo.make(name)
    wanted = plain_gradients(problem)
    problem.model.zero_grad()
    handle = interrupt_at(place, name, problem.model)
    before, torch_before = attributes(problem.model), process_state()
    with pytest.raises(Interrupted), gradist.per_example(problem.model) as px:
        losses = problem.losses()
        if "backward" in place:
            losses.sum().backward()
        interrupt()
    assert_same_attributes(before, attributes(problem.model))
    assert same(torch_before, process_state())
    with pytest.raises(ValueError):
        px.squared_norms()
    for parameter_name, parameter in problem.model.named_parameters():
        # Once gradients came to every layer, they are whole; until then there are none.
        found, whole = parameter.grad, wanted[parameter_name]
        if "backward" not in place or whole is None:
            assert found is None, parameter_name
        elif place == "after backward" or found is not None:
            assert (found - whole).norm() <= EXACT * whole.norm(), parameter_name
    assert_as_before(problem, name, handle, wanted)


@pytest.mark.parametrize("place", ["forward", "loss", "backward"])
@pytest.mark.parametrize("name", MIDDLE)
def test_nothing_stays_on_the_model_after_an_exception_in_gradient_norms(name, place):
    problem = zoo.make(name)
    wanted = plain_gradients(problem)
    handle = interrupt_at(place, name, problem.model)
    grads = {id(each): each.grad.clone() for each in problem.model.parameters()}
    before, torch_before, random = attributes(problem.model), process_state(), torch.random.get_rng_state()
    with pytest.raises((Interrupted, RuntimeError)) as error:
        gradist.gradient_norms(problem.model, interrupt if place == "loss" else problem.loss_fn, problem.data)
    assert isinstance(error.value, Interrupted) or isinstance(error.value.__cause__, Interrupted)
    assert_same_attributes(before, attributes(problem.model))
    assert same(torch_before, process_state())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(each.grad, grads[id(each)]) for each in problem.model.parameters())
    assert_as_before(problem, name, handle, wanted)


def test_an_exception_in_a_backward_pass_comes_out_of_gradient_norms_as_it_is():
    problem = zoo.make("cnn")
    interrupt_at("backward", "cnn", problem.model)
    with pytest.raises(Interrupted):
        gradist.gradient_norms(problem.model, problem.loss_fn, problem.data)


def test_torchs_random_state_is_not_touched():
    for name in ("mlp", "lstm"):
        problem, state = zoo.make(name), torch.random.get_rng_state()
        px = measured(problem)
        px.sketch(8, seed=1)
        assert torch.equal(torch.random.get_rng_state(), state)


@every_architecture
def test_results_outlive_the_parameters_and_the_inputs(name):
    """As where an optimiser steps, and a buffer is filled with the next batch, before the results are read."""
    problem = zoo.make(name)
    px = measured(problem)
    with torch.no_grad():
        for parameter in problem.model.parameters():
            parameter.fill_(0.5)
            parameter.grad = None
        for tensor in zoo.leaves(problem.inputs):
            tensor.zero_()
    wanted = expected(name)
    assert_all_near(px.gradients(), wanted, EXACT)
    assert_near(px.squared_norms(), one_by_one.flat(wanted).square().sum(dim=1), EXACT)


# ---- in a user's program


def test_gradients_reach_the_inputs():
    for name in ("mlp", "cnn", "scale and shift", "self-attention", "recurrent by hand"):
        problem = zoo.make(name)
        inputs = [each.requires_grad_() for each in zoo.leaves(problem.inputs) if each.is_floating_point()]
        wanted = torch.autograd.grad(problem.losses().sum(), inputs)
        measured(problem)
        for input, gradient in zip(inputs, wanted, strict=True):
            assert_near(input.grad, gradient, EXACT)


def test_two_models_at_once():
    """A generator and a critic, each in a context of its own."""
    problem, critic = zoo.make("generator"), nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    loss = lambda outputs, targets: nn.functional.softplus(outputs[:, 0])  # noqa: E731
    pair = nn.Sequential(problem.model, critic)
    wanted = one_by_one.per_parameter(pair, loss, *problem.data)
    with gradist.per_example(problem.model) as first, gradist.per_example(critic) as second:
        loss(critic(problem.model(problem.inputs)), None).sum().backward()
    found = {f"0.{name}": each for name, each in first.gradients().items()}
    found |= {f"1.{name}": each for name, each in second.gradients().items()}
    assert_all_near(found, wanted, EXACT)


def test_a_module_outside_the_model_keeps_its_gradients():
    """A loss with parameters of its own, say: they are not measured, and get what a plain backward pass gives them."""
    problem, head = zoo.make("mlp"), nn.Sequential(nn.Linear(zoo.CLASSES, 4), nn.LayerNorm(4)).double()
    loss = lambda outputs: head(outputs).sin().sum(dim=1)  # noqa: E731
    wanted = torch.autograd.grad(loss(problem.model(problem.inputs)).sum(), list(head.parameters()))
    with gradist.per_example(problem.model) as px:
        loss(problem.model(problem.inputs)).sum().backward()
    for parameter, gradient in zip(head.parameters(), wanted, strict=True):
        assert_near(parameter.grad[None], gradient[None], EXACT)
    both = one_by_one.per_parameter(problem.model, lambda outputs, targets: loss(outputs), *problem.data)
    assert_all_near(px.gradients(), both, EXACT)


def test_a_checkpoint_is_refused_and_leaves_nothing():
    """What a checkpoint runs again in the backward pass is not recorded."""
    model = zoo.checkpointed().double()
    inputs = torch.randn(4, 6, dtype=torch.float64)
    with pytest.raises(ValueError, match="torch.utils.checkpoint") as error, gradist.per_example(model):
        model(inputs).sum().backward()
    assert "\n" not in str(error.value)
    assert not any(layer._forward_hooks or "forward" in layer.__dict__ for layer in model.modules())


@pytest.mark.parametrize("sizes, message", [((0,), "0 examples"), ((5, 7), "7 examples, must be the 5")])
def test_batches_that_cannot_be_measured_are_refused(sizes, message):
    problem = zoo.make("mlp")
    with pytest.raises(ValueError, match=message), gradist.per_example(problem.model):
        for size in sizes:
            problem.model(torch.zeros(size, *problem.inputs.shape[1:], dtype=torch.float64)).sum().backward()


def test_a_model_that_is_measured_already_is_refused_and_may_be_measured_afterwards():
    problem = zoo.make("mlp")
    with gradist.per_example(problem.model) as px:
        with pytest.raises(ValueError, match="already"), gradist.per_example(problem.model[0]):
            pass
        problem.losses().sum().backward()
    assert_all_near(px.gradients(), expected("mlp"), EXACT)
    assert_all_near(measured(problem).gradients(), expected("mlp"), EXACT)


@pytest.mark.parametrize("measured_object", ["model", "compiled"])
def test_a_compiled_model_is_measured_layer_by_layer(measured_object):
    problem = zoo.make("mlp")
    compiled = torch.compile(problem.model, backend="eager")
    with gradist.per_example(problem.model if measured_object == "model" else compiled) as px:
        problem.loss_fn(compiled(problem.inputs), problem.targets).sum().backward()
    assert_all_near(px.gradients(), expected("mlp"), EXACT)


def test_layers_called_by_the_user_one_after_another():
    """Without a call of the whole model."""
    problem = zoo.make("mlp")
    with gradist.per_example(problem.model) as px:
        hidden = problem.inputs
        for layer in problem.model:
            hidden = layer(hidden)
        problem.loss_fn(hidden, problem.targets).sum().backward()
    assert_all_near(px.gradients(), expected("mlp"), EXACT)


@pytest.mark.parametrize("name", ["mlp", "cnn", "gru", "learned queries"])
def test_the_same_examples_in_two_calls(name):
    """As for two views of an image: an example's gradient is that of the sum of its losses."""
    problem = zoo.make(name)
    twice = lambda model: problem.loss_fn(model(problem.inputs), problem.targets) + problem.loss_fn(  # noqa: E731
        model(problem.inputs.flip(1)), problem.targets
    )
    with gradist.per_example(problem.model) as px:
        twice(problem.model).sum().backward()
    flipped = one_by_one.per_parameter(problem.model, problem.loss_fn, problem.inputs.flip(1), problem.targets)
    assert_all_near(px.gradients(), {each: first + flipped[each] for each, first in expected(name).items()}, EXACT)


def test_one_context_after_another_measures_the_same():
    problem = zoo.make("resnet with group norm")
    first, second = measured(problem), measured(problem)
    assert torch.equal(first.squared_norms(), second.squared_norms())


def test_training_in_a_loop_sees_every_step():
    problem = zoo.make("mlp")
    optimiser = torch.optim.SGD(problem.model.parameters(), lr=0.1)
    for _ in range(3):
        wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
        optimiser.zero_grad()
        px = measured(problem)
        optimiser.step()
        assert_all_near(px.gradients(), wanted, EXACT)


def test_grad_of_layers_with_a_rule_is_there_when_the_context_ends():
    problem = zoo.make("lstm")
    wanted = plain_gradients(problem)
    problem.model.zero_grad()
    with gradist.per_example(problem.model):
        problem.losses().sum().backward()
        for name, parameter in problem.model.named_parameters():
            assert (parameter.grad is None) != problem.falls_back(name)
    for name, parameter in problem.model.named_parameters():
        assert_near(parameter.grad[None], wanted[name][None], EXACT)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_a_first_layer_over_positions_may_be_changed_in_place(bias):
    model = nn.Sequential(nn.Linear(4, 6, bias), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(18, zoo.CLASSES)).double()
    problem = dataclasses.replace(zoo.make("mlp"), model=model, inputs=zoo.normal(5, 3, 4))
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    assert_all_near(measured(problem).gradients(), wanted, EXACT)
    n = gradist.gradient_norms(problem.model, problem.loss_fn, problem.data)
    assert_near(n.squared_norms, one_by_one.flat(wanted).square().sum(dim=1), EXACT)


def test_a_model_in_inference_is_not_recorded():
    """A forward pass without gradients, say for an accuracy, is not the pass that is measured."""
    problem = zoo.make("mlp")
    with gradist.per_example(problem.model) as px:
        with torch.no_grad():
            problem.model(2 * problem.inputs)
        problem.losses().sum().backward()
    assert_all_near(px.gradients(), expected("mlp"), EXACT)


def sobolev_problem():
    """A loss with a gradient in it, loss(outputs, inputs)."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def loss(outputs, inputs):
        slope = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)[0]
        return outputs[:, 0].square() + slope.square().sum(dim=1)

    return model, loss, zoo.make("mlp").inputs.clone().requires_grad_()


def test_a_gradient_of_a_gradient_outside_the_model_is_refused():
    model, loss, inputs = sobolev_problem()
    wanted = torch.autograd.grad(loss(model(inputs), inputs).sum(), model.parameters(), allow_unused=True)
    with pytest.raises(ValueError, match="create_graph") as error, gradist.per_example(model):
        loss(model(inputs), inputs).sum().backward()
    assert "\n" not in str(error.value)
    assert all(each.grad is None for each in model.parameters())
    model.zero_grad()
    loss(model(inputs), inputs).sum().backward()
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        assert gradient is parameter.grad is None or torch.equal(parameter.grad, gradient)


class Sobolev(nn.Module):
    """The same loss inside the model."""

    def __init__(self):
        super().__init__()
        self.model, self.loss, _ = sobolev_problem()

    def forward(self, inputs):
        inputs = inputs.detach().requires_grad_()
        with torch.enable_grad():
            return self.loss(self.model(inputs), inputs)


def test_a_gradient_of_a_gradient_inside_the_model_is_that_of_the_loss():
    problem = dataclasses.replace(zoo.make("mlp"), model=Sobolev(), loss_fn=zoo.given)
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    px = measured(problem)
    assert_all_near(px.gradients(), wanted, EXACT)
    assert {name for name, method in px.coverage.items() if method == "one-by-one"} >= {"model.0.weight", "model.2.weight"}


# ---- rules of one's own


class Power(nn.Module):
    """|x|^exponent, an exponent a feature."""

    def __init__(self, width):
        super().__init__()
        self.exponent = nn.Parameter(torch.full((width,), 1.5))

    def forward(self, x):
        return x.abs() ** self.exponent


class WrongPower(Power):
    pass


class MisshapenPower(Power):
    pass


@gradist.rule(Power)
def power(layer, inputs, backprops):
    x = inputs[0].abs()
    return {"exponent": backprops * torch.xlogy(x**layer.exponent, x)}


def powered(layer):
    return with_model(nn.Linear(4, 5), layer(5), nn.Linear(5, zoo.CLASSES))


def with_model(*layers):
    return dataclasses.replace(zoo.make("mlp"), model=nn.Sequential(*layers).double())


def test_a_rule_of_ones_own_covers_its_layer():
    problem = powered(Power)
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    px = measured(problem)
    assert_all_near(px.gradients(), wanted, EXACT)
    assert_near(px.squared_norms(), one_by_one.flat(wanted).square().sum(dim=1), EXACT)
    rows = one_by_one.flat(wanted)
    assert_near(px.gram(), rows @ rows.T, EXACT)
    assert px.coverage["1.exponent"] not in ("one-by-one", "unused")
    assert_near(problem.model[1].exponent.grad[None], wanted["1.exponent"].sum(dim=0)[None], EXACT)
    assert gradist.check(problem.model, problem.loss_fn, problem.data).ok
    assert isinstance(power, types.FunctionType)  # the decorator gives it back


def test_a_layer_used_twice_has_the_sum_of_its_rule():
    layer = Power(5)
    problem = with_model(nn.Linear(4, 5), layer, nn.Linear(5, 5), layer, nn.Linear(5, zoo.CLASSES))
    px = measured(problem)
    assert_all_near(px.gradients(), one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data), EXACT)
    assert px.coverage["1.exponent"] != "one-by-one"


def test_a_rule_for_a_subclass_is_not_its_parents():
    problem = powered(type("Child", (Power,), {"forward": lambda self, x: 2 * Power.forward(self, x)}))
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    assert_all_near(measured(problem).gradients(), wanted, EXACT)


@pytest.mark.parametrize("use", ["per_example", "gradient_norms", "check"])
def test_a_rule_that_raises_leaves_the_model_as_it_was(use):
    class Raising(Power):
        pass

    gradist.rule(Raising)(interrupt)
    problem = powered(Raising)
    wanted = plain_gradients(problem)
    problem.model.zero_grad()
    before, torch_before = attributes(problem.model), process_state()
    with pytest.raises(Interrupted):
        if use == "per_example":
            measured(problem)
        else:
            getattr(gradist, use)(problem.model, problem.loss_fn, problem.data)
    assert_same_attributes(before, attributes(problem.model))
    assert same(torch_before, process_state())
    assert all(each.grad is None for each in problem.model.parameters())
    gradist.rule(Raising)(power)
    assert_all_near(measured(problem).gradients(), one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data), EXACT)
    for name, gradient in plain_gradients(problem).items():
        assert torch.equal(gradient, wanted[name])


def test_a_rule_of_the_wrong_shape_or_name_is_refused_by_the_layers_name():
    for wrong in ({"exponent": torch.zeros(2, 5)}, {"exponents": torch.zeros(5, 5)}, None):
        gradist.rule(MisshapenPower)(lambda layer, inputs, backprops, wrong=wrong: wrong)
        with pytest.raises(ValueError, match="MisshapenPower") as error:
            measured(powered(MisshapenPower)).gradients()
        assert "\n" not in str(error.value)


# ---- check


@pytest.mark.parametrize("name", ["mlp", "vgg", "gpt", "mixed inputs", "lstm", "frozen", "two heads", "idle", "learned queries"])
def test_check_finds_no_error(name, capsys):
    problem = zoo.make(name)
    before = attributes(problem.model)
    report = gradist.check(problem.model, problem.loss_fn, problem.data)
    assert set(report.errors) == set(report.coverage) == set(expected(name))
    assert report.coverage == results(name).coverage
    assert report.ok
    assert report.largest == max(report.errors.values()) <= EXACT
    assert report.scale == "sum"
    text = str(report)
    for parameter, method in report.coverage.items():
        line = next(line for line in text.splitlines() if parameter in line)
        assert str(method) in line
    assert all(each.grad is None for each in problem.model.parameters())
    assert_same_attributes(before, attributes(problem.model))


def test_check_in_float32_allows_for_rounding():
    problem = zoo.make("resnet with group norm").to(torch.float32)
    report = gradist.check(problem.model, problem.loss_fn, problem.data)
    assert report.ok
    assert 0 < report.largest <= SINGLE


def test_check_names_what_is_uncovered():
    problem = zoo.make("lstm")
    report = gradist.check(problem.model, problem.loss_fn, problem.data)
    uncovered = [name for name in report.coverage if name.startswith("layers.0.")]
    assert len(uncovered) == 8
    assert report.uncovered == uncovered
    last = next(line for line in str(report).splitlines() if line.startswith("without a rule"))
    assert last.endswith(f": {', '.join(uncovered)}")
    assert all(str(report.coverage[name]) == "one-by-one" for name in uncovered)


@pytest.mark.parametrize("reduction", [torch.sum, torch.mean], ids=["sum", "mean"])
def test_check_says_whether_a_loss_of_the_batch_is_its_sum_or_its_mean(reduction):
    problem = zoo.make("mlp")
    report = gradist.check(problem.model, lambda outputs, targets: reduction(problem.loss_fn(outputs, targets)), problem.data)
    assert report.scale == reduction.__name__
    assert report.ok and report.largest <= EXACT
    line = next(line for line in str(report).splitlines() if line.startswith("scale:"))
    assert line.startswith(f"scale: {reduction.__name__}") and (f"1/{problem.examples}" in line) == (reduction is torch.mean)


def test_check_finds_a_wrong_rule():

    @gradist.rule(WrongPower)
    def wrong(layer, inputs, backprops):
        return {"exponent": 1.01 * power(layer, inputs, backprops)["exponent"]}

    problem = powered(WrongPower)
    report = gradist.check(problem.model, problem.loss_fn, problem.data)
    assert not report.ok
    assert report.errors["1.exponent"] == report.largest == pytest.approx(0.01, rel=1e-6)
    assert max(error for name, error in report.errors.items() if name != "1.exponent") <= EXACT


# ---- refusals


def batch_norm(problem):
    problem.model.insert(1, nn.BatchNorm1d(8).double())
    return problem


@pytest.mark.parametrize("use", ["per_example", "gradient_norms", "check"])
def test_batch_norm_in_train_mode_is_refused_by_name_with_two_ways_out(use):
    problem = batch_norm(zoo.make("mlp"))
    with pytest.raises(ValueError, match=r"layer '1' \(BatchNorm1d\).*model\.eval\(\).*method=\"sampled\"") as error:
        if use == "per_example":
            measured(problem)
        else:
            getattr(gradist, use)(problem.model, problem.loss_fn, problem.data)
    assert "\n" not in str(error.value)
    statistics = problem.model[1]
    assert statistics.num_batches_tracked == 0 and not statistics.running_mean.any()
    problem.model.eval()
    wanted = one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data)
    assert_all_near(measured(problem).gradients(), wanted, EXACT)


class Masked(nn.Module):
    """A dropout by one mask."""

    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return x * self.mask


def dropping(layer, position):
    """An MLP with this layer before or behind its dropout."""
    around = [layer, nn.Dropout(0.5)] if position == "before" else [nn.Dropout(0.5), layer]
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), *around, nn.Linear(8, zoo.CLASSES)).double()


def one_by_one_with_mask(problem, mask):
    """{name: [B, *shape]}, each example with its row of the mask."""
    rows = []
    for i in range(problem.examples):
        masked = (Masked(mask[i : i + 1]) if isinstance(each, nn.Dropout) else each for each in problem.model)
        alone = nn.Sequential(*masked)
        rows.append(one_by_one.per_parameter(alone, problem.loss_fn, problem.inputs[i : i + 1], problem.targets[i : i + 1]))
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("position", ["before", "behind"])
@pytest.mark.parametrize(
    "layer", [lambda: nn.Linear(8, 8), lambda: nn.LayerNorm(8), lambda: Power(8)], ids=["linear", "layer norm", "own rule"]
)
def test_dropout_among_layers_with_rules_is_measured_under_the_mask_of_the_pass(layer, position):
    problem = dataclasses.replace(zoo.make("mlp"), model=dropping(layer(), position))
    seen = []
    dropout = next(each for each in problem.model if isinstance(each, nn.Dropout))
    handle = dropout.register_forward_hook(lambda layer, inputs, output: seen.append((output / inputs[0]).nan_to_num()))
    torch.manual_seed(7)
    px = measured(problem)
    summed = {name: each.grad.clone() for name, each in problem.model.named_parameters()}
    handle.remove()
    mask = seen[0].detach().round()
    assert mask.unique().tolist() == [0, 2]
    assert_all_near(px.gradients(), one_by_one_with_mask(problem, mask), EXACT)
    assert not {"one-by-one", "unused"} & set(px.coverage.values())
    torch.manual_seed(7)
    for name, gradient in plain_gradients(problem).items():  # autograd, under the same mask
        assert_near(summed[name][None], gradient[None], EXACT)
    # Without anybody who watches the layers a sequence is recorded in another way; and another pass has another mask.
    torch.manual_seed(7)
    assert_all_near(measured(problem).gradients(), px.gradients(), EXACT)
    assert not torch.allclose(measured(problem).squared_norms(), px.squared_norms())


@pytest.mark.parametrize(
    "dropout", [nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.RReLU()], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize("use", ["per_example", "gradient_norms"])
def test_dropout_and_a_parameter_without_a_rule_are_refused_by_name(use, dropout):
    """The fallback runs the model again, and would see another mask."""
    problem = zoo.make("own function")
    problem = dataclasses.replace(problem, model=nn.Sequential(problem.model, dropout.train()))
    before, torch_before = attributes(problem.model), process_state()
    with pytest.raises(ValueError, match=r"'1'.*model\.eval\(\)") as error:
        if use == "per_example":
            measured(problem)
        else:
            gradist.gradient_norms(problem.model, problem.loss_fn, problem.data)
    assert "\n" not in str(error.value)
    assert use != "per_example" or "'0.scale'" in str(error.value)
    assert_same_attributes(before, attributes(problem.model))
    assert same(torch_before, process_state())
    problem.model.eval()
    assert_all_near(
        measured(problem).gradients(), one_by_one.per_parameter(problem.model, problem.loss_fn, *problem.data), EXACT
    )


RESULTS = ["squared_norms", "per_parameter", "gram", "second_moments", "gradients"]


@pytest.mark.parametrize("result", [*RESULTS, "coverage"])
def test_results_are_refused_before_exit(result):
    problem = zoo.make("mlp")
    read = operator.attrgetter(result) if result == "coverage" else operator.methodcaller(result)
    with pytest.raises(ValueError, match="exit|with") as error, gradist.per_example(problem.model) as px:
        problem.losses().sum().backward()
        read(px)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("forward", [True, False], ids=["no backward", "no forward"])
def test_a_context_without_a_pass_is_refused(forward):
    problem = zoo.make("mlp")
    with pytest.raises(ValueError, match="backward" if forward else "backward|model") as error:
        with gradist.per_example(problem.model) as px:
            if forward:
                problem.losses()
        px.squared_norms()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "read, message",
    [
        (lambda px: px.inner({"0.weight": torch.zeros(8, 4)}), "0.bias"),
        (lambda px: px.inner([torch.zeros(3)]), "6"),
        (lambda px: px.inner({name: torch.zeros(3) for name in px.coverage}), "shape"),
        (lambda px: px.inner(results("cnn")), "example"),
        (lambda px: px.inner("direction"), "str"),
        (lambda px: px.sketch(0), "dim = 0"),
        (lambda px: px.sketch(4, seed=-1), "seed = -1"),
    ],
)
def test_mistakes_in_what_is_asked_are_value_errors_of_one_line(read, message):
    with pytest.raises(ValueError) as error:
        read(results("mlp"))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": torch.tanh}, "torch.nn.Module"),
        ({"model": nn.Tanh()}, "no parameter"),
        ({"loss_fn": nn.CrossEntropyLoss()}, 'reduction="none"'),
        ({"loss_fn": lambda outputs, targets: outputs.detach().sum(dim=1)}, "do not depend"),
        ({"data": torch.zeros(5, 4)}, "a pair (inputs, targets)"),
        ({"data": (torch.zeros(3, 4).double(), torch.zeros(2))}, "agree in dimension 0"),
        ({"chunk": -1}, "chunk = -1"),
        ({"max_bytes": -1}, "max_bytes = -1"),
    ],
)
def test_mistakes_in_gradient_norms_are_value_errors_of_one_line(change, message):
    problem = zoo.make("mlp")
    arguments = {"model": problem.model, "loss_fn": problem.loss_fn, "data": problem.data} | change
    with pytest.raises(ValueError) as error:
        gradist.gradient_norms(arguments.pop("model"), arguments.pop("loss_fn"), arguments.pop("data"), **arguments)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "model, message", [(torch.tanh, "torch.nn.Module"), (nn.Tanh(), "no parameter")], ids=["function", "empty"]
)
def test_what_is_no_model_to_measure_is_refused(model, message):
    with pytest.raises(ValueError, match=message), gradist.per_example(model):
        pass
