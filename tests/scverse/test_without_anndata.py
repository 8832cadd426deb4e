"""What skdevae.scverse says where it cannot help; no AnnData is needed to find out."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import DeVAETransformer, scverse


def test_tables_are_no_anndata():
    with pytest.raises(TypeError, match=r"adata is a DataFrame, and no AnnData.*estimator\.fit\(X\)"):
        scverse.fit(DeVAETransformer(), pd.DataFrame(np.eye(3)))


def test_pipelines_are_fitted_to_data_frames():
    pipeline = make_pipeline(StandardScaler(), DeVAETransformer())
    with pytest.raises(ValueError, match=r"estimator is a Pipeline.*adata\.to_df\(\)"):
        scverse.fit(pipeline, None)


def test_columns_of_x_are_no_covariates():
    with pytest.raises(ValueError, match=r"covariates='sex' names columns of X, which are genes here.*covariate_keys"):
        scverse.fit(DeVAETransformer(covariates="sex"), None)


def test_anndata_is_not_imported():
    script = "import sys, skdevae; skdevae.scverse.fit; assert 'anndata' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
