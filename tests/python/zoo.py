"""A zoo of tiny architectures with data and a loss: what per-example gradients are held against one-by-one autograd on.

Some are here to mislead: layers whose dimension 0 is not the batch (positions, windows, frames, routed tokens, rows of a
weight), often just as large as the batch; layers called past their hooks; outputs that are detached, unused or changed in
place. All sizes are tiny, and everything random has a seed of its own.
"""

import dataclasses
import fnmatch
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils import checkpoint

CLASSES = 3
VOCABULARY = 7
WIDTH = 6


@dataclass(frozen=True)
class Architecture:
    """How a problem is made: model() -> module, data() -> (inputs, targets), loss_fn(outputs, targets) -> [B].

    `fallback` has patterns of the parameters that are measured one by one; a rule covers every other one.
    """

    model: Callable[[], nn.Module]
    data: Callable[[], tuple[Any, Any]]
    loss_fn: Callable[[Any, Any], torch.Tensor]
    fallback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A made architecture. `inputs` are a tensor, or a tuple (arguments) or dict (keywords) of tensors [B, ...]."""

    model: nn.Module
    inputs: Any
    targets: Any
    loss_fn: Callable[[Any, Any], torch.Tensor]
    fallback: tuple[str, ...]

    def to(self, dtype):
        """The problem with its floating-point values in another dtype; as with any module, the model itself is changed."""
        cast = lambda each: each.to(dtype) if each.is_floating_point() else each  # noqa: E731
        return dataclasses.replace(
            self, model=self.model.to(dtype), inputs=nested(cast, self.inputs), targets=nested(cast, self.targets)
        )

    @property
    def data(self):
        return self.inputs, self.targets

    @property
    def examples(self):
        return len(leaves(self.targets)[0])

    def losses(self):
        """f_i of every example, [B], by the model as it is."""
        return self.loss_fn(apply(self.model, self.inputs), self.targets)

    def falls_back(self, name):
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.fallback)


def make(name):
    """The problem of this name, float64. No parameter is at a special value such as 0 or 1, nor is a running statistic."""
    architecture = ARCHITECTURES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(name.encode()))
        model = architecture.model().double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
            for buffer_name, buffer in model.named_buffers():
                if buffer_name.endswith("running_mean"):
                    buffer.normal_()
                if buffer_name.endswith("running_var"):
                    buffer.uniform_(0.5, 2.0)
        inputs, targets = architecture.data()
    return Problem(model, inputs, targets, architecture.loss_fn, architecture.fallback)


def nested(function, values):
    """`function` of a tensor, or of every tensor in a tuple or dict."""
    if isinstance(values, dict):
        return {name: nested(function, each) for name, each in values.items()}
    if isinstance(values, tuple):
        return tuple(nested(function, each) for each in values)
    return function(values)


def leaves(values):
    found = []
    nested(found.append, values)
    return found


def apply(model, inputs):
    """The model's outputs."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


# ---- losses: [B], nothing is averaged over examples


def cross_entropy(outputs, targets):
    """Classes in dimension 1, averaged over whatever positions follow."""
    return F.cross_entropy(outputs, targets, reduction="none").reshape(len(targets), -1).mean(dim=1)


def squared_error(outputs, targets):
    return (outputs - targets).square().reshape(len(targets), -1).mean(dim=1)


def next_token(logits, targets):
    """logits [B, S, vocabulary], targets [B, S]."""
    return cross_entropy(logits.transpose(1, 2), targets)


def masked_next_token(logits, targets):
    """A mean over the tokens that count, [B, S] bool, times a weight an example, [B]."""
    losses = F.cross_entropy(logits.transpose(1, 2), targets["tokens"], reduction="none")
    mask = targets["mask"]
    return targets["weight"] * (losses * mask).sum(dim=1) / mask.sum(dim=1)


def two_losses(outputs, targets):
    return cross_entropy(outputs["label"], targets["label"]) + 0.5 * squared_error(outputs["value"], targets["value"])


def contrast(outputs, same):
    """Embeddings of pairs: near if `same` is 1, far if 0."""
    left, right = outputs
    squared_distance = (left - right).square().sum(dim=1)
    return torch.where(same == 1, squared_distance, F.softplus(1 - squared_distance))


def given(losses, targets):
    """The model returned its losses itself."""
    return losses


# ---- data: makers of (inputs, targets)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def labelled(examples, *shape):
    return lambda: (normal(examples, *shape), torch.randint(CLASSES, (examples,)))


def valued(examples, shape, target_shape):
    return lambda: (normal(examples, *shape), normal(examples, *target_shape))


def segmented(examples, channels, *positions):
    return lambda: (normal(examples, channels, *positions), torch.randint(CLASSES, (examples, *positions)))


def token_batch(examples, length):
    # The first token is repeated, so no example is without one.
    tokens = torch.randint(VOCABULARY, (examples, length))
    tokens[:, -1] = tokens[:, 0]
    return tokens


def labelled_tokens(examples, length):
    return lambda: (token_batch(examples, length), torch.randint(CLASSES, (examples,)))


def text(examples, length):
    return lambda: (token_batch(examples, length), token_batch(examples, length))


def mask_batch(examples, length):
    """True where a token counts: all of the first example, fewer of each next, never none."""
    return torch.arange(length) < (length - torch.arange(examples)).clamp(min=1)[:, None]


def masked_text(examples, length):
    def data():
        mask = mask_batch(examples, length)
        targets = {"tokens": token_batch(examples, length), "mask": mask, "weight": torch.rand(examples).double() + 0.5}
        return {"tokens": token_batch(examples, length), "mask": mask}, targets

    return data


def masked_sequences(examples, length):
    def data():
        inputs = {"x": normal(examples, length, WIDTH), "mask": mask_batch(examples, length)}
        return inputs, torch.randint(CLASSES, (examples,))

    return data


def paired(examples, *shapes):
    """A tuple of inputs."""
    return lambda: (tuple(normal(examples, *shape) for shape in shapes), torch.randint(CLASSES, (examples,)))


def same_or_not(examples, *shape):
    return lambda: ((normal(examples, *shape), normal(examples, *shape)), torch.arange(examples) % 2)


# ---- small parts


class Apply(nn.Module):
    """A function as a layer, or around layers: function(*layers, *inputs)."""

    def __init__(self, function, *layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, *inputs):
        return self.function(*self.layers, *inputs)


def residual(*layers):
    return Apply(lambda block, x: x + block(x), nn.Sequential(*layers))


def concatenated(*branches):
    return Apply(lambda *all: torch.cat([branch(all[-1]) for branch in all[:-1]], dim=1), *branches)


def scalars():
    """Parameters without dimensions: one that a rule knows, and one that none does."""
    return Parameters(
        lambda self, x: self.layers[0](torch.lerp(x * self.gain, x.tanh(), self.mix)), nn.Linear(4, CLASSES), gain=(), mix=()
    )


def pooled():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def mean_over_positions():
    return Apply(lambda x: x.mean(dim=1))


class Parameters(nn.Module):
    """Parameters of the given shapes, used by function(self, x)."""

    def __init__(self, function, *layers, **shapes):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape)))

    def forward(self, *inputs):
        return self.function(self, *inputs)


# ---- perceptrons


def mlp(bias=True, activation=nn.ReLU):
    return nn.Sequential(
        nn.Linear(4, 8, bias), activation(), nn.Linear(8, 8, bias), activation(), nn.Linear(8, CLASSES, bias)
    )


def residual_mlp():
    block = lambda: residual(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, WIDTH))  # noqa: E731
    return nn.Sequential(nn.Linear(4, WIDTH), block(), block(), nn.Linear(WIDTH, CLASSES))


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.transform, self.gate = nn.Linear(4, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        for _ in range(2):
            gate = self.gate(x).sigmoid()
            x = gate * self.transform(x).relu() + (1 - gate) * x
        return self.head(x)


def fourier_features():
    """A field u(x, t) with tanh layers on fixed sines and cosines."""
    features = Apply(lambda x: torch.cat([x, (3 * x).sin(), (3 * x).cos()], dim=1))
    return nn.Sequential(features, nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 10), nn.Tanh(), nn.Linear(10, 1))


class PhysicsInformed(nn.Module):
    """u and its residual u_t - u_xx at points (x, t): derivatives of derivatives."""

    def __init__(self):
        super().__init__()
        self.field = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, points):
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            u = self.field(points)
            slope = torch.autograd.grad(u.sum(), points, create_graph=True)[0]
            curvature = torch.autograd.grad(slope[:, 0].sum(), points, create_graph=True)[0]
        return torch.stack([u[:, 0], slope[:, 1] - curvature[:, 0]], dim=1)


def deep_sets():
    """Sets [B, n, I]: elements through one network, summed, through another."""
    element = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8))
    return nn.Sequential(element, Apply(lambda x: x.sum(dim=1)), nn.ReLU(), nn.Linear(8, CLASSES))


def siamese():
    trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5), nn.Softsign())
    return Apply(lambda trunk, left, right: (trunk(left), trunk(right)), trunk)


def siamese_in_one_batch():
    trunk = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5), nn.Softsign())
    return Apply(lambda trunk, left, right: trunk(torch.cat([left, right])).chunk(2), trunk)


def euler_steps():
    """A residual network in continuous time: the same layers at every step."""

    def steps(layer, head, x):
        for _ in range(4):
            x = x + 0.25 * layer(x).tanh()
        return head(x)

    return Apply(steps, nn.Linear(4, 4), nn.Linear(4, CLASSES))


class FiLM(nn.Module):
    """Scale and shift of channels are functions of a condition."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 4, 3, padding=1)
        self.condition = nn.Linear(3, 8)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, image, condition):
        scale, shift = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
        return self.head(((1 + scale) * self.convolution(image) + shift).relu().mean(dim=(2, 3)))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True))
        self.label, self.value = nn.Linear(8, CLASSES), nn.Linear(8, 2)

    def forward(self, features):
        hidden = self.trunk(features)
        return {"label": self.label(hidden), "value": self.value(hidden)}


class Mixed(nn.Module):
    """Tokens and numbers, by keyword."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 4)
        self.numbers = nn.Linear(2, 4)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, *, tokens, numbers):
        return self.head(torch.cat([self.embedding(tokens).mean(dim=1), self.numbers(numbers).relu()], dim=1))


def gated_experts():
    def forward(gate, *layers_and_input):
        *experts, x = layers_and_input
        weights = gate(x).softmax(dim=1)
        return sum(weights[:, k : k + 1] * expert(x) for k, expert in enumerate(experts))

    return Apply(forward, nn.Linear(4, 2), mlp(), mlp())


class RoutedExperts(nn.Module):
    """Each token goes to one expert: an expert's rows are some tokens of some examples."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(4, 2)
        self.experts = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        tokens = x.flatten(0, 1)
        gates = self.gate(tokens).softmax(dim=1)
        mixed = torch.zeros_like(tokens)
        for k, expert in enumerate(self.experts):
            rows = (gates.argmax(dim=1) == k).nonzero()[:, 0]
            mixed = mixed.index_add(0, rows, gates[rows, k, None] * expert(tokens[rows]))
        return self.head(mixed.view_as(x).tanh().mean(dim=1))


def graph_network():
    """Two rounds of messages on graphs with adjacency [B, n, n] and nodes [B, n, I]."""

    def forward(first, second, head, adjacency, nodes):
        nodes = (adjacency.softmax(dim=2) @ first(nodes)).relu()
        return head((adjacency.softmax(dim=2) @ second(nodes)).relu().mean(dim=1))

    return Apply(forward, nn.Linear(3, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES))


# ---- convolutions


def cnn(*convolutions, channels, flat=pooled):
    activated = [layer for convolution in convolutions for layer in (convolution, nn.ReLU())]
    return nn.Sequential(*activated, flat(), nn.Linear(channels, CLASSES))


def pooled_over_all():
    return Apply(lambda x: x.flatten(2).mean(dim=2))


def plain_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip


def padded_cnn(mode):
    return cnn(
        nn.Conv2d(2, 4, 3, padding=(1, 2), padding_mode=mode),
        nn.Conv2d(4, 4, 3, padding=1, stride=2, padding_mode=mode, bias=False),
        channels=4,
    )


def channels_last_cnn():
    model = cnn(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2), channels=4)
    return nn.Sequential(Apply(lambda x: x.contiguous(memory_format=torch.channels_last)), model)


def vgg():
    block = lambda i, o: (nn.Conv2d(i, o, 3, padding=1), nn.ReLU(inplace=True))  # noqa: E731
    return nn.Sequential(
        *block(2, 4), *block(4, 4), nn.MaxPool2d(2), *block(4, 8), *block(8, 8), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(8 * 2 * 2, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES),
    )  # fmt: skip


class ResidualBlock(nn.Module):
    """Two convolutions with norms and a shortcut, projected where the shape changes; activations in place."""

    def __init__(self, inputs, outputs, stride, norm, bias):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias)
        self.first_norm, self.second_norm = norm(outputs), norm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=bias) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, x):
        out = self.first_norm(self.first(x)).relu_()
        out = self.second_norm(self.second(out))
        out += self.shortcut(x)
        return out.relu_()


def resnet(norm=lambda channels: nn.Identity(), bias=False):
    block = lambda i, o, stride: ResidualBlock(i, o, stride, norm, bias)  # noqa: E731
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=bias), norm(4), nn.ReLU(inplace=True),
        block(4, 4, 1), block(4, 6, 2), pooled(), nn.Linear(6, CLASSES),
    )  # fmt: skip


def preactivation_resnet():
    def block(channels):
        half = lambda: (nn.GroupNorm(2, channels), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1))  # noqa: E731
        return residual(*half(), *half())

    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), block(4), block(4), nn.GroupNorm(1, 4), pooled(), nn.Linear(4, CLASSES))


def densenet():
    def layer(channels):
        grown = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 2, 3, padding=1))
        return concatenated(nn.Identity(), grown)

    transition = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AvgPool2d(2))
    return nn.Sequential(nn.Conv2d(1, 4, 3), layer(4), layer(6), transition, layer(4), pooled(), nn.Linear(6, CLASSES)).eval()


def squeezenet():
    def fire(inputs, squeezed, outputs):
        expanded = concatenated(nn.Conv2d(squeezed, outputs, 1), nn.Conv2d(squeezed, outputs, 3, padding=1))
        activation = lambda: nn.LeakyReLU(0.1, inplace=True)  # noqa: E731
        return nn.Sequential(nn.Conv2d(inputs, squeezed, 1), activation(), expanded, activation())

    return nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.ReLU(), fire(4, 2, 3), fire(6, 2, 4), nn.Conv2d(8, CLASSES, 1), pooled())


def mobilenet():
    def inverted_residual(channels):
        hidden = 2 * channels
        return residual(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    stem = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.Hardswish())
    return nn.Sequential(stem, inverted_residual(4), inverted_residual(4), pooled(), nn.Linear(4, CLASSES)).eval()


def inception():
    separable = nn.Conv2d(2, 3, (1, 3), padding=(0, 1)), nn.Conv2d(3, 3, (3, 1), padding=(1, 0))
    branches = concatenated(
        nn.Conv2d(3, 2, 1),
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), *separable),
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 5, padding=2)),
        nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(3, 2, 1)),
    )
    return nn.Sequential(branches, nn.ReLU(), pooled(), nn.Linear(9, CLASSES))


def shufflenet():
    return nn.Sequential(
        nn.Conv2d(3, 6, 1, groups=3), nn.ReLU(), nn.ChannelShuffle(3),
        nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1, groups=3), nn.GroupNorm(3, 6),
        pooled(), nn.Linear(6, CLASSES),
    )  # fmt: skip


def squeeze_and_excitation():
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1), nn.Sigmoid())
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), Apply(lambda gate, x: x * gate(x), gate), pooled(), nn.Linear(4, CLASSES)
    )


class ConvNextBlock(nn.Module):
    """Depthwise convolution, LayerNorm over the channels, two linear layers, a scale a channel."""

    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand, self.project = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)
        self.layer_scale = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x):
        out = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        out = self.layer_scale * self.project(F.gelu(self.expand(out)))
        return x + out.permute(0, 3, 1, 2)


def convnext():
    return nn.Sequential(nn.Conv2d(2, 4, 2, 2), ConvNextBlock(4), ConvNextBlock(4), pooled(), nn.Linear(4, CLASSES))


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 2, 3, 2, 1), nn.Tanh(),
        nn.ConvTranspose2d(2, 4, 3, 2, 1, output_padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 2, 2),
    )  # fmt: skip


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.enter, self.down = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.bottom, self.up = nn.Conv2d(6, 6, 3, padding=1), nn.ConvTranspose2d(6, 4, 2, 2)
        self.leave, self.head = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x):
        top = self.enter(x).relu()
        low = self.down(F.max_pool2d(top, 2)).relu()
        low = low + F.interpolate(self.bottom(F.avg_pool2d(low, 2)), scale_factor=2, mode="bilinear")
        return self.head(self.leave(torch.cat([top, self.up(low)], dim=1)).relu())


def generator():
    """DCGAN's: a code to an image."""
    return nn.Sequential(
        nn.Unflatten(1, (5, 1, 1)),
        nn.ConvTranspose2d(5, 6, 3, 1, 0, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(6, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(4, 1, 3, 1, 1, bias=False), nn.Tanh(),
    ).eval()  # fmt: skip


def frames():
    """Video [B, T, C, H, W]: frames folded into the batch."""
    encoder = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), pooled(), nn.Linear(4, 4))
    fold = lambda encoder, x: encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1)  # noqa: E731
    return nn.Sequential(Apply(fold, encoder), nn.ReLU(), nn.Linear(4, CLASSES))


def frames_time_first():
    """The same fold with time outside, so that an example's rows are B apart."""
    encoder = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4))
    fold = lambda encoder, x: encoder(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (-1, len(x))).mean(dim=0)  # noqa: E731
    return nn.Sequential(Apply(fold, encoder), nn.ReLU(), nn.Linear(4, CLASSES))


# ---- sequences


def split_heads(projected, heads):
    """[B, S, 3 I] -> three times [B, heads, S, I / heads]."""
    return (each.unflatten(-1, (heads, -1)).transpose(-2, -3) for each in projected.chunk(3, dim=-1))


class Attention(nn.Module):
    """Several heads by one projection in, one out, and scaled_dot_product_attention between."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        query, key, value = split_heads(self.project_in(x), self.heads)
        out = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.project_out(out.transpose(-2, -3).flatten(-2))


def transformer_block(causal=False, norm=nn.LayerNorm):
    feedforward = nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, WIDTH))
    return nn.Sequential(residual(norm(WIDTH), Attention(WIDTH, 2, causal)), residual(norm(WIDTH), feedforward))


class GPT(nn.Module):
    """Tied embedding and head; positions from a parameter, or from an embedding of 0, 1, ..., which has no batch."""

    def __init__(self, length, positions="parameter"):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        if positions == "parameter":
            self.positions = nn.Parameter(torch.randn(1, length + 2, WIDTH))
        else:
            self.positions = nn.Embedding(length + 2, WIDTH)
        self.blocks = nn.Sequential(transformer_block(causal=True), transformer_block(causal=True))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens, mask=None):
        length = tokens.shape[1]
        by_layer = isinstance(self.positions, nn.Embedding)
        positions = self.positions(torch.arange(length)) if by_layer else self.positions[:, :length]
        x = self.embedding(tokens) + positions
        if mask is not None:
            x = x * mask[:, :, None]
        return self.head(self.norm(self.blocks(x)))


class Llama(nn.Module):
    """RMSNorm, gated feedforward, rotated queries and keys, no bias anywhere."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.attention_norm, self.feedforward_norm, self.norm = (nn.RMSNorm(WIDTH, eps=1e-6) for _ in range(3))
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up, self.down = nn.Linear(WIDTH, 8, False), nn.Linear(WIDTH, 8, False), nn.Linear(8, WIDTH, False)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def rotated(self, x):
        angles = torch.arange(x.shape[1], dtype=x.dtype)[:, None] / torch.arange(1, WIDTH // 2 + 1, dtype=x.dtype)
        left, right = x.chunk(2, dim=-1)
        return torch.cat([left * angles.cos() - right * angles.sin(), left * angles.sin() + right * angles.cos()], dim=-1)

    def forward(self, tokens):
        x = self.embedding(tokens)
        h = self.attention_norm(x)
        x = x + self.out(F.scaled_dot_product_attention(self.rotated(self.query(h)), self.rotated(self.key(h)), self.value(h)))
        h = self.feedforward_norm(x)
        return self.head(self.norm(x + self.down(F.silu(self.gate(h)) * self.up(h))))


class Encoder(nn.Module):
    """torch's own encoder; with batch_first=False its layers see [S, B, I]."""

    def __init__(self, batch_first, norm_first=False):
        super().__init__()
        self.batch_first = batch_first
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = self.encoder(x) if self.batch_first else self.encoder(x.transpose(0, 1)).transpose(0, 1)
        return self.head(x[:, 0])


class Translation(nn.Module):
    """torch's own decoder: causal self-attention and attention to a memory."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerDecoderLayer(WIDTH, 2, 8, dropout=0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, target, memory):
        causal = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=target.dtype)
        return self.head(self.decoder(target, memory, tgt_mask=causal)).mean(dim=1)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention with a causal mask and a padding mask."""

    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **options)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x, mask):
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        attended, _ = self.attention(x, x, x, key_padding_mask=~mask, attn_mask=causal)
        return self.head((x + attended).mean(dim=1))


class CrossAttention(nn.Module):
    """Queries, keys and values of different widths; the weights averaged over heads are part of the output."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, kdim=4, vdim=3)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, query, key, value):
        attended, weights = self.attention(query, key, value)
        return self.head(attended.mean(dim=1)) + weights.square().sum(dim=(1, 2))[:, None]


class LearnedQueries(nn.Module):
    """As many learned queries as there are examples attend to the input; they meet layers before they meet a batch."""

    def __init__(self, queries):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(queries, WIDTH))
        self.norm, self.project = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.key, self.head = nn.Linear(4, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        query = self.project(self.norm(self.queries))
        keys = self.key(x)
        return self.head(F.scaled_dot_product_attention(query.expand(len(x), -1, -1), keys, keys).mean(dim=1))


class ViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, WIDTH, 3, 3)
        self.class_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.blocks = nn.Sequential(transformer_block(), transformer_block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class Swin(nn.Module):
    """Attention in windows: [B, H, W, C] -> [B * windows, positions, C] and back, with a bias a relative position."""

    def __init__(self, window=2):
        super().__init__()
        self.window = window
        self.patches = nn.Conv2d(1, WIDTH, 2, 2)
        self.norm = nn.LayerNorm(WIDTH)
        self.project_in, self.project_out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.relative = nn.Parameter(torch.randn((2 * window - 1) ** 2, 2))
        self.head = nn.Linear(WIDTH, CLASSES)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = place[:, None] - place[None] + window - 1
        self.register_buffer("offsets", offset[..., 0] * (2 * window - 1) + offset[..., 1])

    def forward(self, image):
        x = self.patches(image).permute(0, 2, 3, 1)
        examples, height, width, channels = x.shape
        w = self.window
        windows = x.view(examples, height // w, w, width // w, w, channels).transpose(2, 3).reshape(-1, w * w, channels)
        query, key, value = split_heads(self.project_in(self.norm(windows)), 2)
        bias = self.relative[self.offsets].permute(2, 0, 1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2)
        out = windows + self.project_out(out)
        return self.head(out.view(examples, -1, channels).mean(dim=1))


class MixerBlock(nn.Module):
    def __init__(self, length):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.tokens = nn.Sequential(nn.Linear(length, 5), nn.GELU(), nn.Linear(5, length))
        self.channels = nn.Sequential(nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, WIDTH))

    def forward(self, x):
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norms[1](x))


def mixer():
    to_patches = Apply(lambda patches, x: patches(x).flatten(2).transpose(1, 2), nn.Conv2d(1, WIDTH, 2, 2))
    return nn.Sequential(to_patches, MixerBlock(4), MixerBlock(4), mean_over_positions(), nn.Linear(WIDTH, CLASSES))


def fourier_mixing():
    """A block that mixes tokens by the real part of a Fourier transform."""
    mix = Apply(lambda norm, x: norm(x + torch.fft.fft2(x).real / x.shape[1]), nn.LayerNorm(4))
    feedforward = residual(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
    return nn.Sequential(mix, feedforward, mean_over_positions(), nn.Linear(4, CLASSES))


def recurrent(layer):
    return Apply(lambda layer, head, x: head(layer(x)[0][:, -1]), layer, nn.Linear(5, CLASSES))


class RecurrentByHand(nn.Module):
    """The same two layers at every step of a sequence."""

    def __init__(self):
        super().__init__()
        self.input, self.state = nn.Linear(3, 5), nn.Linear(5, 5, bias=False)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x):
        state = x.new_zeros(len(x), 5)
        for step in x.unbind(dim=1):
            state = (self.input(step) + self.state(state)).tanh()
        return self.head(state)


def stacked_steps():
    """The states of all steps one on another, [S, B, I], as a loop over steps leaves them."""

    def use(cell, head, x):
        steps, state = [], x.new_zeros(len(x), 5)
        for step in x.unbind(dim=1):
            state = cell(torch.cat([step, state], dim=1)).tanh()
            steps.append(state)
        return head(torch.stack(steps)).mean(dim=0)

    return Apply(use, nn.Linear(3 + 5, 5), nn.Linear(5, CLASSES))


def several_scales(scaled):
    """One layer on copies of the batch, [copies, B, I], as many copies as examples."""
    scales = torch.linspace(0.5, 2, 4).double()[:, None, None]
    return Apply(lambda layer, x: layer(scaled(x, scales).sin()).mean(dim=0), nn.Linear(4, CLASSES))


def turned_in_place():
    use = lambda layer, head, x: head(layer((2 * x).transpose_(0, 1)).tanh().mean(dim=0))  # noqa: E731
    return Apply(use, nn.Linear(4, 5), nn.Linear(5, CLASSES))


def prototypes():
    """Distances to as many prototypes as examples, [prototypes, B], turned."""
    return Parameters(lambda self, x: -torch.cdist(self.prototypes, self.layers[0](x)).t(), nn.Linear(4, 3), prototypes=(5, 3))


def gru_cell():
    def forward(cell, head, x):
        state = x.new_zeros(len(x), 5)
        for step in x.unbind(dim=1):
            state = cell(step, state)
        return head(state)

    return Apply(forward, nn.GRUCell(3, 5), nn.Linear(5, CLASSES))


def tokens_time_first():
    """Tokens [S, B]: the examples are in the last dimension before the embedding adds one."""
    use = lambda embedding, head, x: head(embedding(x.t()).tanh().mean(dim=0))  # noqa: E731
    return Apply(use, nn.Embedding(VOCABULARY, 4), nn.Linear(4, CLASSES))


def tagger_time_first():
    """Tags of every token, [S, B, classes]: the output's dimension 0 is not the batch either."""
    layers = nn.LSTM(4, 5), nn.Linear(5, CLASSES)
    return Apply(lambda lstm, head, x: head(lstm(x.transpose(0, 1))[0]), *layers)


def time_first_cross_entropy(outputs, targets):
    return cross_entropy(outputs.permute(1, 2, 0), targets)


def temporal_convolutions():
    """Causal, dilated, gated."""

    def layer(dilation):
        convolution = nn.Conv1d(4, 8, 2, dilation=dilation)
        return Apply(lambda conv, x: x + F.glu(conv(F.pad(x, (dilation, 0))), dim=1), convolution)

    to_channels = Apply(lambda embedding, x: embedding(x).transpose(1, 2), nn.Embedding(VOCABULARY, 4))
    return nn.Sequential(to_channels, layer(1), layer(2), nn.Conv1d(4, VOCABULARY, 1))


def bag(layer, pool):
    return nn.Sequential(layer, Apply(pool), nn.Linear(4, CLASSES))


# ---- norms


def normed(*norms, width=4):
    return nn.Sequential(nn.Linear(4, width), *norms, nn.Tanh(), nn.Flatten(), nn.LazyLinear(CLASSES))


def made(model, *shape):
    """The model after its lazy layers have seen an input."""
    with torch.no_grad():
        model(torch.randn(1, *shape))
    return model


class OwnRMSNorm(nn.Module):
    """As in many language models: in float32 or wider inside, scaled by a parameter."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * x.square().mean(dim=-1, keepdim=True).add(1e-6).rsqrt() * self.weight


# ---- what may be done with a parameter


def scale_and_shift():
    use = lambda self, x: self.layers[1]((self.layers[0](x) * self.scale + self.shift).tanh())  # noqa: E731
    return Parameters(use, nn.Linear(4, 5), nn.Linear(5, CLASSES), scale=(5,), shift=(5,))


def scale_and_shift_of_channels():
    use = lambda self, x: self.layers[1]((self.scale * self.layers[0](x) + self.shift).tanh().mean(dim=(2, 3)))  # noqa: E731
    return Parameters(use, nn.Conv2d(2, 4, 3), nn.Linear(4, CLASSES), scale=(1, 4, 1, 1), shift=(4, 1, 1))


def arithmetic():
    """Parameters in less usual operations, in place among them."""

    def use(self, x):
        hidden = self.layers[0](x)
        hidden *= self.scale
        hidden -= self.shift
        hidden = torch.addcmul(hidden, x, self.gain) / self.divisor.exp()
        return self.layers[1](hidden.tanh()) * self.temperature.exp()

    shapes = {"scale": (4,), "shift": (1, 4), "gain": (4,), "divisor": (4,), "temperature": ()}
    return Parameters(use, nn.Linear(4, 4), nn.Linear(4, CLASSES), **shapes)


def products():
    """Weights that no layer owns: matmul, einsum over heads, conv2d as a function."""

    def use(self, x):
        hidden = F.conv2d(x, self.kernel, self.bias, padding=1).flatten(2).transpose(1, 2).tanh()
        hidden = torch.einsum("bsi,hio->bsho", hidden, self.heads).sum(dim=2)
        return (hidden @ self.matrix).mean(dim=1)

    return Parameters(use, kernel=(4, 2, 3, 3), bias=(4,), heads=(2, 4, 4), matrix=(4, CLASSES))


def unlike_rows():
    """A parameter for each position, as many as examples, put together before it meets the batch."""

    def use(self, x):
        place = self.place * self.gain + self.kind + self.common.expand(4, -1)
        return self.layers[0]((x + place).tanh()).mean(dim=1)

    return Parameters(use, nn.Linear(4, CLASSES), place=(4, 4), gain=(4,), kind=(4, 4), common=(1, 4))


def hypernetwork(rows):
    """A layer's weight is another layer's output, as many rows as examples."""
    use = lambda self, x: self.layers[1](F.linear(x, self.layers[0](self.code)).tanh())  # noqa: E731
    return Parameters(use, nn.Linear(3, 4), nn.Linear(rows, CLASSES), code=(rows, 3))


def pruned():
    """A mask on a weight that has as many rows as there are examples."""
    model = mlp()
    prune.custom_from_mask(model[2], "weight", (torch.arange(64).view(8, 8) % 3 > 0).float())
    return model


def weight_normed():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES))
    parametrizations.weight_norm(model[0])
    parametrizations.weight_norm(model[3])
    return model


def spectrally_normed():
    # Only in eval mode does a forward pass leave the power iteration where it was.
    return nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, CLASSES)).eval()


def tied_layers():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(4, CLASSES))


def tied_autoencoder():
    """The decoder is the encoder's weight transposed."""
    use = lambda layer, x: F.linear(layer(x).tanh(), layer.weight.t())  # noqa: E731
    return Apply(use, nn.Linear(5, 3))


def used_twice():
    return Apply(lambda layer, head, x: head(layer(layer(x).tanh()).tanh()), nn.Linear(4, 4), nn.Linear(4, CLASSES))


def convolution_used_twice():
    """At two resolutions."""
    both = lambda conv, x: torch.cat([conv(x).mean(dim=(2, 3)), conv(F.avg_pool2d(x, 2)).mean(dim=(2, 3))], dim=1)  # noqa: E731
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), Apply(both, nn.Conv2d(4, 4, 3)), nn.Linear(8, CLASSES))


def inside_and_outside():
    use = lambda layer, head, x: head(F.linear(layer(x).tanh(), layer.weight))  # noqa: E731
    return Apply(use, nn.Linear(4, 4), nn.Linear(4, CLASSES))


def frozen():
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, CLASSES))
    for parameter in (*model[0].parameters(), model[1].weight, model[3].weight, model[5].bias):
        parameter.requires_grad_(False)
    return model


class LowRankAdapter(nn.Module):
    """A frozen layer and a trained update of low rank."""

    def __init__(self, layer, rank=2):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x):
        return self.layer(x) + 2 * self.up(self.down(x))


def idle():
    """A parameter and a layer that nobody uses, and a layer whose output nobody uses."""

    def use(self, x):
        self.layers[2](x)
        return self.layers[0](x)

    return Parameters(use, nn.Linear(4, CLASSES), nn.Linear(4, 2), nn.Linear(4, 4), nobody=(2,))


def stopped():
    """The same trunk with and without its gradient."""

    def use(trunk, head, x):
        with torch.no_grad():
            still = trunk(x + 1)
        return head(trunk(x) - trunk(-x).detach() + still)

    return Apply(use, nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4)), nn.Linear(4, CLASSES))


def called_directly():
    """forward() without the call: no hook runs."""
    return Apply(lambda layer, head, x: head.forward(layer.forward(x).relu()), nn.Linear(4, 6), nn.Linear(6, CLASSES))


class ScaledLinear(nn.Linear):
    """A Linear by type, not by what it computes."""

    def forward(self, x):
        return F.linear(x, self.weight / self.in_features**0.5, self.bias) + x.sum(dim=-1, keepdim=True)


def hooked():
    """A user's hooks change a layer's input and output."""
    model = mlp(activation=nn.Tanh)
    model[0].register_forward_hook(lambda layer, inputs, output: 2 * output)
    model[2].register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
    return model


class ScaledTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return (scale * x).tanh()

    @staticmethod
    def backward(ctx, gradient):
        x, scale = ctx.saved_tensors
        inner = gradient * (1 - (scale * x).tanh().square())
        return inner * scale, (inner * x).sum_to_size(scale.shape)


def own_function():
    use = lambda self, x: self.layers[1](ScaledTanh.apply(self.layers[0](x), self.scale))  # noqa: E731
    return Parameters(use, nn.Linear(4, 5), nn.Linear(5, CLASSES), scale=(5,))


def in_place():
    """Arithmetic and writes into the outputs of layers."""

    def use(first, norm, second, head, x):
        hidden = first(x)
        hidden += x
        hidden.mul_(0.5).relu_()
        hidden = norm(hidden)
        hidden[:, 0] = 0
        hidden[:, 1:].tanh_()
        out = second(hidden)
        out.add_(hidden)
        return head(out)

    return Apply(use, nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, CLASSES))


def checkpointed():
    """Activations are made a second time in the backward pass."""
    block = lambda: nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))  # noqa: E731
    use = lambda first, second, head, x: head(  # noqa: E731
        checkpoint.checkpoint(second, checkpoint.checkpoint(first, x, use_reentrant=False), use_reentrant=False)
    )
    return Apply(use, block(), block(), nn.Linear(6, CLASSES))


def own_loss():
    """The model is given the targets and returns its losses."""
    return Apply(lambda net, x, value: squared_error(net(x), value), nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)))


class Aliased(nn.Module):
    """One layer under two names."""

    def __init__(self):
        super().__init__()
        self.left = self.right = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.left(x).relu() - self.right(-x).relu())


def bilinear():
    return Apply(lambda layer, head, x, z: head(layer(x, z).tanh()), nn.Bilinear(3, 4, 5), nn.Linear(5, CLASSES))


def strided_views():
    """Layers on inputs that are not contiguous."""
    use = lambda first, second, x: second(first(x.transpose(1, 2)).transpose(1, 2)[:, ::2]).mean(dim=1)  # noqa: E731
    return Apply(use, nn.Linear(5, 4), nn.Linear(6, CLASSES))


# ---- the table

ANY = ("*",)
ARCHITECTURES = {
    # perceptrons
    "mlp": Architecture(mlp, labelled(5, 4), cross_entropy),
    "mlp without bias": Architecture(lambda: mlp(bias=False), labelled(5, 4), cross_entropy),
    "mlp in place": Architecture(lambda: mlp(activation=lambda: nn.ReLU(inplace=True)), labelled(5, 4), cross_entropy),
    "one example": Architecture(mlp, labelled(1, 4), cross_entropy),
    "residual mlp": Architecture(residual_mlp, labelled(5, 4), cross_entropy),
    "highway": Architecture(Highway, labelled(4, 4), cross_entropy),
    "fourier features": Architecture(fourier_features, valued(6, (2,), (1,)), squared_error),
    "physics informed": Architecture(PhysicsInformed, valued(4, (2,), (2,)), squared_error, ANY),
    "deep sets": Architecture(deep_sets, labelled(4, 5, 3), cross_entropy),
    "siamese": Architecture(siamese, same_or_not(4, 4), contrast),
    "siamese in one batch": Architecture(siamese_in_one_batch, same_or_not(4, 4), contrast, ANY),
    "euler steps": Architecture(euler_steps, labelled(4, 4), cross_entropy),
    "two heads": Architecture(
        TwoHeads, lambda: (normal(4, 4), {"label": torch.randint(CLASSES, (4,)), "value": normal(4, 2)}), two_losses
    ),
    "mixed inputs": Architecture(
        Mixed, lambda: ({"numbers": normal(4, 2), "tokens": token_batch(4, 5)}, torch.randint(CLASSES, (4,))), cross_entropy
    ),
    "gated experts": Architecture(gated_experts, labelled(4, 4), cross_entropy),
    "routed experts": Architecture(RoutedExperts, labelled(4, 3, 4), cross_entropy, ANY),
    "graph network": Architecture(graph_network, paired(3, (4, 4), (4, 3)), cross_entropy),
    # convolutions
    "cnn": Architecture(plain_cnn, labelled(4, 1, 8, 8), cross_entropy),
    "cnn 1d": Architecture(
        lambda: cnn(nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, 4, 3, stride=2), channels=4, flat=pooled_over_all),
        labelled(4, 2, 9), cross_entropy,
    ),
    "cnn 3d": Architecture(
        lambda: cnn(nn.Conv3d(1, 3, 2), nn.Conv3d(3, 4, 3, padding=1, stride=2), channels=4, flat=pooled_over_all),
        labelled(3, 1, 5, 4, 5), cross_entropy,
    ),
    "strides and dilations": Architecture(
        lambda: cnn(nn.Conv2d(2, 4, 3, 2, 2, dilation=2), nn.Conv2d(4, 3, (3, 1), (1, 2), (1, 0)), channels=3),
        labelled(4, 2, 7, 6), cross_entropy,
    ),
    "groups": Architecture(
        lambda: cnn(nn.Conv2d(4, 8, 3, groups=2), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1, groups=8), channels=16),
        labelled(3, 4, 6, 6), cross_entropy,
    ),
    "same padding": Architecture(
        lambda: cnn(nn.Conv2d(2, 4, (3, 5), padding="same", dilation=2), nn.Conv2d(4, 4, 3, padding="valid"), channels=4),
        labelled(3, 2, 5, 6), cross_entropy,
    ),
    "reflect padding": Architecture(lambda: padded_cnn("reflect"), labelled(3, 2, 5, 5), cross_entropy),
    "replicate padding": Architecture(lambda: padded_cnn("replicate"), labelled(3, 2, 5, 5), cross_entropy),
    "circular padding": Architecture(lambda: padded_cnn("circular"), labelled(3, 2, 5, 5), cross_entropy),
    "channels last": Architecture(channels_last_cnn, labelled(3, 3, 6, 6), cross_entropy),
    "transposed convolution 1d": Architecture(
        lambda: nn.Sequential(
            nn.ConvTranspose1d(2, 4, 3, 2, 1, output_padding=1), nn.Tanh(), nn.ConvTranspose1d(4, 1, 2, bias=False)
        ),
        valued(3, (2, 4), (1, 9)), squared_error,
    ),
    "transposed convolution 2d": Architecture(
        lambda: nn.Sequential(
            nn.ConvTranspose2d(2, 4, 3, (2, 3), 1, output_padding=(1, 2), groups=2), nn.Tanh(),
            nn.ConvTranspose2d(4, 2, 2, dilation=2),
        ),
        valued(3, (2, 3, 2), (2, 8, 8)), squared_error,
    ),
    "transposed convolution 3d": Architecture(
        lambda: nn.Sequential(nn.ConvTranspose3d(2, 4, 2, 2, groups=2), nn.Tanh(), nn.Conv3d(4, 1, 3)),
        valued(2, (2, 2, 2, 2), (1, 2, 2, 2)), squared_error,
    ),
    "vgg": Architecture(vgg, labelled(3, 2, 8, 8), cross_entropy),
    "resnet": Architecture(resnet, labelled(3, 2, 6, 6), cross_entropy),
    "resnet with bias": Architecture(lambda: resnet(bias=True), labelled(3, 2, 6, 6), cross_entropy),
    "resnet with group norm": Architecture(lambda: resnet(lambda c: nn.GroupNorm(2, c)), labelled(3, 2, 6, 6), cross_entropy),
    "resnet with batch norm": Architecture(lambda: resnet(nn.BatchNorm2d).eval(), labelled(3, 2, 6, 6), cross_entropy),
    "resnet with pre-activation": Architecture(preactivation_resnet, labelled(3, 2, 5, 5), cross_entropy),
    "densenet": Architecture(densenet, labelled(3, 1, 8, 8), cross_entropy),
    "squeezenet": Architecture(squeezenet, labelled(3, 2, 9, 9), cross_entropy),
    "mobilenet": Architecture(mobilenet, labelled(3, 2, 7, 7), cross_entropy),
    "inception": Architecture(inception, labelled(3, 3, 5, 5), cross_entropy),
    "shufflenet": Architecture(shufflenet, labelled(3, 3, 5, 5), cross_entropy),
    "squeeze and excitation": Architecture(squeeze_and_excitation, labelled(4, 2, 6, 6), cross_entropy),
    "convnext": Architecture(convnext, labelled(3, 2, 6, 6), cross_entropy),
    "autoencoder": Architecture(autoencoder, valued(3, (1, 8, 8), (1, 8, 8)), squared_error),
    "u-net": Architecture(UNet, segmented(2, 2, 8, 8), cross_entropy),
    "generator": Architecture(generator, valued(4, (5,), (1, 6, 6)), squared_error),
    "film": Architecture(FiLM, paired(4, (2, 5, 5), (3,)), cross_entropy),
    "frames": Architecture(frames, labelled(3, 2, 2, 5, 5), cross_entropy, ("0.*",)),
    # Time folded before the examples: where these are is not followed through that.
    "frames, time first": Architecture(frames_time_first, labelled(3, 3, 4), cross_entropy, ANY),
    # sequences
    "gpt": Architecture(lambda: GPT(6), text(3, 6), next_token),
    "gpt with masks and weights": Architecture(lambda: GPT(5), masked_text(4, 5), masked_next_token),
    "gpt with embedded positions": Architecture(lambda: GPT(4, "embedded"), text(4, 4), next_token),
    "llama": Architecture(Llama, text(3, 5), next_token),
    "encoder": Architecture(lambda: Encoder(batch_first=True), labelled_tokens(4, 5), cross_entropy),
    "encoder, norm first": Architecture(
        lambda: Encoder(batch_first=True, norm_first=True), labelled_tokens(4, 5), cross_entropy
    ),
    "encoder, sequence first": Architecture(lambda: Encoder(batch_first=False), labelled_tokens(4, 3), cross_entropy),
    "encoder, square": Architecture(lambda: Encoder(batch_first=False), labelled_tokens(4, 4), cross_entropy),
    "decoder": Architecture(Translation, paired(3, (4, WIDTH), (5, WIDTH)), cross_entropy),
    "self-attention": Architecture(
        SelfAttention, masked_sequences(4, 5), cross_entropy
    ),
    "self-attention with extra keys": Architecture(
        lambda: SelfAttention(bias=False, add_bias_kv=True), masked_sequences(3, 3), cross_entropy, ("attention.*",)
    ),
    "cross-attention": Architecture(CrossAttention, paired(3, (4, WIDTH), (5, 4), (5, 3)), cross_entropy),
    "learned queries": Architecture(lambda: LearnedQueries(3), labelled(3, 4, 4), cross_entropy),
    "vit": Architecture(ViT, labelled(3, 2, 6, 6), cross_entropy),
    "swin": Architecture(Swin, labelled(3, 1, 8, 8), cross_entropy, ("norm.*", "project_*", "relative")),
    "mixer": Architecture(mixer, labelled(3, 1, 4, 4), cross_entropy),
    "fourier mixing": Architecture(fourier_mixing, labelled(3, 5, 4), cross_entropy),
    "scalars": Architecture(scalars, labelled(4, 4), cross_entropy, ("mix",)),
    "lstm": Architecture(
        lambda: recurrent(nn.LSTM(3, 5, 2, batch_first=True)), labelled(4, 4, 3), cross_entropy, ("layers.0.*",)
    ),
    "gru": Architecture(
        lambda: recurrent(nn.GRU(3, 5, batch_first=True)), labelled(4, 4, 3), cross_entropy, ("layers.0.*",)
    ),
    "gru cell": Architecture(gru_cell, labelled(4, 4, 3), cross_entropy, ("layers.0.*",)),
    "recurrent by hand": Architecture(RecurrentByHand, labelled(4, 5, 3), cross_entropy),
    "stacked steps": Architecture(stacked_steps, labelled(4, 4, 3), cross_entropy),
    "multiplied scales": Architecture(lambda: several_scales(lambda x, scales: scales.to(x) * x), labelled(4, 4), cross_entropy, ANY),
    "expanded scales": Architecture(
        lambda: several_scales(lambda x, scales: x.expand(4, -1, -1) + scales.to(x)), labelled(4, 4), cross_entropy, ANY
    ),
    "turned in place": Architecture(turned_in_place, labelled(4, 4, 4), cross_entropy, ANY),
    "prototypes": Architecture(prototypes, labelled(5, 4), cross_entropy, ("prototypes",)),
    "tagger, time first": Architecture(
        tagger_time_first, lambda: (normal(4, 3, 4), torch.randint(CLASSES, (4, 3))), time_first_cross_entropy, ("layers.0.*",)
    ),
    "tagger, square": Architecture(
        tagger_time_first, lambda: (normal(4, 4, 4), torch.randint(CLASSES, (4, 4))), time_first_cross_entropy, ("layers.0.*",)
    ),
    "tokens, time first": Architecture(tokens_time_first, labelled_tokens(4, 5), cross_entropy),
    "tokens, time first, twice as many": Architecture(tokens_time_first, labelled_tokens(4, 8), cross_entropy),
    "temporal convolutions": Architecture(temporal_convolutions, text(3, 7), cross_entropy),
    "embedding": Architecture(
        lambda: bag(nn.Embedding(VOCABULARY, 4, padding_idx=2), lambda x: x.tanh().mean(dim=1)),
        labelled_tokens(6, 5), cross_entropy,
    ),
    "embedding of grids": Architecture(
        lambda: bag(nn.Embedding(VOCABULARY, 4), lambda x: x.tanh().mean(dim=(1, 2))),
        lambda: (torch.randint(VOCABULARY, (3, 2, 4)), torch.randint(CLASSES, (3,))), cross_entropy,
    ),
    "embedding bag": Architecture(
        lambda: bag(nn.EmbeddingBag(VOCABULARY, 4, mode="mean"), torch.tanh), labelled_tokens(5, 4), cross_entropy, ("0.*",)
    ),
    # norms
    "layer norm": Architecture(
        lambda: made(normed(nn.LayerNorm((3, 4)), nn.Linear(4, 4), nn.LayerNorm(4, bias=False)), 3, 4),
        labelled(4, 3, 4), cross_entropy,
    ),
    "group norm": Architecture(
        lambda: made(nn.Sequential(nn.Conv1d(2, 6, 2), nn.GroupNorm(3, 6), normed(nn.GroupNorm(2, 6), width=5)), 2, 5),
        labelled(4, 2, 5), cross_entropy,
    ),
    "instance norm 1d": Architecture(
        lambda: made(normed(nn.InstanceNorm1d(3, affine=True)), 3, 4), labelled(4, 3, 4), cross_entropy
    ),
    "instance norm 2d": Architecture(
        lambda: cnn(nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.InstanceNorm2d(4, affine=True)), channels=4),
        labelled(4, 2, 6, 6), cross_entropy,
    ),
    "rms norm": Architecture(
        lambda: made(normed(nn.RMSNorm(4), nn.Linear(4, 4), nn.RMSNorm((3, 4))), 3, 4), labelled(4, 3, 4), cross_entropy
    ),
    "own rms norm": Architecture(lambda: made(normed(OwnRMSNorm(4)), 3, 4), labelled(4, 3, 4), cross_entropy),
    "batch norm": Architecture(lambda: made(normed(nn.BatchNorm1d(4)).eval(), 4), labelled(5, 4), cross_entropy),
    "batch norm of sequences": Architecture(
        lambda: made(nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Flatten(), nn.LazyLinear(CLASSES)).eval(), 2, 5),
        labelled(4, 2, 5), cross_entropy,
    ),
    # uses of parameters
    "scale and shift": Architecture(scale_and_shift, labelled(4, 4), cross_entropy),
    "scale and shift of channels": Architecture(scale_and_shift_of_channels, labelled(4, 2, 5, 5), cross_entropy),
    "arithmetic": Architecture(arithmetic, labelled(4, 4), cross_entropy, ("scale", "shift", "gain", "divisor")),
    "products": Architecture(products, labelled(3, 2, 4, 4), cross_entropy, ("heads",)),
    "unlike rows": Architecture(unlike_rows, labelled(4, 4, 4), cross_entropy),
    "hypernetwork": Architecture(lambda: hypernetwork(5), labelled(5, 4), cross_entropy),
    "pruned": Architecture(pruned, labelled(8, 4), cross_entropy),
    "weight norm": Architecture(weight_normed, labelled(4, 2, 4, 4), cross_entropy),
    "spectral norm": Architecture(spectrally_normed, labelled(8, 4), cross_entropy),
    "prelu": Architecture(
        lambda: nn.Sequential(nn.Linear(4, 5), nn.PReLU(), nn.Linear(5, 5), nn.PReLU(5), nn.Linear(5, CLASSES)),
        labelled(4, 4), cross_entropy,
    ),
    "bilinear": Architecture(bilinear, paired(4, (3,), (4,)), cross_entropy, ("layers.0.*",)),
    "tied layers": Architecture(tied_layers, labelled(4, 4), cross_entropy),
    "tied autoencoder": Architecture(tied_autoencoder, valued(4, (5,), (5,)), squared_error),
    "used twice": Architecture(used_twice, labelled(4, 4), cross_entropy),
    "convolution used twice": Architecture(convolution_used_twice, labelled(3, 2, 6, 6), cross_entropy),
    "inside and outside": Architecture(inside_and_outside, labelled(4, 4), cross_entropy),
    "aliased": Architecture(Aliased, labelled(4, 4), cross_entropy),
    "frozen": Architecture(frozen, labelled(4, 4), cross_entropy),
    "low-rank adapter": Architecture(
        lambda: nn.Sequential(LowRankAdapter(nn.Linear(4, 5)), nn.Tanh(), LowRankAdapter(nn.Linear(5, CLASSES))),
        labelled(4, 4), cross_entropy,
    ),
    "idle": Architecture(idle, labelled(4, 4), cross_entropy),
    "stopped": Architecture(stopped, labelled(4, 4), cross_entropy),
    "called directly": Architecture(called_directly, labelled(4, 4), cross_entropy),
    "scaled linear": Architecture(
        lambda: nn.Sequential(ScaledLinear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)), labelled(5, 4), cross_entropy
    ),
    "hooked": Architecture(hooked, labelled(4, 4), cross_entropy),
    "own function": Architecture(own_function, labelled(4, 4), cross_entropy, ("scale",)),
    "in place": Architecture(in_place, labelled(4, 4), cross_entropy),
    "own loss": Architecture(own_loss, lambda: ((normal(4, 4), normal(4, 2)), torch.zeros(4)), given),
    "strided views": Architecture(strided_views, labelled(4, 5, 6), cross_entropy),
}  # fmt: skip
NAMES = tuple(ARCHITECTURES)
