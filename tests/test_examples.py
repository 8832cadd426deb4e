"""The examples run, print what they promise, and draw their figures."""

import importlib.util
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV

from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)
from skdevae.datasets import make_progression

pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PNG = b"\x89PNG"


def loaded(monkeypatch, name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(monkeypatch):
    """examples/plot_tumour_biomarkers.py, with fits that are too short to be good, and a search over half the grid."""
    module = loaded(monkeypatch, "plot_tumour_biomarkers")
    monkeypatch.setattr(module, "BasisDeVAEClusterer", partial(BasisDeVAEClusterer, max_epochs=3))

    def search(estimator, grid, **options):
        return GridSearchCV(estimator, {name: values[-2:] for name, values in grid.items()}, **options)

    monkeypatch.setattr(module, "GridSearchCV", search)
    return module


@pytest.fixture
def brain_example(monkeypatch, tmp_path):
    """examples/plot_brain_thickness.py, with short fits and fewer people, as if ../shared/data were missing."""
    module = loaded(monkeypatch, "plot_brain_thickness")
    fewer = {"n_decreasing": 16}
    monkeypatch.setattr(module, "make_progression", lambda n, **parameters: make_progression(150, **parameters | fewer))
    monkeypatch.setattr(module, "DeVAETransformer", partial(DeVAETransformer, max_epochs=10))
    monkeypatch.setattr(module, "IXI", tmp_path / "missing.csv.gz")
    return module


@pytest.fixture
def toy_example(monkeypatch):
    """examples/plot_basis_toy.py, with fewer samples and functions, and short fits after the search for clusters."""
    module = loaded(monkeypatch, "plot_basis_toy")
    short = {"n_clusters": 9, "max_epochs": 5}
    monkeypatch.setattr(module, "make_basis_toy", partial(module.make_basis_toy, 200, noise=0.1))
    monkeypatch.setattr(module, "BasisVAEClusterer", lambda **parameters: BasisVAEClusterer(**parameters | short))
    short_vae = {"max_epochs": 5}
    monkeypatch.setattr(module, "VAETransformer", lambda n, **parameters: VAETransformer(n, **parameters | short_vae))
    return module


@pytest.fixture
def prior_example(monkeypatch):
    """examples/plot_vamp_prior.py, with few digits, short fits and PCA in the place of UMAP."""
    module = loaded(monkeypatch, "plot_vamp_prior")
    X, digit = module.load_table()
    monkeypatch.setattr(module, "load_table", lambda: (X[:120], digit[:120]))
    monkeypatch.setattr(module, "VampVAE", partial(VampVAE, max_epochs=3))
    drawn = partial(module.LatentDisplay.from_estimator, reducer="pca")
    monkeypatch.setattr(module, "LatentDisplay", SimpleNamespace(from_estimator=drawn))
    return module


@pytest.fixture
def cells_example(monkeypatch):
    """examples/plot_dgd_cells.py, with few cells and components, short fits and PCA in the place of UMAP."""
    module = loaded(monkeypatch, "plot_dgd_cells")
    monkeypatch.setattr(module, "N_COMPONENTS", 4)
    cells = module.make_cell_clusters(150, 60, random_state=0)
    monkeypatch.setattr(module, "load_tables", lambda: (cells, slice(100), slice(100, None)))
    short = {"n_components": 3, "max_epochs": 3, "n_importance_samples": 20}
    monkeypatch.setattr(module, "DGDEmbedder", lambda **parameters: DGDEmbedder(**parameters | short))
    drawn = partial(module.LatentDisplay.from_estimator, reducer="pca")
    monkeypatch.setattr(module, "LatentDisplay", SimpleNamespace(from_estimator=drawn))
    monkeypatch.setattr(module, "PCA", lambda n, **parameters: PCA(3, **parameters))
    return module


@pytest.fixture
def cortex() -> pd.DataFrame:
    """Four pairs of regions, two averages over hemispheres, which are not regions, and ages."""
    progression = make_progression(60, n_transient=0, n_increasing=0, n_decreasing=8, random_state=0)
    regions = ["bankssts", "superiorfrontal", "temporalpole", "insula"]
    names = [f"{side}h_{region}_thickness" for side in "lr" for region in regions]
    table = pd.DataFrame(3 + progression.data, columns=names)
    means = {f"{side}h_MeanThickness_thickness": table.filter(regex=f"^{side}h").mean(axis=1) for side in "lr"}
    return table.assign(**means, age=50 + 10 * progression.times, sex=1)


@pytest.fixture
def table() -> pd.DataFrame:
    progression = make_progression(60, n_transient=2, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0)
    return progression.data.assign(stage=np.where(progression.times > 0, "late", "early"))


def rows_of(output: str) -> dict[str, str]:
    """Behaviour by feature, as the printed table has them."""
    behaviours = "increasing|decreasing|transient|flat"
    return dict(re.findall(rf"^ *(\S.*?) +({behaviours}) +[01]\.\d\d +[+-]", output, re.MULTILINE))


def test_the_table_of_tumours(example, tmp_path, capsys):
    figure = tmp_path / "new" / "tumours.png"
    example.main(["--splits", "1", "--no-search", "--output", str(figure)])
    output = capsys.readouterr().out
    assert set(rows_of(output)) == set(load_breast_cancer().feature_names)
    assert "malignant from benign" in output
    assert all(f"\n{model}" in output for model in ("BasisDeVAEClusterer", "FactorAnalysis(1)", "PCA(1)"))
    assert output.rstrip().endswith(str(figure))
    assert figure.read_bytes().startswith(PNG)


def test_a_table_of_ones_own(example, table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table.assign(who="someone", same=1.0).to_csv("cohort.csv", index=False)
    with joblib.parallel_config(backend="threading"):  # processes of its own would each import torch first
        example.main(["cohort.csv", "--label", "stage", "--splits", "2"])
    output = capsys.readouterr().out
    assert set(rows_of(output)) == set(table.columns) - {"stage"}
    assert "not numeric: who" in output
    assert "constant or empty: same" in output
    assert re.search(r"area under the ROC curve of (0\.[5-9]|1\.0)", output)
    assert re.search(r"^best: K=\d", output, re.MULTILINE)
    assert Path("figures/cohort.png").read_bytes().startswith(PNG)


def test_missing_entries_and_no_label(example, table, tmp_path, capsys):
    features = table.drop(columns="stage")
    gaps = features.mask(np.random.default_rng(0).random(features.shape) < 0.1)
    gaps.iloc[3] = np.nan
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    example.main([str(tmp_path / "gaps.csv"), "--splits", "1", "--no-search", "--output", str(tmp_path / "gaps.png")])
    output = capsys.readouterr().out
    assert set(rows_of(output)) == set(features.columns)
    assert "without any number: 1 rows" in output
    assert "take no missing entries" in output
    assert "ROC" not in output


@pytest.mark.parametrize(
    "change, arguments, message",
    [
        (None, [], "cannot read .* as a CSV table"),
        (lambda table: table.iloc[:, :0], [], "cannot read .* as a CSV table"),
        (lambda table: table, ["--label", "grade"], "no column 'grade'; it has .*'stage'"),
        (lambda table: table, ["--label", "increasing_00"], "two values .* but 'increasing_00' has"),
        (lambda table: table[["stage"]], [], "0 numeric columns"),
        (lambda table: table.head(8), [], "8 rows"),
        (lambda table: table.replace(table.iloc[0, 0], np.inf), [], "infinite values, in "),
        (lambda table: table, ["--splits", "0"], "--splits must"),
    ],
)
def test_bad_tables_are_explained(example, table, tmp_path, capsys, change, arguments, message):
    path = tmp_path / "table.csv"
    if change is not None:
        change(table).to_csv(path, index=False)
    with pytest.raises(SystemExit) as stop:
        example.main([str(path), *arguments])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_label_without_a_table(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--label", "diagnosis"])
    assert "none was given" in capsys.readouterr().err


def test_a_made_up_cortex_where_there_is_no_other(brain_example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    brain_example.main(["--splits", "1", "--refits", "1"])
    output = capsys.readouterr().out
    assert "missing.csv.gz is not here, so they are made up" in output
    assert float(re.search(r"DeVAE axis +(\d\.\d+)", output)[1]) > 0.8
    assert len(re.findall(r"^ *decreasing \d\d +[+-]", output, re.MULTILINE)) == 10
    assert re.search(r"DeVAE -\d+\.\d\d, FactorAnalysis\(1\) -\d+\.\d\d; difference", output)
    assert Path("figures/brain_thickness_made_up.png").read_bytes().startswith(PNG)


def test_a_cortex_of_ones_own(brain_example, cortex, tmp_path, capsys):
    cortex.to_csv(tmp_path / "cortex.csv", index=False)
    figure = tmp_path / "new" / "cortex.png"
    brain_example.main([str(tmp_path / "cortex.csv"), "--splits", "1", "--refits", "0", "--output", str(figure)])
    output = capsys.readouterr().out
    assert "60 people, 8 regions\n" in output
    assert "refits" not in output
    regions = re.findall(r"^ *(\S.*, [LR]) +[+-]", output, re.MULTILINE)
    expected = ["banks of STS", "superior frontal", "temporal pole", "insula"]
    assert set(regions) == {f"{region}, {side}" for region in expected for side in "LR"}
    assert re.search(r"left and right regions.*: Spearman -?\d\.\d\d", output)
    assert figure.read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    "change, arguments, message",
    [
        (None, [], "cannot read .* as a CSV table"),
        (lambda table: table.drop(columns="age"), [], "needs a column 'age'"),
        (lambda table: table[["age", *table.columns[:3]]], [], "at least four that end in '_thickness'"),
        (lambda table: table.head(8), [], "8 rows"),
        (lambda table: table.mask(table == table.iloc[0, 0]), [], "missing entries"),
        (lambda table: table, ["--splits", "0"], "--splits must"),
    ],
)
def test_bad_cortices_are_explained(brain_example, cortex, tmp_path, capsys, change, arguments, message):
    path = tmp_path / "table.csv"
    if change is not None:
        change(cortex).to_csv(path, index=False)
    with pytest.raises(SystemExit) as stop:
        brain_example.main([str(path), *arguments])
    assert stop.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_copies_by_scale_and_by_shift(toy_example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    toy_example.main([])
    output = capsys.readouterr().out
    assert re.search(r"^BasisVAE, scale +5 +1\.00 +0\.74 +-?\d", output, re.MULTILINE)
    assert re.search(r"^BasisVAE, scale \+ shift +3 +0\.74 +1\.00 +-?\d", output, re.MULTILINE)
    assert all(f"\n{model}" in output for model in ("k-means, told 5", "k-means, told 3", "VAE ", "FactorAnalysis(1)"))
    copies, spread = re.findall(r"^  10 early, 10 middle, 10 late\n((?:    .*\n)+)", output, re.MULTILINE)
    assert float(re.search(r"scales: Spearman (\S+)", copies)[1]) > 0.9
    assert re.search(r"-\d\.\d\d \(true -1\.5\), .*, \+\d\.\d\d \(true \+1\.5\)", copies)
    assert float(re.search(r"shifts: Spearman (\S+)", spread)[1]) > 0.9
    names = re.findall(r"^  (increasing|decreasing|transient) \d+: 10 (\w+)$", output, re.MULTILINE)
    assert {("increasing", "up"), ("decreasing", "down")} < set(names)
    assert {group for name, group in names if name == "transient"} == {"early", "middle", "late"}
    assert Path("figures/basis_toy.png").read_bytes().startswith(PNG)


def test_the_prior_example_compares_two_priors_and_draws_them(prior_example, tmp_path, capsys):
    figure = tmp_path / "deep" / "figure.png"
    prior_example.main(["--output", str(figure)])
    printed = capsys.readouterr().out
    for row in ("held-out log p(x)", "active units", "components for 95 %", "silhouette", "Rand index of predict"):
        assert re.search(rf"^{re.escape(row)} +-?\d", printed, re.MULTILINE)
    assert figure.read_bytes().startswith(PNG)


def test_the_cells_example_compares_two_starts_and_draws_them(cells_example, tmp_path, capsys):
    figure = tmp_path / "deep" / "figure.png"
    cells_example.main(["--output", str(figure)])
    printed = capsys.readouterr().out
    for row in ("DGDEmbedder, start by search", "DGDEmbedder, published start", "PCA, GaussianMixture(6)"):
        assert re.search(rf"^{re.escape(row)} +\d", printed, re.MULTILINE)
    assert figure.read_bytes().startswith(PNG)


@pytest.mark.filterwarnings("ignore:.*lie beyond the range of the training samples")  # of a few, in a search
def test_the_example_of_depth_compares_three_ideas_of_size_and_draws_them(monkeypatch, tmp_path, capsys):
    module = loaded(monkeypatch, "plot_sequencing_depth")
    monkeypatch.setattr(module, "N_CELLS", 40)
    monkeypatch.setattr(module, "N_EPOCHS", 3)
    quick = partial(BasisDeVAEClusterer, leveling_off="turn", n_grid_points=17)
    monkeypatch.setattr(module, "BasisDeVAEClusterer", quick)
    figure = tmp_path / "deep" / "figure.png"
    module.main(["--output", str(figure)])
    printed = capsys.readouterr().out
    for row in ("no sizes", "total counts", "spike-ins", "poisson", "nb"):
        assert re.search(rf"^{row} +-?\d", printed, re.MULTILINE)
    assert figure.read_bytes().startswith(PNG)


def test_the_example_of_a_cluster_fits_a_table_in_chunks_and_searches_on_its_workers(monkeypatch, tmp_path, capsys):
    pytest.importorskip("distributed")
    module = loaded(monkeypatch, "plot_dask_cluster")
    for name, value in {"N_CHUNKS": 3, "N_CELLS": 40, "N_EPOCHS": 4}.items():
        monkeypatch.setattr(module, name, value)
    quick = partial(BasisDeVAEClusterer, leveling_off="turn", n_grid_points=17, n_knots=9, hidden_layer_sizes=(4,))
    monkeypatch.setattr(module, "BasisDeVAEClusterer", quick)
    figure = tmp_path / "deep" / "figure.png"
    module.main(["--output", str(figure)], processes=False)  # processes would each import torch first
    printed = capsys.readouterr().out
    assert "positions: 3 chunks of 40 rows, float64, not computed yet" in printed
    assert re.search(r"^rank correlation .*: [01]\.\d+$", printed, re.MULTILINE)
    for row in ("poisson", "nb"):
        assert re.search(rf"^{row} +-?\d", printed, re.MULTILINE)
    assert figure.read_bytes().startswith(PNG)


def test_the_example_of_choosing_clusters_prints_both_scores_and_draws_them(monkeypatch, tmp_path, capsys):
    module = loaded(monkeypatch, "plot_choosing_clusters")
    monkeypatch.setattr(module, "GRID", {"clusterer__n_clusters": [1, 2], "clusterer__alpha": [0.1, 10.0]})
    monkeypatch.setattr(module, "N_SPLITS", 2)
    short = {"max_epochs": 3}
    monkeypatch.setattr(module, "BasisDeVAEClusterer", lambda **parameters: BasisDeVAEClusterer(**parameters | short))
    figure = tmp_path / "deep" / "figure.png"
    module.main(["--output", str(figure)])
    printed = capsys.readouterr().out
    for scorer in ("log-likelihood", "adjusted Rand index"):
        assert f"{scorer} on held-out samples, mean of 2 folds" in printed
    assert len(re.findall(r"^best: K=[12]; simplest within one standard error: K=[12]$", printed, re.MULTILINE)) == 2
    assert re.search(r"^transient +\d", printed, re.MULTILINE)
    assert figure.read_bytes().startswith(PNG)


def test_the_example_of_event_order_prints_two_tables_and_draws_the_order(monkeypatch, tmp_path, capsys):
    module = loaded(monkeypatch, "plot_event_order")
    monkeypatch.setattr(module, "N_PEOPLE", 80)
    monkeypatch.setattr(module, "N_REPLICATES", 5)
    monkeypatch.setattr(module, "BasisDeVAEClusterer", partial(BasisDeVAEClusterer, max_epochs=20))
    figure = tmp_path / "deep" / "figure.png"
    module.main(["--output", str(figure)])
    printed = capsys.readouterr().out
    assert len(re.findall(r"^marker \d+ ", printed, re.MULTILINE)) == 20
    assert int(re.search(r"right order: (\d+)%", printed)[1]) > 70
    assert figure.read_bytes().startswith(PNG)
