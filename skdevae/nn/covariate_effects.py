"""Covariate effects: what the columns of a design add to the curve of every feature, on the scale of the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

#: Effects, in units of curves, that the prior's variances start from and are held by: as much as two features' effects
#: of this size would. A standardised measurement moves by one sd, a count by a factor of e.
_PRIOR_EFFECT, _PRIOR_FEATURES = 1.0, 2.0
#: largest change of an effect in one step: away from the maximum a quadratic may be far off
_LARGEST_STEP = 2.0


@dataclass(frozen=True)
class OffsetSums:
    """Derivatives of the expected log-likelihood in the effects, summed over rows.

    Attributes
    ----------
    score : Tensor of shape (C, D)
        First derivatives.
    information : Tensor of shape (C, C, D)
        Second derivatives, or what is expected of them, with the opposite sign.
    """

    score: Tensor
    information: Tensor

    @classmethod
    def of_groups(cls, design: Tensor, first: Tensor, second: Tensor) -> OffsetSums:
        """Sums over groups of rows of one design (L, C) each.

        ``first`` and ``second`` (L, D) are derivatives in the offset of each group, the second with the opposite sign.
        """
        return cls(design.T @ first, torch.einsum("lc,le,ld->ced", design, design, second))

    def __add__(self, other: OffsetSums) -> OffsetSums:
        return OffsetSums(self.score + other.score, self.information + other.information)


@dataclass(frozen=True)
class EffectSums:
    """What rows say of effects, in a form in which rows add up that were read under different effects.

    To second order the log-likelihood is ``response * B - information * B^2 / 2`` in the effects B.

    Attributes
    ----------
    response : Tensor of shape (C, D)
    information : Tensor of shape (C, C, D)
    """

    response: Tensor
    information: Tensor

    @classmethod
    def of(cls, sums: OffsetSums, effects: Tensor) -> EffectSums:
        """From derivatives that were taken at effects (C, D)."""
        return cls(sums.score + torch.einsum("ced,ed->cd", sums.information, effects), sums.information)

    def at(self, effects: Tensor) -> OffsetSums:
        """The derivatives at other effects (C, D)."""
        return OffsetSums(self.response - torch.einsum("ced,ed->cd", self.information, effects), self.information)

    def __add__(self, other: EffectSums) -> EffectSums:
        return EffectSums(self.response + other.response, self.information + other.information)

    def times(self, factor: float) -> EffectSums:
        """The sums where every row counts ``factor`` times."""
        return EffectSums(factor * self.response, factor * self.information)


class CovariateEffects(nn.Module):
    """Effects of C columns of a design on D features.

    Effects of a column are normal around zero, with a variance for the column that is learned from all features (an
    empirical Bayes ridge). So a covariate without effects costs next to nothing, and one that moves every feature is
    hardly shrunk.

    Parameters
    ----------
    n_features : int
        D.
    average : sequence of float
        Training average of each of C columns of the design. Effects count from there.
    """

    variance: Tensor

    def __init__(self, n_features: int, average: Sequence[float]):
        super().__init__()
        n_covariates = len(average)
        self.values = nn.Parameter(torch.zeros(n_covariates, n_features))
        # Plain numbers: they are part of the configuration, and no change of the module's dtype rounds them.
        self.average = tuple(average)
        self.register_buffer("variance", torch.full((n_covariates,), _PRIOR_EFFECT**2))

    def offsets(self, design: Tensor) -> Tensor:
        """What is added to the curves of rows with a design (B, C): (B, D)."""
        return self.centered(design) @ self.values

    def centered(self, design: Tensor) -> Tensor:
        """What a design (B, C) differs by from the average."""
        return design - design.new_tensor(self.average)

    def log_prior(self) -> Tensor:
        """Log density of the effects given the variances, up to a constant: a scalar."""
        return -0.5 * (self.values.square() / self.variance[:, None]).sum()

    @torch.no_grad()
    def update_(self, sums: OffsetSums) -> None:
        """One Newton step for the effects of every feature, and the variances that these suggest."""
        precision = torch.diag(1 / self.variance.double())
        curvature = sums.information.double().permute(2, 0, 1) + precision  # (D, C, C)
        score = sums.score.double().T - self.values.double().T / self.variance.double()  # (D, C)
        step = torch.linalg.solve(curvature, score[..., None])[..., 0]
        self.values.add_(step.T.clamp(-_LARGEST_STEP, _LARGEST_STEP).to(self.values))
        uncertain = torch.linalg.inv(curvature).diagonal(dim1=1, dim2=2).sum(0)  # (C,)
        squares = self.values.double().square().sum(1) + uncertain + _PRIOR_FEATURES * _PRIOR_EFFECT**2
        self.variance.copy_(squares / (self.values.shape[1] + _PRIOR_FEATURES))
