#!/usr/bin/env python
"""What Random Features cost: one model beside a PyTorch script, the paper's whole grid, and how a log point scales.

    benchmarks/rf.py                       all three
    benchmarks/rf.py --parts model         one of model, grid, scaling

**model**: N = 1000, d_in = h_teacher = 100, h_student = 1000, 5,000 steps, log every 100, sg-b, sg-2b, svrg and gc. The
script below trains and measures it in PyTorch as the paper's authors do, variances sampled from 50 estimates, their number in
Table 2 (of image models; for Random Features they say "tens"); `gradist rf` has exact moments, and features, labels and file are
in its time; neither has a test set. One thread each, interleaved rounds, the median of the rounds' ratios; the script once more
with torch's default threads, and once with 10 estimates only.
**grid**: `gradist rf` as it is: 324 models, six estimators, all threads; wall time, processor time and memory.
**scaling**: one log point of six estimators over N and h, in ns for each number of the features.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = [sys.executable, "-m", "gradist", "rf", "--quiet"]
N, D_IN, H_TEACHER, H_STUDENT, BATCH, STEPS, LOG_EVERY, REFRESH_EVERY = 1000, 100, 100, 1000, 10, 5000, 100, 1000
ESTIMATES, FEW_ESTIMATES = 50, 10
RATIO_LIMIT, GRID_SECONDS, GRID_MEMORY = 40, 300, 4 << 30


def peer(threads: int, estimates: int) -> float:
    """The PyTorch script; seconds without the import of torch."""
    import torch
    from torch import nn

    if threads:
        torch.set_num_threads(threads)
    start = time.perf_counter()
    torch.manual_seed(0)
    inputs = torch.randn(N, D_IN)
    teacher, student = (nn.functional.normalize(torch.randn(h, D_IN), dim=1) for h in (H_TEACHER, H_STUDENT))
    outputs = torch.relu(inputs @ teacher.T) @ torch.randn(H_TEACHER)
    labels = (outputs > outputs.mean()).float()
    features = torch.relu(inputs @ student.T)
    model, snapshot = nn.Linear(H_STUDENT, 1), nn.Linear(H_STUDENT, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, weight_decay=1e-4)
    loss_fn = nn.BCEWithLogitsLoss()
    clusters = [torch.arange(BATCH)]

    def gradient(picks: torch.Tensor, of: nn.Linear, weights: torch.Tensor | None = None) -> torch.Tensor:
        losses = nn.functional.binary_cross_entropy_with_logits(of(features[picks]).squeeze(1), labels[picks], reduction="none")
        loss = losses.mean() if weights is None else (weights * losses).sum()
        return torch.cat([each.reshape(-1) for each in torch.autograd.grad(loss, list(of.parameters()))])

    def sg(size: int) -> torch.Tensor:
        return gradient(torch.randint(N, (size,)), model)

    def svrg() -> torch.Tensor:
        picks = torch.randint(N, (BATCH,))
        return gradient(picks, model) - gradient(picks, snapshot) + snapshot_gradient

    def gc() -> torch.Tensor:
        picks = torch.stack([members[torch.randint(len(members), ())] for members in clusters])
        return gradient(picks, model, torch.tensor([len(members) / N for members in clusters]))

    def refresh() -> torch.Tensor:
        """The snapshot, and ten steps of clustering the gradients r_i [phi_i; 1] themselves."""
        snapshot.load_state_dict(model.state_dict())
        with torch.no_grad():
            residuals = torch.sigmoid(model(features).squeeze(1)) - labels
            gradients = residuals[:, None] * torch.cat([features, torch.ones(N, 1)], 1)
            centers = gradients[torch.randperm(N)[:BATCH]]
            sizes = torch.zeros(BATCH)
            for _ in range(10):
                assignments = ((sizes + 1) * torch.cdist(gradients, centers) ** 2).argmin(1)
                sizes = torch.bincount(assignments, minlength=BATCH).float()
                sums = torch.zeros_like(centers).index_add_(0, assignments, gradients)
                centers = torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1), centers)
            clusters[:] = [members for k in range(BATCH) if len(members := (assignments == k).nonzero().squeeze(1))]
        return gradient(torch.arange(N), snapshot)

    estimators = [lambda: sg(BATCH), lambda: sg(2 * BATCH), svrg, gc]
    order, used = torch.randperm(N), 0
    for step in range(STEPS + 1):
        if step % REFRESH_EVERY == 0:
            snapshot_gradient = refresh()
        if step % LOG_EVERY == 0:
            for estimator in estimators:
                draws = torch.stack([estimator() for _ in range(estimates)])
                draws.var(0).mean().item(), (draws.var(0) / (draws**2).mean(0).clamp(min=1e-12)).mean().item()
        if step < STEPS:
            if used + BATCH > N:
                order, used = torch.randperm(N), 0
            picks, used = order[used : used + BATCH], used + BATCH
            optimiser.zero_grad()
            loss_fn(model(features[picks]).squeeze(1), labels[picks]).backward()
            optimiser.step()
    return time.perf_counter() - start


def peer_in_a_process(threads: int, estimates: int = ESTIMATES) -> float:
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, __file__, "--peer", str(threads), str(estimates)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def ours(folder: str) -> float:
    import gradist

    start = time.perf_counter()
    sweep = gradist.rf.sweep(
        n=[N], d_in=[D_IN], h_teacher=[H_TEACHER], h_student=[H_STUDENT], lr=[0.01], seeds=[0], batch_size=[BATCH],
        iterations=STEPS, log_every=LOG_EVERY, refresh_every=REFRESH_EVERY, estimators=["sg-b", "sg-2b", "svrg", "gc"],
        test_examples=1, threads=1, out=Path(folder) / "model.h5", overwrite=True, progress=False,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    assert sweep.complete == 1
    return seconds


def model(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours(folder)  # imports
        pairs = [(peer_in_a_process(1), ours(folder)) for _ in range(rounds)]
    ratio = statistics.median(theirs / own for theirs, own in pairs)
    theirs, own = (statistics.median(each) for each in zip(*pairs, strict=True))
    print(f"one model, one thread: PyTorch {theirs:.2f} s, gradist {own:.3f} s; PyTorch / gradist {ratio:.0f} (at least {RATIO_LIMIT})")
    print(f"the script with torch's default threads: {peer_in_a_process(0):.2f} s")
    fewer = peer_in_a_process(1, FEW_ESTIMATES)
    print(f"the script with {FEW_ESTIMATES} estimates only, one thread: {fewer:.2f} s, ratio {fewer / own:.0f}")


def grid(out: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([*PROGRAM, "--out", out or str(Path(folder) / "grid.h5")], check=True)
        seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"the whole grid, 324 models, {len(os.sched_getaffinity(0))} CPUs: {seconds:.0f} s (limit {GRID_SECONDS}), "
        f"{processor:.0f} s of processor time; {after.ru_maxrss / 1024:.0f} MiB (limit {GRID_MEMORY >> 20})"
    )


def scaling() -> None:
    """Time of a model that makes no more steps than it logs, over its numbers: features are small, so log points are all."""
    import gradist

    points = 51
    print("one log point, six estimators, one thread: ns for each of the N x h numbers, with its step of SGD and test set of one")
    print("      N      h   ms a point   ns a number")
    for n, h in [(1000, 500), (1000, 1000), (1000, 2000), (2000, 1000), (4000, 1000), (8000, 1000)]:
        timed = []
        for log_points in (1, points):
            rounds = []
            for _ in range(3):
                start = time.perf_counter()
                gradist.rf.sweep(
                    n=[n], d_in=[4], h_teacher=[4], h_student=[h], lr=[0.01], seeds=[0], iterations=log_points, log_every=1,
                    refresh_every=10**6, test_examples=1, threads=1, progress=False,
                ).close()  # fmt: skip
                rounds.append(time.perf_counter() - start)
            timed.append(statistics.median(rounds))
        seconds = (timed[1] - timed[0]) / (points - 1)
        print(f"{n:7,} {h:6,} {1e3 * seconds:12.3f} {1e9 * seconds / (n * h):13.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="model,scaling,grid")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", help="keep the grid's sweep in this file")
    parser.add_argument("--peer", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer is not None:
        print(peer(*options.peer))
        return 0
    parts = options.parts.split(",")
    if "model" in parts:
        model(options.rounds)
    if "scaling" in parts:
        scaling()
    if "grid" in parts:
        grid(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
