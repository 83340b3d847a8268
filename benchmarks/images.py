"""Images of the data sets the benchmarks measure on, read from the sets' own files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy
import torch
from torch import Tensor

__all__ = ["IMAGES", "Images"]


def read(path: Path, header: int = 0) -> numpy.ndarray:
    with gzip.open(path) as file:
        return numpy.frombuffer(file.read(), numpy.uint8, offset=header)


def standardised(pixels: numpy.ndarray) -> Tensor:
    scaled = torch.from_numpy(pixels.astype(numpy.float32))
    return (scaled - scaled.mean()) / scaled.std()


def mnist(folder: Path, examples: int) -> tuple[Tensor, Tensor]:
    """Training images [N, 784] and labels [N], from the IDX files."""
    pixels = read(folder / "train-images-idx3-ubyte.gz", header=16).reshape(-1, 784)
    labels = read(folder / "train-labels-idx1-ubyte.gz", header=8)
    return standardised(pixels[:examples]), torch.from_numpy(labels[:examples].astype(numpy.int64))


def cifar10(folder: Path, examples: int) -> tuple[Tensor, Tensor]:
    """Images [N, 3, 32, 32] and labels [N] of the first training batch: records of one label byte and 3,072 pixels."""
    records = read(folder / "data_batch_1.bin.gz").reshape(-1, 3073)[:examples]
    return standardised(records[:, 1:].reshape(-1, 3, 32, 32)), torch.from_numpy(records[:, 0].astype(numpy.int64))


@dataclass(frozen=True)
class Images:
    """A data set: its folder beside the others, a file it cannot do without, and its reader."""

    folder: str
    file: str
    read: Callable[[Path, int], tuple[Tensor, Tensor]]

    def found_in(self, folder: Path) -> bool:
        return (folder / self.file).exists()


IMAGES = {
    "mnist": Images("mnist", "train-images-idx3-ubyte.gz", mnist),
    "cifar10": Images("cifar10", "data_batch_1.bin.gz", cifar10),
}
