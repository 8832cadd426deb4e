"""Every public name, method and computed attribute has an example that runs, and a docstring that numpydoc can read."""

import inspect

import pytest
from house.docstrings import sections
from house.test_docstrings import CLASSES, FUNCTIONS, METHODS

import skdevae

#: attributes that are computed when they are asked for: each has a docstring of its own
ATTRIBUTES = {
    f"{name}.{attribute}": found
    for name, public in CLASSES.items()
    for attribute in dir(public)
    if not attribute.startswith("_")
    if isinstance(found := inspect.getattr_static(public, attribute), property)
    if (found.fget.__module__ or "").startswith("skdevae.")
}
DOCUMENTED = {**CLASSES, **FUNCTIONS, **METHODS, **ATTRIBUTES}


def is_deprecated(documented) -> bool:
    """Whether a docstring says that something ends: it names what takes its place, which has an example."""
    return ".. deprecated::" in (inspect.getdoc(documented) or "")


def lacks_example(documented) -> bool:
    return not is_deprecated(documented) and ">>> " not in sections(documented).get("Examples", "")


@pytest.mark.parametrize("documented", DOCUMENTED.values(), ids=DOCUMENTED)
def test_every_name_has_an_example(documented):
    assert not lacks_example(documented)


def test_missing_examples_are_found():
    def without():
        """Do it.

        Returns
        -------
        it : int
            One, as ``>>> 1`` says.
        """

    def empty():
        """Do it.

        Examples
        --------
        It does it.
        """

    def old():
        """Do it.

        .. deprecated:: 0.1
            Use something else.
        """

    assert [lacks_example(function) for function in (without, empty, old)] == [True, True, False]


@pytest.mark.parametrize("estimator", ["BasisDeVAEClusterer", "BasisVAEClusterer", "DGDEmbedder", "DeVAETransformer",
                                       "VAETransformer", "VampVAE"])  # fmt: skip
@pytest.mark.parametrize("method", ["score", "score_samples", "elbo", "conditional_log_likelihood"])
def test_log_likelihoods_say_their_unit(estimator, method):
    text = inspect.getdoc(getattr(getattr(skdevae, estimator), method))
    assert "nats" in text or "As for :meth:" in text


#: Codes of numpydoc's checks that this project's docstrings do without, each for a reason.
NOT_ASKED = {
    "ES01",  # a summary that says all needs no second paragraph
    "EX01",  # examples are asked for above, but not of names that end
    "PR04",  # parameters that are those of another method have no type of their own
    "RT02",  # results have names: other sentences refer to them
    "RT04",  # a sentence may begin with a symbol: "log p(x) in nats"
    "SA01",  # not everything has relatives
    "SS02",  # so may a summary
    "SS05",  # takes a plural ("Values of ...") for a verb in the third person
}


@pytest.mark.parametrize("documented", DOCUMENTED.values(), ids=DOCUMENTED)
def test_numpydoc_reads_every_docstring(documented):
    validation = pytest.importorskip("numpydoc.validate")
    docscrape = pytest.importorskip("numpydoc.docscrape")
    errors = validation.validate(docscrape.get_doc_object(documented))["errors"]
    assert [f"{code}: {message}" for code, message in errors if code not in NOT_ASKED] == []
