"""Saved models carry a version: what is too new, or from before there were versions, is a clear error."""

import pickle
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import pytest
from agreement import assert_agree
from sklearn.datasets import load_iris

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae._base.persistence import FORMAT

IRIS = load_iris().data

#: Estimators that tests/_base/saved/format_1.joblib holds; see :func:`save`.
ESTIMATORS = {
    "BasisDeVAEClusterer": BasisDeVAEClusterer(4, max_epochs=5, random_state=0),
    "BasisVAEClusterer": BasisVAEClusterer(3, translation_invariant=True, max_epochs=5, random_state=0),
    "DeVAETransformer": DeVAETransformer(2, monotonic_cst="increasing", max_epochs=3, random_state=0),
    "VAETransformer": VAETransformer(2, max_epochs=2, random_state=0),
    "VampVAE": VampVAE(2, likelihood="nb", max_epochs=2, random_state=0),
    "DGDEmbedder": DGDEmbedder(2, n_clusters=3, hidden_layer_sizes=(8,), n_init=1, max_epochs=5, random_state=0),
}
#: How right the answers were of the version that saved the file. Its grids took no account of kinks. It sampled
#: likelihoods around one mode, which was not always the highest.
ACCURACY = {
    ("BasisVAEClusterer", "transform"): 5e-3,
    ("BasisVAEClusterer", "score_samples"): 5e-3,
    ("BasisDeVAEClusterer", "transform"): 1e-5,
    ("BasisDeVAEClusterer", "score_samples"): 1e-5,
    ("DeVAETransformer", "transform"): 1e-5,
    ("DeVAETransformer", "score_samples"): 1e-5,
    ("VAETransformer", "score_samples"): 5e-3,
    ("VampVAE", "score_samples"): 5e-3,
    ("DGDEmbedder", "transform"): 1e-4,
    ("DGDEmbedder", "score_samples"): 5e-3,
}
FILE = Path(__file__).parent / "saved" / f"format_{FORMAT}.joblib"


def table_of(model):
    return np.round(10 * IRIS) if model.likelihood == "nb" else IRIS


def save():
    """Write the file that later versions have to read: ``python tests/_base/test_versions_of_files.py``."""
    models = {name: estimator.fit(table_of(estimator)) for name, estimator in ESTIMATORS.items()}
    answers = {
        name: {
            "transform": model.transform(table_of(model)),
            "score_samples": model.score_samples(table_of(model)),
            "trajectories": model.trajectories(np.ones((2, model.transform(table_of(model)).shape[1]))),
        }
        for name, model in models.items()
    }
    FILE.parent.mkdir(exist_ok=True)
    joblib.dump({"skdevae": version("skdevae"), "models": models, "answers": answers}, FILE, compress=9)


@pytest.fixture(scope="module")
def saved():
    return joblib.load(FILE)


@pytest.mark.slow(keep=2)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_file_of_this_format_gives_the_answers_that_it_gave_when_it_was_saved(saved, name):
    model = saved["models"][name]
    assert type(model).__name__ == name
    z = np.ones((2, model.transform(table_of(model)).shape[1]))
    for method in ("transform", "score_samples"):
        found, expected = getattr(model, method)(table_of(model)), saved["answers"][name][method]
        if (name, method) == ("DGDEmbedder", "score_samples"):
            assert (found > expected - ACCURACY[name, method]).all()  # other modes hold mass, too
        elif (name, method) == ("DGDEmbedder", "transform"):
            assert np.isclose(found, expected, rtol=0, atol=ACCURACY[name, method]).all(1).mean() > 0.9
        elif (name, method) in ACCURACY:
            np.testing.assert_allclose(found, expected, rtol=0, atol=ACCURACY[name, method])
        else:
            assert_agree(found, expected)
    assert_agree(model.trajectories(z), saved["answers"][name]["trajectories"])


def test_parameters_that_a_file_does_not_know_are_what_they_stood_for_when_it_was_saved(saved):
    model = saved["models"]["BasisDeVAEClusterer"]
    assert (model.leveling_off, model.margin) == ("turn", 0.15)
    assert model.cluster_names_.tolist() == ["increasing", "decreasing", "transient", "dip"]
    assert not model.module_.judges_behaviors


def _state(**stamp):
    model = DeVAETransformer(max_epochs=2, random_state=0).fit(IRIS)
    state = model.__getstate__()
    return state | {"_stored_by": state["_stored_by"] | stamp}


def test_fitted_state_says_who_has_stored_it_and_in_which_format():
    assert _state()["_stored_by"] == {"format": FORMAT, "skdevae": version("skdevae")}


def test_a_newer_format_is_a_clear_error():
    state = _state(format=FORMAT + 1, skdevae="9.8")
    message = rf"DeVAETransformer was saved by skdevae 9\.8 in format {FORMAT + 1}, which is newer.*Update skdevae"
    with pytest.raises(ValueError, match=message):
        DeVAETransformer().__setstate__(state)


def test_an_older_format_is_a_clear_error():
    state = _state(format=FORMAT - 1, skdevae="0.0.1")
    with pytest.raises(ValueError, match=r"which is older.*Load it with skdevae 0\.0\.1, or fit it again"):
        DeVAETransformer().__setstate__(state)


@pytest.mark.parametrize("stamp", [None, {}, {"format": "one"}, 3])
def test_a_file_without_a_format_is_a_clear_error(stamp):
    state = _state()
    state["_stored_by"] = stamp
    with pytest.raises(ValueError, match="saved without a format number"):
        DeVAETransformer().__setstate__(state)
    del state["_stored_by"]
    with pytest.raises(ValueError, match="saved without a format number"):
        DeVAETransformer().__setstate__(state)


DAMAGES = {
    "a weight is missing": lambda state: state["_weights_"].popitem(),
    "a weight too many": lambda state: state["_weights_"].update(other=np.zeros(2)),
    "a weight of another shape": lambda state: state["_weights_"].update({first(state): np.zeros((2, 2, 2))}),
    "a weight that is no number": lambda state: state["_weights_"].update({first(state): state_of_nan(state)}),
    "a weight that is text": lambda state: state["_weights_"].update({first(state): "text"}),
    "no weights": lambda state: state.pop("_weights_"),
    "no configuration": lambda state: state.pop("_config_"),
    "no units": lambda state: state.pop("_reader_"),
    "a history of another kind": lambda state: state.update(history_=3),
}


def first(state):
    return next(iter(state["_weights_"]))


def state_of_nan(state):
    return np.full_like(state["_weights_"][first(state)], np.nan)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_a_clear_error(damage):
    state = _state()
    damage(state)
    with pytest.raises(ValueError, match=r"DeVAETransformer cannot be restored.*damaged.*fit it again"):
        DeVAETransformer().__setstate__(state)


def test_an_unfitted_estimator_needs_no_stamp():
    state = DeVAETransformer(2).__getstate__()
    assert "_stored_by" not in state
    assert pickle.loads(pickle.dumps(DeVAETransformer(2))).get_params()["n_components"] == 2


if __name__ == "__main__":
    save()
