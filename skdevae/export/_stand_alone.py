"""Where samples lie on the latent of a model that skdevae has exported. This file needs NumPy and nothing else.

It stands beside ``model.npz`` in a folder that ``skdevae.export.to_numpy`` has written. The folder is a Python package:

- ``transform(X)`` gives the positions of rows, as ``transform`` of the model does;
- ``place(X)`` gives them together with a reason for each row that has none;
- ``REASONS`` says in words what the reasons are.

A model on a grid is a table: the coefficients of ``log p(x | z) = zero + x slope + 1[x > 0] positive`` for each feature
at equally spaced points z. Its sum over the points under a standard normal prior is the posterior, and the posterior's
mean is the position. Each row begins on a coarse grid, and goes on to finer ones until its integral is accurate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: what the reasons of :func:`place` mean
REASONS = {
    0: "placed",
    1: "no observed entry, or no counts: the position is that of the prior",
    2: "farther out than the exported table, or the encoder's range, reaches",
    3: "the posterior is too narrow for the exported table",
    4: "an entry is missing, which an encoder cannot do without",
}
NOTHING_KNOWN, FAR, NARROW, INCOMPLETE = 1, 2, 3, 4

#: entries of a (rows, points) array that is held at once
_AT_ONCE = 2_000_000
#: nats by which an integral may be off; most mass that may lie on the ends of the grid
_TOLERANCE, _MASS_AT_ENDS = 1e-4, 1e-7
#: nats below the highest point at which a place no longer decides how fine the grid has to be
_MINOR = 10.0
#: by number of components: spacings that the sd of the narrowest mode should have, and halvings of the spacing at once
_SPACINGS_PER_SD, _HALVINGS = {1: 1.1, 2: 1.5}, {1: 5, 2: 3}


def transform(X: Any, size_factors: Any = None) -> np.ndarray:
    """Positions of the rows of X: (n_samples, n_components). NaN where there is none: :func:`place` says why.

    ``X`` is what the model's own ``transform`` takes: an array, a sparse array or a data frame, NaN for missing
    entries. ``size_factors`` (n_samples,) are those of the rows, where the model was fitted with given ones.
    """
    return place(X, size_factors)[0]


def place(X: Any, size_factors: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the rows of X as :func:`transform` gives them, and a number from :data:`REASONS` for each row."""
    return _model(str(Path(__file__).with_name("model.npz"))).place(X, size_factors)


@cache
def _model(path: str) -> Model:
    return Model(path)


class Model:
    """A model in a file that ``skdevae.export.to_numpy`` has written."""

    def __init__(self, path: str | Path):
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        self.facts = json.loads(str(arrays.pop("facts")))
        self.arrays = arrays
        kind = Tables if self.facts["kind"] == "table" else Encoder
        self.part: Tables | Encoder = kind(self.facts, arrays)

    def place(self, X: Any, size_factors: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """See :func:`place`."""
        X = self._in_order(X)
        n = X.shape[0]
        if size_factors is not None:
            size_factors = np.asarray(size_factors, dtype=float)
            if size_factors.shape != (n,) or not (size_factors > 0).all() or np.isinf(size_factors).any():
                raise ValueError(f"size_factors must be {n} positive numbers, one for each row of X.")
        positions, reasons = np.empty((n, self.facts["n_components"])), np.zeros(n, dtype=int)
        step = max(1, _AT_ONCE // X.shape[1])
        for start in range(0, n, step):
            rows = slice(start, start + step)
            sizes = None if size_factors is None else size_factors[rows]
            positions[rows], reasons[rows] = self._place(X[rows], sizes)
        return positions, reasons

    def _in_order(self, X: Any) -> Any:
        """A table whose columns are in the order of the training table, those of a data frame by their names."""
        names = self.facts["names"]
        if names is not None and hasattr(X, "columns"):
            missing = [name for name in names if name not in X.columns]
            if missing:
                raise ValueError(
                    f"X lacks the columns {missing}. Where they were not measured, X.reindex(columns=...) with all "
                    "names of the training table writes NaN into them."
                )
            X = X[names]
        X = X.tocsr() if hasattr(X, "tocsr") else np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.facts["n_features"]:
            raise ValueError(f"X has shape {X.shape}, but the model takes {self.facts['n_features']} columns.")
        return X

    def _place(self, block: Any, sizes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        x = _as_floats(block.toarray() if hasattr(block, "toarray") else block)
        if np.isinf(x).any():
            raise ValueError("X has infinite entries. Write NaN where a value is unknown.")
        observed = ~np.isnan(x)
        if self.facts["counts"] and ((x < 0) | (observed & (x != np.floor(x)))).any():
            raise ValueError("X must hold counts: no negative and no broken numbers.")
        size, has_counts = self._sizes(x, observed, sizes)
        kept = self.arrays["kept"]
        x, observed = (x[:, kept] - self.arrays["center"]) / self.arrays["scale"], observed[:, kept]
        x[~observed] = 0
        positions, reasons = self.part.place(x, observed, size)
        empty = ~observed.any(1) | ~has_counts
        positions[empty], reasons[empty] = self.facts["prior_mean"], NOTHING_KNOWN
        return positions, reasons

    def _sizes(
        self, x: np.ndarray, observed: np.ndarray, given: np.ndarray | None
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Size factors of rows, in units of the training table's median, and which rows have any counts: (B,) each."""
        has_counts, rule = np.ones(len(x), dtype=bool), self.facts["sizes"]
        if rule is None or rule == "sum":
            if given is not None:
                raise ValueError("The model was fitted without size_factors of single rows: leave them out.")
            if rule is None:
                return None, has_counts
            means = self.arrays["count_means"]
            share = observed @ means / max(means.sum(), np.finfo(float).tiny)
            given = np.nansum(x, 1) / np.where(share > 0, share, 1)
            has_counts = given > 0
            given[~has_counts] = 1
        elif given is None:
            raise ValueError("The model was fitted with size factors: give those of the rows, size_factors=...")
        return given / self.facts["size_unit"], has_counts


class Tables:
    """The posterior of rows on a table near zero; for rows that reach its ends, on one that is twice as wide."""

    def __init__(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.near, self.wide = (Table(facts["levels"], arrays, name) for name in ("near", "wide"))

    def place(self, x: np.ndarray, observed: np.ndarray, size: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions (B, Q) of rows and reasons (B,), for their entries (B, D) with zeros where nothing was observed."""
        if size is not None:
            observed = observed * size[:, None]
        positions, reasons = self.near.place(x, observed)
        far = np.nonzero(reasons == FAR)[0]
        positions[far], reasons[far] = self.wide.place(x[far], observed[far])
        return positions, reasons


class Table:
    """The posterior of rows on nested grids, of which the finest is stored."""

    def __init__(self, levels: list[int], arrays: dict[str, np.ndarray], name: str):
        self.finest = tuple(levels)
        self.axes = [arrays[f"{name}_axis{number}"] for number in range(len(levels))]
        self.tables = [arrays.get(f"{name}_{part}") for part in ("zero", "slope", "positive")]

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # rows far out have no densities that are numbers
    def place(self, x: np.ndarray, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (B, Q) of rows and reasons (B,)."""
        positions, reasons = np.full((len(x), len(self.axes)), np.nan), np.zeros(len(x), dtype=int)
        waiting = {(0,) * len(self.axes): [np.arange(len(x))]}
        while waiting:
            levels = min(waiting, key=sum)
            rows, (axes, zero, slope, positive) = np.concatenate(waiting.pop(levels)), self._at(levels)
            step = max(1, _AT_ONCE // len(zero))
            for start in range(0, len(rows), step):
                some = rows[start : start + step]
                joint = x[some] @ slope.T + observed[some] @ zero.T
                if positive is not None:
                    joint += (x[some] > 0) @ positive.T
                mean, resolved, is_far, halvings = _judged(joint.reshape(-1, *map(len, axes)), axes)
                positions[some[resolved]] = mean[resolved]
                reasons[some[is_far]] = FAR
                left = np.nonzero(~resolved & ~is_far)[0]
                following = np.minimum(np.array(levels) + halvings[left], self.finest)
                for number, target in zip(some[left], map(tuple, following.tolist()), strict=True):
                    if target == levels:
                        reasons[number] = NARROW
                    else:
                        waiting.setdefault(target, []).append(np.array([number]))
        return positions, reasons

    def _at(self, levels: tuple[int, ...]) -> tuple[Any, ...]:
        """Coordinates along each axis, and coefficients (P, D), of the grid of some levels."""
        strides = [2 ** (finest - level) for finest, level in zip(self.finest, levels, strict=True)]
        places = tuple(slice(None, None, stride) for stride in strides)
        tables = [None if table is None else table[places].reshape(-1, table.shape[-1]) for table in self.tables]
        return [axis[place] for axis, place in zip(self.axes, places, strict=True)], *tables


def _as_floats(block: Any) -> np.ndarray:
    """Entries as floats, NaN where there is none: also where pandas says so in its own way."""
    try:
        return np.array(block, dtype=float)
    except TypeError:
        rows = np.asarray(block, dtype=object)
        return np.array([[np.nan if _is_missing(entry) else entry for entry in row] for row in rows], dtype=float)


def _is_missing(entry: Any) -> bool:
    return entry is None or type(entry).__name__ == "NAType"


def _judged(joint: np.ndarray, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a grid says of rows with log p(x | z) (B, n, ...) at its points.

    Returns the posteriors' means (B, Q), whether they are accurate (B,), whether a posterior reaches the end of the
    grid (B,), and how often the spacing along each axis has to be halved (B, Q).
    """
    n_axes, spacing = len(axes), np.array([axis[1] - axis[0] for axis in axes])
    for number, axis in enumerate(axes):
        joint = joint - 0.5 * (axis**2).reshape([-1 if other == number else 1 for other in range(n_axes)])
    joint = np.where(np.isfinite(joint), joint, -np.inf)
    top = joint.reshape(len(joint), -1).max(1)
    top = np.where(np.isfinite(top), top, 0).reshape(-1, *[1] * n_axes)
    density = np.exp(joint - top)
    estimates = [_moments(density, axes, stride) for stride in (1, 2, 4)]
    _, mean, marginals = estimates[0]
    squares = [marginal @ axis**2 for marginal, axis in zip(marginals, axes, strict=True)]
    variance = np.maximum(np.stack(squares, 1) - mean**2, np.finfo(float).eps * spacing**2)
    is_far = np.any([marginal[:, [0, -1]] > _MASS_AT_ENDS for marginal in marginals], (0, 2))
    # The error: what fewer points tell of it, and what bends of curves at knots cost.
    fine, coarse = (_difference(estimates[i], estimates[i + 1], 2**i * spacing / (math.pi * variance)) for i in (0, 1))
    falls_to = np.where(coarse > 0, fine / np.minimum(coarse, 1), 0).clip(max=1 / 3)
    error = np.maximum(fine * falls_to, _error_of_bends(joint, marginals))
    rounding = np.finfo(float).eps * np.abs(top.ravel())
    resolved = (error < _TOLERANCE + rounding) & (rounding < 1e-2) & ~is_far
    return mean, resolved, is_far, _halvings(joint, n_axes)


def _moments(density: np.ndarray, axes: list[np.ndarray], stride: int) -> tuple[np.ndarray, np.ndarray, list]:
    """From every ``stride``-th point: the log of the sum (B,), the mean (B, Q), the distribution along each axis."""
    some = density[(slice(None), *[slice(None, None, stride)] * len(axes))]
    marginals = [some.sum(tuple(i for i in range(1, some.ndim) if i != axis + 1)) for axis in range(len(axes))]
    total = marginals[0].sum(1)
    marginals = [np.nan_to_num(marginal / total[:, None]) for marginal in marginals]
    log_total = np.log(total * stride ** len(axes))
    mean = np.stack([marginal @ axis[::stride] for marginal, axis in zip(marginals, axes, strict=True)], 1)
    return log_total, mean, marginals


def _difference(fine: tuple, coarse: tuple, unit: np.ndarray) -> np.ndarray:
    """How far two estimates of the log evidence and of the mean are apart, in nats: (B,)."""
    apart = np.maximum(np.abs(fine[0] - coarse[0]), (np.abs(fine[1] - coarse[1]) * unit).max(1))
    return np.where(np.isnan(apart), np.inf, apart)


def _error_of_bends(joint: np.ndarray, marginals: list[np.ndarray]) -> np.ndarray:
    """How far sums are off where curves are bent at knots, by fourth differences: (B,) nats."""
    if len(marginals) == 1:
        inner = marginals[0][:, 2:-2]
        jumps = np.where(inner > 0, 0.5 * np.abs(np.diff(joint, n=4, axis=1)), 0)
        return (inner * jumps / 12).sum(1)
    total = np.zeros(len(joint))
    for q in marginals:
        bends = np.diff(np.log(np.maximum(q, np.finfo(float).tiny)), n=4, axis=1)
        total += ((q[:, 2:-2] * bends) ** 2).sum(1)
    return np.sqrt(total / (36 * 840 * 2 / 3))


def _halvings(joint: np.ndarray, n_axes: int) -> np.ndarray:
    """How often to halve the spacing along each axis, (B, Q), by parabolas through points that are local maxima."""
    peaks, height = [], joint.copy()
    for axis in range(1, n_axes + 1):
        n = joint.shape[axis]
        before, here, after = (np.take(joint, range(i, n - 2 + i), axis) for i in range(3))
        curvature = 2 * here - before - after
        index = np.nonzero((here >= before) & (here >= after) & (curvature > 0) & np.isfinite(curvature))
        curvature, slope = curvature[index], 0.5 * (after[index] - before[index])
        point = tuple(part + (dimension == axis) for dimension, part in enumerate(index))
        peaks.append((point, curvature**-0.5))
        height[point] = np.maximum(height[point], here[index] + 0.5 * slope**2 / curvature)
    highest, needed = height.reshape(len(height), -1).max(1), np.zeros((len(joint), n_axes))
    for axis, (point, sd) in enumerate(peaks):
        matters = height[point] > highest[point[0]] - _MINOR
        narrowest = np.full(len(joint), np.inf)
        np.minimum.at(narrowest, point[0][matters], sd[matters])
        needed[:, axis] = np.ceil(np.log2(_SPACINGS_PER_SD[n_axes] / narrowest)).clip(0, _HALVINGS[n_axes])
    return np.where(needed.any(1, keepdims=True), needed, 1).astype(int)


class Encoder:
    """The mean of the posterior that an encoder gives: linear maps with activations between them."""

    def __init__(self, facts: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.facts, self.arrays = facts, arrays

    def place(self, x: np.ndarray, observed: np.ndarray, size: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Positions (B, Q) of rows and reasons (B,), for their entries (B, D) with zeros where nothing was observed."""
        if self.facts["counts"]:
            x = np.log1p(x if size is None else x / size[:, None])
        hidden = np.hstack([x, observed]) if self.facts["sees_mask"] else x
        for number, kind in enumerate(self.facts["layers"]):
            parameters = [self.arrays[name] for name in (f"{number}_weight", f"{number}_bias") if name in self.arrays]
            hidden = _LAYERS[kind](hidden, *parameters)
        mean = hidden[:, : self.facts["n_components"]]
        if "projection" in self.arrays:
            mean = mean + x @ self.arrays["projection"]
        is_far = (np.abs(mean - self.facts["prior_mean"]) > self.arrays["reach"]).any(1)
        is_incomplete = ~observed.all(1) & (not self.facts["takes_gaps"])
        reasons = np.where(is_incomplete, INCOMPLETE, np.where(is_far, FAR, 0))
        return np.where(reasons[:, None] > 0, np.nan, mean), reasons


def _layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centered = x - x.mean(1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(1, keepdims=True) + 1e-5) * weight + bias


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


_LAYERS: dict[str, Callable[..., np.ndarray]] = {
    "linear": lambda x, weight, bias: x @ weight.T + bias,
    "affine": lambda x, weight, bias: x * weight + bias,
    "layer_norm": _layer_norm,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "softplus": lambda x: np.logaddexp(0, x),
    "elu": _elu,
    "gelu": _gelu,
}
