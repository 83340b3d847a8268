#!/usr/bin/env python
"""What a refresh of the clusters costs beside a plain epoch, and the descent beside k-means.

MLP 784-1024-1024-10 on MNIST, or ResNet-8 (networks.py) on 10,000 images of CIFAR-10, float32, K = 128. Prints

* a whole refresh by descent (sketches, at most 10 sweeps from the former clusters, exact objective and guard), and a whole one by the
  paper's algorithm (start, 10 A + U steps and guard) divided by its steps, over one plain epoch of forward and backward passes by
  PyTorch (minibatches of 128). Medians of several rounds, each round all of them.
* seconds of the kinds of work of the paper's refresh, one step each, beside the multiply-adds that its Table 1 counts.
* sketches of the same gradients in rows: seconds and objective J = sum_k N_k SSE_k on these rows, of the descent (10 sweeps from a
  random partition; 3 s at most are to do for 60,000 rows on one core, `--threads 1`) and, if faiss is installed (`pip install
  faiss-cpu`), of its k-means (10 iterations, all rows).

    benchmarks/clustering.py --data-dir ../shared/data/mnist --threads 1
    benchmarks/clustering.py --model resnet8 --data-dir ../shared/data/cifar10
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import gradist
from gradist import _core
from cases import CASES, add_case_options, load_case, plain_epoch, positive, train

CLUSTERS = 128
SWEEPS = 10
SIDE = 16
LLOYD_STEPS = 10
TARGETS = {"descent": 1.6, "A + U step": 2.0}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def sketches(model: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
    """Sketches of all single-example gradients, 16 x 16 numbers a parameter, [N, D]."""
    rows = []
    for x, y in zip(inputs.split(500), targets.split(500), strict=True):
        with gradist.per_example(model) as px:
            loss_fn(model(x), y).sum().backward()
        rows.append(px._gradients().sketch(SIDE, 0))  # parameter by parameter, as the descent has them
    model.zero_grad()
    return torch.cat(rows).contiguous()


def objective(rows: Tensor, assignments: Tensor) -> float:
    """J = sum_k N_k sum ||x_i||^2 - ||sum x_i||^2 in float64."""
    rows = rows.double()
    sums = torch.zeros(CLUSTERS, rows.shape[1], dtype=torch.float64).index_add_(0, assignments, rows)
    norms = torch.zeros(CLUSTERS, dtype=torch.float64).index_add_(0, assignments, rows.square().sum(1))
    return float((torch.bincount(assignments, minlength=CLUSTERS) * norms - sums.square().sum(1)).sum())


def beside_kmeans(rows: Tensor) -> None:
    together = objective(rows, torch.zeros(len(rows), dtype=torch.int64)) / CLUSTERS  # SG-B's variance as an objective
    start = time.perf_counter()
    assignments, history = _core.cluster_rows(rows, clusters=CLUSTERS, sweeps=SWEEPS, seed=0)
    spent = time.perf_counter() - start
    one_core = ", to reach 3.0 s" if torch.get_num_threads() == 1 else ""
    print(f"descent on rows [{len(rows)}, {rows.shape[1]}]: {spent:.2f} s, J over SG-B's {objective(rows, assignments) / together:.3f}, "
          f"{len(history) - 1} sweeps" + one_core)  # fmt: skip
    try:
        import faiss
    except ImportError:
        print("faiss k-means: not installed")
        return
    faiss.omp_set_num_threads(torch.get_num_threads())
    start = time.perf_counter()
    kmeans = faiss.Kmeans(rows.shape[1], CLUSTERS, niter=SWEEPS, seed=1, max_points_per_centroid=len(rows))
    kmeans.train(rows.numpy())
    nearest = torch.from_numpy(kmeans.index.search(rows.numpy(), 1)[1][:, 0])
    spent = time.perf_counter() - start
    print(f"faiss k-means on the same rows: {spent:.2f} s, J over SG-B's {objective(rows, nearest) / together:.3f}")


def table_1(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """Multiply-adds for all examples by [Faghri20] Table 1, I inputs, O outputs and S positions a layer: forming and comparing as
    gradist does, by the cheaper of Eqs. 8 and 9."""
    counts = dict.fromkeys(("gradients", "A step", "U step"), 0.0)
    examples = len(inputs)

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        O, I = layer.weight.shape[0], layer.weight[0].numel()  # noqa: E741
        S = 1 if isinstance(layer, nn.Linear) else output[0, 0].numel()
        counts["gradients"] += 3 * examples * S * I * O  # forward, and backward to inputs and to weights
        counts["A step"] += examples * CLUSTERS * (I + O if S == 1 else min(S * (I + O), I * O))
        counts["U step"] += examples * (I + O if S == 1 else I * O)

    hooks = [each.register_forward_hook(count) for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        model(inputs[:1])
    for hook in hooks:
        hook.remove()
    return counts


def print_steps(made: gradist.Clustering, counts: dict[str, float]) -> None:
    """One line a kind of work; the gradients' time is that of the whole refresh, one pass and reading them back in each step."""
    print(f"{'one step of':12}{'seconds':>10}{'multiply-adds':>16}{'1e9 / s':>10}")
    for kind, count in counts.items():
        spent = made.seconds[kind] / (1 if kind == "gradients" else LLOYD_STEPS)
        print(f"{kind:12}{spent:10.3f}{count:16.2e}{count / spent / 1e9:10.1f}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_case_options(parser, model="mlp")
    parser.add_argument("--steps", type=int, default=300, help="SGD steps before the first clustering, and from it to the next")
    parser.add_argument("--rounds", type=positive, default=3)
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    case = CASES[options.model]
    model, data = load_case(options)
    inputs, targets = data
    loss_fn = nn.CrossEntropyLoss(reduction="none")
    train(model, inputs, targets, options.steps, case)
    former = gradist.cluster(model, loss_fn, data, k=CLUSTERS, method="descent", iterations=SWEEPS)
    train(model, inputs, targets, options.steps, case)
    print(f"{options.model}, {len(inputs)} examples, K = {CLUSTERS}, {torch.get_num_threads()} threads", flush=True)

    def clustered(method: str, iterations: int, **more: object) -> gradist.Clustering:
        return gradist.cluster(model, loss_fn, data, k=CLUSTERS, method=method, iterations=iterations, **more)

    ratios: dict[str, list[float]] = {name: [] for name in TARGETS}
    lloyd: gradist.Clustering | None = None
    for round_ in range(options.rounds):
        plain = plain_epoch(model, inputs, targets)
        model.zero_grad()
        spent = {"descent": seconds(lambda: clustered("descent", SWEEPS, start=former))}
        start = time.perf_counter()
        lloyd = clustered("lloyd", LLOYD_STEPS)
        spent["A + U step"] = (time.perf_counter() - start) / LLOYD_STEPS
        for name, value in spent.items():
            ratios[name].append(value / plain)
        print(f"round {round_ + 1}: plain epoch {plain:.2f} s, " + ", ".join(f"{name} {value:.2f} s" for name, value in spent.items()), flush=True)
    for name, values in ratios.items():
        print(f"{name} / plain epoch: {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}), to reach {TARGETS[name]}")
    print_steps(lloyd, table_1(model, inputs))
    beside_kmeans(sketches(model, loss_fn, inputs, targets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
