"""GenerativeModel: a latent, curves over it, and features that follow them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..cluster_prior import ClusterAssignment, OnlyCandidate
from ..covariate_effects import CovariateEffects
from ..decoders import Decoder
from ..latent_grid import GridStatistics
from ..likelihoods import ColumnSummary, Likelihood, LinearLikelihood
from ..linear_tables import ALL_COLUMNS, LinearTables, concatenate, from_blocks
from ..neural_decoders import ConditionalDecoder, ModuleDecoder
from ..priors import GaussianMixture
from ..row_context import EMPTY, RowContext
from ..rows import DenseRows, Rows
from ..strata import StratifiedRows, repeated_over_strata, spread_over_strata

#: entries of the curves' (P, K, D) array above which points are taken a few at a time
_CURVE_ENTRIES = 16_000_000
#: entries of such an array above which coefficients are computed for a block of features at a time
_BLOCK_ENTRIES = 2_000_000
#: nats below all others at which a candidate that is out of the question is put. Zero times it must stay a number
RULED_OUT = 1e4


class GenerativeModel(nn.Module):
    """z ~ N(0, I), and each feature follows one of the candidate curves that the decoder has for it.

    Parameters
    ----------
    n_samples : float
        Samples of the training table, or their total weight.
    n_components : int
        Dimensions Q of the latent.
    decoder : Decoder
    likelihood : Likelihood
    assignment : ClusterAssignment or OnlyCandidate
        Which candidate a feature follows.
    z_max : float
        How far from 0 the latent is looked for.
    weight_precision : float
        Precision of the Gaussian prior on the output weights of the decoder's network, in nats for the whole table.
    beta, gamma : float
        Weights of the latent's and the clusters' divergences.
    effects : CovariateEffects or None, default=None
        What covariates of rows add to their curves. None where there are no covariates, or the decoder sees them.
    margin : float or None, default=None
        Share of its own range by which a curve may break the rule of the behaviour that it is said to have, where the
        behaviours of features are judged by :func:`~skdevae.inference.behaviors.evidence_of_behaviors`. None where
        candidates are compared by how well their fitted curves describe the feature.
    """

    #: whether q(z | x) comes from an encoder
    amortized = False
    #: whether q(w) holds what behaviours were judged to be, which no fitted curve may change
    is_judged = False
    #: whether there is a distribution of latents, and so a likelihood of rows: not so in a plain autoencoder
    variational = True

    def __init__(
        self,
        n_samples: float,
        n_components: int,
        decoder: Decoder,
        likelihood: Likelihood,
        assignment: ClusterAssignment | OnlyCandidate,
        *,
        z_max: float,
        weight_precision: float | None,
        beta: float,
        gamma: float,
        effects: CovariateEffects | None = None,
        margin: float | None = None,
    ):
        super().__init__()
        self.n_samples, self.n_components = n_samples, n_components
        self.decoder = decoder
        self.likelihood = likelihood
        self.assignment = assignment
        self.z_max = z_max
        self.weight_precision = weight_precision
        self.beta, self.gamma = beta, gamma
        self.effects = effects
        self.margin = margin
        #: designs (L, C) of the strata of rows that coefficients on grids are those of: see :meth:`in_strata`
        self.strata: Tensor | None = None

    @property
    def judges_behaviors(self) -> bool:
        """Whether candidates are behaviours that features are judged by, apart from the curves that are fitted."""
        return self.margin is not None and len(self.decoder.names) > 1

    @property
    def leaves_parameters_out(self) -> bool:
        """Whether a training step may have no gradient for some of the parameters."""
        return isinstance(self.decoder, ModuleDecoder)  # of the user's network nobody knows

    @property
    def flat_candidate(self) -> int | None:
        """Position of the flat candidate among others; None where there is none, or no other."""
        names = self.decoder.names
        return names.index("flat") if "flat" in names and len(names) > 1 else None

    def without_flat(self, evidence: Tensor) -> Tensor:
        """Evidence (D, K) that rules a flat curve out."""
        flat = self.flat_candidate
        if flat is None:
            return evidence
        evidence = evidence.clone()
        evidence[:, flat] = evidence.amin(1) - RULED_OUT
        return evidence

    # ---- curves -----------------------------------------------------------------------------------------------------

    @property
    def labels(self) -> Tensor:
        """The most probable candidate of every feature, (D,)."""
        return self.assignment.labels

    def curves(self, z: Tensor, context: RowContext[Tensor] = EMPTY) -> Tensor:
        """Curves of all candidates at z (P, Q), for the covariates of P rows or average ones: (P, K, D)."""
        return self.decoder(self.decoder.prepare(self._conditioned(z, context)))

    def predictive_curves(self, z: Tensor, context: RowContext[Tensor] = EMPTY) -> Tensor:
        """The curve of every feature's most probable candidate: (P, D). Predictions and held-out scores use these.

        They are for the covariates of P rows, or for average ones.
        """
        labels, prepare = self.labels, self.decoder.prepare
        points, at_once = self._conditioned(z, context), self._points_at_once()
        if len(points) <= at_once:  # which is returned without a copy
            return self.decoder.select(prepare(points), labels)
        return torch.cat([self.decoder.select(prepare(part), labels) for part in points.split(at_once)])

    @property
    def is_conditional(self) -> bool:
        """Whether the decoder takes covariates of rows, so that rows which differ in them share no curves."""
        return isinstance(self.decoder, ConditionalDecoder) and self.decoder.n_covariates > 0

    def _conditioned(self, z: Tensor, context: RowContext[Tensor]) -> Tensor:
        """Positions z (P, Q) as the decoder takes them: with covariates beside them if it depends on any."""
        return cast(ConditionalDecoder, self.decoder).beside(z, context.covariates) if self.is_conditional else z

    def offset(self, context: RowContext[Tensor]) -> Tensor | None:
        """What is added to the curves of rows for what they carry beside their entries: (B, 1) or (B, D), or None."""
        log_size = None if context.log_size is None else context.log_size[:, None]
        if self.effects is None or context.covariates is None:
            return log_size
        of_covariates = self.effects.offsets(context.covariates)
        return of_covariates if log_size is None else of_covariates + log_size

    def likelihood_of(self, context: RowContext[Tensor]) -> Likelihood:
        """The likelihood of rows, whose curves have been shifted by what they carry beside their entries."""
        return self.likelihood if context.log_size is None else self.likelihood.of_size(context.log_size)

    def in_context(self, curves: Tensor, context: RowContext[Tensor]) -> tuple[Likelihood, Tensor]:
        """The likelihood of B rows, and their curves (..., B, D), with what they carry beside their entries."""
        offset = self.offset(context)
        return self.likelihood_of(context), curves if offset is None else curves + offset

    def candidates_in_context(self, curves: Tensor, context: RowContext[Tensor]) -> tuple[Likelihood, Tensor]:
        """The same for the curves of all candidates (B, K, D)."""
        offset = self.offset(context)
        return self.likelihood_of(context), curves if offset is None else curves + offset[:, None]

    @property
    def has_strata(self) -> bool:
        """Whether rows of other covariates have other coefficients at the same place on a grid.

        From measurements, effects are subtracted instead.
        """
        return self.effects is not None and not self.linear_likelihood.has_free_noise

    @contextmanager
    def in_strata(self, designs: Tensor | None) -> Iterator[None]:
        """While it lasts, coefficients and sums on grids are those of L strata of rows, of designs (L, C).

        See :mod:`~skdevae.nn.strata`.
        """
        before, self.strata = self.strata, designs
        try:
            yield
        finally:
            self.strata = before

    @property
    def stratum_offsets(self) -> Tensor | None:
        """What the covariates of every stratum add to the curves: (L, D), or None where there are no strata."""
        return None if self.effects is None or self.strata is None else self.effects.offsets(self.strata)

    def adjusted(self, rows: Rows) -> Rows:
        """Rows as grids that all rows share see them: sized, and less the effects of covariates or in strata."""
        design = rows.context.covariates
        rows = rows.sized(self.size_of(rows.context))
        if self.effects is None or design is None:
            return rows
        if self.has_strata:
            if self.strata is None:
                return rows
            same = (design[:, None] == self.strata).all(2)  # (B, L)
            return StratifiedRows(rows, same.to(torch.uint8).argmax(1), len(self.strata))
        dense, offsets = rows.dense(), self.effects.offsets(design)
        if dense.observed is not None:
            offsets = offsets * dense.observed
        return DenseRows(dense.values - offsets, dense.observed, dense.context)

    def size_of(self, context: RowContext[Tensor]) -> Tensor | None:
        """Sizes of rows (B,), where the log-likelihood is linear in them; None where rows have none."""
        if context.log_size is None or not self.likelihood.is_linear_in_size:
            return None
        return context.log_size.exp()

    def predictive_log_prob(self, rows: DenseRows, z: Tensor, with_constant: bool = True) -> Tensor:
        """log p(x | z) under the predictive curves, for rows at positions z (..., B, Q) of their own: (..., B).

        Without the constant it lacks what does not depend on z: :meth:`row_constant`.
        """
        flat = z.flatten(0, -2)
        curves = self.predictive_curves(flat, rows.context.repeat(len(flat) // max(1, len(rows))))
        likelihood, curves = self.in_context(curves.unflatten(0, z.shape[:-1]), rows.context)
        return likelihood.row_log_prob(rows, curves, z, with_constant)

    def row_constant(self, rows: DenseRows) -> Tensor:
        """What log p(x | z) of every row has that does not depend on z: (B,)."""
        return self.likelihood_of(rows.context).row_constant(rows)

    def predictive_entries(self, values: Tensor, context: RowContext[Tensor], z: Tensor) -> Tensor:
        """log p(x | z) of every entry of rows with values (B, D) and a context, at positions z (B, Q): (B, D)."""
        likelihood, curves = self.in_context(self.predictive_curves(z, context), context)
        return likelihood.log_prob(values, curves, z[:, None])

    def predictive_mean(self, context: RowContext[Tensor], z: Tensor, deviations: Tensor | None = None) -> Tensor:
        """Expected values (B, D) of rows with a context, at positions z (B, Q).

        ``deviations`` (B, D) are what the rows' curves differ by from those that the model knows.
        """
        likelihood, curves = self.in_context(self.predictive_curves(z, context), context)
        return likelihood.mean(curves if deviations is None else curves + deviations, z)

    def peaks(self) -> Tensor:
        """Where on the axis each transient feature has its maximum, NaN for the others: (D,)."""
        labels, peaks = self.labels, self.decoder.peaks()
        if peaks is None:
            return torch.full(labels.shape, torch.nan, device=labels.device)
        return peaks.gather(0, labels[None])[0]

    @property
    def n_parameters(self) -> float:
        """How many parameters the curves and the noise have that a fit has settled; of all candidates, the mean."""
        of_curves, of_noise = (
            sum(parameter.numel() for parameter in part.parameters()) for part in (self.decoder, self.likelihood)
        )
        return of_curves / len(self.decoder.names) + of_noise

    @property
    def entries_per_point(self) -> int:
        """Size of the largest arrays that curves at one point of the latent need."""
        return max(self.decoder.nodes_per_point * self.assignment.shape.numel(), self.decoder.weights_per_point)

    def _points_at_once(self) -> int:
        return max(1, _CURVE_ENTRIES // self.entries_per_point)

    # ---- coefficients, of likelihoods that are linear in the data ---------------------------------------------------

    @property
    def linear_likelihood(self) -> LinearLikelihood:
        """The likelihood, where it is linear in the data; else a ValueError."""
        if not self.likelihood.is_linear:
            raise ValueError(
                f"{type(self.likelihood).__name__} is not linear in the data, which a latent on a grid needs: infer by "
                "an encoder (inference='amortized')."
            )
        return cast(LinearLikelihood, self.likelihood)

    def predictive_tables(self, z: Tensor) -> LinearTables:
        """Likelihood coefficients of each feature under its most probable candidate, at z (P, Q): (P, D)."""
        decoder, labels = self.decoder, self.labels

        def of_block(points: Any, part: Tensor, block: slice) -> LinearTables:
            return self._tables_of(decoder.select(points, labels[block], block), part, block)

        return self._tables_at(z, of_block)

    def averaged_tables_at(self, z: Tensor, weights: Tensor | None = None) -> LinearTables:
        """Likelihood coefficients at z (P, Q), averaged over candidates with weights (K, D), or over q(w): (P, D)."""
        weights = self.assignment.responsibilities.T if weights is None else weights

        def of_block(points: Any, part: Tensor, block: slice) -> LinearTables:
            return self._tables_of(self.decoder(points, columns=block), part, block).average(weights[:, block])

        return self._tables_at(z, of_block)

    def tables_of_curves(self, curves: Tensor, z: Tensor) -> LinearTables:
        """Likelihood coefficients of features at given curves (P, D) at z (P, Q): (P, D)."""
        return self._tables_of(curves, z, ALL_COLUMNS)

    def _tables_of(self, curves: Tensor, z: Tensor, block: slice) -> LinearTables:
        """Coefficients of a block of features at curves (P, ..., d) and z (P, Q), in all strata."""
        return self.linear_likelihood.tables(*self._in_strata(curves, z, block), columns=block)

    def _in_strata(
        self, curves: Tensor, z: Tensor, block: slice, offsets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Curves (P, ..., d) of a block of features, and z (P, Q), in all strata: (L P, ..., d) and (L P, Q).

        ``offsets`` (L, D) are those of the strata, where not the present ones.
        """
        offsets = self.stratum_offsets if offsets is None else offsets
        offsets = None if offsets is None else offsets[:, block]
        return spread_over_strata(curves, offsets), repeated_over_strata(z, offsets)

    def _tables_at(self, z: Tensor, of_block: Callable[[Any, Tensor, slice], LinearTables]) -> LinearTables:
        """Coefficients at z (P, Q) from those of blocks of features at some of the points, prepared as they need be."""
        at_once = max(1, _CURVE_ENTRIES // self.decoder.weights_per_point)
        n_features = len(self.labels)
        parts = []
        for part in [z] if len(z) <= at_once else z.split(at_once):
            at_part = partial(of_block, self.prepared(part), part)
            parts.append(from_blocks(n_features, self._blocks(len(part)), at_part))
        return concatenate(parts, n_strata=1 if self.strata is None else len(self.strata))

    def prepared(self, z: Tensor) -> Any:
        """Points z (P, Q) as the decoder wants them."""
        return self.decoder.prepare(z)

    def _blocks(self, n_points: int) -> list[slice]:
        """Blocks of features whose arrays (P, K, d) have a bounded size: one where the table is small."""
        n_features, n_candidates = self.assignment.shape
        n_points *= 1 if self.strata is None else len(self.strata)
        step = max(1, _BLOCK_ENTRIES // (n_points * n_candidates * self.decoder.nodes_per_point))
        if step >= n_features:
            return [ALL_COLUMNS]
        return [slice(start, min(start + step, n_features)) for start in range(0, n_features, step)]

    def expected_log_likelihood(
        self, statistics: GridStatistics, z: Tensor, phi: Tensor | None = None, offsets: Tensor | None = None
    ) -> Tensor:
        """Log-likelihood of each feature under each of its candidates, (K, D), for the sums at z (P, Q).

        ``phi`` (K, D), where given, scales the gradient to what candidates or features share. ``offsets`` (L, D) are
        those of the strata, where not the present ones. Where there are several blocks of features, going back computes
        each once more rather than keep them all.
        """
        points, blocks = self.prepared(z), self._blocks(len(z))

        def of_block(block: slice) -> Tensor:
            weights = phi if phi is None or block == ALL_COLUMNS else phi[:, block]
            curves, at = self._in_strata(self.decoder(points, weights, block), z, block, offsets)
            sums = statistics if block == ALL_COLUMNS else statistics.of_columns(block)
            return self.linear_likelihood.expected_sums(sums, curves, at, weights, block)

        if len(blocks) == 1:
            return of_block(blocks[0])
        parts = [checkpoint(of_block, block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
        return torch.cat(parts, 1)

    def start_effects_(self, effects: Tensor) -> None:
        """Start the effects of covariates, (C, D), wherever the model has them."""
        own = self.effects.values if self.effects is not None else cast(ConditionalDecoder, self.decoder).effects
        if own is not None:
            with torch.no_grad():
                own.copy_(effects)

    # ---- priors -----------------------------------------------------------------------------------------------------

    def latent_prior(self) -> GaussianMixture:
        """p(z), a mixture of Gaussians: here of one, the standard normal."""
        return GaussianMixture.standard_normal(self.n_components, next(self.parameters()))

    def candidate_log_prior(self) -> Tensor:
        """Log prior of each candidate's parameters for each feature, (K, D), with Schwarz's term for their number.

        The curves are fitted, not integrated over. So a candidate with more freedom would win wherever two fit alike: a
        transient whose peak lies outside the data looks like a monotone curve. Half of log N for each parameter of the
        shape is what integrating over it would cost, to leading order.
        """
        log_prior = self.decoder.log_prior(self.weight_precision)
        complexity = self.decoder.n_shape_parameters.to(log_prior)
        return log_prior - 0.5 * math.log(self.n_samples) * complexity[:, None]

    def shared_log_prior(self) -> Tensor:
        """Log prior of the parameters that are not one candidate's, up to a constant: a scalar."""
        shared = self.decoder.shared_log_prior(self.weight_precision) + self.likelihood.log_prior()
        return shared if self.effects is None else shared + self.effects.log_prior()

    def log_prior(self) -> Tensor:
        """Log prior of all parameters in use, up to a constant: a scalar."""
        phi = self.assignment.responsibilities.T
        return (phi * self.candidate_log_prior()).sum() + self.shared_log_prior()

    # ---- changes in place -------------------------------------------------------------------------------------------

    @property
    def can_mirror(self) -> bool:
        """Whether :meth:`mirror_` is possible."""
        return self.decoder.can_mirror

    def mirror_(self, component: int) -> None:
        """Reverse one latent axis, in place."""
        self.assignment.permute_(self.decoder.mirror_(component))
        self.likelihood.mirror_(component)

    def initialize_(self, statistics: GridStatistics, summary: ColumnSummary, z: Tensor) -> None:
        """Start from the smoothed mean of every feature at points z (P, Q) of a first guess of the latent."""
        present, mass, smoothed = statistics.smoothed()
        self.decoder.initialize_(self.likelihood.unlink(smoothed), mass, z[present])
        # Not zero: early stopping may hold out every row in which a column is observed.
        n_observed = torch.where(summary.n_observed > 0, summary.n_observed, 1.0)
        mean = statistics.weighted.sum(0) / n_observed
        # Rounding can take the variance of a column with hardly any entries below zero.
        variance = (summary.sum_of_squares / n_observed - mean**2).clamp(min=0)
        self.likelihood.initialize_(mean, variance)
