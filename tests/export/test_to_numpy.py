"""Exports give the positions that ``transform`` gives, without torch; what they cannot give they refuse."""

import importlib.util
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)
from skdevae.datasets import make_progression
from skdevae.export import to_numpy

#: what a fit of a test costs
SHORT = {"max_epochs": 15, "random_state": 0}
#: how close an exported position has to be
TOLERANCE = 1e-6


def exported(estimator, folder):
    """The package that an export has written, imported."""
    path = to_numpy(estimator, folder / "exported") / "__init__.py"
    spec = importlib.util.spec_from_file_location("exported", path)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    return package


@pytest.fixture(scope="module")
def measurements():
    return make_progression(300, n_transient=4, n_increasing=4, n_decreasing=4, noise=0.3, random_state=0).data


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    time, slopes = rng.normal(size=(300, 1)), np.linspace(-0.8, 0.8, 8)
    return rng.poisson(np.exp(1 + time * slopes) * rng.gamma(3, 1 / 3, (300, 1))).astype(float)


def with_gaps(X):
    """The table with a fifth of its entries missing, and its first row without any."""
    X = X.copy()
    X[np.random.default_rng(1).random(X.shape) < 0.2] = np.nan
    X[0] = np.nan
    return X


MEASURED = {
    "behaviours": BasisDeVAEClusterer(**SHORT),
    "copies that are shifted": BasisVAEClusterer(n_clusters=4, **SHORT),
    "one component": DeVAETransformer(**SHORT),
    "two components": DeVAETransformer(n_components=2, **SHORT),
    "two components of copies": BasisVAEClusterer(n_clusters=4, n_components=2, **SHORT),
    "behaviours, trained with an encoder": BasisDeVAEClusterer(inference="amortized", **SHORT),
    "a network, by an encoder of one component": VAETransformer(n_components=1, **SHORT),
}


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:.*rows have no observed entry:UserWarning")
@pytest.mark.filterwarnings("ignore:.*beyond the range of the training:UserWarning")
@pytest.mark.parametrize("estimator", MEASURED.values(), ids=MEASURED)
def test_measurements_with_gaps(estimator, measurements, tmp_path):
    X = with_gaps(measurements)
    estimator.fit(X[1:])
    package = exported(estimator, tmp_path)
    positions, reasons = package.place(X)
    assert np.abs(positions - estimator.transform(X)).max() < TOLERANCE
    assert reasons[0] == package.NOTHING_KNOWN
    assert not reasons[1:].any()


COUNTED = {
    likelihood + (" with totals" if sizes else ""): BasisDeVAEClusterer(
        likelihood=likelihood, size_factors=sizes, **SHORT
    )
    for likelihood, sizes in [("nb", "sum"), ("poisson", "sum"), ("nb", None), ("zinb", None), ("poisson", None)]
}


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:.*rows have no observed entry:UserWarning")
@pytest.mark.filterwarnings("ignore:.*beyond the range of the training:UserWarning")
@pytest.mark.parametrize("estimator", COUNTED.values(), ids=COUNTED)
def test_counts_with_gaps(estimator, counts, tmp_path):
    estimator.fit(counts)
    package = exported(estimator, tmp_path)
    for X in (counts, with_gaps(counts)):
        assert np.abs(package.transform(X) - estimator.transform(X)).max() < TOLERANCE
    assert np.array_equal(package.transform(sp.csr_array(counts)), package.transform(counts))


def test_zeros_and_ones(counts, tmp_path):
    X = (counts > 2).astype(float)
    model = BasisDeVAEClusterer(likelihood="bernoulli", **SHORT).fit(X)
    assert np.abs(exported(model, tmp_path).transform(X) - model.transform(X)).max() < TOLERANCE


def test_size_factors_that_are_given(counts, tmp_path):
    sizes = counts.sum(1)
    model = BasisDeVAEClusterer(likelihood="nb", **SHORT).fit(counts, size_factors=sizes)
    package = exported(model, tmp_path)
    expected = model.transform(counts, size_factors=sizes)
    assert np.abs(package.transform(counts, sizes) - expected).max() < TOLERANCE
    with pytest.raises(ValueError, match="was fitted with size factors"):
        package.transform(counts)
    with pytest.raises(ValueError, match="300 positive numbers"):
        package.transform(counts, sizes[:5])


def test_size_factors_by_a_rule_are_given_to_the_export(counts, tmp_path):
    def mean_count(table):
        return table.mean(1)

    model = BasisDeVAEClusterer(likelihood="nb", size_factors=mean_count, **SHORT).fit(counts)
    package = exported(model, tmp_path)
    assert np.abs(package.transform(counts, mean_count(counts)) - model.transform(counts)).max() < TOLERANCE
    with pytest.raises(ValueError, match="give those of the rows"):
        package.transform(counts)


@pytest.mark.filterwarnings("ignore:.*have no counts:UserWarning")
def test_a_row_without_counts_has_the_position_of_the_prior(counts, tmp_path):
    model = BasisDeVAEClusterer(likelihood="nb", size_factors="sum", **SHORT).fit(counts)
    package = exported(model, tmp_path)
    X = np.vstack([counts[:3], np.zeros(8)])
    positions, reasons = package.place(X)
    assert np.abs(positions - model.transform(X)).max() < TOLERANCE
    assert reasons.tolist() == [0, 0, 0, package.NOTHING_KNOWN]


@pytest.mark.filterwarnings("ignore:.*beyond the range of the training:UserWarning")
@pytest.mark.parametrize("estimator", [MEASURED["one component"], MEASURED["two components"]])
def test_far_rows_are_placed_as_by_the_model_or_not_at_all(estimator, measurements, tmp_path):
    center = measurements.mean(0)
    estimator.fit(measurements)
    far = center + np.repeat([1.5, 3, 10, 1e3, 1e9, 1e200], 20)[:, None] * (measurements[:120] - center)
    package = exported(estimator, tmp_path)
    positions, reasons = package.place(far)
    placed = reasons == 0
    assert np.abs(positions[placed] - estimator.transform(far[placed])).max() < TOLERANCE
    assert np.isnan(positions[~placed]).all()
    assert placed[:20].all()
    assert set(reasons[80:]) <= {package.FAR, package.NARROW}


def test_many_columns_place_rows_exactly(tmp_path):
    X = make_progression(300, n_transient=200, n_increasing=100, n_decreasing=100, random_state=1).data
    model = BasisDeVAEClusterer(**SHORT).fit(X)
    positions, reasons = exported(model, tmp_path).place(X)
    assert np.abs(positions - model.transform(X)).max() < TOLERANCE
    assert not reasons.any()


def test_columns_that_never_varied_have_no_say(measurements, tmp_path):
    X = np.insert(measurements, 3, 7.0, axis=1)
    model = BasisDeVAEClusterer(**SHORT).fit(X)
    package = exported(model, tmp_path)
    X[:, 3] = 8.0
    assert np.abs(package.transform(X) - model.transform(X)).max() < TOLERANCE


ENCODED = {
    "vamp prior": VampVAE(n_components=3, likelihood="nb", size_factors="sum", **SHORT),
    "normal prior": VAETransformer(n_components=2, likelihood="poisson", **SHORT),
    "layers": VampVAE(n_components=2, likelihood="nb", activation="gelu", normalization="layer", **SHORT),
    "batches": VampVAE(n_components=2, likelihood="nb", activation="elu", normalization="batch", **SHORT),
}


@pytest.mark.slow(keep=2)
@pytest.mark.filterwarnings("ignore:.*beyond the range of the training:UserWarning")
@pytest.mark.parametrize("estimator", ENCODED.values(), ids=ENCODED)
def test_encoders_of_complete_rows(estimator, counts, tmp_path):
    estimator.fit(counts)
    package = exported(estimator, tmp_path)
    positions, reasons = package.place(counts)
    placed = reasons == 0
    assert placed.mean() > 0.95
    assert np.abs(positions - estimator.transform(counts))[placed].max() < TOLERANCE
    X = counts[:3].copy()
    X[0, 0] = np.nan
    positions, reasons = package.place(X)
    assert reasons[0] == package.INCOMPLETE
    assert np.isnan(positions[0]).all()
    assert not np.isnan(positions[1:]).any()


@pytest.mark.filterwarnings("ignore:.*beyond the range of the training:UserWarning")
def test_an_autoencoder_takes_gaps(measurements, tmp_path):
    model = VAETransformer(n_components=2, variational=False, **SHORT).fit(measurements)
    package = exported(model, tmp_path)
    X = with_gaps(measurements)[1:]
    for table in (measurements, X, 1e3 * measurements):  # it has no prior that rows could be far from
        positions, reasons = package.place(table)
        assert np.abs(positions - model.transform(table)).max() < TOLERANCE * max(1, np.abs(positions).max())
        assert not reasons.any()


def test_pipelines_of_scalers_and_columns_by_name(measurements, tmp_path):
    frame = pd.DataFrame(measurements * 7 + 100, columns=[f"marker {number}" for number in range(12)])
    model = make_pipeline(StandardScaler(), BasisDeVAEClusterer(**SHORT)).fit(frame)
    package = exported(model, tmp_path)
    expected = model.transform(frame)
    assert np.abs(package.transform(frame[frame.columns[::-1]]) - expected).max() < TOLERANCE
    assert np.abs(package.transform(frame.to_numpy()) - expected).max() < TOLERANCE
    lacking = frame.drop(columns="marker 5")
    with pytest.raises(ValueError, match=r"X lacks the columns \['marker 5'\].*reindex"):
        package.transform(lacking)
    completed = lacking.reindex(columns=frame.columns)
    nullable = completed.astype("Float64").mask(completed["marker 2"] > 100)
    nullable["marker 2"] = nullable["marker 2"].fillna(7)
    floats = nullable.to_numpy(dtype=float, na_value=np.nan)
    assert np.abs(package.transform(nullable) - package.transform(floats)).max() == 0
    assert np.abs(package.transform(completed) - model.transform(completed)).max() < TOLERANCE


def test_an_export_needs_numpy_alone(measurements, tmp_path):
    to_numpy(BasisDeVAEClusterer(**SHORT).fit(measurements), tmp_path / "stage")
    np.save(tmp_path / "rows.npy", measurements[:5])
    script = """
import sys
before = set(sys.modules)
import numpy
numpy_itself = set(sys.modules)
import stage
print(stage.transform(numpy.load("rows.npy")).shape)
strangers = {name.partition(".")[0] for name in set(sys.modules) - numpy_itself} - set(sys.stdlib_module_names)
assert strangers <= {"stage", "numpy"}, strangers
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert run.stdout == "(5, 1)\n"


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize(
    "rows, complaint",
    [
        (np.full((2, 3), 1.0), "8 columns"),
        (np.full((2, 8), -1.0), "counts"),
        (np.full((2, 8), 0.5), "counts"),
        (np.full((2, 8), np.inf), "infinite"),
    ],
)
def test_tables_that_transform_refuses(rows, complaint, counts, tmp_path):
    package = exported(BasisDeVAEClusterer(likelihood="nb", **SHORT).fit(counts), tmp_path)
    with pytest.raises(ValueError, match=complaint):
        package.transform(rows)


def test_size_factors_of_a_model_without(counts, tmp_path):
    package = exported(BasisDeVAEClusterer(likelihood="nb", **SHORT).fit(counts), tmp_path)
    with pytest.raises(ValueError, match="leave them out"):
        package.transform(counts, counts.sum(1))


def test_what_cannot_be_exported(measurements, counts, tmp_path):
    sex = np.arange(300) % 2
    refused = {
        "has covariates": BasisDeVAEClusterer(**SHORT).fit(measurements, covariates={"sex": sex}),
        "no encoder and no grid": DGDEmbedder(n_components=2, n_clusters=2, likelihood="nb", **SHORT).fit(counts),
        "A step of the pipeline is PCA": make_pipeline(PCA(4), DeVAETransformer(**SHORT)).fit(measurements),
        "the last step is StandardScaler": StandardScaler().fit(measurements),
    }
    for complaint, estimator in refused.items():
        with pytest.raises(ValueError, match=complaint):
            to_numpy(estimator, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_folders(measurements, tmp_path):
    model = DeVAETransformer(**SHORT).fit(measurements)
    with pytest.raises(ValueError, match="name is that of a Python package"):
        to_numpy(model, tmp_path / "my-model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("keep me")
    with pytest.raises(ValueError, match="holds other files"):
        to_numpy(model, tmp_path / "full")
    assert to_numpy(model, tmp_path / "again") == to_numpy(model, tmp_path / "again")
