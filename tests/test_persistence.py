"""What is saved comes back to the bit: by pickle, copy, joblib and skops, small and free of torch."""

import copy
import io
import pickle
import pickletools
from functools import cache

import joblib
import numpy as np
import pytest
import skops.io
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae.datasets import make_progression, make_progression_counts

pytestmark = pytest.mark.filterwarnings("ignore:early_stopping=True, but training went on")  # fits are short

OURS = {
    "skdevae.trajectory._basisdevae.BasisDeVAEClusterer",
    "skdevae.trajectory._basisvae.BasisVAEClusterer",
    "skdevae.trajectory._devae.DeVAETransformer",
    "skdevae.embedding._dgd.DGDEmbedder",
    "skdevae.embedding._vae.VAETransformer",
    "skdevae.embedding._vamp.VampVAE",
}

VARIANTS = {
    "exact": {},
    "amortized": {"inference": "amortized"},
    "all behaviours": {"n_clusters": 6},
    "noncollapsed, Gauss-Legendre": {"assignment": "noncollapsed", "integrator": "gauss-legendre"},
    "deep": {"hidden_layer_sizes": (8, 8), "activation": "relu"},
    "without hidden layers": {"hidden_layer_sizes": []},
    "early stopping": {"early_stopping": True, "n_init": 2},
    "nb": {"likelihood": "nb"},
    "zinb, amortized": {"likelihood": "zinb", "inference": "amortized"},
    "numpy's numbers": {"n_clusters": np.int64(2), "alpha": np.float32(0.5), "hidden_layer_sizes": np.array([8])},
}
_SMALL = {"n_components": 2, "n_importance_samples": 20}
_DECODER = {**_SMALL, "n_clusters": 3, "hidden_layer_sizes": (8,), "n_init": 2}
OTHERS = {
    "DeVAE, constrained": (DeVAETransformer, {"monotonic_cst": np.resize([1, -1, 0], 12)}),
    "DeVAE, two components": (DeVAETransformer, {"n_components": 2}),
    "DeVAE, three components, nb": (
        DeVAETransformer,
        {"n_components": 3, "likelihood": "nb", "batch_size": 40, "n_importance_samples": 16},
    ),
    "VAE": (VAETransformer, {}),
    "VAE, linear, zinb": (VAETransformer, {"decoder": "linear", "likelihood": "zinb", "n_components": 1}),
    "autoencoder": (VAETransformer, {"variational": False, "dropout": 0.1}),
    "Vamp": (VampVAE, {**_SMALL, "n_pseudo_inputs": 5, "n_clusters": 3, "normalization": "batch"}),
    "Vamp, nb with sizes": (VampVAE, {**_SMALL, "likelihood": "nb"}),
    "Vamp, mixture and flows": (VampVAE, {**_SMALL, "prior": "mixture", "posterior_family": "iaf", "n_flows": 2}),
    "DGD": (DGDEmbedder, {**_DECODER, "may_be_empty": False}),
    "DGD, variational, nb with sizes": (DGDEmbedder, {**_DECODER, "representation": "variational", "likelihood": "nb"}),
    "DGD, isotropic, zinb": (
        DGDEmbedder,
        {**_DECODER, "covariance_type": "isotropic", "likelihood": "zinb", "size_factors": None},
    ),
    "DGD, linear, one component": (DGDEmbedder, {**_DECODER, "hidden_layer_sizes": (), "n_clusters": None}),
    "DGD, supervised": (DGDEmbedder, {**_DECODER, "supervised": True}),
    "BasisVAE": (BasisVAEClusterer, {"n_clusters": 4}),
    "BasisVAE, shifted": (BasisVAEClusterer, {"n_clusters": 4, "translation_invariant": True}),
    "BasisVAE, behaviours": (BasisVAEClusterer, {"n_clusters": 3, "basis": ("increasing", "transient")}),
    "BasisVAE, both directions": (BasisVAEClusterer, {"n_clusters": 4, "basis": ("increasing", "decreasing")}),
    "BasisVAE, unscaled": (BasisVAEClusterer, {"n_clusters": 4, "scale_invariant": False}),
    "BasisVAE, amortized": (BasisVAEClusterer, {"n_clusters": 4, "inference": "amortized"}),
    "BasisVAE, nb": (BasisVAEClusterer, {"n_clusters": 4, "likelihood": "nb"}),
    "BasisVAE, two components": (BasisVAEClusterer, {"n_clusters": 4, "n_components": 2}),
}


@cache
def tables():
    return {
        "gaussian": make_progression(80, n_transient=4, n_increasing=4, n_decreasing=4, random_state=0).data,
        "counts": make_progression_counts(80, 12, density=0.5, random_state=0).data,
    }


def table_of(model):
    return tables()["gaussian" if model.likelihood == "gaussian" else "counts"]


@cache
def fitted(variant="exact"):
    estimator, parameters = OTHERS.get(variant) or (BasisDeVAEClusterer, VARIANTS[variant])
    model = estimator(**{"max_epochs": 6, "random_state": 0, **parameters})
    # which are ignored, but by who is told of classes
    return model.fit(table_of(model), np.repeat(["late", "early"], [30, 50]))


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


ROUND_TRIPS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "pickle, first protocol": lambda model: pickle.loads(pickle.dumps(model, protocol=0)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "joblib": by_joblib,
    "skops": lambda model: skops.io.loads(skops.io.dumps(model), trusted=sorted(OURS)),
}


def answers(model, table):
    """All that a fitted model has to say about some rows, by name."""
    rows = table[:5]
    latents = model.transform(rows)
    z = np.repeat(np.linspace(-6, 6, 31)[:, None], latents.shape[1], 1)
    found = {
        "transform": latents,
        "conditional": model.conditional_log_likelihood(rows),
        "trajectories": model.trajectories(z),
        "history": model.history_[:, ("epoch", "train_loss", "train_latent")],
    }
    if hasattr(model, "score"):  # an autoencoder has no density
        found |= {"scores": model.score_samples(rows), "elbo": model.elbo(rows), "lower": model.posterior(rows).lower}
        found["sample"] = model.sample(7, random_state=0)
    for method in ("predict_features_proba", "predict_proba"):
        if hasattr(model, method):
            found["probabilities"] = getattr(model, method)(rows)
            break
    if hasattr(model, "basis_functions"):
        found["functions"] = model.basis_functions(z)
    fitted_state = {name: value for name, value in vars(model).items() if name.endswith("_")}
    numbers = {name: value for name, value in fitted_state.items() if isinstance(value, np.ndarray | float | int)}
    return found | {f"attribute {name}": value for name, value in numbers.items()}


@cache
def answers_of(variant):
    return answers(fitted(variant), table_of(fitted(variant)))


def assert_same_bits(one, other, table):
    """``one`` may be the name of a variant, whose answers are asked for once."""
    expected = answers_of(one) if isinstance(one, str) else answers(one, table)
    one = fitted(one) if isinstance(one, str) else one
    found = answers(other, table)
    assert vars(other).keys() == vars(one).keys()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("variant", [*VARIANTS, *OTHERS])
@pytest.mark.parametrize("way", ["pickle", "skops"])
def test_every_variant_survives(way, variant):
    model = fitted(variant)
    assert_same_bits(variant, ROUND_TRIPS[way](model), table_of(model))


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize("way", ROUND_TRIPS)
@pytest.mark.parametrize("variant", ["exact", "amortized", "DeVAE, two components", "VAE", "BasisVAE, shifted", "DGD"])
def test_every_way_to_copy_keeps_the_bits(variant, way):
    model = fitted(variant)
    again = ROUND_TRIPS[way](ROUND_TRIPS[way](model))
    assert_same_bits(variant, again, table_of(model))
    parameters, others = again.get_params(), model.get_params()
    assert parameters == others


@pytest.mark.slow(keep=3)
@pytest.mark.parametrize("way", ROUND_TRIPS)
@pytest.mark.parametrize(
    "variant",
    [
        *("exact", "amortized", "zinb, amortized", "all behaviours", "DeVAE, two components", "VAE"),
        *("BasisVAE, shifted", "BasisVAE, both directions", "BasisVAE, amortized", "BasisVAE, two components"),
        *("Vamp", "Vamp, mixture and flows"),
    ],
)
def test_a_mirrored_model_comes_back_mirrored(variant, way):
    model = copy.deepcopy(fitted(variant))
    model.module_.mirror_(0)
    rows = table_of(model)[:5]
    again = ROUND_TRIPS[way](model)
    latent = model.transform(rows)
    assert_array_equal(again.transform(rows), latent)
    assert_array_equal(again.score_samples(rows), model.score_samples(rows))
    assert_array_equal(again.inverse_transform(latent), model.inverse_transform(latent))
    # and can be mirrored back
    again.module_.mirror_(0)
    assert_array_equal(again.transform(rows), answers_of(variant)["transform"])


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("way", ROUND_TRIPS)
def test_parameters_set_after_fit_are_kept_and_leave_the_fitted_model_alone(way):
    # They are for the next fit; what is rebuilt is the model that was fitted.
    model = copy.deepcopy(fitted())
    model.set_params(
        n_clusters=2, inference="amortized", hidden_layer_sizes=(3,), alpha=7.0, assignment="fixed", n_knots=5
    )
    again = ROUND_TRIPS[way](model)
    assert again.get_params() == model.get_params()
    assert_same_bits(model, again, table_of(model))
    assert_same_bits("exact", again, table_of(model))


@pytest.mark.parametrize("way", ROUND_TRIPS)
def test_an_unfitted_estimator_stays_unfitted(way):
    again = ROUND_TRIPS[way](BasisDeVAEClusterer(n_clusters=2, alpha=0.3))
    assert again.get_params() == BasisDeVAEClusterer(n_clusters=2, alpha=0.3).get_params()
    with pytest.raises(NotFittedError):
        again.transform(tables()["gaussian"])


def test_a_clone_is_unfitted():
    model = clone(fitted())
    assert model.get_params() == fitted().get_params()
    assert not [name for name in vars(model) if name.endswith("_") or name.startswith("_")]
    with pytest.raises(NotFittedError):
        model.transform(tables()["gaussian"])


def test_a_copy_shares_nothing_that_a_new_fit_would_change():
    model = copy.deepcopy(fitted())
    before = model.transform(tables()["gaussian"])
    again = copy.copy(model)
    again.set_params(random_state=1).fit(tables()["gaussian"][::-1])
    assert_array_equal(model.transform(tables()["gaussian"]), before)


@pytest.mark.parametrize("variant", [*VARIANTS, *OTHERS])
def test_a_pickle_knows_no_torch(variant):
    names = [str(argument) for _, argument, _ in pickletools.genops(pickle.dumps(fitted(variant)))]
    assert any(type(fitted(variant)).__name__ in name for name in names)
    assert not [name for name in names if "torch" in name or "skorch" in name]


@pytest.mark.parametrize("variant", [*VARIANTS, *OTHERS])
def test_skops_trusts_but_our_own_type(variant):
    saved = skops.io.dumps(fitted(variant))
    assert set(skops.io.get_untrusted_types(data=saved)) <= OURS


def test_files_are_small():
    table = make_progression(random_state=0).data
    assert table.shape == (500, 50)
    model = BasisDeVAEClusterer(max_epochs=5, random_state=0).fit(table)
    assert len(pickle.dumps(model)) < 200_000
    # nothing in it grows with the number of samples
    once, twice = (BasisDeVAEClusterer(max_epochs=2, random_state=0).fit(rows) for rows in (table[:250], table))
    assert abs(len(pickle.dumps(twice)) - len(pickle.dumps(once))) < 100


def test_a_pipeline_with_names_and_output_settings_survives():
    frame = make_progression(80, n_transient=4, n_increasing=4, n_decreasing=4, as_frame=True, random_state=0).data
    pipeline = make_pipeline(StandardScaler(), BasisDeVAEClusterer(max_epochs=3, random_state=0, verbose=0))
    pipeline.set_output(transform="pandas").fit(frame)
    for way in ("pickle", "skops"):
        again = ROUND_TRIPS[way](pipeline)
        assert again.transform(frame).equals(pipeline.transform(frame))
        assert again[-1].feature_names_in_.tolist() == frame.columns.tolist()
    with pytest.raises(ValueError, match="feature names should match"):
        again.transform(frame.iloc[:, ::-1])


class Listener(Callback):
    """At module level, for pickle to find."""

    heard = 0

    def on_epoch_end(self, net, **kwargs):
        self.heard += 1


@pytest.mark.usefixtures("one_run_a_start")
def test_callbacks_stay_parameters():
    model = BasisDeVAEClusterer(max_epochs=3, random_state=0, callbacks=[Listener()]).fit(tables()["gaussian"])
    assert model.callbacks[0].heard == 3
    again = copy.deepcopy(model)
    assert isinstance(again.callbacks[0], Listener)
    assert_same_bits(model, again, tables()["gaussian"])


def test_a_copy_can_be_fitted_again():
    again = pickle.loads(pickle.dumps(fitted()))
    assert_same_bits("exact", again.fit(tables()["gaussian"]), tables()["gaussian"])
