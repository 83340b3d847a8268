"""Clusters of examples by their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradist import _core
from gradist.probe import Data, LossFunction, ModelSource, check_separable, fast_format, unchanged

__all__ = ["Clustering", "cluster"]


class Clustering:
    """A partition of N examples into K clusters: one of your own by its assignments, or what `cluster` made.

    Args:
        assignments: cluster of every example, [N] whole numbers from 0 on; a tensor, an array or a list.
    """

    def __init__(self, assignments: Any) -> None:
        self._core = _core.Clustering(torch.as_tensor(assignments))
        self._memory: _core.DescentMemory | None = None
        self._parameter_names: list[str] = []

    @classmethod
    def _of(cls, core: _core.Clustering, names: list[str], memory: _core.DescentMemory | None = None) -> Clustering:
        made = cls.__new__(cls)
        made._core = core
        made._memory = memory
        made._parameter_names = names
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
    def variance_by_cluster(self) -> Tensor | None:
        """What every cluster adds to the variance tr Cov of the estimate at one draw a cluster, N_k^2 V_k / N^2, [K] float64,
        exact. None for one of your own."""
        scatter = self.scatter
        return None if scatter is None else scatter / len(self.assignments) ** 2

    @property
    def variance_by_parameter(self) -> dict[str, float] | None:
        """The same variance by parameter of the model: name to what its coordinates add, over all clusters. None for one of
        your own."""
        parts = self._core.parameter_scatter
        if parts is None:
            return None
        return dict(zip(self._parameter_names, (parts.sum(1) / len(self.assignments) ** 2).tolist(), strict=True))

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time of "lloyd" by kind of work: gradients, A step, U step, SVD. Empty for others."""
        return self._core.seconds

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
    centers: str = "factors",
    rank: int = 1,
    weighting: str = "running",
    fraction: float = 1.0,
    minibatch: int = 0,
    decay: float = 0.0,
    parameters: Sequence[str] = (),
    balanced: bool = False,
    start: Clustering | str | None = None,
    memory: float = 4.0,
    seed: int = 0,
    max_memory: int = 0,
) -> Clustering:
    """Clusters the examples by their gradients at the model's present parameters. [Faghri20]

    Args:
        model: any module; its state is left as it is.
        loss_fn: loss_fn(outputs, targets) -> [B], one loss an example.
        data: inputs and targets of all N examples, or a torch Dataset of such pairs, which is read once into tensors.
        k: clusters, at most N.
        method: "lloyd", the paper's algorithm with centers in factors; or "descent", moves of single examples on sketches of
            their gradients, each of which lowers the objective.
        iterations: of "lloyd", A and U steps, a pass over the examples each; of "descent", sweeps over the sketches, at most
            (one pass over the examples makes them).
        centers: of "lloyd": "factors", means of activations and backprops; or "svd", mean gradients cut to `rank`, which takes a
            second pass over the examples and a singular value decomposition for each cluster and parameter.
        rank: of centers by "svd", for each parameter; at the smaller side of a weight and beyond centers are exact.
        weighting: cluster sizes in the A step of "lloyd": "running" counts examples as they move, "fixed" takes the last count as
            the paper prints it, "none" leaves them out.
        fraction: of the examples, a random part that each A step of "lloyd" but the first visits, in (0, 1].
        minibatch: examples between U steps of "lloyd", in random order; 0: one U step after each A step.
        decay: what a U step of "lloyd" keeps of the examples that the former centers stand for, in [0, 1]; 0 forgets them.
        parameters: names of the parameters whose gradients are compared, with * and ? as in file names; one with ! in front
            leaves out what it matches. None: all. The objective and the guard are of all parameters in any case.
        balanced: clusters of equal size. However stale they are, one draw with replacement from each never has more variance
            than k plain ones where k divides N, else at most ceil(N / k) k / N times as much.
        start: clusters that "descent" begins at, such as those of an earlier iteration; without, a random partition. The first
            centers of "lloyd" are single examples, "k-means++" (the default) ones far from each other, "random" any.
        memory: weight of the gradients where `start` was made, if "descent" made it: what lets clusters go stale more slowly.
        seed: of everything random.
        max_memory: bytes for the factors of a chunk of examples, for the sketches, and for the gradients of all examples in factors,
            which are computed once if they fit; 0: 256 MiB, 1 GiB, and 4 GiB or a quarter of the machine's memory if that is less.
    """
    if method not in ("lloyd", "descent"):
        raise ValueError(f"method = {method!r}, must be one of 'lloyd', 'descent'")
    if isinstance(start, Clustering if method == "lloyd" else str):
        rule = "'k-means++' or 'random' for method = 'lloyd'" if method == "lloyd" else "clusters for method = 'descent'"
        raise ValueError(f"start = {start!r}, must be {rule}")
    source = ModelSource(model, loss_fn, data)
    for name, value, limit in (("k", k, source.examples), ("iterations", iterations, math.inf)):
        if not 1 <= value <= limit:
            raise ValueError(f"{name} = {value}, must be >= 1" + (f" and <= {limit}, the examples" if name == "k" else ""))
    with unchanged(source.layers):
        check_separable(source)
        source.format = fast_format(source)
        given = start if isinstance(start, Clustering) else None
        former = None if given is None else given._core
        remembered = None if given is None else given._memory
        kept = _core.DescentMemory() if remembered is None else _core.DescentMemory(remembered)
        common: Any = {
            "clusters": k, "iterations": iterations, "parameters": list(parameters), "balanced": balanced,
            "max_memory": max_memory, "seed": seed,
        }  # fmt: skip
        try:
            if method == "descent":
                made = _core.descent(source, **common, memory_weight=memory, start=former, memory=kept)
                return Clustering._of(made, source.parameter_names, kept)
            made = _core.lloyd(
                source, **common, start="k-means++" if start is None else str(start), centers=centers, rank=rank, weighting=weighting,
                fraction=fraction, minibatch=minibatch, decay=decay,
            )  # fmt: skip
            return Clustering._of(made, source.parameter_names)
        except ValueError as error:
            if "gc-" not in str(error):
                raise
            raise ValueError(str(error).replace("gc-", "")) from None  # the program's names of the options
