"""A note in the summary where columns clearly behave in none of the default ways, and none where they do."""

from functools import cache

import numpy as np
import pytest

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression, make_progression_counts


def waves(seed=0):
    """Six columns that rise or fall, and six sinusoids of two periods."""
    random = np.random.default_rng(seed)
    t = random.uniform(0, 1, 200)[:, None]
    straight = random.choice([-4.0, 4.0], 6) * (t - 0.5)
    bent = np.sin(4 * np.pi * t + random.uniform(0, 2 * np.pi, 6))
    return np.hstack([straight, bent]) + 0.2 * random.standard_normal((200, 12))


@cache
def note_of(kind, seed, **parameters):
    tables = {
        "waves": lambda: waves(seed),
        "dips": lambda: make_progression(150, n_transient=4, n_dip=2, random_state=seed).data,
        "paper": lambda: make_progression(150, n_transient=8, random_state=seed).data,
        "mixed shapes": lambda: make_progression(150, n_transient=8, n_flat=3, shapes="mixed", random_state=seed).data,
        "noise": lambda: np.random.default_rng(seed).standard_normal((100, 8)),
        "counts": lambda: make_progression_counts(150, 20, random_state=seed).data.toarray(),
    }
    likelihood = "nb" if kind == "counts" else "gaussian"
    model = BasisDeVAEClusterer(likelihood=likelihood, max_epochs=50, random_state=seed, **parameters)
    text = " ".join(model.fit(tables[kind]()).summary().split())
    return text[text.index("Note ") :] if "Note " in text else None


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*:UserWarning")
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["paper", "mixed shapes", "noise", "counts"])
def test_ordinary_tables_are_left_alone(kind, seed):
    assert note_of(kind, seed) is None


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("seed", [0, 1])
def test_waves_are_noted(seed):
    note = note_of("waves", seed)
    assert "6 columns (column 6, column 7, column 8 and 3 more) clearly behave in none" in note
    assert "'free'" in note


def test_dips_are_noted_as_dips():
    note = note_of("dips", 0)
    assert "2 columns" in note
    assert "set behaviors=['increasing', 'decreasing', 'transient', 'flat', 'dip']" in note


def test_who_has_chosen_behaviours_is_left_alone():
    assert note_of("waves", 0, n_clusters=4) is None


def test_it_is_printed_where_training_is_not_silent(capsys):
    BasisDeVAEClusterer(max_epochs=50, random_state=0, verbose=1).fit(waves())
    assert "clearly behave in none of the default ways" in capsys.readouterr().err
