"""Judging behaviours: from the evidence of every column to q(w)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..inference.base import share_a_grid
from ..inference.behaviors import evidence_of_behaviors
from ..nn.latent_grid import LatentGrid
from ..nn.models import GenerativeModel
from ..table.source import RowSource


def judge_of(model: GenerativeModel, source: RowSource, grid: LatentGrid) -> Callable[..., None] | None:
    """What judges the behaviours of all features of a table: :func:`judge_`, but for ``may_be_flat``.

    None where behaviours are not judged, or rows do not share a grid.
    """
    if not model.judges_behaviors or not share_a_grid(model, source):
        return None
    varying = torch.from_numpy(source.varying_columns()).to(source.like.device)
    return partial(judge_, model, source, varying, grid)


@torch.no_grad()
def judge_(
    model: GenerativeModel, source: RowSource, varying: Tensor, grid: LatentGrid, *, may_be_flat: bool = True
) -> None:
    """Set q(w) to what the evidence of behaviours says, in place.

    ``varying`` (D,) says which columns have more than one value. The others have no vote: how many of them there are
    does not change what else is found.
    """
    evidence = evidence_of_behaviors(model, source, grid, varying)
    if not may_be_flat:
        evidence = model.without_flat(evidence)
    settle_by_evidence_(model, evidence, varying)


def settle_by_evidence_(model: GenerativeModel, evidence: Tensor, varying: Tensor) -> None:
    """Set q(w) to what the evidence (D, K) of behaviours says, in place. See :func:`judge_` for ``varying`` (D,)."""
    like = next(model.parameters())
    # In single precision large numbers would swallow the differences between them.
    differences = (evidence - evidence.amax(1, keepdim=True)).to(like)
    model.assignment.settle_(differences, model.gamma, varying.to(like))
    model.is_judged = True
