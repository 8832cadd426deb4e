"""Likelihood: the contract of observation models.

A likelihood says how probable an entry x of a feature is where the feature's curve stands at some value.
:meth:`Likelihood.log_prob` is all that amortised models and models without an encoder ask for. Exact inference asks for
more, a log-likelihood that is linear in the data: :class:`~skdevae.nn.likelihoods.linear.LinearLikelihood`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..rows import DenseRows, Rows


class Likelihood(nn.Module):
    """An observation model for D features. Subclasses fill in the hooks.

    Curves are (..., D) with whatever leading dimensions they have. Where z stands beside curves, it has a last
    dimension more, of its components: (..., 1, Q), in a shape that broadcasts.
    """

    #: whether data are non-negative whole numbers, which may come as sparse arrays and are modelled as they are
    counts = False
    #: whether curves are logs of expected counts, to which log size factors add
    has_log_link = False
    #: whether the log-likelihood is linear in the data, as exact inference needs it
    is_linear = False
    #: whether the linear form has a term in 1[x > 0]
    has_positive_term = False
    #: whether the likelihood depends on z by other ways than the curves
    sees_latent = False
    #: Whether the linear form of rows of size s, whose expected counts are multiplied by s, is
    #: ``s zero(z) + x slope(z) + constant(x, s)``, with the coefficients of rows of size 1.
    is_linear_in_size = False
    #: whether there is a dispersion, which may scale with what expected counts are multiplied by
    has_dispersion = False

    @classmethod
    def options(cls, *, noise_floor: float, n_components: int) -> dict[str, Any]:
        """The constructor's arguments, beside the number of features, from the parameters of an estimator.

        ``n_components`` counts the components of the latent that the likelihood may depend on by other ways than the
        curves. It is 0 where curves are constrained, so that the features keep what the curves keep.
        """
        return {}

    def log_prob(self, x: Tensor, curves: Tensor, z: Tensor) -> Tensor:
        """Log density or probability of every entry x (..., D), for curves (..., D)."""
        raise NotImplementedError

    def of_size(self, log_size: Tensor) -> Likelihood:
        """The likelihood of rows of log sizes (B,), whose curves (..., B, D) have been shifted by these.

        It is another one only where a feature's own parameters go with the size.
        """
        return self

    def information(self, curves: Tensor, z: Tensor) -> Tensor:
        """Expected (Fisher) information about the curve in one entry: as ``curves`` (P, D), never negative."""
        raise NotImplementedError

    def mean(self, curves: Tensor, z: Tensor) -> Tensor:
        """Expected value of the features where their curves stand at ``curves`` (P, D)."""
        raise NotImplementedError

    def variance(self, curves: Tensor, z: Tensor) -> Tensor:
        """Variance of one entry where the features' curves stand at ``curves`` (P, D).

        Without a formula of its own: the least that an unbiased estimate of the mean from one entry can have. It is the
        entry's own where the entry is that estimate, as in exponential families.
        """
        with torch.enable_grad():
            at = curves.detach().requires_grad_(True)
            (slopes,) = torch.autograd.grad(self.mean(at, z).sum(), at)
        return slopes.square() / self.information(curves, z)

    def sample(self, curves: Tensor, z: Tensor, generator: torch.Generator) -> Tensor:
        """One draw for each entry of ``curves`` (P, D)."""
        raise NotImplementedError

    def unlink(self, mean: Tensor) -> Tensor:
        """The curve under which the expected value is ``mean``, kept away from the ends of the range."""
        raise NotImplementedError

    def saturated_log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Log density or probability of every entry x (..., D) under the curve that suits this entry best."""
        return self.log_prob(x, self.unlink(x), z)

    def initialize_(self, mean: Tensor, variance: Tensor) -> None:
        """Start from the mean and the variance of every feature, (D,)."""

    def log_prior(self) -> Tensor:
        """Log prior of the parameters, up to a constant: a scalar."""
        return torch.zeros(())

    def mirror_(self, component: int) -> None:
        """Become the same model with one latent axis reversed."""

    def reported(self, units: Tensor) -> dict[str, Tensor]:
        """Parameters that users ask for, by the name of the fitted attribute; (D,) each, for columns in units (D,)."""
        return {}

    # ---- sums over the features of a row ----------------------------------------------------------------------------

    def row_log_prob(self, rows: DenseRows, curves: Tensor, z: Tensor, with_constant: bool = True) -> Tensor:
        """Log-likelihood of every row at curves (..., B, D) and z (..., B, Q) of its own: (..., B).

        Without the constant it differs by :meth:`row_constant`, a number for each row that does not depend on z.
        """
        return _over_features(self.log_prob(rows.values, curves, z[..., None, :]), rows.observed)

    def expected_row_log_prob(
        self, rows: DenseRows, curves: Tensor, z: Tensor, phi: Tensor, with_constant: bool = True
    ) -> Tensor:
        """Log-likelihood of every row at its own z (B, Q) and curves (B, K, D), averaged over phi (K, D): (B,)."""
        log_prob = self.log_prob(rows.values[:, None], curves, z[:, None, None, :])
        return _over_features((log_prob * phi).sum(1), rows.observed)

    def pair_log_prob(self, rows: Rows, curves: Tensor, z: Tensor) -> Tensor:
        """Log-likelihood of every row at every point's curves (P, D) and z (P, Q), without the constant: (B, P)."""
        dense = rows.dense()
        n = len(dense)
        values = [
            self.row_log_prob(dense, curve.expand(n, -1), point.expand(n, -1), with_constant=False)
            for curve, point in zip(curves, z, strict=True)
        ]
        return torch.stack(values, 1)

    def row_constant(self, rows: Rows) -> Tensor:
        """What the sums over a row leave out where the constant is not asked for: (B,)."""
        return rows.dense().values.new_zeros(len(rows))


def _over_features(entries: Tensor, observed: Tensor | None) -> Tensor:
    """Entries (..., B, D) summed over the observed features of each row: (..., B)."""
    return (entries if observed is None else torch.where(observed > 0, entries, 0.0)).sum(-1)
