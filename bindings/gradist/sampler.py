"""Minibatches drawn from clusters, for training loops."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from gradist import _core
from gradist.clustering import Clustering

__all__ = ["StratifiedBatchSampler"]


class StratifiedBatchSampler(Sampler[list[int]]):
    """Batches of B examples drawn from clusters: the estimator `gc` as a batch sampler for `torch.utils.data.DataLoader`.

    The estimate of the full gradient is the *weighted sum* of the batch's gradients; with plain means it would be biased
    towards small clusters. An example's weight does not change until the clusters do, so that it may be looked up by the
    example's number, whatever the loader prefetches.

    Args:
        clusters: the partition of the data set's N examples.
        batch_size: B, at least the number of clusters that are not empty; each gives at least one example a batch.
        batches: of one iteration; by default floor(N / B), the length of a plain epoch.
        replacement: whether a batch may have an example twice.
        allocation: draws of each cluster where there are fewer clusters than draws: "proportional" to their sizes,
            "equal", or "neyman", of least variance where the clusters were made.
        seed: of the draws. Every iteration goes on where the last one stopped.

    Example:
        >>> sampler = gradist.StratifiedBatchSampler(gradist.cluster(model, loss_fn, data, k=128), batch_size=128)
        >>> for i in sampler:
        ...     optimizer.zero_grad()
        ...     (sampler.weights[i] * loss_fn(model(inputs[i]), targets[i])).sum().backward()
        ...     optimizer.step()
    """

    def __init__(
        self,
        clusters: Clustering,
        batch_size: int = 128,
        *,
        batches: int | None = None,
        replacement: bool = True,
        allocation: str = "proportional",
        seed: int = 0,
    ) -> None:
        if batches is not None and batches < 1:
            raise ValueError(f"batches = {batches}, must be >= 1")
        if seed < 0:
            raise ValueError(f"seed = {seed}, must be >= 0")
        self._options = {"draws": batch_size, "replacement": replacement, "allocation": allocation}
        self._batches = batches
        self._generator = torch.Generator().manual_seed(seed)
        self.clusters = clusters

    @property
    def clusters(self) -> Clustering:
        """The clusters drawn from; newer ones may be assigned while the sampler is in use."""
        return self._clusters

    @clusters.setter
    def clusters(self, clusters: Clustering) -> None:
        if not isinstance(clusters, Clustering):
            raise ValueError(f"clusters is a {type(clusters).__name__}, must be a gradist.Clustering")
        self._design = _core.stratified_design(clusters._core, **self._options)
        self._clusters = clusters
        self._weights = torch.zeros(len(clusters.assignments))
        for stratum in self._design.strata:
            self._weights[stratum.members] = stratum.weight

    @property
    def weights(self) -> Tensor:
        """w_i of every example, [N]: sum_i w_i g_i over a batch estimates the full gradient (1/N) sum_i g_i without bias."""
        return self._weights

    @property
    def draws(self) -> Tensor:
        """Examples that every cluster gives to a batch, [K]."""
        return torch.tensor([stratum.draws for stratum in self._design.strata])

    def __len__(self) -> int:
        return self._batches or max(1, len(self._weights) // int(self._options["draws"]))

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            indices, _ = self._design.draw(self._generator)
            yield indices.tolist()
