"""Clusters of examples by their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gradist import _core
from gradist.probe import Data, LossFunction, ModelSource, separate_examples, unchanged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Clustering", "cluster"]

_CHUNK_BYTES = 1 << 28  # of the factors of the examples that are looked at together


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

    # ---- what is in the clusters

    def composition(self, labels: Any) -> Tensor:
        """Examples of every class in every cluster, [K, C] int64.

        Args:
            labels: class of every example, [N] whole numbers from 0 on; C is one more than the largest.
        """
        classes = torch.as_tensor(labels).detach().cpu()
        self._check_one_each("labels", classes)
        if classes.is_floating_point() or classes.is_complex():
            raise ValueError(f"labels are {classes.dtype}, must be whole numbers from 0 on, the classes")
        classes = classes.long()
        if (least := int(classes.min())) < 0:
            raise ValueError(f"labels hold {least}, must be whole numbers from 0 on, the classes")
        count = int(classes.max()) + 1
        return torch.bincount(self.assignments * count + classes, minlength=len(self) * count).view(len(self), count)

    def distances(self, model: nn.Module, loss_fn: LossFunction, data: Data, *, max_memory: int = 0) -> Tensor:
        """||g_i - C_k||^2 of every example, k its cluster and C_k the mean gradient of the members of k, at the model's present
        parameters: [N] float64.

        Of all parameters, whichever `cluster` compared. From one plain backward pass over the examples for the means and one pass for
        ||g_i||^2 - 2 <g_i, C_k> + ||C_k||^2, a cluster at a time; examples alone in their cluster are at 0, which takes no pass.
        Rounding, in the model's floating-point type, is relative to ||g_i||^2 + ||C_k||^2: in float32 a distance below a millionth of that
        says no more than that the example is near.

        Args:
            model: any module whose examples do not influence each other; its state is left as it is.
            loss_fn: loss_fn(outputs, targets) -> [B], one loss an example.
            data: inputs and targets of the N examples, as for `cluster`.
            max_memory: bytes for the factors of a chunk of examples; 0: 256 MiB.

        Example:
            >>> clusters = gradist.cluster(model, loss_fn, (inputs, targets), k=32)
            >>> d = clusters.distances(model, loss_fn, (inputs, targets))
            >>> clusters.nearest(d, 5)[0], clusters.farthest(d, 5)[0]       # of cluster 0
        """
        if max_memory < 0:
            raise ValueError(f"max_memory = {max_memory}, must be >= 0")
        source = ModelSource(model, loss_fn, data)
        if source.examples != len(self.assignments):
            raise ValueError(f"data has {source.examples} examples, must have as many as the clustering, {len(self.assignments)}")
        found = torch.zeros(source.examples, dtype=torch.float64)
        with unchanged(source.layers):
            separate_examples(source)
            chunk = source.largest_chunk(max_memory or _CHUNK_BYTES)
            for members in self._members():
                if len(members) > 1:
                    found[members] = _distances_to_mean(source, torch.split(members, chunk))
        if not found.isfinite().all():
            raise ValueError("the distances are not finite, must be: look for nan or inf in the data, the parameters and the losses")
        return found

    def nearest(self, distances: Any, n: int = 8) -> list[Tensor]:
        """The n examples of every cluster nearest to its center, nearest first: K tensors of examples' numbers, shorter for clusters
        of fewer.

        Args:
            distances: what `distances` gave, or others of your own, [N].
            n: examples a cluster, at least 1.
        """
        return [ranked[:n] for ranked in self._by_distance(distances, n)]

    def farthest(self, distances: Any, n: int = 8) -> list[Tensor]:
        """The n examples of every cluster farthest from its center, farthest first; otherwise as `nearest`."""
        return [ranked.flip(0)[:n] for ranked in self._by_distance(distances, n)]

    def plot(self, images: Any, distances: Any, labels: Any = None, **options: Any) -> Figure:
        """Images nearest to and farthest from the centers, a row a cluster, with the cluster's size and commonest classes: a
        matplotlib figure, ready for a paper.

        Args:
            images: of every example, grey [N, H, W] or [N, 1, H, W], or colour [N, 3, H, W]; values of any scale.
            distances: what `distances` gave, [N].
            labels: class of every example, [N]; None: no classes.
            options: those of `gradist.cluster_plots.examples`: which `clusters` (the 8 largest), `n` images nearest and farthest,
                `names` of the classes, `width` in inches, `cmap` of grey images.
        """
        from gradist import cluster_plots

        return cluster_plots.examples(self, images, distances, labels, **options)

    def _members(self) -> Sequence[Tensor]:
        """The examples of every cluster in their order."""
        return torch.split(self.assignments.argsort(stable=True), self.sizes.tolist())

    def _by_distance(self, distances: Any, n: int) -> list[Tensor]:
        if n < 1:
            raise ValueError(f"n = {n}, must be >= 1")
        values = torch.as_tensor(distances).detach().cpu()
        self._check_one_each("distances", values)
        return [members[values[members].argsort(stable=True)] for members in self._members()]

    def _check_one_each(self, name: str, values: Tensor) -> None:
        if list(values.shape) != [len(self.assignments)]:
            raise ValueError(f"{name} have shape {list(values.shape)}, must be [{len(self.assignments)}], one for each example")

    def __len__(self) -> int:
        return len(self._core.sizes)

    def __repr__(self) -> str:
        return f"<gradist.Clustering: {len(self.assignments)} examples in {len(self)} clusters>"


def _distances_to_mean(source: ModelSource, chunks: Sequence[Tensor]) -> Tensor:
    """||g_i - C||^2 of the examples, C the mean of their gradients; never below zero."""
    sums = [torch.zeros_like(each, dtype=torch.float64, requires_grad=False) for each in source.parameters]
    for chunk in chunks:
        for total, part in zip(sums, source.weighted_gradient(chunk, torch.ones(len(chunk))), strict=True):
            total += part
    # Rounded to what the products are taken with, so that its norm belongs to them.
    center = [(each / sum(map(len, chunks))).to(own.dtype) for each, own in zip(sums, source.parameters, strict=True)]
    squared_norm = sum(float(each.double().square().sum()) for each in center)
    found = []
    for chunk in chunks:
        batch = source.gradients(chunk)
        found.append((batch.squared_norms() - 2 * batch.inner_direction(center) + squared_norm).cpu())
    return torch.cat(found).clamp(min=0)


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
    sketch: int = 16,
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
        sketch: numbers along a side of a parameter in the sketches of "descent", sketch x sketch a weight; a side no wider is kept
            whole. Up to 4,096 examples inner products take their place, if they fit into max_memory.
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
        separate_examples(source)
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
                made = _core.descent(source, **common, memory_weight=memory, sketch=sketch, start=former, memory=kept)
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
