"""Clusters of examples by their gradients."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from gradist import _core
from gradist.probe import Data, LossFunction, ModelSource, check_separable, unchanged

__all__ = ["Clustering", "cluster"]


class Clustering:
    """A partition of N examples into K clusters: one of your own by its assignments, or what `cluster` made.

    Args:
        assignments: cluster of every example, [N] whole numbers from 0 on; a tensor, an array or a list.
    """

    def __init__(self, assignments: Any) -> None:
        self._core = _core.Clustering(torch.as_tensor(assignments))
        self._memory: _core.DescentMemory | None = None

    @classmethod
    def _of(cls, core: _core.Clustering, memory: _core.DescentMemory | None = None) -> Clustering:
        made = cls.__new__(cls)
        made._core = core
        made._memory = memory
        return made

    @property
    def assignments(self) -> Tensor:
        """Cluster of every example, [N] int64."""
        return self._core.assignments

    @property
    def sizes(self) -> Tensor:
        """Examples in every cluster, [K] int64."""
        return torch.tensor(self._core.sizes)

    @property
    def objective(self) -> float:
        """J = sum_k N_k SSE_k, exact, at the parameters where `cluster` made it; NaN for one of your own."""
        return self._core.objective if self.scatter is not None else math.nan

    @property
    def scatter(self) -> Tensor | None:
        """N_k^2 V_k = N_k SSE_k of every cluster, [K] float64, exact: what each adds to the objective. None for one of your own."""
        scatter = self._core.scatter
        return torch.tensor(scatter, dtype=torch.float64) if scatter else None

    @property
    def history(self) -> list[float]:
        """J after each step of the algorithm, as the algorithm sees it; empty for one of your own."""
        return self._core.history

    def __len__(self) -> int:
        return len(self._core.sizes)

    def __repr__(self) -> str:
        return f"<gradist.Clustering: {len(self.assignments)} examples in {len(self)} clusters>"


def cluster(
    model: nn.Module,
    loss_fn: LossFunction,
    data: Data,
    k: int = 128,
    method: str = "lloyd",
    *,
    iterations: int = 10,
    start: Clustering | None = None,
    memory: float = 0.5,
    seed: int = 0,
    max_memory: int = 0,
) -> Clustering:
    """Clusters the examples by their gradients at the model's present parameters. [Faghri20]

    Args:
        model: any module; its state is left as it is.
        loss_fn: loss_fn(outputs, targets) -> [B], one loss an example.
        data: inputs and targets of all N examples, or a torch Dataset of such pairs, which is read once into tensors.
        k: clusters, at most N.
        method: "lloyd", the paper's algorithm with rank-1 centers; or "descent", moves of single examples on sketches of
            their gradients, each of which lowers the objective.
        iterations: of "lloyd", A and U steps, a pass over the examples each; of "descent", sweeps over the sketches, at most
            (one pass over the examples makes them).
        start: clusters that "descent" begins at, such as those of an earlier iteration; without, a random partition.
        memory: weight of the gradients where `start` was made, if "descent" made it: what lets clusters go stale more slowly.
        seed: of everything random.
        max_memory: bytes for the factors of a chunk of examples; 0: 1 GiB.
    """
    if method not in ("lloyd", "descent"):
        raise ValueError(f"method = {method!r}, must be one of 'lloyd', 'descent'")
    if start is not None and method != "descent":
        raise ValueError(f"start = {start!r}, must be None for method = {method!r}: only 'descent' begins at given clusters")
    source = ModelSource(model, loss_fn, data)
    for name, value, limit in (("k", k, source.examples), ("iterations", iterations, math.inf)):
        if not 1 <= value <= limit:
            raise ValueError(f"{name} = {value}, must be >= 1" + (f" and <= {limit}, the examples" if name == "k" else ""))
    with unchanged(source.model):
        check_separable(source)
        if method == "lloyd":
            made = _core.lloyd(source, clusters=k, iterations=iterations, max_memory=max_memory, seed=seed)
            return Clustering._of(made)
        former = None if start is None else start._core
        remembered = None if start is None else start._memory
        kept = _core.DescentMemory() if remembered is None else _core.DescentMemory(remembered)
        made = _core.descent(
            source, clusters=k, iterations=iterations, memory_weight=memory, max_memory=max_memory, seed=seed, start=former, memory=kept
        )
        return Clustering._of(made, kept)
