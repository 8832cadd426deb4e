"""Examples that are read from top to bottom run, with short fits, and print what they promise."""

import runpy
from pathlib import Path

import pytest

import skdevae

plt = pytest.importorskip("matplotlib.pyplot")
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(name: str, monkeypatch, max_epochs: int) -> dict:
    """What an example has at its end, whose fits are short and whose figure is drawn and not shown."""
    estimator = skdevae.BasisDeVAEClusterer
    short = {"max_epochs": max_epochs}
    monkeypatch.setattr(skdevae, "BasisDeVAEClusterer", lambda **parameters: estimator(**parameters | short))
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    try:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))
    finally:
        plt.close("all")


def test_a_saved_pipeline_finds_what_is_wrong_with_new_rows(monkeypatch, capsys):
    pytest.importorskip("skops")
    found = run("plot_pipeline_in_production", monkeypatch, max_epochs=20)
    printed = capsys.readouterr().out
    assert "same positions to the bit: True" in printed
    assert "Mar: 50 of 50 placed\n" in printed
    assert found["scores"]["Apr"].argmin() == 7
    assert found["training"].columns[found["worst"][1]] == "texture"


def test_a_search_by_optuna_ends_with_its_best_trial(monkeypatch, capsys):
    optuna = pytest.importorskip("optuna")
    objective_of = optuna.study.Study.optimize
    monkeypatch.setattr(optuna.study.Study, "optimize", lambda self, f, n_trials: objective_of(self, f, n_trials=2))
    found = run("plot_optuna_search", monkeypatch, max_epochs=3)
    assert "2 trials" in capsys.readouterr().out
    assert found["best"].n_clusters == found["study"].best_params["n_clusters"]
