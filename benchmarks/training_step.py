"""A training step of the C++ networks over the same step of plain torch in Python, both on one machine in turns.

    PYTHONPATH=build/release/python python benchmarks/training_step.py [MODEL ...]

A step is one forward and backward pass of a batch of 128 and one step of SGD with momentum 0.9. In C++ it is the step of
`gradist run`: the time of two runs without measurements in between, one longer than the other, and the difference between
them divided by the difference in steps. In Python it is timed contiguous and channels last, and the faster of the two counts. Prints for
each model the milliseconds of both and C++ over Python: the median over pairs of neighbouring times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import networks
import torch

import gradist

BATCH_SIZE, PAIRS = 128, 7
FEW_STEPS, MANY_STEPS = 2, 42  # fewer are lost in the noise of a busy machine


def write_cifar(folder: Path, examples: int) -> None:
    """Random CIFAR-10 files, as small as a run can be."""
    for name in ("data_batch_1.bin", "test_batch.bin"):
        labels = torch.randint(10, (examples, 1))
        (folder / name).write_bytes(torch.cat([labels, torch.randint(256, (examples, 3072))], 1).to(torch.uint8).numpy().tobytes())


def in_cpp(model: str, folder: Path, **others: str) -> float:
    """Seconds of a step of `gradist run`; `others` are options of it."""

    def run(steps: int) -> float:
        options = {"data": "cifar10", "data_dir": folder, "model": model, "batch_size": BATCH_SIZE, "lr": 1e-4}
        options |= {"iterations": steps, "log_every": steps, "estimator": "sg-b", "measure": "subset", "measure_examples": 3} | others
        with gradist.run(**options, progress=False) as trace:
            seconds = trace.trajectory.seconds
            return float(seconds[-1] - seconds[0])

    return (run(MANY_STEPS) - run(FEW_STEPS)) / (MANY_STEPS - FEW_STEPS)


def in_python(model: str) -> float:
    """Seconds of a step of plain torch, the faster of two layouts."""
    best = float("inf")
    for layout in (torch.contiguous_format, torch.channels_last):
        network, loss_fn, (inputs, targets) = networks.PROBLEMS[model].make()
        network = network.to(memory_format=layout)
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)
        for step in range(MANY_STEPS):
            if step == FEW_STEPS:
                start = time.perf_counter()
            optimizer.zero_grad()
            loss_fn(network(inputs.contiguous(memory_format=layout)), targets).mean().backward()
            optimizer.step()
        best = min(best, (time.perf_counter() - start) / (MANY_STEPS - FEW_STEPS))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet8"])
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads\n{'model':12}{'C++':>10}{'Python':>10}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        write_cifar(Path(folder), BATCH_SIZE)
        for model in parser.parse_args().models:
            times = [(in_cpp(model, Path(folder)), in_python(model)) for _ in range(PAIRS)]
            cpp, python = (statistics.median(each) * 1e3 for each in zip(*times, strict=True))
            ratio = statistics.median(a / b for a, b in times)
            print(f"{model:12}{cpp:8.1f}ms{python:8.1f}ms{ratio:8.2f}")


if __name__ == "__main__":
    main()
