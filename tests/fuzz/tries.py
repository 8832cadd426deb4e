"""Tries of the fuzzer: an estimator, two tables, and the calls that are made in turn."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from fuzz import rules
from fuzz.estimators import NAMES, SMALL, VALUES, EstimatorRecipe, parameters_of
from fuzz.rules import Finding
from fuzz.tables import CONTAINERS, CONTENTS, COUNTS, DAMAGE, GOOD_CONTAINERS, SPARSE_CONTAINERS, TableRecipe
from hypothesis import strategies as st
from sklearn.base import clone

#: facts about rows that `fit` takes, for tables of twelve rows and others
_FACTS = (
    "None",
    "np.arange(12)",
    "np.arange(12.0)",
    "np.ones(12)",
    "np.zeros(12)",
    "-np.ones(12)",
    "np.full(12, nan)",
    "np.full(12, inf)",
    "np.where(np.arange(12) < 1, nan, 1.0)",
    "np.where(np.arange(12) < 6, 1e300, 1e-300)",
    "['a', 'b', 'c'] * 4",
    "['a', -1, None] * 4",
    "['a', 1] * 6",
    "[None] * 12",
    "np.ones((12, 1))",
    "np.ones(3)",
    "[[1], [2, 3]]",
    "'a'",
    "3.0",
    "np.ones(12, complex)",
    "np.arange(12).astype('datetime64[D]')",
    "np.array([True, False] * 6)",
    "np.arange(24.0).reshape(12, 2)",
    "{'a': 1.0}",
    "{'a': ['b', 'c'] * 6, 'd': np.arange(12)}",
)
_TABLE_METHODS = (
    "transform",
    "posterior",
    "score_samples",
    "score",
    "elbo",
    "conditional_log_likelihood",
    "adjust",
    "predict",
    "predict_proba",
    "predict_features",
    "predict_features_proba",
)
_POSITIONS = (
    "[0.0]",
    "0.5",
    "np.linspace(-3, 3, 5)",
    "np.zeros((3, 1))",
    "np.ones((3, 2))",
    "np.full((2, 1), 1e3)",
    "np.full((2, 2), -8.0)",
    "np.full((2, 2), 1e300)",
    "[nan]",
    "[[inf, 0]]",
    "[]",
    "np.zeros((0, 2))",
    "np.zeros((2, 9))",
    "'a'",
    "None",
    "[1j]",
    "[[1], [2, 3]]",
    "np.ones((3, 2), np.float16)",
    "np.ones((3, 2), np.longdouble)",
    "[10**400]",
    "[True]",
)
_NUMBERS = ("1", "5", "0", "-1", "1.5", "'a'", "None", "nan", "np.int64(3)", "True")
_DRAWS = ("0", "None", "-1", "2**40", "'a'", "np.random.RandomState(1)", "np.random.default_rng(1)")


def _with(name: str, values: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(values).map(lambda value: f"{name}({value})")


_OTHER_CALLS = st.one_of(
    *(
        _with(f"e.{name}", _POSITIONS)
        for name in ("trajectories", "derivatives", "inverse_transform", "basis_functions")
    ),
    st.tuples(st.sampled_from(("sample", "sample_latent")), st.sampled_from(_NUMBERS), st.sampled_from(_DRAWS)).map(
        lambda parts: "e.{}({}, random_state={})".format(*parts)
    ),
    _with("e.sample", tuple(f"3, cluster={value}" for value in _NUMBERS)),
    _with(
        "e.posterior",
        tuple(f"X, credible_level={value}" for value in ("0.5", "0", "1", "nan", "'a'", "1e-300", "1 - 1e-16")),
    ),
    _with("e.feature_labels", ("0", "1", "0.5", "-1", "nan", "'a'", "None")),
    st.sampled_from(
        (
            "e.coclustering_matrix()",
            "e.get_feature_names_out()",
            "e.prior_mixture_",
            "e.pseudo_inputs_",
            "repr(e)",
            "clone(e).fit(X)",
            "copy.deepcopy(e).transform(X)",
            "pickle.loads(pickle.dumps(e)).transform(X)",
        )
    ),
)
#: facts of rows, in one call of four
_OF_ROWS = ("", "", "", "", "", "", ", size_factors={}", ", covariates={}")
_TABLE_CALLS = st.tuples(
    st.sampled_from(_TABLE_METHODS), st.sampled_from("XT"), st.sampled_from(_OF_ROWS), st.sampled_from(_FACTS)
).map(lambda parts: f"e.{parts[0]}({parts[1]}{parts[2].format(parts[3])})")


@dataclass(frozen=True)
class Try:
    """An estimator ``e``, the table ``X`` that it is fitted to, another table ``T``, and calls."""

    estimator: EstimatorRecipe
    X: TableRecipe
    T: TableRecipe
    calls: tuple[str, ...]

    def code(self, call: str) -> str:
        """The try as code, to its last call."""
        calls = self.calls[: self.calls.index(call) + 1]
        return "; ".join([f"e = {self.estimator.code()}", f"X = {self.X}.build()", f"T = {self.T}.build()", *calls])

    @property
    def size(self) -> int:
        """How much there is to read: of findings that are equal, the shortest try is kept."""
        return len(repr(self)) + 100 * len(self.calls)

    def findings(self) -> Iterator[tuple[str, Finding]]:
        """Calls that break the rule, and how."""
        e, X, T = self.estimator.build(), self.X.build(), self.T.build()
        names = {**NAMES, "e": e, "X": X, "T": T, "clone": clone, "copy": copy, "pickle": pickle}
        with_numpy_seed = "None" not in dict(self.estimator.changes).get("random_state", "0")
        for call in self.calls:
            name = call.partition("(")[0]
            if name.startswith("e.") and not name.endswith("_") and not hasattr(e, name[2:]):
                continue
            if name.endswith("_") and not hasattr(e, name[2:]):
                continue
            if "cluster=" in call and self.estimator.name != "DGDEmbedder":
                continue
            if "pickle" in call and "lambda" in repr(e.get_params()):  # which Python does not pickle
                continue
            draws_globally = name in ("e.sample", "e.sample_latent") and "random_state" not in call
            draws_globally |= "random_state=None" in call
            if name == "e.set_params":
                with torch.random.fork_rng(), suppress(Exception):  # a new decoder draws its weights
                    eval(call, names)
                continue
            answer, found, refused = rules.watched(
                lambda call=call: eval(call, names), [X, T], with_numpy_seed and not draws_globally
            )
            for finding in found:
                yield call, finding
            if refused and self._has_to_work(call) and not found:
                yield call, Finding("a good table was refused", f"{self.estimator.name}.{name[2:]}")
            if answer is None or refused:
                continue
            method = name[2:]
            for complaint in rules.complaints_about(method, answer, self._shape(e, call), self._may_be_unknown(method)):
                yield call, Finding(complaint, f"{self.estimator.name}.{method}")

    def _has_to_work(self, call: str) -> bool:
        """Whether a call may not be refused."""
        return self.calls[0] == call == "e.fit(X)" and not self.estimator.changes and self.X.is_good("gaussian")

    def _may_be_unknown(self, method: str) -> bool:
        """Whether an answer may have NaN: it is about columns, and there was one without entries."""
        about_rows = {"transform", "posterior", "score_samples", "score", "elbo", "conditional_log_likelihood"}
        tables = [table.values() for table in (self.X, self.T)]
        return method not in about_rows and any(np.isnan(X).all(0).any() for X in tables if X.size)

    def _shape(self, e: Any, call: str) -> tuple[int | None, ...] | None:
        """The shape of an answer about a table, where the try says so much."""
        if call[-2:] not in ("X)", "T)") or "(" not in call or not hasattr(e, "n_features_in_"):
            return None
        method = call[2:].partition("(")[0]
        table = self.X if call.endswith("X)") else self.T
        n, d = table.values().shape
        if d != e.n_features_in_:
            return None
        d = len(e.modelled_columns_)
        q, columns = e.module_.n_components, self.estimator.name in ("BasisDeVAEClusterer", "BasisVAEClusterer")
        if method in ("predict", "predict_proba") and columns:
            return (d,) if method == "predict" else (d, None)
        shapes: dict[str, tuple[int | None, ...]] = {
            "transform": (n, q),
            "posterior": (n, q),
            "score_samples": (n,),
            "score": (),
            "elbo": (),
            "conditional_log_likelihood": (),
            "adjust": (n, d),
            "predict_proba": (n, None),
            "predict_features": (d,),
            "predict_features_proba": (d, None),
            "predict": (n, d) if self.estimator.name in ("DeVAETransformer", "VAETransformer") else (n,),
        }
        return shapes.get(method)


# ---- how tries are drawn ---------------------------------------------------------------------------------------------

_LIKELIHOODS = ("'gaussian'", "'poisson'", "'nb'", "'zinb'", "'bernoulli'")


@st.composite
def estimators(draw: st.DrawFn, name: str) -> EstimatorRecipe:
    """Half of them as small as they come, the others with some odd parameters."""
    changes = {}
    if draw(st.booleans()):
        changes["likelihood"] = draw(st.sampled_from(_LIKELIHOODS))
    inferring = "inference" in parameters_of(name)
    if inferring and draw(st.integers(0, 3)) == 0:
        changes["inference"] = "'amortized'"
    if draw(st.booleans()):
        for parameter in draw(st.lists(st.sampled_from(parameters_of(name)), min_size=1, max_size=3, unique=True)):
            changes[parameter] = draw(st.sampled_from(VALUES[parameter]))
    return EstimatorRecipe(name, tuple(sorted(changes.items())))


@st.composite
def tables(draw: st.DrawFn, likelihood: str) -> TableRecipe:
    """Tables that mostly suit a likelihood."""
    suitable = {"'gaussian'": ["curves", "noise"], "'bernoulli'": ["binary"]}.get(likelihood, sorted(COUNTS))
    contents = draw(st.sampled_from(suitable) if draw(st.integers(0, 2)) else st.sampled_from(sorted(CONTENTS)))
    damage = draw(st.lists(st.sampled_from(sorted(DAMAGE)), max_size=2, unique=True)) if draw(st.booleans()) else []
    good = sorted(GOOD_CONTAINERS | (SPARSE_CONTAINERS if likelihood != "'gaussian'" else {}))
    container = draw(st.sampled_from(good) if draw(st.booleans()) else st.sampled_from(sorted(CONTAINERS)))
    return TableRecipe(
        n=draw(st.sampled_from((12, 12, 12, 30, 5, 2, 1, 0))),
        d=draw(st.sampled_from((4, 4, 4, 8, 2, 1, 0))),
        contents=contents,
        damage=tuple(damage),
        container=container,
        factor=draw(st.sampled_from((1.0, 1.0, 1.0, 10.0, 1e4, 1e-6, 1e100))),
        seed=draw(st.integers(0, 99)),
    )


@st.composite
def fits(draw: st.DrawFn, name: str) -> str:
    """A fit, now and then with facts about rows."""
    how = draw(st.sampled_from(("fit", "fit", "fit", "fit_transform", "fit_predict")))
    if how != "fit" or draw(st.integers(0, 2)):
        return f"e.{how}(X)"
    facts = ("y", "sample_weight", "size_factors", "covariates", "orientation")
    fact = draw(st.sampled_from(facts[:-1] if name == "DGDEmbedder" else facts))
    return f"e.fit(X, {fact}={draw(st.sampled_from(_FACTS))})"


@st.composite
def tries(draw: st.DrawFn, name: str) -> Try:
    """A fit and a few calls; the parameters may change between them, and a fit may be repeated."""
    estimator = draw(estimators(name))
    likelihood = dict(estimator.changes).get("likelihood", "'gaussian'")
    X, T = draw(tables(likelihood)), draw(tables(likelihood))
    calls = draw(st.lists(st.one_of(_TABLE_CALLS, _TABLE_CALLS, _OTHER_CALLS), min_size=3, max_size=6, unique=True))
    if draw(st.integers(0, 3)) == 0:
        parameter = draw(st.sampled_from(parameters_of(name)))
        value = draw(st.sampled_from(VALUES[parameter]))
        calls.insert(draw(st.integers(0, len(calls))), f"e.set_params({parameter}={value})")
    if draw(st.integers(0, 5)) == 0:
        calls.insert(draw(st.integers(0, len(calls))), "e.fit(T)")
    return Try(estimator, X, T, (draw(fits(name)), *calls))


ESTIMATORS = tuple(SMALL)
