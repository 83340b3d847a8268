"""How long the readers of real data take: from the files to tensors in [0, 1], in seconds, the least of five times.

    PYTHONPATH=build/release/python python benchmarks/readers.py DATA

DATA is the folder with the folders mnist, fashion-mnist and cifar10; a data set that is not there is left out, by name.
Prints a line a data set: examples, seconds, seconds with standardisation too.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch  # noqa: F401  the core links against its libraries

from gradist import _core

REPEATS = 5


def seconds(name: str, folder: Path, standardize: bool) -> tuple[float, int]:
    """The least time of a few, and how many examples were read."""
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        train, _, test, _ = _core.load_data(data=name, data_dir=str(folder), standardize=standardize)
        best = min(best, time.perf_counter() - start)
    return best, len(train) + len(test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    folder = parser.parse_args().data
    print(f"{'data':15}{'examples':>10}{'read':>10}{'standardized':>14}")
    for name in ("mnist", "fashion-mnist", "cifar10"):
        if not (folder / name).is_dir():
            print(f"{name:15}  not there")
            continue
        read, examples = seconds(name, folder / name, standardize=False)
        both, _ = seconds(name, folder / name, standardize=True)
        print(f"{name:15}{examples:10,}{read:9.3f}s{both:13.3f}s")


if __name__ == "__main__":
    main()
