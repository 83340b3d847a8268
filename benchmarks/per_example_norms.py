#!/usr/bin/env python
"""What all squared gradient norms and the mean gradient cost beside a plain forward and backward pass.

For each network of networks.py one batch of random data, float32 on the CPU (or `--device cuda`): the time of every method over
that of the plain pass of the same batch, which leaves the gradient of the summed loss in .grad. Every method gives both, ||g_i||^2
for each example i and sum_i g_i. All in one process and interleaved round by round, the order rotated; the ratio is the median of
the rounds'. Before any timing, every method must give the norms of one-by-one autograd to 1e-3 and the gradient of the plain pass to
1e-2. gradient_norms and torch.func own their loop, so they choose chunk and memory format; one row says what images that are
channels last give the plain pass, another what its products of matrices take alone. Peak memory is that of a step in a process of
its own, above model, data and imports.

Page faults are shown because they explain much of the times: glibc hands the top of its heap back to the system when more than
64 MiB of it are free, so a pass that needs more faults it in anew each time. MALLOC_TRIM_THRESHOLD_=4294967296 with
MALLOC_MMAP_THRESHOLD_=4294967296 in the environment takes them out.

Peers are measured where they are installed: backpack-for-pytorch, opacus; torch.func comes with torch.

    benchmarks/per_example_norms.py                                 # all networks, all methods
    benchmarks/per_example_norms.py --models resnet8,gpt --rounds 31 --json norms.json
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import importlib.metadata
import json
import platform
import resource
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from networks import PROBLEMS, LossFunction
from norm_methods import METHODS, NO_NORMS, OWN_LOOP, Answer, Data, Step, Unfit, plain, seconds_of

NORM_TOLERANCE = 1e-3
GRADIENT_TOLERANCE = 1e-2  # a ReLU's input within rounding of 0 falls on either side: one such moves the sum by some 1e-3
MIB = 2**20
SHORTEST = 0.05
TARGETS = {
    "mlp": {"gradist per_example": 1.02, OWN_LOOP: 1.02},
    "cnn": {"gradist per_example": 1.15, OWN_LOOP: 1.15},
    "resnet8": {"gradist per_example": 1.10, OWN_LOOP: 1.10},
    "resnet32": {"gradist per_example": 1.08, OWN_LOOP: 1.08},
    "vgg11": {"gradist per_example": 1.15, OWN_LOOP: 1.15},
    "gpt": {"gradist per_example": 1.00, OWN_LOOP: 0.90},
}


# Holding the methods to the truth.


def one_by_one(model: nn.Module, loss_fn: LossFunction, data: Data) -> Tensor:
    """Squared norms [B] by autograd, one example at a time."""
    parameters = list(model.parameters())
    norms = []
    for x, y in zip(data[0].split(1), data[1].split(1), strict=True):
        gradient = torch.autograd.grad(loss_fn(model(x), y).sum(), parameters)
        norms.append(torch.stack([each.double().square().sum() for each in gradient]).sum())
    return torch.stack(norms)


def disagreement(answer: Answer, norms: Tensor, gradient: dict[str, Tensor]) -> str:
    """Why the answer is wrong, in a line; empty if it agrees. The plain passes have no norms."""
    found, found_gradient = answer
    if found is not NO_NORMS:
        error = ((found.double() - norms).abs() / norms).max().item()
        if not error <= NORM_TOLERANCE:
            return f"wrong: norms off by {error:.0e} of one-by-one autograd"
    difference = sum((found_gradient[name] - each).double().square().sum().item() for name, each in gradient.items())
    error = (difference / sum(each.double().square().sum().item() for each in gradient.values())) ** 0.5
    return "" if error <= GRADIENT_TOLERANCE else f"wrong: mean gradient off by {error:.0e} of the plain one"


# Time and memory.


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@dataclass
class Timings:
    """What a step took in each round."""

    seconds: list[float] = field(default_factory=list)
    page_faults: list[float] = field(default_factory=list)


def interleaved(steps: dict[str, Step], rounds: int) -> dict[str, Timings]:
    """Every round begins with another step, and takes every step for SHORTEST seconds at least, by repeating it."""
    timings = {name: Timings() for name in steps}
    repeats = {name: max(1, round(SHORTEST / seconds_of(step))) for name, step in steps.items()}
    names = list(steps)
    for round_ in range(rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            faults = page_faults()
            timings[name].seconds.append(seconds_of(steps[name], repeats[name]))
            timings[name].page_faults.append((page_faults() - faults) / repeats[name])
    return timings


def resident(which: str) -> int:
    """Bytes of this process that are in memory now ("VmRSS"), or were at most since the last reset ("VmHWM").

    Not by getrusage: a new process inherits ru_maxrss from the one that started it, and it cannot be reset.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(which))


def made(problem: str, device: str) -> tuple[nn.Module, LossFunction, Data]:
    model, loss_fn, (inputs, targets) = PROBLEMS[problem].make()
    return model.to(device), loss_fn, (inputs.to(device), targets.to(device))


def print_memory(problem: str, method: str, device: str) -> None:
    """In a process of its own: the peak of a step, above model, data and imports. What choosing a way took first is not in it."""
    model, loss_fn, (inputs, targets) = made(problem, device)
    METHODS[method](copy.deepcopy(model), loss_fn, (inputs[:1], targets[:1]))()  # imports, and what torch loads when it is needed
    before = torch.cuda.memory_allocated() if device == "cuda" else resident("VmRSS")
    step = METHODS[method](model, loss_fn, (inputs, targets))
    step()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        print(torch.cuda.max_memory_allocated() - before)
        return
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    step()
    print(resident("VmHWM") - before)


def memory_of(problem: str, method: str, options: argparse.Namespace) -> int:
    command = [sys.executable, __file__, "--memory-of", problem, method, "--threads", str(options.threads), "--device", options.device]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


# One network, measured and shown.


def reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"skipped: {error}"
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text if len(text) <= 90 else text[:87] + '...'}"


def prepare(problem: str, methods: list[str], device: str) -> tuple[dict[str, Step], dict[str, str]]:
    """The steps of the methods that answer rightly, warmed up, and why the others do not."""
    model, loss_fn, data = made(problem, device)
    norms = one_by_one(model, loss_fn, data)
    steps = {"plain": plain(copy.deepcopy(model), loss_fn, data)}
    gradient = steps["plain"]()[1]
    failures = {}
    for name in methods:
        try:
            step = METHODS[name](copy.deepcopy(model), loss_fn, data)
            failure = disagreement(step(), norms, gradient)
            step()
        except Unfit:
            continue
        except Exception as error:  # whatever stops a peer is shown in its row
            failure = reason(error)
        if failure:
            failures[name] = failure
        else:
            steps[name] = step
    return steps, failures


def measure(problem: str, methods: list[str], options: argparse.Namespace) -> dict[str, Any]:
    steps, failures = prepare(problem, methods, options.device)
    timings = interleaved(steps, options.rounds)
    rows: dict[str, Any] = {}
    for name in (each for each in METHODS if each in timings or each in failures):
        rows[name] = {"target": TARGETS[problem].get(name)}
        if name in failures:
            rows[name]["failure"] = failures[name]
            continue
        seconds = timings[name].seconds
        ratios = sorted(each / base for each, base in zip(seconds, timings["plain"].seconds, strict=True))
        rows[name]["milliseconds"] = 1e3 * statistics.median(seconds)
        rows[name]["ratio"] = statistics.median(ratios)
        rows[name]["ratio_quartiles"] = [ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]]
        rows[name]["page_faults"] = statistics.median(timings[name].page_faults)
        if options.memory and sys.platform == "linux":
            rows[name]["memory_bytes"] = memory_of(problem, name, options)
    return {
        "batch_size": PROBLEMS[problem].batch_size,
        "parameters": sum(each.numel() for each in PROBLEMS[problem].network().parameters()),
        "rounds": options.rounds,
        "methods": rows,
    }


def best_peer(rows: dict[str, Any]) -> float | None:
    peers = [row["ratio"] for name, row in rows.items() if not name.startswith(("plain", "gradist")) and "ratio" in row]
    return min(peers, default=None)


def verdict(name: str, rows: dict[str, Any]) -> str:
    row, target, peer = rows[name], rows[name]["target"], best_peer(rows)
    if target is None:
        return ""
    if "ratio" not in row:
        return f"<= {target:.2f} missed"
    words = f"<= {target:.2f} {'reached' if row['ratio'] <= target else 'missed'}"
    if name == OWN_LOOP and peer is not None:
        words += f", {'below' if row['ratio'] < peer else 'above'} the best peer"
    return words


def show(problem: str, result: dict[str, Any]) -> None:
    rows = result["methods"]
    print(f"\n{problem}: {result['parameters']:,} parameters, B = {result['batch_size']}, {result['rounds']} rounds")
    print(f"  {'method':24}{'ms':>9}{'ratio':>8}  {'quartiles':14}{'faults':>8}{'MiB':>7}{'over plain':>12}  target")
    for name, row in rows.items():
        if "failure" in row:
            print(f"  {name:24}{row['failure']}  {verdict(name, rows)}".rstrip())
            continue
        quartiles = "{:.2f} to {:.2f}".format(*row["ratio_quartiles"])
        memory = over = ""
        if "memory_bytes" in row:
            memory = f"{row['memory_bytes'] / MIB:.0f}"
            over = f"{(row['memory_bytes'] - rows['plain']['memory_bytes']) / MIB:+.0f}"
        print(f"  {name:24}{row['milliseconds']:>9.1f}{row['ratio']:>8.2f}  {quartiles:14}{row['page_faults']:>8.0f}"
              f"{memory:>7}{over:>12}  {verdict(name, rows)}".rstrip())  # fmt: skip
    sys.stdout.flush()


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "gradist", "backpack-for-pytorch", "opacus"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if found["gradist"] == "not installed":  # a build's own folder has no metadata
        try:
            import gradist

            found["gradist"] = gradist.__version__
        except ImportError:
            pass
    return found


def names(known: dict[str, Any]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = [each.strip() for each in text.split(",")]
        if unknown := [each for each in chosen if each not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is unknown, must be among {', '.join(known)}")
        return chosen

    return parse


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names(PROBLEMS), default=list(PROBLEMS), help=f"of {','.join(PROBLEMS)}")
    parser.add_argument("--methods", type=names(METHODS), default=list(METHODS), help=f"of {','.join(METHODS)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the peak memory (Linux only)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--memory-of", nargs=2, metavar=("MODEL", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device is cuda, must be cpu where torch finds no device")
    for name in ("rounds", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}, must be at least 1")
    return options


def main() -> int:
    options = parse_options()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", UserWarning)  # torch's about the peers: their hooks, missing batching rules
    if options.memory_of:
        print_memory(*options.memory_of, options.device)
        return 0
    device = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    machine: dict[str, Any] = {"processor": device, "threads": torch.get_num_threads(), "versions": versions()}
    print(", ".join([machine["processor"], f"{machine['threads']} threads",
                     *(f"{name} {version}" for name, version in machine["versions"].items())]))  # fmt: skip
    print("ratio: squared norms and mean gradient over the plain forward and backward pass, median of interleaved rounds")
    results = {}
    for problem in options.models:
        results[problem] = measure(problem, [name for name in options.methods if name != "plain"], options)
        show(problem, results[problem])
        if options.json:
            options.json.write_text(json.dumps(machine | {"models": results}, indent=2) + "\n")
    failures = [row for result in results.values() for name, row in result["methods"].items() if "wrong" in row.get("failure", "")]
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
