"""Docstrings say what is there: every parameter with its default, every fitted attribute, each in one wording."""

import inspect
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from house.docstrings import NOTHING, Entry, entries, sections

import skdevae
from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE
from skdevae._base.covariate_effects import CovariateEffectsMixin
from skdevae.datasets import make_cell_clusters

ESTIMATORS = (BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, VAETransformer, VampVAE, DGDEmbedder)
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (
        skdevae,
        skdevae.metrics,
        skdevae.datasets,
        skdevae.display,
        skdevae.inspection,
        skdevae.export,
        skdevae.scverse,
    )
    for name in module.__all__
}
CLASSES = {name: public for name, public in PUBLIC.items() if inspect.isclass(public)}
FUNCTIONS = {name: public for name, public in PUBLIC.items() if inspect.isfunction(public)}
METHODS = {
    f"{name}.{method}": getattr(public, method)
    for name, public in CLASSES.items()
    for method in dir(public)
    if not method.startswith("_") and callable(getattr(public, method))
    if (getattr(getattr(public, method), "__module__", None) or "").startswith(
        "skdevae."
    )  # not inherited from elsewhere
}


def refers(text: str) -> bool:
    """Whether a description sends the reader to another method's."""
    return text.startswith("As for :meth:")


def parameters(function) -> dict[str, inspect.Parameter]:
    """Parameters of a function, or of a class's constructor."""
    found = inspect.signature(function).parameters
    return {name: parameter for name, parameter in found.items() if name not in ("self", "cls")}


#: types of parameters that play no part
NO_DEFAULTS = {"ignored", "None"}


# ---- what is documented is what is there -----------------------------------------------------------------------------


def mistakes(documented) -> list[str]:
    """What the section of parameters gets wrong."""
    actual, described = parameters(documented), entries(documented, "Parameters")
    if list(described) != list(actual):
        return [f"documents {', '.join(described)}; takes {', '.join(actual)}"]
    return [f"{name}: {fault}" for name in actual if (fault := mistake(actual[name], described[name]))]


def mistake(actual: inspect.Parameter, described: Entry) -> str:
    """What the entry of one parameter gets wrong."""
    if not described.text.endswith("."):
        return "no sentence"
    if described.kind in NO_DEFAULTS or refers(described.text):
        return ""
    if actual.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
        return ""
    if not described.kind:
        return "no type"
    default = NOTHING if actual.default is inspect.Parameter.empty else actual.default
    if (type(described.default), described.default) != (type(default), default):
        return "another default"
    return ""


@pytest.mark.parametrize("documented", [*CLASSES.values(), *FUNCTIONS.values(), *METHODS.values()],
                         ids=[*CLASSES, *FUNCTIONS, *METHODS])  # fmt: skip
def test_every_parameter_is_documented_with_its_default(documented):
    wrong = mistakes(documented)
    if getattr(documented, "__name__", "").endswith("_scorer"):
        wrong = [fault for fault in wrong if fault != "y: another default"]  # scorers have to take y=None; one needs y
    assert wrong == []


@pytest.mark.parametrize("documented", [*FUNCTIONS.values(), *METHODS.values()], ids=[*FUNCTIONS, *METHODS])
def test_every_result_is_documented(documented):
    assert "Returns" in sections(documented)


@pytest.mark.parametrize("documented", PUBLIC.values(), ids=PUBLIC)
def test_every_summary_is_one_sentence_on_one_line(documented):
    if isinstance(documented, str):
        return
    lines = (inspect.getdoc(documented) or "").splitlines()
    assert lines[0].endswith(".")
    assert lines[1:2] in ([], [""])


@pytest.fixture(scope="module")
def fitted_names() -> dict[type, set[str]]:
    """Names of the public fitted attributes of each estimator, over fits that together set them all."""
    cells = make_cell_clusters(30, 8, random_state=0)
    measured = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 4)), columns=list("abcd"))
    short = {"max_epochs": 1, "random_state": 0}
    found = {}
    for estimator in ESTIMATORS:
        more = {"n_clusters": 2, "n_init": 1, "hidden_layer_sizes": (4,)} if estimator is DGDEmbedder else {}
        fits = [estimator(**short, **more).fit(measured), estimator(likelihood="nb", **short, **more).fit(cells.data)]
        if estimator is DGDEmbedder:
            fits.append(estimator(supervised=True, **short, **more).fit(measured, np.arange(30) % 2))
        if issubclass(estimator, CovariateEffectsMixin):
            compared = estimator(interactions="curves", **short)
            fits.append(compared.fit(measured, covariates=np.repeat(["a", "b"], 15)))
            fits.append(estimator(**short).fit(measured, axis=np.arange(30)))
            fits.append(estimator(**short).partial_fit(measured))
        if estimator is VAETransformer:
            fits.append(estimator(prior="vamp", **short).fit(measured))
        found[estimator] = {
            name
            for fitted in fits
            for name in {*vars(fitted), *dir(type(fitted))}
            if name.endswith("_") and not name.startswith("_") and hasattr(fitted, name)
        }
    return found


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.filterwarnings("ignore")
def test_every_fitted_attribute_is_documented(estimator, fitted_names):
    assert set(entries(estimator, "Attributes")) == fitted_names[estimator]


# ---- what means the same is described in the same words --------------------------------------------------------------

#: Names that mean something else in some estimators. These estimators are left out of the comparison.
OTHER_MEANINGS = {
    "n_clusters": set(ESTIMATORS),  # behaviours, functions, groups of a prior's components, components
    "n_init": {DGDEmbedder},  # starts of the mixture, not of the fit
    "decoder": {DGDEmbedder},  # the user's own network, not the name of a kind
    "labels_": {VampVAE, DGDEmbedder},  # of samples, not of features
}

#: How many of the first sentences estimators share, where some go on by themselves.
SHARED_BEGINNINGS = {
    "n_components": 1,  # copies of functions of several components add up
    "likelihood": 3,  # where features follow curves, excess zeros are the same for every z
    "inference": 3,  # DeVAETransformer chooses by itself
    "assignment": 2,  # BasisVAEClusterer searches for clusters
    "integrator": 3,  # functions without a behaviour have no derivatives
    "hidden_layer_sizes": 1,  # what the network gives is what the model is about
    "activation": 1,  # representations are searched for by second derivatives
    "kl_warmup": 1,  # the other estimators warm up as the papers do
    "weight_precision": 2,  # linear maps beside perceptrons have no prior
    "noise_floor": 1,  # tables of columns in the same units
    "learning_rate": 1,  # defaults differ
    "batch_size": 1,  # exact inference has no batches
    "max_epochs": 1,  # defaults differ
    "tol": 1,  # DGDEmbedder has no early stopping
    "n_init": 2,  # starts from random weights
    "orientation": 3,  # constraints along the axis
    "size_factors": 9,  # encoders see what is left of sizes
    "labels_": 1,  # what the labels are the numbers of
    "cluster_names_": 1,  # behaviours, or numbers
    "lower_bound_": 1,  # autoencoders
}

#: Types that differ because some estimators allow more.
OTHER_TYPES = {"inference", "responsibilities_", "cluster_names_", "cluster_weights_"}  # a flat cluster more


def shared_names(section: str) -> list[str]:
    names = [name for estimator in ESTIMATORS for name in entries(estimator, section)]
    return sorted({name for name in names if names.count(name) > 1})


def compared(section: str, name: str) -> dict[str, Entry]:
    """What the estimators in which a name means the same say of it, by the estimators' names."""
    return {
        estimator.__name__: documented[name]
        for estimator in ESTIMATORS
        if name in (documented := entries(estimator, section)) and estimator not in OTHER_MEANINGS.get(name, ())
    }


NAMES = [(section, name) for section in ("Parameters", "Attributes") for name in shared_names(section)]


@pytest.mark.parametrize("section, name", NAMES)
def test_estimators_describe_what_they_share_in_the_same_words(section, name):
    for (one, first), (other, second) in pairwise(compared(section, name).items()):
        beginning = SHARED_BEGINNINGS.get(name)
        whom = f"{one} and {other}: {name}"
        assert first.sentences[:beginning] == second.sentences[:beginning], whom
        if name not in OTHER_TYPES:
            assert first.kind == second.kind, whom


def test_exceptions_are_needed():
    """A name in the tables above is one that some estimators describe differently."""
    described = {name: compared(section, name).values() for section, name in NAMES}
    assert {name for name in SHARED_BEGINNINGS if len({entry.text for entry in described[name]}) < 2} == set()
    assert {name for name in OTHER_TYPES if len({entry.kind for entry in described[name]}) < 2} == set()
    for name, estimators in OTHER_MEANINGS.items():
        section = "Attributes" if name.endswith("_") else "Parameters"
        texts = [documented[name].text for e in ESTIMATORS if name in (documented := entries(e, section))]
        assert len(set(texts)) > 1, estimators


#: parameters of methods that mean something else in some estimators
OTHER_MEANINGS_IN_METHODS = {
    "fit.y",  # DGDEmbedder takes classes
}


def test_estimators_describe_parameters_of_methods_in_the_same_words():
    described: dict[str, set[str]] = {}
    for estimator in ESTIMATORS:
        for name, function in METHODS.items():
            if name.startswith(f"skdevae.{estimator.__name__}."):
                for parameter, entry in entries(function, "Parameters").items():
                    described.setdefault(f"{function.__name__}.{parameter}", set()).add(entry.text)
    differently = {name for name, texts in described.items() if len({text for text in texts if not refers(text)}) > 1}
    assert differently == OTHER_MEANINGS_IN_METHODS


# ---- the parser ------------------------------------------------------------------------------------------------------


def test_entries_of_a_docstring():
    def documented():
        """Do it.

        Parameters
        ----------
        a, b : {"x", "y"}, default="x"
            One. Two
            lines; see ``c``. Three.

        c : ignored
            Four.
        **rest
            Five::

                code

        Returns
        -------
        d : int
            Six.
        """

    assert list(sections(documented)) == ["Parameters", "Returns"]
    found = entries(documented, "Parameters")
    assert list(found) == ["a", "b", "c", "rest"]
    assert found["a"] == found["b"] == Entry('{"x", "y"}', "x", "One. Two lines; see ``c``. Three.")
    assert found["a"].sentences == ["One.", "Two lines; see ``c``.", "Three."]
    assert found["c"] == Entry("ignored", NOTHING, "Four.")
    assert found["rest"] == Entry("", NOTHING, "Five:: code")
    assert entries(documented, "Attributes") == {}


def right(a, *, b=0.5, c="x", y=None, **rest):
    """Do it.

    Parameters
    ----------
    a : int
        Number.
    b : float, default=0.5
        Share.
    c : str, default="x"
        Name.
    y : ignored
        Present for API consistency.
    **rest
        Passed on.
    """


@pytest.mark.parametrize(
    "old, new, fault",
    [
        ("", "", None),
        ("default=0.5", "default=0.6", "b: another default"),
        ("b : float, default=0.5", "b : float", "b: another default"),
        ("a : int", "a : int, default=1", "a: another default"),
        ('default="x"', "default=None", "c: another default"),
        ("a : int", "a", "a: no type"),
        ("Number.", "", "a: no sentence"),
        ("Share.", "Share", "b: no sentence"),
        ("a : int", "A : int", "documents A, b, c, y, rest; takes a, b, c, y, rest"),
        ("Passed on.", "Passed on.\nd : int\n    More.", "documents a, b, c, y, rest, d; takes a, b, c, y, rest"),
    ],
)
def test_mistakes_are_found(old, new, fault, monkeypatch):
    monkeypatch.setattr(right, "__doc__", inspect.getdoc(right).replace(old, new, 1))
    assert mistakes(right) == ([fault] if fault else [])
