"""Smooth curves: one Gaussian process prior for every feature's curve, and what the data say about the curve.

A curve is a level, of which nothing is known beforehand, plus a Gaussian process along the axis with the kernel
``a^2 exp(-(z - z')^2 / (2 l^2))``. How far the curve bends (the length l) and how much of the feature's variance it
explains (which fixes a^2) are not fitted: both are averaged over a few values, the *nodes*. Amplitude zero is a flat
curve. Given a node, everything is Gaussian and has a closed form.

Curves are looked at in bins of equal mass along the axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

#: lengths of the kernel, in prior sds of the latent
LENGTHS = (0.25, 0.5, 1.0, 2.0, 5.0)
#: shares of one entry's variance that a curve explains
SHARES = (0.03, 0.1, 0.3, 0.6, 0.85, 0.96, 0.995)
#: least variance that a curve of amplitude 1 may have: columns without entries have none
_LEAST_VARIANCE = 1e-12
#: entries of the (lengths, features, bins, bins) arrays that the curves of a block of features need
_BLOCK_ENTRIES = 2_000_000


@dataclass(frozen=True)
class BinnedColumns:
    """What the data say about the curves of D features in B bins.

    In each bin the curve's value has a Gaussian likelihood with the mean ``response`` and the precision
    ``information / noise``.

    Attributes
    ----------
    z : Tensor of shape (B,)
        Mean latent in each bin.
    information : Tensor of shape (B, D) or (B, 1)
        (B, 1) where it is the same for all features.
    response : Tensor of shape (B, D)
    spread : Tensor of shape (D,) or None
        Sum of squares of the entries around the means of their bins, where the noise variance is not known and has to
        be estimated; None where noise is 1.
    n_entries : Tensor of shape (D,), or (1,) where information is the same for all features
        Entries that were observed.
    """

    z: Tensor
    information: Tensor
    response: Tensor
    spread: Tensor | None
    n_entries: Tensor

    def blocks(self) -> Iterator[tuple[slice, BinnedColumns]]:
        """All columns, a few at a time: so many that what is computed for each of them has a bounded size."""
        n_features = self.response.shape[1]
        step = max(1, _BLOCK_ENTRIES // (len(LENGTHS) * len(self.z) ** 2))
        for start in range(0, n_features, step):
            block = slice(start, min(start + step, n_features))
            yield block, self._of_columns(block)

    def _of_columns(self, columns: slice) -> BinnedColumns:
        return BinnedColumns(
            self.z,
            self.information if self.information.shape[1] == 1 else self.information[:, columns],
            self.response[:, columns],
            None if self.spread is None else self.spread[columns],
            self.n_entries if len(self.n_entries) == 1 else self.n_entries[columns],
        )


def kernel(z: Tensor, length: float) -> Tensor:
    """Covariance of a process of variance 1 at z (B,): (B, B)."""
    return torch.exp(-0.5 * ((z[:, None] - z) / length) ** 2)


def root(covariance: Tensor) -> Tensor:
    """The symmetric R with ``R @ R`` the covariance (..., B, B), which may be singular.

    Of all roots it is the one that does not turn with the signs of eigenvectors, which rounding decides.
    """
    values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
    return (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT


def log_node_prior(like: Tensor) -> Tensor:
    """Log prior of the nodes: uniform over lengths, and over shares of variance between 0 and 1: (L, S)."""
    shares = torch.tensor(SHARES, dtype=like.dtype, device=like.device)
    edges = torch.cat([shares.new_zeros(1), (shares[1:] + shares[:-1]) / 2, shares.new_ones(1)])
    return (edges.diff() / len(LENGTHS)).log().expand(len(LENGTHS), -1)


@dataclass(frozen=True)
class _Part:
    """The curves of one length, as standard normal coordinates times M functions, and what the data say of these.

    Smooth curves at B bins have fewer coordinates than bins. What rounding would decide is left out.

    Attributes
    ----------
    functions : Tensor of shape (B, M)
        What one unit of each coordinate adds to a curve of amplitude 1.
    directions : Tensor of shape (B, M)
        The same functions, orthonormal.
    values : Tensor of shape (F, M)
        Precision that the data add to independent combinations of the coordinates, where noise and amplitude are 1.
    vectors : Tensor of shape (F, M, M)
        These combinations.
    pull : Tensor of shape (D, M)
        Gradient of the log-likelihood of a flat curve along these combinations.
    """

    functions: Tensor
    directions: Tensor
    values: Tensor
    vectors: Tensor
    pull: Tensor

    def shrinkage(self, amplitude: Tensor) -> Tensor:
        """``a^2 / (1 + a^2 value)`` for a^2 (..., F): (..., F, M)."""
        return amplitude[..., None] / self.inflation(amplitude)

    def inflation(self, amplitude: Tensor) -> Tensor:
        """``1 + a^2 value`` for a^2 (..., F): (..., F, M)."""
        return 1 + amplitude[..., None] * self.values

    def gain(self, amplitude: Tensor) -> Tensor:
        """Twice the log-likelihood that curves of a^2 (..., F) win over flat ones, times the noise: (..., D)."""
        return (self.pull**2 * self.shrinkage(amplitude)).sum(-1)

    def curves(self, coordinates: Tensor) -> Tensor:
        """Curves of amplitude 1 of combinations (D, M): (D, B)."""
        return (self.vectors @ coordinates[..., None])[..., 0] @ self.functions.T


class SmoothCurves:
    """The posterior of the curves of D features, node by node.

    F is the number of different patterns of information: 1 where all features share it, else D.
    """

    def __init__(self, columns: BinnedColumns):
        self.columns = columns
        information = columns.information.T  # (F, B)
        total = information.sum(1, keepdim=True)
        self._sqrt = information.sqrt()
        self._unit = (information / total).sqrt()
        self._share = information / total
        #: best level of a flat curve, (D,)
        self.level = (self._share * columns.response.T).sum(1)
        self._scaled = self._sqrt * (columns.response.T - self.level[:, None])  # (D, B)
        self._parts = [self._decomposed(length) for length in LENGTHS]

    def _decomposed(self, length: float) -> _Part:
        variances, directions = torch.linalg.eigh(kernel(self.columns.z, length))
        kept = variances > len(variances) * torch.finfo(variances.dtype).eps * variances[-1]
        directions = directions[:, kept]
        functions = directions * variances[kept].sqrt()  # (B, M)
        seen = self._sqrt[:, :, None] * functions  # (F, B, M)
        # Less what a level could explain, so that nothing depends on it.
        seen = seen - self._unit[:, :, None] * (self._unit[:, None] @ seen)
        values, vectors = torch.linalg.eigh(seen.mT @ seen)
        pull = (self._scaled[:, None] @ seen @ vectors)[:, 0]  # (D, M)
        return _Part(functions, directions, values.clamp(min=0), vectors, pull)

    @cached_property
    def amplitudes(self) -> Tensor:
        """a^2 of every node, where noise is 1: (L, S, F)."""
        shares = torch.tensor(SHARES, dtype=self.level.dtype, device=self.level.device)
        odds = shares / (1 - shares)
        variances = torch.stack([part.values.sum(1) for part in self._parts])  # (L, F)
        return odds[:, None] * (self.columns.n_entries / variances.clamp(min=_LEAST_VARIANCE))[:, None]

    @cached_property
    def noise(self) -> Tensor:
        """Noise variance of every feature, (D,).

        Where it is not known, its restricted maximum likelihood estimates under the nodes are averaged on the log
        scale.
        """
        if self.columns.spread is None:
            return torch.ones_like(self.level)
        degrees = (self.columns.n_entries - 1).clamp(min=1)
        of_flat = self._scaled.square().sum(1)  # (D,)
        evidence, log_noise = [], []
        for part, amplitudes in zip(self._parts, self.amplitudes, strict=True):
            squares = (of_flat - part.gain(amplitudes)).clamp(min=0) + self.columns.spread  # (S, D)
            log_noise.append((squares / degrees).log())
            evidence.append(-0.5 * part.inflation(amplitudes).log().sum(-1) - 0.5 * degrees * squares.log())
        weights = (torch.stack(evidence) + log_node_prior(self.level)[..., None]).flatten(0, 1).softmax(0)
        return (weights * torch.stack(log_noise).flatten(0, 1)).sum(0).exp()

    @cached_property
    def log_evidence(self) -> Tensor:
        """Log evidence of every node, against a flat curve: (L, S, D)."""
        parts = zip(self._parts, self.amplitudes, strict=True)
        return torch.stack([0.5 * (p.gain(a) / self.noise - p.inflation(a).log().sum(-1)) for p, a in parts])

    @cached_property
    def log_joint(self) -> Tensor:
        """Log evidence of every node plus its log prior, against a flat curve: (L, S, D)."""
        return self.log_evidence + log_node_prior(self.level)[..., None]

    def moments(self, length: int, share: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (d, B) and a root (d, B, B) of the covariance of some features' curves under a node.

        Both leave out the level, which shapes do not depend on. The root does not turn with the signs of eigenvectors,
        which rounding decides.
        """
        part, amplitude = self._parts[length], self.amplitudes[length, share]
        if len(amplitude) > 1:
            amplitude = amplitude[features]
            part = replace(part, values=part.values[features], vectors=part.vectors[features])
        mean = part.curves(part.shrinkage(amplitude) * part.pull[features])
        sd = part.shrinkage(amplitude).sqrt()  # (F, M)
        root_of_coordinates = (part.vectors * sd[:, None]) @ part.vectors.mT
        spread = part.functions @ root_of_coordinates @ part.directions.T
        return mean, spread * self.noise[features].sqrt()[:, None, None]

    def mean(self) -> Tensor:
        """Posterior mean of every feature's curve, averaged over nodes and a flat curve of the same weight: (B, D)."""
        joint = self.log_joint.flatten(0, 1)  # (L S, D)
        weights = torch.cat([joint, joint.new_zeros(1, joint.shape[1])]).softmax(0)[:-1].view_as(self.log_evidence)
        mean = torch.zeros_like(self._scaled)
        for part, amplitudes, weight in zip(self._parts, self.amplitudes, weights, strict=True):
            mean += part.curves((weight[..., None] * part.shrinkage(amplitudes)).sum(0) * part.pull)
        mean -= (self._share * mean).sum(1, keepdim=True)
        return (self.level[:, None] + mean).T


def posterior_mean(columns: BinnedColumns) -> Tensor:
    """:meth:`SmoothCurves.mean` of all columns, a block of them at a time: (B, D)."""
    return torch.cat([SmoothCurves(block).mean() for _, block in columns.blocks()], 1)
