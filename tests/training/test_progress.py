"""What a fit says while it goes on: phases, numbers, bars, and how training has ended."""

import numpy as np
import pytest
from faults.estimators import ESTIMATORS, WINE

from skdevae import BasisDeVAEClusterer, VAETransformer
from skdevae.datasets import make_progression
from skdevae.inspection import bootstrap
from skdevae.training.progress import Progress, announce, counted, labelled, numbered, progress_of_this_fit, quietly


def said(capsys):
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_phases_before_and_after_training_are_named(name, capsys):
    model = ESTIMATORS[name](verbose=1).fit(WINE)
    lines = said(capsys).replace("\r", "\n").splitlines()
    named = [line for line in lines if line.startswith(type(model).__name__)]
    bars = [number for number, line in enumerate(named) if "4/4" in line]
    assert "reading the table" in named[0]
    assert 1 <= min(bars)
    assert max(bars) < len(named) - 1


def test_starts_are_numbered(capsys):
    VAETransformer(2, n_init=3, max_epochs=2, random_state=0, verbose=1).fit(WINE)
    text = said(capsys)
    assert [f"start {number} of 3, training" in text for number in range(5)] == [False, True, True, True, False]


def test_a_run_along_a_path_says_so(capsys, monkeypatch):
    monkeypatch.setattr("skdevae._base.fitting.has_order_of", lambda *_: False)
    table = make_progression(60, random_state=0).data
    BasisDeVAEClusterer(max_epochs=3, random_state=0, verbose=1).fit(table)
    text = said(capsys)
    first, _, second = text.partition("along a path, settling curves")
    assert "training" in first
    assert "along a path" not in first
    assert "along a path, training" in second


def test_one_start_has_no_number(capsys):
    ESTIMATORS["VAE"](verbose=1).fit(WINE)
    assert " of 1" not in said(capsys)


@pytest.mark.parametrize(
    ("parameters", "ending"),
    [
        ({"tol": 1e6}, "converged after 4 epochs"),
        ({"tol": 1e6, "early_stopping": True}, "stopped early after 4 epochs"),
        ({"tol": 0.0}, None),
    ],
)
def test_it_is_said_how_training_has_ended(parameters, ending, capsys):
    model = VAETransformer(2, max_epochs=9, n_iter_no_change=3, random_state=0, verbose=1, **parameters).fit(WINE)
    text = said(capsys)
    if ending is None:
        assert "converged" not in text
        assert "stopped" not in text
        assert model.n_iter_ == 9
    else:
        assert f"VAETransformer: {ending}" in text
        assert f"after {model.n_iter_} epochs" in text


def test_a_failure_leaves_no_open_bar(capsys):
    with pytest.raises(ValueError, match="finite"):
        VAETransformer(2, learning_rate=1e30, random_state=0, verbose=1).fit(WINE)
    assert said(capsys).endswith("\n")


def test_refits_of_a_bootstrap_are_counted_and_have_no_bars_of_their_own(capsys):
    model = BasisDeVAEClusterer(max_epochs=3, random_state=0, verbose=1).fit(WINE)
    capsys.readouterr()
    bootstrap(model, WINE, n_bootstrap=3, method="refit", random_state=0)
    text = said(capsys)
    assert "replicate 3 of 3" in text
    assert "training" not in text


def test_what_nobody_watches_is_silent(capsys):
    announce("outside of a fit")
    assert list(numbered("abc", "start")) == ["a", "b", "c"]
    assert list(counted("abc", "replicate", 3, verbose=False)) == ["a", "b", "c"]
    assert not progress_of_this_fit().is_watched
    with quietly(), Progress(None, verbose=True) as progress:
        assert not progress.is_watched
        announce("within")
    assert said(capsys) == ""


def test_numbers_end_with_what_they_number(capsys):
    with Progress(np, verbose=True):
        for letter in numbered("ab", "start"):
            announce(letter)
        announce("after")
    assert said(capsys).splitlines() == ["module: start 1 of 2, a", "module: start 2 of 2, b", "module: after"]


def test_parts_of_parts_have_both_labels(capsys):
    with Progress(np, verbose=True), labelled("start 1 of 2"):
        with labelled("along a path"):
            announce("training")
        with labelled(""):
            announce("once more")
    assert said(capsys).splitlines() == [
        "module: start 1 of 2, along a path, training",
        "module: start 1 of 2, once more",
    ]


def test_saying_what_it_does_changes_no_fit():
    for name in ("BasisDeVAE", "DGD"):
        one, other = (ESTIMATORS[name](verbose=verbose).fit(WINE).transform(WINE) for verbose in (0, 1))
        np.testing.assert_array_equal(one, other)
