"""`gradist.load_data`."""

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
