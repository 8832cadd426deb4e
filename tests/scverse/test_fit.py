"""Estimators fitted to an AnnData: results are those of the table, and stand beside the right cells and genes."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scverse.cases import CELLS, COUNTS, ESTIMATORS, cells_in_clusters, progression, quick

from skdevae import DeVAETransformer, VAETransformer, VampVAE, scverse
from skdevae.inspection import feature_table

anndata = pytest.importorskip("anndata", reason="needs anndata, from the extra of that name")


@pytest.mark.parametrize("key", ESTIMATORS)
def test_results_are_those_of_the_table(key):
    adata = cells_in_clusters()
    estimator = ESTIMATORS[key]
    assert scverse.fit(estimator, adata) is estimator
    alone = type(estimator)(**estimator.get_params()).fit(CELLS.data.astype(np.float32))
    expected = alone.embedding_ if key == "dgd" else alone.transform(CELLS.data.astype(np.float32))
    np.testing.assert_allclose(adata.obsm[f"X_{key}"], expected, rtol=1e-4, atol=1e-4)
    assert estimator.feature_names_in_.tolist() == adata.var_names.tolist()
    assert adata.var[f"{key}_used"].all()
    assert adata.uns[key]["estimator"] == type(estimator).__name__
    assert adata.uns[key]["params"]["likelihood"] == "nb"
    if key in ("dgd", "vamp"):
        assert adata.obs[f"{key}_cluster"].astype(int).tolist() == estimator.labels_.tolist()
        assert adata.obs[f"{key}_cluster_probability"].between(0.3, 1).all()
    else:
        assert f"{key}_cluster" not in adata.obs


@pytest.mark.parametrize("key", ESTIMATORS)
def test_a_file_holds_all_results(key, tmp_path):
    adata = cells_in_clusters()
    scverse.fit(ESTIMATORS[key], adata, batch_key="batch", covariate_keys=())
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(tmp_path / "cells.h5ad")
    read = anndata.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(read.obs, adata.obs, check_dtype=False, check_categorical=False)
    pd.testing.assert_frame_equal(read.var, adata.var, check_dtype=False, check_categorical=False)
    np.testing.assert_array_equal(read.obsm[f"X_{key}"], adata.obsm[f"X_{key}"])
    assert read.uns[key]["params"] == adata.uns[key]["params"]
    assert read.uns[key]["batch_key"] == "batch"


def test_columns_of_genes_are_those_of_the_feature_table():
    adata = progression()
    clusterer = scverse.fit(quick(), adata)
    table, var = feature_table(clusterer, adata.to_df()), adata.var
    assert var["basisdevae_behaviour"].tolist() == table["behaviour"].tolist()
    assert var["basisdevae_direction"].tolist() == table["direction"].tolist()
    for ours, theirs in {
        "probability": "probability",
        "change": "change",
        "half_change": "half change",
        "half_change_quantile": "half change (quantile)",
        "peak": "peak",
        "peak_quantile": "peak (quantile)",
    }.items():
        np.testing.assert_allclose(var[f"basisdevae_{ours}"], table[theirs], err_msg=ours)
    assert var["basisdevae_half_change"].notna().sum() >= 6
    in_order = var.sort_values("basisdevae_order")["basisdevae_half_change"].dropna()
    assert in_order.is_monotonic_increasing


def test_positions_have_intervals():
    adata = progression()
    scverse.fit(quick(), adata, key_added="axis")
    obs = adata.obs
    assert (obs["axis_lower"] < obs["axis_position"]).all()
    assert (obs["axis_position"] < obs["axis_upper"]).all()
    assert adata.obsm["X_axis"][:, 0].tolist() == obs["axis_position"].tolist()
    assert abs(obs["axis_position"].corr(obs["time"], method="spearman")) > 0.9
    assert "axis_axis" not in obs


def test_a_known_axis_has_its_units():
    adata = progression()
    adata.obs["days"] = 100 + 10 * adata.obs["time"]
    clusterer = scverse.fit(quick(), adata, axis_key="days")
    assert clusterer.axis_is_given_
    known = adata.obs["days"].to_numpy()
    assert np.abs(adata.obs["basisdevae_axis"] - known).median() < 0.2 * np.ptp(known)
    half = adata.var["basisdevae_half_change_axis"].dropna()
    assert len(half) >= 6
    assert half.between(known.min(), known.max()).all()
    assert adata.uns["basisdevae"]["axis_key"] == "days"


def test_highly_variable_genes_alone():
    adata = progression()
    adata.var["highly_variable"] = [number in (6, 1, 4, 3) for number in range(adata.n_vars)]
    clusterer = scverse.fit(quick(), adata)
    assert clusterer.feature_names_in_.tolist() == ["gene1", "gene3", "gene4", "gene6"]
    assert adata.var["basisdevae_used"].tolist() == adata.var["highly_variable"].tolist()
    assert adata.var["basisdevae_half_change"].notna().tolist() == adata.var["highly_variable"].tolist()
    assert adata.var.loc["gene6", "basisdevae_probability"] == pytest.approx(clusterer.responsibilities_[3].max())
    assert scverse.fit(quick(), adata, use_highly_variable=False).n_features_in_ == adata.n_vars


def test_cells_count_by_their_weights():
    """What is found is that of a table in which each cell is as often as its weight says."""
    adata = progression(90)
    adata.obs["weight"] = np.arange(adata.n_obs) % 3
    repeated = anndata.AnnData(np.repeat(adata.X, adata.obs["weight"], axis=0), var=adata.var.copy())
    one = scverse.fit(quick(), adata, weight_key="weight")
    other = scverse.fit(quick(), repeated)
    assert one.lower_bound_ == pytest.approx(other.lower_bound_)
    pd.testing.assert_frame_equal(adata.var, repeated.var, atol=1e-6)
    assert adata.obs["basisdevae_position"].notna().all()
    assert adata.uns["basisdevae"]["weight_key"] == "weight"
    with pytest.raises(ValueError, match="weight_key='mass' is no column"):
        scverse.fit(quick(), adata, weight_key="mass")


def test_a_later_fit_leaves_nothing_of_an_earlier_one():
    adata = progression()
    adata.obs["fit_notes"] = "of the user"
    scverse.fit(quick(), adata, axis_key="time", key_added="fit")
    scverse.fit(DeVAETransformer(max_epochs=3, random_state=0), adata, key_added="fit")
    assert not {"fit_behaviour", "fit_probability", "fit_peak_axis"} & set(adata.var)
    assert "fit_axis" not in adata.obs
    assert "fit_notes" in adata.obs


def test_layers_and_facts_of_cells_reach_the_model():
    adata = cells_in_clusters()
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.multiply(0.37).tocsr()
    devae = DeVAETransformer(max_epochs=3, **COUNTS)
    keys = {"layer": "counts", "batch_key": "batch", "size_factor_key": "depth"}
    scverse.fit(devae, adata, **keys)
    assert devae.covariate_effects_.columns.tolist() == ["batch[1]"]
    batch = adata.obs["batch"].astype("category")
    alone = DeVAETransformer(max_epochs=3, **COUNTS)
    alone.fit(CELLS.data, covariates=batch.to_frame(), size_factors=adata.obs["depth"])
    positions = alone.transform(CELLS.data, covariates=batch.to_frame(), size_factors=adata.obs["depth"])
    np.testing.assert_allclose(adata.obsm["X_devae"], positions, atol=1e-6)
    scverse.fit(VAETransformer(max_epochs=2, n_components=1, **COUNTS), adata, layer="counts", covariate_keys="age")


def test_log_normalised_sparse_tables_become_dense():
    adata = progression()
    expected = scverse.fit(quick(max_epochs=3), adata).lower_bound_
    adata.X = sp.csr_matrix(adata.X)
    assert scverse.fit(quick(max_epochs=3), adata).lower_bound_ == pytest.approx(expected)


def test_parameters_that_name_genes():
    adata = progression()
    one = scverse.fit(quick(orientation="gene0"), adata, key_added="one")
    other = adata[:, ::-1].copy()
    scverse.fit(DeVAETransformer(max_epochs=5, monotonic_cst={"gene0": 1, "gene3": 1}, random_state=0), other)
    assert np.corrcoef(adata.obs["one_position"], adata.to_df()["gene0"])[0, 1] > 0
    assert one.feature_names_in_[0] == "gene0"


MISTAKES = {
    "layer": ({"layer": "raw"}, r"layer='raw' is no layer of adata\. Its layers: none"),
    "batch": ({"batch_key": "donor"}, r"batch_key='donor' is no column of adata\.obs, which has 'batch', 'age'"),
    "covariate": ({"covariate_keys": ["sex"]}, "covariate_keys='sex' is no column"),
    "size": ({"size_factor_key": "n"}, "size_factor_key='n' is no column"),
    "axis": ({"axis_key": "age"}, "VampVAE has no axis that could be given"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named(mistake):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        scverse.fit(ESTIMATORS["vamp"], cells_in_clusters(), **arguments)


def test_mistakes_of_tables_are_named():
    adata = cells_in_clusters()
    adata.var["highly_variable"] = False
    with pytest.raises(ValueError, match="No gene is marked"):
        scverse.fit(ESTIMATORS["vamp"], adata)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.multiply(0.37).tocsr()
    with pytest.raises(ValueError, match="raw counts") as caught:
        scverse.fit(ESTIMATORS["vamp"], adata, use_highly_variable=False)
    assert "adata.X. adata also has the layers 'counts'" in caught.value.__notes__[0]
    adata.var_names = ["gene0", *adata.var_names[:-1]]
    with pytest.raises(ValueError, match=r"called 'gene0'\. Call adata\.var_names_make_unique"):
        scverse.fit(ESTIMATORS["vamp"], adata)
    with pytest.raises(ValueError, match=r"adata\.X is None.*'counts'"):
        scverse.fit(ESTIMATORS["vamp"], anndata.AnnData(obs=pd.DataFrame(index=["a"]), layers={"counts": np.eye(1)}))


def test_a_fit_that_fails_writes_nothing():
    adata = cells_in_clusters()
    before = adata.copy()
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with a table
        scverse.fit(VampVAE(likelihood="bernoulli"), adata)
    assert list(adata.obs) == list(before.obs)
    assert not adata.obsm
    assert not adata.uns


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
def test_genes_that_nobody_has_marked_are_not_modelled(missing):
    adata = progression()
    marks = [number in (1, 3, 4, 6) for number in range(adata.n_vars)]
    adata.var["highly_variable"] = pd.Series([mark or missing for mark in marks], adata.var_names, dtype=object)
    clusterer = scverse.fit(quick(max_epochs=2), adata)
    assert clusterer.feature_names_in_.tolist() == ["gene1", "gene3", "gene4", "gene6"]
    adata.var["highly_variable"] = [str(mark) for mark in marks]
    with pytest.raises(ValueError, match="holds 'False', which is neither True nor False"):
        scverse.fit(quick(), adata)


@pytest.mark.parametrize("argument", ["axis_key", "size_factor_key"])
def test_what_is_no_number_is_no_position_and_no_size(argument):
    adata = progression()
    days = pd.Series(np.arange(adata.n_obs), adata.obs_names)
    adata.obs["day"] = pd.to_timedelta(days, unit="D").where(days > 5)
    adata.obs["stage"] = pd.Categorical(np.where(days > 50, "late", "early"))
    with pytest.raises(ValueError, match=f"{argument}='day' holds dates or times"):
        scverse.fit(quick(), adata, **{argument: "day"})
    with pytest.raises(ValueError, match=rf"{argument}='stage'.*such as 'early'.*cat\.codes"):
        scverse.fit(quick(), adata, **{argument: "stage"})


@pytest.mark.parametrize("dtype", ["Float64", "category", object])
def test_positions_are_numbers_in_whatever_container(dtype):
    adata = progression()
    adata.obs["known"] = np.where(adata.obs["time"] > 0, adata.obs["time"], np.nan)
    adata.obs["other"] = adata.obs["known"].astype(dtype)
    one, other = (scverse.fit(quick(max_epochs=3), adata, axis_key=key) for key in ("known", "other"))
    assert one.lower_bound_ == other.lower_bound_


@pytest.mark.parametrize("is_sparse", [True, False])
def test_raw_counts_are_no_measurements(is_sparse):
    adata = cells_in_clusters()
    adata.X = adata.X if is_sparse else adata.X.toarray()
    with pytest.warns(UserWarning, match=r"^adata\.X holds whole numbers only.*set likelihood='nb'"):
        scverse.fit(quick(max_epochs=2), adata)
    adata.X = adata.X * np.float32(0.5)
    scverse.fit(quick(max_epochs=2), adata)


def test_raw_counts_of_a_file_are_no_measurements(tmp_path):
    adata = cells_in_clusters()
    adata.X = adata.X.toarray()
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with pytest.warns(UserWarning, match=r"^adata\.X holds whole numbers only"):
        scverse.fit(quick(max_epochs=2), backed)


def test_views_of_files_are_refused_before_anything_is_fitted(tmp_path):
    adata = progression()
    with anndata.settings.override(allow_write_nullable_strings=True):
        adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    model = quick(max_epochs=2)
    with pytest.raises(ValueError, match=r"view of an AnnData that is backed.*to_memory\(\)"):
        scverse.fit(model, backed[:, :4])
    assert not hasattr(model, "module_")
    with pytest.raises(ValueError, match="view of an AnnData that is backed"):
        scverse.transform(model.fit(adata.to_df()), backed[:5])


def test_zeros_and_ones_may_be_booleans():
    adata = cells_in_clusters()
    adata.X = adata.X > 0
    model = scverse.fit(VampVAE(2, likelihood="bernoulli", max_epochs=2, random_state=0), adata)
    other = cells_in_clusters()
    other.X = (other.X > 0).astype(np.float32)
    np.testing.assert_allclose(scverse.transform(model, other), adata.obsm["X_vamp"])


def test_errors_say_how_many_genes_were_read():
    adata = cells_in_clusters()
    adata.var["highly_variable"] = np.arange(adata.n_vars) < 3
    counts = adata.X.toarray()
    counts[5, :3] = 0
    adata.X = counts
    with pytest.raises(ValueError, match="have no counts") as caught:
        scverse.fit(VampVAE(2, likelihood="nb", size_factors="sum", max_epochs=2), adata)
    assert f"adata.X, 3 of its {adata.n_vars} genes." in caught.value.__notes__[0]
