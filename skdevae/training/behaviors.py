"""Judging behaviours: from the evidence of every column to q(w)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..inference.behaviors import evidence_of_behaviors
from ..nn.latent_grid import LatentGrid
from ..nn.models import GenerativeModel
from ..table.source import RowSource


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
    # In single precision large numbers would swallow the differences between them.
    differences = (evidence - evidence.amax(1, keepdim=True)).to(source.like)
    model.assignment.settle_(differences, model.gamma, varying.to(source.like))
    model.is_judged = True
