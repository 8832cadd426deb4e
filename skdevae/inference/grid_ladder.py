"""Grid ladder: the posterior of a latent of one or two dimensions, on grids that zoom out and in, row by row.

Each row is integrated to a stated accuracy, on a grid that is as long and as fine as its posterior needs. All grids are
windows of one lattice, whose spacing is doubled or halved. Rows whose windows overlap share the curves' values there,
and rows whose windows have one shape are judged together. So memory is bounded, however far out a row lies and
however narrow its posterior is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nn.rows import Rows
from ..table.grid_source import GridSource
from .grid_quantiles import quantiles
from .latent_posterior import LatentPosterior
from .lattice import Lattice, Windows
from .refinement import Mass, Targets, is_resolved, next_windows


def latent_posterior(source: GridSource, lattice: Lattice, credible_level: float | None = None) -> LatentPosterior:
    """Posterior and evidence of every row, each on a window that holds and resolves it.

    The trapezoidal rule converges faster than any power of the spacing once the spacing is below the posterior's sd. A
    row's integral is accepted where the estimate from every second point agrees. A row that lies at the ends of the
    grid around zero goes on to ever longer ones. One that its grid holds but does not resolve goes on to finer windows
    around where its posterior is. Rows are judged one by one, so results do not depend on which rows come together.
    """
    posterior = LatentPosterior.empty(len(source), lattice.n_components, source.like)
    targets, numbers = Targets.around_zero(len(source), lattice), torch.arange(len(source), device=source.like.device)
    while len(numbers):
        following = [(targets.at(numbers[:0]), numbers[:0])]
        for batch in targets.batches(lattice, numbers):
            rows = _rows_of(source, torch.cat([index for _, index in batch]))
            joints = lattice.log_joints([windows for windows, _ in batch], rows)
            found = []
            for (windows, index), joint in zip(batch, joints, strict=True):
                mass = Mass.of(joint, windows)
                resolved, is_blurred = is_resolved(joint, mass, windows)
                done, pending = resolved.nonzero()[:, 0], (~resolved).nonzero()[:, 0]
                if len(pending):
                    next_targets, exists = next_windows(
                        joint[pending], mass.at_ends()[pending], is_blurred[pending], windows.at(pending), lattice
                    )
                    following.append((next_targets.at(exists), index[pending[exists]]))
                    done = torch.cat([done, pending[~exists]])
                if len(done):
                    found.append(_Found(index[done], windows.at(done), mass.at(done), resolved[done]))
            intervals = _intervals(found, credible_level)
            for part, (lower, upper) in zip(found, intervals, strict=True):
                posterior.put_(part.index, part.summary(lattice.z_max, lower, upper))
        targets = Targets.concatenate([target for target, _ in following])
        numbers = torch.cat([index for _, index in following])
    return posterior


def _rows_of(source: GridSource, numbers: Tensor) -> Rows:
    """The rows of some numbers, which are read as a slice where they are one."""
    is_run = bool((numbers.diff() == 1).all())
    return source.rows(slice(int(numbers[0]), int(numbers[-1]) + 1) if is_run else numbers.cpu().numpy())


@dataclass(frozen=True)
class _Found:
    """Rows whose posteriors have been found, of one shape of windows."""

    index: Tensor
    windows: Windows
    mass: Mass
    resolved: Tensor

    def summary(self, z_max: float, lower: Tensor, upper: Tensor) -> LatentPosterior:
        """The rows' posteriors with intervals (B, Q)."""
        mass, windows = self.mass, self.windows
        sd = mass.variance.sqrt()
        # Of what is not resolved, no more is known than which point it is.
        sd = torch.where(self.resolved[:, None], sd, torch.maximum(sd, windows.spacing))
        beyond = mass.where([z.abs() > z_max for z in windows.coordinates()])
        mean, resolved = windows.center + mass.mean, self.resolved.to(sd)
        return LatentPosterior(mass.log_evidence, mean, sd, lower, upper, resolved, beyond)


def _intervals(found: list[_Found], credible_level: float | None) -> list[tuple[Tensor, Tensor]]:
    """Lower and upper ends of the rows' intervals, (B, Q) each; NaN where no interval is asked for."""
    if credible_level is None:  # quantiles cost as much as all else
        none = [torch.full_like(part.mass.mean, math.nan) for part in found]
        return list(zip(none, none, strict=True))
    levels = 0.5 * (1 - credible_level), 0.5 * (1 + credible_level)
    # All marginals of one length at once, whatever axes and windows they come from.
    places = [(part, axis) for part in range(len(found)) for axis in range(found[part].windows.n_components)]
    ends = [torch.stack([torch.empty_like(part.mass.mean)] * 2, -1) for part in found]  # (B, Q, 2)
    for length in {found[part].windows.shape[axis] for part, axis in places}:
        these = [(part, axis) for part, axis in places if found[part].windows.shape[axis] == length]
        marginals = [found[part].mass.marginals[axis] for part, axis in these]
        within = quantiles(torch.cat(marginals), levels).split([len(marginal) for marginal in marginals])
        for (part, axis), place in zip(these, within, strict=True):
            windows = found[part].windows
            ends[part][:, axis] = windows.spacing[axis] * (windows.low[:, axis, None] + place)
    return [(both[..., 0], both[..., 1]) for both in ends]
