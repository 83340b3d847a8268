"""The networks the benchmarks measure, in plain torch, with a batch of random data for each.

Written so that every peer can run them: one module per layer and use, no batch norm, no in-place arithmetic, and dimension 0
of every layer's input is the batch (positions are embedded as [B, S]). Every convolution and linear layer has a bias.

    model, loss_fn, (inputs, targets) = networks.PROBLEMS["resnet8"].make()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PROBLEMS", "GPT", "Problem", "ResNet", "gpt", "mlp", "resnet", "small_cnn", "vgg11"]

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""loss_fn(outputs, targets) -> [B]"""


def mlp() -> nn.Module:
    """784-1024-1024-10, 1.86 million parameters; inputs [B, 784]."""
    return nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10))


def small_cnn() -> nn.Module:
    """Two convolutions and two linear layers for MNIST, 26 thousand parameters; inputs [B, 1, 28, 28]."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 8, stride=2, padding=3), nn.ReLU(), nn.MaxPool2d(2, stride=1),
        nn.Conv2d(16, 32, 4, stride=2), nn.ReLU(), nn.MaxPool2d(2, stride=1),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes (option B)."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, planes, 3, stride=stride, padding=1)
        self.second = nn.Conv2d(planes, planes, 3, padding=1)
        same = stride == 1 and inputs == planes
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, planes, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.second(F.relu(self.first(x))))


class ResNet(nn.Module):
    """He et al. (2016), section 4.2, without batch norm: 6n + 2 layers, 3 stages of n blocks, 16, 32 and 64 planes."""

    def __init__(self, blocks_per_stage: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        blocks, inputs = [], 16
        for planes, stride in [(16, 1), (32, 2), (64, 2)]:
            for position in range(blocks_per_stage):
                blocks.append(Block(inputs, planes, stride if position == 0 else 1))
                inputs = planes
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(F.relu(self.stem(x))).mean(dim=(2, 3)))


def resnet(layers: int) -> Callable[[], nn.Module]:
    """ResNet-8 has 78 thousand parameters, ResNet-32 466 thousand; inputs [B, 3, 32, 32]."""
    blocks_per_stage, rest = divmod(layers - 2, 6)
    if rest or blocks_per_stage < 1:
        raise ValueError(f"layers is {layers}, must be 6n + 2 with n >= 1")
    return lambda: ResNet(blocks_per_stage)


def vgg11() -> nn.Module:
    """Simonyan and Zisserman's configuration A on 32 x 32 images: 8 convolutions, one linear layer, 9.2 million parameters."""
    layers: list[nn.Module] = []
    inputs = 3
    for planes, pool in [(64, True), (128, True), (256, False), (256, True), (512, False), (512, True), (512, False), (512, True)]:
        layers += [nn.Conv2d(inputs, planes, 3, padding=1), nn.ReLU()]
        if pool:
            layers.append(nn.MaxPool2d(2))
        inputs = planes
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


class TransformerBlock(nn.Module):
    """Pre-LayerNorm: causal self-attention, then two linear layers with GELU, each added to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def attention(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.projection(mixed.transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.contract(F.gelu(self.expand(self.feed_norm(x))))


class GPT(nn.Module):
    """Token and position embeddings, blocks, a last LayerNorm, an untied head; tokens [B, S] -> logits [B, S, vocabulary]."""

    def __init__(self, vocabulary: int, width: int, heads: int, layers: int, context: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device).repeat(len(tokens), 1)
        return self.head(self.norm(self.blocks(self.token(tokens) + self.position(positions))))


def gpt() -> nn.Module:
    """4 layers, width 256, 4 heads, 256 tokens, vocabulary 512; 3.49 million parameters."""
    return GPT(vocabulary=512, width=256, heads=4, layers=4, context=256)


def class_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [B, C] and classes [B]: [B]."""
    return F.cross_entropy(outputs, targets, reduction="none")


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy summed over the tokens of a sequence, logits [B, S, C] and tokens [B, S]: [B]."""
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").sum(dim=1)


@dataclass(frozen=True)
class Problem:
    """A network, its loss and the shape of its batch of random data."""

    network: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    batch_size: int = 128
    classes: int = 10
    tokens: bool = False

    def make(self, seed: int = 0) -> tuple[nn.Module, LossFunction, tuple[Tensor, Tensor]]:
        """The model, loss_fn(outputs, targets) -> [B], and (inputs, targets)."""
        torch.manual_seed(seed)
        model = self.network()
        shape = (self.batch_size, *self.inputs)
        if self.tokens:
            return model, token_loss, (torch.randint(self.classes, shape), torch.randint(self.classes, shape))
        return model, class_loss, (torch.randn(shape), torch.randint(self.classes, shape[:1]))


PROBLEMS = {
    "mlp": Problem(mlp, (784,)),
    "cnn": Problem(small_cnn, (1, 28, 28)),
    "resnet8": Problem(resnet(8), (3, 32, 32)),
    "resnet32": Problem(resnet(32), (3, 32, 32)),
    "vgg11": Problem(vgg11, (3, 32, 32)),
    "gpt": Problem(gpt, (256,), batch_size=16, classes=512, tokens=True),
}
