"""The result of a fit is checked, not only its batches: numbers, or a ValueError that says what to do."""

import numpy as np
import pytest
import torch
from faults.estimators import ESTIMATORS, WINE
from skorch.callbacks import Callback

OBJECTIVES = ["lower_bound_", "log_posterior_"]


def objective(model):
    return next(getattr(model, name) for name in OBJECTIVES if hasattr(model, name))


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# of so bad a model
@pytest.mark.filterwarnings(
    "ignore:The posteriors of:UserWarning", "ignore:.*samples .* lie beyond the range:UserWarning"
)
@pytest.mark.parametrize("name", ["DeVAE", "BasisDeVAE, amortized", "VAE", "VampVAE", "DGD"])
def test_one_step_that_is_much_too_long(name):
    model = ESTIMATORS[name](learning_rate=100.0, max_epochs=1, batch_size=1000)
    message = ""
    try:
        model.fit(WINE)
    except ValueError as error:
        message = str(error)
    if hasattr(model, "module_"):
        assert np.isfinite([objective(model), model.score(WINE)]).all()
    else:
        assert "Try a smaller learning_rate" in message


@pytest.mark.parametrize("name", ["DeVAE", "VAE", "DGD"])
def test_weights_that_the_last_step_has_lost(name):
    class LastStep(Callback):
        def on_train_end(self, net, **kwargs):
            with torch.no_grad():
                next(net.module_.parameters()).fill_(torch.nan)

    with pytest.raises(ValueError, match=r"weights that are not finite .*Try a smaller learning_rate"):
        ESTIMATORS[name](callbacks=[LastStep()]).fit(WINE)


@pytest.mark.parametrize("name", ["DeVAE", "DGD"])
@pytest.mark.parametrize("failure", [np.linalg.LinAlgError, torch.linalg.LinAlgError])
def test_a_matrix_that_cannot_be_inverted_is_told_in_the_users_words(name, failure, monkeypatch):
    model = ESTIMATORS[name]()

    def _keep(*args):
        raise failure("singular")

    monkeypatch.setattr(type(model), "_keep", _keep)
    with pytest.raises(ValueError, match="nothing can be computed from") as caught:
        model.fit(WINE)
    assert isinstance(caught.value.__cause__, failure)


@pytest.mark.parametrize("name", ["DeVAE", "DGD"])
def test_a_fitted_number_that_is_not_finite_is_named(name, monkeypatch):
    model = ESTIMATORS[name]()
    monkeypatch.setattr(type(model), "_store_results", lambda self: setattr(self, "measure_", np.nan))
    with pytest.raises(ValueError, match="measure_=nan"):
        model.fit(WINE)
