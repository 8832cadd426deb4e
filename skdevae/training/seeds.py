"""Explicit sources of randomness: torch's global state is neither read nor changed, so fits in threads do not mix."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.utils import check_random_state


def spawn_seeds(random_state: int | np.random.RandomState | None, n: int) -> list[int]:
    """Independent seeds for n generators."""
    return [int(seed) for seed in check_random_state(random_state).randint(np.iinfo(np.int32).max, size=n)]


def generator_from(seed: int) -> torch.Generator:
    """A generator on the CPU: draws are the same on every device."""
    return torch.Generator().manual_seed(seed)
