"""The contract of inference: laws that hold for every strategy alike, and closed forms where there are any."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import (
    FLOW,
    NORMAL,
    VAMP,
    drawn_table,
    gaussian_marginal,
    random_model,
    random_table,
    source_of,
)
from scipy.stats import multivariate_normal

from skdevae.inference import EncoderInference, Inference, LaplaceInference, PosteriorFields, inference_for
from skdevae.inference.grid import GridInference
from skdevae.inference.importance import sampled_log_evidence
from skdevae.nn.models import GenerativeModel

N_DRAWS = 512
STRATEGIES = {"exact": GridInference, "amortized": EncoderInference, "mixture": LaplaceInference}


@dataclass(frozen=True)
class Case:
    """A model of some kind, and whether its rows have size factors."""

    kind: str
    likelihood: str
    n_components: int
    sized: bool = False
    prior: tuple = (NORMAL, NORMAL)

    def model(self, **options):
        prior, family = self.prior
        mixture = {"n_mixture_components": 3} if self.kind == "mixture" else {}
        return random_model(
            self.kind,
            self.likelihood,
            n_components=self.n_components,
            prior=prior,
            posterior_family=family,
            **mixture,
            **options,
        )

    def source(self, n=12, missing=0.2):
        log_size = np.random.default_rng(2).normal(0, 0.7, n) if self.sized else None
        sizes = None if log_size is None else np.exp(log_size)
        return source_of(random_table(self.likelihood, n, missing=missing, sizes=sizes), log_size=log_size)


CASES = {
    "grid, gaussian": Case("exact", "gaussian", 1),
    "grid, zinb on two axes": Case("exact", "zinb", 2),
    "encoder on a grid": Case("amortized", "nb", 1),
    "encoder, sized": Case("amortized", "nb", 1, sized=True),
    "encoder, gaussian": Case("amortized", "gaussian", 3),
    "vamp, sized": Case("amortized", "poisson", 2, sized=True, prior=(VAMP, NORMAL)),
    "flow": Case("amortized", "nb", 2, prior=(VAMP, FLOW)),
    "laplace, gaussian": Case("mixture", "gaussian", 2),
    "laplace, sized": Case("mixture", "nb", 3, sized=True),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def _answers(inference: Inference, source) -> dict:
    posterior = inference.posterior(source)
    return {
        **posterior._asdict(),
        "evidence": inference.log_evidence(source),
        "bound": inference.bound(source),
        "conditional": inference.conditional_log_likelihood(source, posterior.mean),
        "expected": inference.expected_table(source, posterior.mean),
    }


@pytest.mark.parametrize("kind", STRATEGIES)
def test_the_strategy_follows_from_the_kind_of_model(kind):
    model = random_model(kind)
    inference = inference_for(model, 7)
    assert type(inference) is STRATEGIES[kind]
    assert inference.model is model
    assert inference.n_draws == 7


def test_other_models_have_none():
    model = random_model("exact")
    model.__class__ = GenerativeModel
    with pytest.raises(TypeError, match="no way of inference for GenerativeModel"):
        inference_for(model, 7)


@pytest.mark.slow(keep=3)
@pytest.mark.filterwarnings("ignore:.*samples .* lie beyond the range:UserWarning")
def test_answers_are_finite_and_of_the_shapes_that_are_promised(case):
    source, q = case.source(), case.n_components
    inference = inference_for(case.model(), N_DRAWS)
    assert isinstance(inference.posterior(source), PosteriorFields)
    shapes = dict.fromkeys(PosteriorFields._fields, (12, q)) | dict.fromkeys(
        ("evidence", "bound", "conditional"), (12,)
    )
    for name, value in _answers(inference, source).items():
        assert value.shape == shapes.get(name, (12, 5)), name
        assert value.dtype == torch.float64
        assert value.isfinite().all(), name
        assert not value.requires_grad


@pytest.mark.slow(keep=4)
def test_means_are_those_of_the_posterior_and_within_its_interval(case):
    source, inference = case.source(), inference_for(case.model(), N_DRAWS)
    narrow, wide = (inference.posterior(source, credible_level=level) for level in (0.5, 0.95))
    assert_agree(inference.mean(source), wide.mean)
    assert_agree(narrow.mean, wide.mean)
    assert_agree(narrow.sd, wide.sd)
    assert (wide.sd > 0).all()
    assert (wide.lower < narrow.lower).all()
    assert (narrow.lower < narrow.upper).all()
    assert (narrow.upper < wide.upper).all()
    assert ((wide.lower < wide.mean) & (wide.mean < wide.upper)).all()


def test_the_bound_is_below_the_evidence(case):
    # up to sampling error: 0.1 nats are many standard errors of 512 draws
    source, inference = case.source(40), inference_for(case.model(), N_DRAWS)
    gap = inference.log_evidence(source) - inference.bound(source)
    assert gap.min() > -0.1
    assert gap.mean() > -1e-6


@pytest.mark.slow(keep=2)
def test_a_row_alone_has_the_answers_that_it_has_in_company(case):
    source, inference = case.source(6), inference_for(case.model(), 64)
    together = _answers(inference, source)
    for row in (0, 3, 5):
        alone = _answers(inference, source.take(np.array([row])))
        for name, value in alone.items():
            # searches and integrals may end a step apart: what they promise is no less
            if name == "evidence":
                torch.testing.assert_close(value, together[name][[row]], atol=1e-6, rtol=0)
            else:
                assert_agree(value, together[name][[row]], err_msg=name)


@pytest.mark.slow(keep=4)
def test_rows_may_come_in_any_order_and_more_than_once(case):
    source, inference = case.source(6), inference_for(case.model(), 64)
    order = np.array([4, 1, 1, 5, 0])
    together, reordered = _answers(inference, source), _answers(inference, source.take(order))
    for name, value in reordered.items():
        assert_agree(value, together[name][order], err_msg=name)


def test_a_row_without_entries_knows_the_prior_alone(case):
    source = case.source(4)
    source.table[1] = np.nan
    inference = inference_for(case.model(), N_DRAWS)
    answers = _answers(inference, source)
    assert answers["evidence"][1] == pytest.approx(0, abs=1e-6)
    assert answers["bound"][1] == pytest.approx(0, abs=1e-6)
    assert answers["conditional"][1] == 0
    if case.kind != "mixture":  # there it is the highest point of the prior
        prior = inference.model.latent_prior()
        expected = prior.log_weights.exp() @ prior.means
        np.testing.assert_allclose(answers["mean"][1], expected, atol=1e-6)


def test_expected_tables_are_means_given_the_latent_and_the_size(case):
    source, inference = case.source(), inference_for(case.model(), N_DRAWS)
    z = inference.mean(source)
    curves = inference.model.predictive_curves(z)
    if case.sized:
        curves = curves + torch.from_numpy(source.context.log_size)[:, None]
    assert_agree(inference.expected_table(source, z), inference.model.likelihood.mean(curves, z))


def test_likelihoods_given_the_latent_are_entry_by_entry(case):
    source, inference = case.source(), inference_for(case.model(), N_DRAWS)
    z, rows = inference.mean(source), source.rows(slice(None)).dense()
    curves = inference.model.predictive_curves(z)
    if case.sized:
        curves = curves + rows.context.log_size[:, None]
    entries = inference.model.likelihood.log_prob(rows.values, curves, z[:, None]) * rows.observed
    assert_agree(inference.conditional_log_likelihood(source, z), entries.sum(1))


def test_only_latents_that_share_a_grid_have_a_posterior_on_it(case):
    source, inference = case.source(), inference_for(case.model(), N_DRAWS)
    found = inference.grid_posterior(source)
    assert (found is not None) == (case.kind == "exact" or case is CASES["encoder on a grid"])
    if case.kind == "exact":
        assert torch.equal(found.mean, inference.mean(source))


# ---- closed forms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("kind", STRATEGIES)
def test_linear_gaussian_models_have_their_closed_form(kind, n_components):
    if kind == "exact" and n_components > 2:
        pytest.skip("no grid has three dimensions")
    model = random_model(kind, hidden=(), n_components=n_components)
    source = source_of(drawn_table(model, 15, missing=0.2))
    inference = LaplaceInference(model, 8, tolerance=1e-10) if kind == "mixture" else inference_for(model, 8)
    level, loadings, noise = gaussian_marginal(model)
    prior = model.latent_prior()  # of one component
    center, prior_covariance = prior.means[0].numpy(), np.diag(np.exp(2 * prior.log_sds[0].numpy()))
    marginal_mean, covariance = level + loadings @ center, loadings @ prior_covariance @ loadings.T + np.diag(noise)
    evidence, means, sds = [], [], []
    for row, seen in zip(source.table, ~np.isnan(source.table), strict=True):
        of_seen, W = covariance[np.ix_(seen, seen)], loadings[seen] @ prior_covariance
        evidence.append(multivariate_normal.logpdf(row[seen], marginal_mean[seen], of_seen) if seen.any() else 0.0)
        means.append(center + W.T @ np.linalg.solve(of_seen, (row - marginal_mean)[seen]))
        sds.append(np.sqrt((prior_covariance - W.T @ np.linalg.solve(of_seen, W)).diagonal()))
    np.testing.assert_allclose(inference.log_evidence(source), evidence, atol=1e-4)
    if kind != "amortized" or n_components == 1:  # the encoder's posterior is another one
        found = inference.posterior(source)
        np.testing.assert_allclose(found.mean, means, atol=5e-3)
        np.testing.assert_allclose(found.sd, sds, rtol=5e-3)
    if kind != "amortized":  # and so is its bound
        np.testing.assert_allclose(inference.bound(source), evidence, atol=1e-4)
    else:
        assert (inference.bound(source).numpy() < np.array(evidence)).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb", "bernoulli"])
def test_grids_and_importance_sampling_agree_in_one_dimension(likelihood):
    # planes: posteriors have one mode
    model = random_model("exact", likelihood, n_components=1, hidden=())
    source = source_of(drawn_table(model, 30, missing=0.1))
    inference = GridInference(model, N_DRAWS)
    sampled = sampled_log_evidence(model, source, inference.mean(source), 4096)
    np.testing.assert_allclose(sampled, inference.log_evidence(source), atol=2e-3)


def test_the_same_model_has_the_same_evidence_by_grid_encoder_and_laplace():
    exact = random_model("exact", "nb", n_components=1, hidden=())
    by_laplace = random_model("mixture", "nb", n_components=1, hidden=())
    by_encoder = random_model("amortized", "nb", n_components=1, hidden=())
    shared = {name: value for name, value in exact.state_dict().items() if name.startswith(("decoder", "likelihood"))}
    for model in (by_laplace, by_encoder):
        model.load_state_dict(shared, strict=False)
    one = torch.ones(1, dtype=torch.float64)
    by_laplace.mixture.set_(one, 0 * one[:, None], one[:, None])
    source = source_of(drawn_table(exact, 20, missing=0.1))
    sized = source_of(source.table, log_size=np.zeros(20))  # an encoder samples where there are size factors
    expected = inference_for(exact, N_DRAWS).log_evidence(source)
    assert_agree(inference_for(by_encoder, N_DRAWS).log_evidence(source), expected)
    for model in (by_laplace, by_encoder):
        np.testing.assert_allclose(inference_for(model, 4096).log_evidence(sized), expected, atol=2e-3)
    exactly = inference_for(exact, N_DRAWS).posterior(source)
    roughly = inference_for(by_laplace, N_DRAWS).posterior(source)
    assert ((roughly.mean - exactly.mean).abs() < 0.5 * exactly.sd).all()
    assert ((roughly.sd / exactly.sd).log().abs() < math.log(1.5)).all()


def test_rows_too_narrow_for_a_grid_of_two_dimensions_are_sampled(monkeypatch):
    model = random_model("exact", "gaussian", hidden=())
    source = source_of(drawn_table(model, 10))
    expected = GridInference(model, N_DRAWS).log_evidence(source)
    monkeypatch.setattr("skdevae.inference.lattice._TABLE_ENTRIES", 0)
    monkeypatch.setattr("skdevae.inference.lattice._HALF", {2: 4})
    inference = GridInference(model, N_DRAWS)
    assert (inference.grid_posterior(source).resolved == 0).any()
    np.testing.assert_allclose(inference.log_evidence(source), expected, atol=0.02)
