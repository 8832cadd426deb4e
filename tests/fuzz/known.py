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


def _try(name: str, X: TableRecipe, *calls: str, **changes: str) -> Try:
    return Try(EstimatorRecipe(name, tuple(changes.items())), X, X, calls)


_PLAIN = TableRecipe()

KNOWN = (
    Known(
        "RuntimeWarning|not finite",
        r"table/units.py|score_samples|fit$|inverse_transform",
        "squares of very large values overflow",
    ),
    Known("RuntimeWarning", "_function_base_impl.py", "an orientation of very large values overflows in np.cov"),
    Known(
        "ValueError",
        r"training/fitting.py \(_run",
        "callbacks that are no pairs of a name and a callback, or have one name",
        _try("DGDEmbedder", _PLAIN, "e.fit(X)", callbacks="[('a',)]"),
    ),
)
