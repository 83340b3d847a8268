"""`gradist.load_data`: the data sets of `gradist run` as tensors."""

from __future__ import annotations

import os
from typing import NamedTuple

from torch import Tensor

from gradist import _core

__all__ = ["DataSplit", "load_data"]


class DataSplit(NamedTuple):
    """Training and test set, each a pair (inputs, targets) with the examples in dimension 0."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load_data(data: str = "digits", data_dir: str | os.PathLike[str] = "", *, standardize: bool = True) -> DataSplit:
    """The training and test set that `gradist run --data NAME --data-dir DIR` would take.

    Args:
        data: name of the data set; "digits", handwritten digits in rows of 8 x 8 pixels, comes with gradist.
        data_dir: folder of the data set's own files.
        standardize: whether mean and deviation of the training set are taken out.

    Returns:
        Inputs float32, images [N, channels, height, width]; targets [N], int64 classes.

    Raises:
        ValueError: an unknown name, or a file that breaks the format's rules.

    Example:
        >>> train, test = gradist.load_data("digits")
        >>> gradist.measure(model, loss_fn, train)
    """
    inputs, targets, test_inputs, test_targets = _core.load_data(data=data, data_dir=os.fspath(data_dir), standardize=standardize)
    return DataSplit((inputs, targets), (test_inputs, test_targets))
