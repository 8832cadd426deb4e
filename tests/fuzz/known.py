"""Failures that the fuzzer finds and that are known: each with a reason, and a try that shows it.

The shorter this list, the better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuzz.estimators import EstimatorRecipe
from fuzz.rules import Finding
from fuzz.tables import TableRecipe
from fuzz.tries import Try


@dataclass(frozen=True)
class Known:
    """A known failure: its kind and place as regular expressions, why it is there, and a try that has to show it."""

    kind: str
    where: str
    reason: str
    shown_by: Try | None = None

    def is_about(self, finding: Finding) -> bool:
        """Whether a finding is this failure."""
        return bool(re.search(self.kind, finding.kind) and re.search(self.where, finding.where))


_TABLE = TableRecipe()


def _fit(name: str, **changes: str) -> Try:
    return Try(EstimatorRecipe(name, tuple(changes.items())), _TABLE, _TABLE, ("e.fit(X)",))


KNOWN = (
    Known(
        "process has changed",
        "torch's random state",
        "a lazy layer of the user's own decoder draws its weights at its first call",
        _fit("DGDEmbedder", decoder="torch.nn.LazyLinear(4)"),
    ),
)
