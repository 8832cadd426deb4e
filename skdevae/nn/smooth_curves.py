"""Smooth curves: one Gaussian process prior for every feature's curve, and what the data say about the curve.

A curve is a level, of which nothing is known beforehand, plus a Gaussian process along the axis with the kernel
``a^2 exp(-(z - z')^2 / (2 l^2))``. How far the curve bends (the length l) and how much of the feature's variance it
explains (which fixes a^2) are not fitted: both are averaged over a few values, the *nodes*. Amplitude zero is a flat
curve. Given a node, everything is Gaussian and has a closed form.

Curves are looked at in bins of equal mass along the axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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

    def _centered(self, matrix: Tensor) -> Tensor:
        """A matrix (F, B, X) less what a level could explain, so that nothing depends on it."""
        return matrix - self._unit[:, :, None] * (self._unit[:, None] @ matrix)

    def _decomposed(self, length: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        covariance = kernel(self.columns.z, length).expand(len(self._sqrt), -1, -1)
        inner = self._centered(self._sqrt[:, :, None] * covariance * self._sqrt[:, None])
        inner = self._centered(inner.mT)
        values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
        values = values.clamp(min=0)
        rotated = (self._scaled[:, None] @ vectors)[:, 0]  # (D, B)
        return covariance, values, vectors, rotated

    @cached_property
    def amplitudes(self) -> Tensor:
        """a^2 of every node, where noise is 1: (L, S, F)."""
        shares = torch.tensor(SHARES, dtype=self.level.dtype, device=self.level.device)
        odds = shares / (1 - shares)
        variances = torch.stack([values.sum(1) for _, values, _, _ in self._parts])  # (L, F)
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
        evidence, log_noise = [], []
        for part, amplitudes in zip(self._parts, self.amplitudes, strict=True):
            _, values, _, rotated = part
            inflation = 1 + amplitudes[..., None] * values  # (S, F, B)
            squares = (rotated**2 / inflation).sum(-1) + self.columns.spread  # (S, D)
            log_noise.append((squares / degrees).log())
            evidence.append(-0.5 * inflation.log().sum(-1) - 0.5 * degrees * squares.log())
        weights = (torch.stack(evidence) + log_node_prior(self.level)[..., None]).flatten(0, 1).softmax(0)
        return (weights * torch.stack(log_noise).flatten(0, 1)).sum(0).exp()

    @cached_property
    def log_evidence(self) -> Tensor:
        """Log evidence of every node, against a flat curve: (L, S, D)."""
        found = []
        for part, amplitudes in zip(self._parts, self.amplitudes, strict=True):
            _, values, _, rotated = part
            inflation = 1 + amplitudes[..., None] * values  # (S, F, B)
            gain = (rotated**2 / self.noise[:, None] * (1 - 1 / inflation)).sum(-1)
            found.append(0.5 * (gain - inflation.log().sum(-1)))
        return torch.stack(found)

    @cached_property
    def log_joint(self) -> Tensor:
        """Log evidence of every node plus its log prior, against a flat curve: (L, S, D)."""
        return self.log_evidence + log_node_prior(self.level)[..., None]

    def moments(self, length: int, share: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (d, B) and a root (d, B, B) of the covariance of some features' curves under a node.

        Both leave out the level, which shapes do not depend on.
        """
        covariance, values, vectors, rotated = self._parts[length]
        amplitude = self.amplitudes[length, share]
        if len(amplitude) > 1:
            covariance, values, vectors = covariance[features], values[features], vectors[features]
            amplitude = amplitude[features]
            sqrt, unit = self._sqrt[features], self._unit[features]
        else:
            sqrt, unit = self._sqrt, self._unit
        inflation = 1 + amplitude[:, None] * values  # (F, B)
        scaled = sqrt[:, :, None] * covariance  # (F, B, B), from right to left
        scaled = scaled - unit[:, :, None] * (unit[:, None] @ scaled)
        gain = amplitude[:, None, None] * (scaled.mT @ vectors)
        mean = (gain @ (rotated[features] / inflation)[..., None])[..., 0]
        posterior = amplitude[:, None, None] * covariance - (gain / inflation[:, None]) @ gain.mT
        return mean, root(posterior) * self.noise[features].sqrt()[:, None, None]

    def mean(self) -> Tensor:
        """Posterior mean of every feature's curve, averaged over nodes and a flat curve of the same weight: (B, D)."""
        joint = self.log_joint.flatten(0, 1)  # (L S, D)
        weights = torch.cat([joint, joint.new_zeros(1, joint.shape[1])]).softmax(0)[:-1].view_as(self.log_evidence)
        mean = torch.zeros_like(self._scaled)
        for length, weight in enumerate(weights):  # (S, D)
            covariance, values, vectors, rotated = self._parts[length]
            amplitudes = self.amplitudes[length][..., None]  # (S, F, 1)
            shrunk = (weight[..., None] * amplitudes * rotated / (1 + amplitudes * values)).sum(0)  # (D, B)
            onto = (self._centered(self._sqrt[:, :, None] * covariance)).mT @ vectors
            mean += (onto @ shrunk[..., None])[..., 0]
        mean -= (self._share * mean).sum(1, keepdim=True)
        return (self.level[:, None] + mean).T


def posterior_mean(columns: BinnedColumns) -> Tensor:
    """:meth:`SmoothCurves.mean` of all columns, a block of them at a time: (B, D)."""
    return torch.cat([SmoothCurves(block).mean() for _, block in columns.blocks()], 1)
