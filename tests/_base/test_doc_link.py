"""The figure of an estimator in a notebook links to its page, and says what its parameters are."""

import tomllib
from pathlib import Path

import pytest
from house.test_docstrings import ESTIMATORS
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdevae import VampVAE

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: what stands before the description of a parameter, where scikit-learn is new enough to show it
DESCRIBED = 'class="param-doc-description"'


def page_of(estimator: type) -> str:
    if not PYPROJECT.exists():
        pytest.skip("needs pyproject.toml, which is not part of an installed package")
    site = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["urls"]["Documentation"]
    return f"{site}api/generated/skdevae.{estimator.__name__}.html"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_figures_link_to_the_page(estimator):
    link = f'href="{page_of(estimator)}"'
    assert link in estimator()._repr_html_()
    assert link in make_pipeline(StandardScaler(), estimator())._repr_html_()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_figures_describe_every_parameter(estimator):
    if DESCRIBED not in StandardScaler()._repr_html_():
        pytest.skip("this version of scikit-learn shows no descriptions")
    figure = estimator()._repr_html_()
    assert figure.count(DESCRIBED) == len(estimator().get_params())


def test_classes_of_users_have_no_link():
    class Mine(VampVAE):
        pass

    assert "readthedocs" not in Mine()._repr_html_()
