"""Inference holds no more of a sparse table dense than a chunk."""

import numpy as np
import pytest

from skdevae import BasisDeVAEClusterer
from skdevae.datasets import make_progression_counts
from skdevae.table import source as row_sources


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:No axis was found")
@pytest.mark.parametrize("inference", ["exact", "amortized"])
def test_no_sparse_table_is_densified_whole(inference, monkeypatch):
    counts = make_progression_counts(50, 8, random_state=0).data
    dense = row_sources.SparseRows.dense
    most = []

    def recorded(self):
        most.append(self.values.shape[0])
        return dense(self)

    monkeypatch.setattr(row_sources, "_CHUNK_ENTRIES", 20 * 8)
    monkeypatch.setattr(row_sources.SparseRows, "dense", recorded)
    model = BasisDeVAEClusterer(likelihood="nb", inference=inference, batch_size=20, max_epochs=2, random_state=0)
    model.fit(counts)
    for evaluate in (model.transform, model.posterior, model.score, model.elbo, model.conditional_log_likelihood):
        evaluate(counts)
    assert np.max(most) <= 20
