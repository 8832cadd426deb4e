"""scikit-learn's own contract: every check, for each estimator and way to infer, with two that the design excepts."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

_COLUMNS = "predict and predict_proba, until they end, judge the columns of X, from all of its rows together"
EXPECTED_FAILURES = {
    "check_methods_subset_invariance": _COLUMNS,
    "check_methods_sample_order_invariance": _COLUMNS,
}

# As small and as short as the checks bear. They look at what a fit returns and leaves behind; only check_clustering
# asks how good it is.
EVERY_CLASS = [
    BasisDeVAEClusterer(n_grid_points=17, n_knots=9, hidden_layer_sizes=(4,), max_epochs=2, random_state=0),
    BasisVAEClusterer(3, n_grid_points=17, hidden_layer_sizes=(4,), max_epochs=2, random_state=0),
    DeVAETransformer(n_grid_points=17, n_knots=9, hidden_layer_sizes=(4,), max_epochs=2, random_state=0),
    VAETransformer(max_epochs=1, n_importance_samples=4, random_state=0),
    VampVAE(1, n_clusters=3, n_pseudo_inputs=3, max_epochs=1, n_importance_samples=4, random_state=0),
    DGDEmbedder(
        2,
        n_clusters=3,
        mixture_init="kmeans",
        hidden_layer_sizes=(8,),
        learning_rate=0.01,
        max_epochs=10,
        n_init=1,
        n_importance_samples=4,
        random_state=0,
    ),
]
OTHER_WAYS = [
    BasisDeVAEClusterer(inference="amortized", n_knots=9, max_epochs=1, random_state=0),
    BasisVAEClusterer(3, inference="amortized", assignment="fixed", max_epochs=1, random_state=0),
    DeVAETransformer(2, n_grid_points=9, n_knots=9, hidden_layer_sizes=(4,), max_epochs=2, random_state=0),
    DeVAETransformer(inference="amortized", n_knots=9, max_epochs=1, random_state=0),
    VAETransformer(variational=False, max_epochs=1, random_state=0),
    VAETransformer(
        1, prior="mixture", posterior_family="iaf", n_flows=1, max_epochs=1, n_importance_samples=4, random_state=0
    ),
]
FEATURE_CLUSTERERS, OF_SAMPLES = (BasisDeVAEClusterer, BasisVAEClusterer), (VampVAE, DGDEmbedder)
# The checks' tables are small, and the fits short: some find no axis, and say so.
IGNORED = "ignore:No axis was found", "ignore:The first table has", "ignore:predict:FutureWarning"


def expected_failures(estimator):
    return EXPECTED_FAILURES if isinstance(estimator, FEATURE_CLUSTERERS) else {}


# No xfail_strict= here (scikit-learn has it since 1.8): without it pytest's own setting holds, and that is "strict".
@pytest.mark.filterwarnings(*IGNORED)
@parametrize_with_checks(EVERY_CLASS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow(keep=60)
@pytest.mark.filterwarnings(*IGNORED)
@parametrize_with_checks(OTHER_WAYS, expected_failed_checks=expected_failures)
def test_scikit_learn_checks_of_other_ways_to_infer(estimator, check):
    check(estimator)


def test_an_expected_failure_that_passes_is_a_failure(pytestconfig):
    assert pytestconfig.getini("xfail_strict")


@pytest.mark.parametrize(
    "estimator",
    [estimator for estimator in EVERY_CLASS + OTHER_WAYS if isinstance(estimator, FEATURE_CLUSTERERS)],
    ids=lambda estimator: f"{type(estimator).__name__}-{estimator.inference}",
)
def test_expected_failures_are_checks_that_scikit_learn_runs(estimator):
    names = {check.func.__name__ for _, check in estimator_checks_generator(estimator)}
    assert set(EXPECTED_FAILURES) <= names


@pytest.mark.parametrize("estimator", [estimator for estimator in EVERY_CLASS if isinstance(estimator, OF_SAMPLES)])
def test_clusters_of_samples_are_checked(estimator):
    names = {check.func.__name__ for _, check in estimator_checks_generator(estimator)}
    assert "check_clustering" in names
