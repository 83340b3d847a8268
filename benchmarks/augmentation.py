"""What augmentation costs beside a training step of ResNet-8.

    PYTHONPATH=build/release/python python benchmarks/augmentation.py [MODEL ...]

Prints for each model the milliseconds of a step of `gradist run` with a batch of 128 (training_step.py says how they are
measured) by plain images and by `--augment crop-flip`, and their ratio: the median over pairs of neighbouring times.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from training_step import BATCH_SIZE, PAIRS, in_cpp, write_cifar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["resnet8"])
    print(f"{torch.get_num_threads()} threads\n{'model':12}{'plain':>10}{'crop-flip':>11}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        write_cifar(Path(folder), 4 * BATCH_SIZE)
        for model in parser.parse_args().models:
            pairs = [(in_cpp(model, Path(folder)), in_cpp(model, Path(folder), augment="crop-flip")) for _ in range(PAIRS)]
            plain, augmented = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(b / a for a, b in pairs)
            print(f"{model:12}{plain:8.1f} ms{augmented:9.1f} ms{ratio:8.3f}", flush=True)


if __name__ == "__main__":
    main()
