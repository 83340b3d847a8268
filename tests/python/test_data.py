"""`gradist.load_data`."""

import h5py
import numpy as np
import pytest
import torch

import gradist


def test_digits_are_rows_of_pixels_with_labels():
    train, test = gradist.load_data("digits")
    for (inputs, targets), examples in ((train, 3823), (test, 1797)):
        assert inputs.shape == (examples, 64)
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert set(targets.tolist()) == set(range(10))
    assert abs(float(train[0].double().mean())) < 1e-6
    assert abs(float(train[0].double().std(correction=0)) - 1) < 1e-6


def test_raw_pixels():
    inputs = gradist.load_data("digits", standardize=False).train[0]
    assert inputs.min() == 0
    assert inputs.max() == 1


@pytest.mark.parametrize("arguments, message", [(("letters",), "data = letters"), (("mnist", "nowhere"), "nowhere")])
def test_mistakes_are_value_errors_of_one_line(arguments, message):
    with pytest.raises((ValueError, OSError), match=message) as error:
        gradist.load_data(*arguments)
    assert "\n" not in str(error.value)


def write_table(root, rows, scale=1.0):
    for part in ("train", "test"):
        np.savetxt(root / f"{part}.csv", scale * np.array(rows), delimiter=",")


def test_labels_of_tables_are_classes_or_numbers_in_the_column_asked_for(tmp_path):
    write_table(tmp_path, [[7, 0.5, 2], [-1, 1.5, 3], [7, 2.5, 4]])
    classes, numbers = (
        gradist.load_data("csv", tmp_path, standardize=False, targets=targets, target_column="first") for targets in ("classes", "numbers")
    )
    for (inputs, targets), expected in ((classes.train, torch.tensor([1, 0, 1])), (numbers.test, torch.tensor([7.0, -1.0, 7.0]))):
        torch.testing.assert_close(inputs, torch.tensor([[0.5, 2], [1.5, 3], [2.5, 4]]), rtol=0, atol=0)
        torch.testing.assert_close(targets, expected, rtol=0, atol=0)
    last = gradist.load_data("csv", tmp_path, targets="numbers").train[1]
    torch.testing.assert_close(last, torch.tensor([-1.0, 0.0, 1.0]) * 1.5**0.5)  # standardised: deviation (2/3)^(1/2)


@pytest.mark.parametrize("train", ["x,y", ("a.h5:x", "a.h5:y")])
def test_hdf5_data_sets_are_taken_by_name(train, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = np.eye(3), np.array([5, 4, 5])
        file["other x"], file["other y"] = np.ones((2, 3)), np.array([4, 4])
    loaded = gradist.load_data("hdf5", tmp_path, standardize=False, hdf5_train=train, hdf5_test=["other x", "other y"])
    assert torch.equal(loaded.train[0], torch.eye(3)) and loaded.train[1].tolist() == [1, 0, 1]
    assert torch.equal(loaded.test[0], torch.ones(2, 3)) and loaded.test[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"targets": "words"}, "targets = words, must be one of classes, numbers"),
        ({"target_column": "third"}, "target_column = third, must be first or last"),
        ({"hdf5_train": "x"}, "hdf5_train = x"),
    ],
)
def test_wrong_options_are_named_as_python_names_them(options, message):
    with pytest.raises(ValueError) as error:
        gradist.load_data("digits", **options)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
