"""`gradist.load_data`: the data sets of `gradist run` as tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from gradist import _core
from gradist.trajectory import _in_python_words

__all__ = ["DataSplit", "load_data"]


class DataSplit(NamedTuple):
    """Training and test set, each a pair (inputs, targets) with the examples in dimension 0."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load_data(
    data: str = "digits",
    data_dir: str | os.PathLike[str] = "",
    *,
    standardize: bool = True,
    targets: str = "classes",
    target_column: str = "last",
    hdf5_train: str | Sequence[str] = ("train/inputs", "train/targets"),
    hdf5_test: str | Sequence[str] = ("test/inputs", "test/targets"),
) -> DataSplit:
    """The training and test set that `gradist run --data NAME --data-dir DIR` would take.

    Args:
        data: name of the data set; "digits", handwritten digits in rows of 8 x 8 pixels, comes with gradist.
        data_dir: folder of the data set's own files.
        standardize: whether mean and deviation of the training set are taken out, of numeric targets too; sparse data stay.
        targets: what the labels of "csv", "libsvm" and "hdf5" are, "classes" or "numbers".
        target_column: where "csv" has them, "first" or "last".
        hdf5_train: inputs and targets of "hdf5", each NAME in its only file or FILE:NAME.
        hdf5_test: those of the test set.

    Returns:
        Inputs float32: tables [N, features], sparse CSR for "libsvm"; images [N, channels, height, width]. Targets [N]: classes
        0, 1, ... in int64, or float32 numbers for regression.

    Raises:
        ValueError: an unknown name, or a file that breaks the format's rules.

    Example:
        >>> train, test = gradist.load_data("digits")
        >>> gradist.measure(model, loss_fn, train)
    """
    try:
        loaded = _core.load_data(
            data=data, data_dir=os.fspath(data_dir), standardize=standardize, targets=targets, target_column=target_column,
            hdf5_train=_places(hdf5_train), hdf5_test=_places(hdf5_test),
        )  # fmt: skip
    except ValueError as error:
        raise ValueError(_in_python_words(str(error))) from None
    return DataSplit(loaded[:2], loaded[2:])


def _places(names: str | Sequence[str]) -> list[str]:
    return names.split(",") if isinstance(names, str) else list(names)
