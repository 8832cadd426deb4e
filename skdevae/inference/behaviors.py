"""Behaviours of columns: what each says about its own curve, with the rows where the other columns place them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor

from ..nn.behavior_evidence import behavior_evidence
from ..nn.binned_columns import bin_columns, in_bins
from ..nn.latent_grid import (
    GridStatistics,
    LatentGrid,
    all_positions_are_known,
    counted,
    distribution_and_log,
    log_joint,
    log_likelihood,
    log_prior,
    side_by_side,
    summarize,
)
from ..nn.linear_tables import LinearTables
from ..nn.models import GenerativeModel
from ..nn.models.base import RULED_OUT
from ..nn.rows import Rows
from ..nn.smooth_curves import BinnedColumns, SmoothCurves
from ..table.grid_source import GridSource, in_strata_of
from ..table.source import RowSource

#: groups of columns that are left out in turn, in a small and in a large table
_GROUPS = {False: 20, True: 5}


@dataclass(frozen=True)
class SumsWithoutOwnHelp:
    """Sums of every column, with the rows where the columns of the *other* groups place them.

    Attributes
    ----------
    groups : list of Tensor
        Numbers of the columns of each group.
    parts : list of pairs of GridStatistics and Tensor of shape (P,)
        The sums of each group of columns, and the mass of the q(z) that they were made with. Double precision.
    squares : Tensor of shape (D,)
        Sums of squares of the entries where noise is free; zeros elsewhere. Double precision.
    has_missing : bool
        Whether an entry is missing.
    """

    groups: list[Tensor]
    parts: list[tuple[GridStatistics, Tensor]]
    squares: Tensor
    has_missing: bool

    @classmethod
    def of(
        cls, model: GenerativeModel, source: RowSource, grid: LatentGrid, groups: list[Tensor] | None = None
    ) -> SumsWithoutOwnHelp:
        """Those of the rows of a source; ``groups`` are :func:`groups_of` the source where none are given."""
        tables = _as_if_none_were_flat(model, grid)
        groups = groups_of(tables, source, grid) if groups is None else groups
        return source.summed(partial(cls._of_rows, model, grid, tables, groups))

    @classmethod
    def _of_rows(
        cls, model: GenerativeModel, grid: LatentGrid, tables: LinearTables, groups: list[Tensor], source: RowSource
    ) -> SumsWithoutOwnHelp:
        has_free_noise = model.linear_likelihood.has_free_noise
        squares = torch.zeros(source.n_features, dtype=torch.float64, device=source.like.device)
        has_missing = False

        def located() -> Iterator[tuple[Rows, Tensor]]:
            nonlocal squares, has_missing
            for _, rows in GridSource(source, model).chunks(len(grid.points)):
                has_missing |= rows.observed is not None
                if has_free_noise:
                    squares += counted(rows, rows.dense().values.double().square()).sum(0)
                yield rows, log_joint(rows, tables, grid)

        found = sums_without(groups, located(), tables, grid)
        return cls(groups, [(sums.double(), mass.double()) for sums, mass in found], squares, has_missing)

    def __add__(self, other: SumsWithoutOwnHelp) -> SumsWithoutOwnHelp:
        """The sums of two tables of the same columns, in the same groups."""
        parts = [
            (sums + more, mass + added) for (sums, mass), (more, added) in zip(self.parts, other.parts, strict=True)
        ]
        return SumsWithoutOwnHelp(
            self.groups, parts, self.squares + other.squares, self.has_missing or other.has_missing
        )

    def times(self, factor: float) -> SumsWithoutOwnHelp:
        """The sums where every row counts ``factor`` times."""
        parts = [(sums.times(factor), factor * mass) for sums, mass in self.parts]
        return SumsWithoutOwnHelp(self.groups, parts, factor * self.squares, self.has_missing)

    def to(self, like: Tensor) -> SumsWithoutOwnHelp:
        """The same sums with the dtype and on the device of another tensor."""
        groups = [group.to(like.device) for group in self.groups]
        parts = [(sums.to(like), mass.to(like)) for sums, mass in self.parts]
        return SumsWithoutOwnHelp(groups, parts, self.squares.to(like), self.has_missing)

    def among_strata(self, numbers: Tensor, n_strata: int) -> SumsWithoutOwnHelp:
        """Sums in L strata as those of more strata, of which these have the numbers (L,)."""
        parts = [(sums.among_strata(numbers, n_strata), mass) for sums, mass in self.parts]
        return replace(self, parts=parts)

    def columns(self, model: GenerativeModel, grid: LatentGrid) -> BinnedColumns:
        """Every column in bins along the axis."""
        binned = [in_bins(sums, mass, grid.points.double()) for sums, mass in self.parts]
        widths = [len(group) for group in self.groups] if self.has_missing else None
        together = side_by_side([part for part, _ in binned], widths)
        together = together.of_columns(torch.cat(self.groups).argsort())
        likelihood = deepcopy(model.linear_likelihood).double()
        offsets = None if model.stratum_offsets is None else model.stratum_offsets.double()
        latents = torch.stack([latent[:, 0] for _, latent in binned])
        return bin_columns(together, latents.mean(0), likelihood, self.squares, offsets)


@torch.no_grad()
def evidence_of_behaviors(model: GenerativeModel, source: RowSource, grid: LatentGrid, varying: Tensor) -> Tensor:
    """Log evidence of every behaviour for each column, against a flat curve: (D, K), in double precision.

    A column is judged with the rows where the *other* columns place them. With its own help, noise would follow an axis
    that it has itself bent. Columns that are not ``varying`` (D,), of one value only, are flat without a doubt.
    """
    with in_strata_of(model, source):
        return evidence_of_sums(model, SumsWithoutOwnHelp.of(model, source, grid), grid, varying)


@torch.no_grad()
def evidence_of_sums(model: GenerativeModel, sums: SumsWithoutOwnHelp, grid: LatentGrid, varying: Tensor) -> Tensor:
    """The same as :func:`evidence_of_behaviors`, from sums that were made before."""
    columns = sums.columns(model, grid)
    names, margin = model.decoder.names, cast(float, model.margin)
    fitted = model.curves(columns.z[:, None].to(next(model.parameters()))).to(columns.z)  # (B, K, D)
    parts = []
    for block, some in columns.blocks():
        curves = SmoothCurves(some)
        parts.append(
            behavior_evidence(curves, names, margin, _misfit(fitted[..., block], curves, model.flat_candidate))
        )
    evidence = torch.cat(parts)
    without_doubt = torch.zeros(len(names)).to(evidence)
    if model.flat_candidate is not None:
        without_doubt -= RULED_OUT
        without_doubt[model.flat_candidate] = 0
    return torch.where(varying[:, None], evidence, without_doubt)


@torch.no_grad()
def gains_of_other_behaviors(model: GenerativeModel, source: RowSource, grid: LatentGrid, others: list[str]) -> Tensor:
    """Nats by which each of other behaviours explains a column better than the best that the model has: (D, K').

    They are judged as in :func:`evidence_of_behaviors`, from one set of draws of each curve.
    """
    with in_strata_of(model, source):
        columns = SumsWithoutOwnHelp.of(model, source, grid).columns(model, grid)
        names, margin = [*model.decoder.names, *others], cast(float, model.margin)
        n_own = len(names) - len(others)
        fitted = model.curves(columns.z[:, None].to(next(model.parameters()))).to(columns.z)
        gains = []
        for block, some in columns.blocks():
            curves = SmoothCurves(some)
            misfit = _misfit(fitted[..., block], curves, model.flat_candidate)
            # No curve was fitted for the others: draws alone speak for them.
            unfitted = misfit.new_full((len(misfit), len(others)), torch.inf)
            evidence = behavior_evidence(curves, names, margin, torch.cat([misfit, unfitted], 1))
            gains.append(evidence[:, n_own:] - evidence[:, :n_own].amax(1, keepdim=True))
        return torch.cat(gains)


def column_groups(tables: LinearTables, n_groups: int) -> list[Tensor]:
    """Groups of columns (their numbers) that are about as informative as each other.

    Columns are dealt out by how much their coefficients (P, D) vary along the axis, the most variable one first. So
    groups do not depend on the order in which columns come. Columns that say nothing are dealt last, so they do not
    change the groups of others.
    """
    order = tables.slope.double().std(0).argsort(descending=True, stable=True)
    n_groups = min(n_groups, len(order))
    return [order[first::n_groups] for first in range(n_groups)]


def groups_of(tables: LinearTables, source: RowSource, grid: LatentGrid) -> list[Tensor]:
    """Groups of columns that are left out in turn: :func:`column_groups`, fewer of them in a large table.

    There is one group where no column has helped to place the rows.
    """
    n_groups = 1 if all_positions_are_known(source.context, grid) else _GROUPS[source.is_large]
    return column_groups(tables, n_groups)


def columns_without_their_own_help(model: GenerativeModel, source: RowSource, grid: LatentGrid) -> BinnedColumns:
    """Every column in bins along the axis, with q(z) that its group of columns had no part in."""
    return SumsWithoutOwnHelp.of(model, source, grid).columns(model, grid)


def sums_without(
    groups: Sequence[Tensor], located: Iterable[tuple[Rows, Tensor]], tables: LinearTables, grid: LatentGrid
) -> list[tuple[GridStatistics, Tensor]]:
    """For each group of columns its sums, with q(z) that these columns have no part in, and the mass (P,) of that q(z).

    ``located`` are chunks of rows, each with its log joint density (B, P) under all columns, of coefficients ``tables``
    (P, D).
    """
    found: list[tuple[GridStatistics, Tensor]] = []
    for rows, joint in located:
        here, prior = [], log_prior(rows, grid)
        for group in groups:
            own = rows.of_columns(group)
            q, log_q = distribution_and_log(joint - log_likelihood(own, tables.of_columns(group), grid))
            here.append((summarize(own, q, prior, tables.positive is not None, log_q), counted(own, q).sum(0)))
        pairs = zip(found, here, strict=True)
        found = [(sums + more, mass + added) for (sums, mass), (more, added) in pairs] if found else here
    return found


def _as_if_none_were_flat(model: GenerativeModel, grid: LatentGrid) -> LinearTables:
    """Coefficients averaged over q(w), given that no feature is flat.

    Where signals are weak, the axis needs them all. What flat features take off it would make others look flat in turn,
    until none is left.
    """
    log_phi = model.assignment.log_responsibilities.T.clone()  # (K, D)
    flat = model.flat_candidate
    if flat is not None:
        log_phi[flat] = -torch.inf
    return model.averaged_tables_at(grid.points, log_phi.softmax(0))


def _misfit(fitted: Tensor, smooth: SmoothCurves, flat: int | None) -> Tensor:
    """Nats by which each fitted candidate describes a column less well than the best of those that vary: (D, K).

    ``fitted`` (B, K, D) are the candidates' curves in the bins. ``flat`` is the position of the flat one.
    """
    columns = smooth.columns
    residuals = columns.information[:, None] * (columns.response[:, None] - fitted).square()
    misfit = 0.5 * residuals.sum(0) / smooth.noise  # (K, D)
    not_flat = [k for k in range(len(misfit)) if k != flat]
    return (misfit - misfit[not_flat].amin(0)).clamp(min=0).T
