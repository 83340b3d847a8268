"""Figures of clusters of examples: functions of a `gradist.Clustering` that return a matplotlib figure, ready for a paper."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from gradist.plots import _STYLE, TraceFigure

if TYPE_CHECKING:
    from gradist.clustering import Clustering

__all__ = ["examples"]

_ROWS = 8
_TEXT = 1.5  # inches left of the images
_HEAD = 0.22  # inches above them
_LINE = 0.12  # inches from a line of text to the next
_SPACE = 0.08  # between images, in widths of an image
_CHARACTERS = 28  # of a line left of the images
_CLASSES = 3


def examples(
    clustering: Clustering,
    images: Any,
    distances: Any,
    labels: Any = None,
    *,
    clusters: Sequence[int] | None = None,
    n: int = 6,
    names: Sequence[str] | None = None,
    width: float = 6.5,
    cmap: str = "gray",
) -> Figure:
    """Images nearest to and farthest from the centers of clusters, a row each, in the order of their distance from left to right;
    beside them the cluster's number, its size with the share of all examples, and its commonest classes. No image is shown twice: a
    cluster of fewer than 2 n examples shows all it has.

    Args:
        clustering: the partition of N examples.
        images: of every example, grey [N, H, W] or [N, 1, H, W], or colour [N, 3, H, W]; the least value of a channel over all examples
            is dark, the largest bright.
        distances: of every example to the center of its cluster, [N]: `Clustering.distances`.
        labels: class of every example, [N] whole numbers from 0 on; None: no classes.
        clusters: numbers of the clusters that are shown, in this order; None: the 8 largest, or as many as there are.
        n: images at most on either side.
        names: of the classes; None: their numbers.
        width: in inches.
        cmap: colours of grey images, such as "gray_r" for ink on paper.
    """
    pictures = _pictures(images, len(clustering.assignments))
    nearest, farthest = clustering.nearest(distances, n), clustering.farthest(distances, n)
    rows = _rows(clustering.sizes, clusters)
    shares = None if labels is None else _shares(clustering, labels, names)
    picture = (width - _TEXT) / (2 * n * (1 + _SPACE) + 0.5)  # of this width, in inches
    height = picture * pictures.shape[2] / pictures.shape[3]
    texts = [_described(clustering, k, None if shares is None else shares[k]) for k in rows]
    pitch = max(height + picture * _SPACE, _LINE * (max(map(len, texts)) + 0.5))
    with mpl.rc_context(_STYLE):
        figure = TraceFigure(figsize=(width, _HEAD + pitch * len(rows)))
        axes = _page(figure)
        places = _TEXT + picture * ((1 + _SPACE) * np.arange(2 * n) + 0.5 * (np.arange(2 * n) >= n))
        for x, text in ((places[0], "nearest to the center"), (places[n], "farthest from the center")):
            axes.text(x, 0.6 * _HEAD, text, va="center")
        limits = _limits(pictures)
        for row, (k, lines) in enumerate(zip(rows, texts, strict=True)):
            top = _HEAD + pitch * row + (pitch - height) / 2
            axes.text(0.02, top + height / 2, "\n".join(lines), va="center", fontsize=7, linespacing=1.15)
            far = farthest[k][: max(0, int(clustering.sizes[k]) - n)].flip(0)
            for x, example in [*zip(places, nearest[k], strict=False), *zip(places[2 * n - len(far) :], far, strict=True)]:
                axes.imshow(
                    _displayed(pictures[int(example)], limits), extent=(x, x + picture, top + height, top), cmap=cmap, vmin=0, vmax=1,
                    aspect="auto", interpolation="nearest",
                )  # fmt: skip
        axes.set_xlim(0, width)
        axes.set_ylim(_HEAD + pitch * len(rows), 0)
    return figure


def _page(figure: Figure) -> Axes:
    """Axes whose coordinates are inches from the left upper corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return axes


def _pictures(images: Any, examples: int) -> Tensor:
    """[N, 1 or 3, H, W]."""
    given = torch.as_tensor(images).detach().cpu()
    pictures = given.unsqueeze(1) if given.dim() == 3 else given
    if pictures.dim() != 4 or len(pictures) != examples or pictures.shape[1] not in (1, 3) or 0 in pictures.shape:
        raise ValueError(
            f"images have shape {list(given.shape)}, must be [N, H, W], [N, 1, H, W] or [N, 3, H, W] with N = {examples}, the examples"
        )
    return pictures


def _limits(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each channel, [C, 1, 1]."""
    flat = pictures.transpose(0, 1).flatten(1)
    low, high = (each.double().view(-1, 1, 1) for each in (flat.amin(1), flat.amax(1)))
    return low, torch.where(high > low, high, low + 1)


def _displayed(picture: Tensor, limits: tuple[Tensor, Tensor]) -> NDArray[np.float64]:
    """[H, W], or [H, W, 3], in [0, 1]."""
    low, high = limits
    scaled = ((picture.double() - low) / (high - low)).permute(1, 2, 0)
    shown: NDArray[np.float64] = (scaled.squeeze(2) if scaled.shape[2] == 1 else scaled).numpy()
    return shown


def _rows(sizes: Tensor, chosen: Sequence[int] | None) -> list[int]:
    if chosen is None:
        largest = sizes.argsort(descending=True, stable=True)[:_ROWS]
        return [int(k) for k in largest if sizes[k] > 0]
    rows = [int(k) for k in chosen]
    if not rows:
        raise ValueError("clusters = [], must name at least one")
    for k in rows:
        if not 0 <= k < len(sizes) or sizes[k] == 0:
            raise ValueError(f"clusters: {k}, must be a cluster with examples, in [0, {len(sizes) - 1}]")
    return rows


def _shares(clustering: Clustering, labels: Any, names: Sequence[str] | None) -> list[list[tuple[str, float]]]:
    """Of every cluster, its commonest classes by name with their parts of it, those below a percent left out."""
    composition = clustering.composition(labels)
    if names is not None and len(names) < composition.shape[1]:
        raise ValueError(f"names has {len(names)} entries, must have one for each of the {composition.shape[1]} classes")
    parts = composition.double() / composition.sum(1, keepdim=True)
    common = parts.argsort(dim=1, descending=True, stable=True)[:, :_CLASSES].tolist()
    return [
        [(str(names[c]) if names else str(c), float(row[c])) for c in classes if row[c] >= 0.01]
        for row, classes in zip(parts, common, strict=True)
    ]


def _described(clustering: Clustering, k: int, classes: list[tuple[str, float]] | None) -> list[str]:
    """The lines beside the images of cluster k."""
    size, examples = int(clustering.sizes[k]), len(clustering.assignments)
    # No break between a class and its percents.
    listed = ", ".join(f"{name}: {100 * part:.0f} %".replace(" ", "\u00a0") for name, part in classes or [])
    wrapped = textwrap.wrap(listed, _CHARACTERS, break_on_hyphens=False)
    lines = [f"cluster {k}", f"{size:,} example{'s' * (size > 1)} ({_percent(size / examples)})", *wrapped]
    return [line.replace("\u00a0", " ") for line in lines]


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.0995 else f"{100 * part:.1f} %"
