"""A type checker finds mistakes in a user's script: ``mypy --strict`` with the package's own annotations."""

import os
import re
import subprocess
import sys
from importlib.resources import files

import pytest

pytest.importorskip("mypy")

#: scikit-learn has no annotations. Without torch's, which no mistake here is about, mypy takes a third of the time.
CONFIG = """\
[mypy]
[mypy-sklearn.*]
ignore_missing_imports = True
[mypy-torch.*]
follow_imports = skip
"""

#: Users' scripts by name. A comment "error: code" marks each line where mypy is to find a mistake, and of which kind.
SCRIPTS = {
    "correct": """\
import numpy as np

import skdevae
from skdevae import (
    BasisDeVAEClusterer,
    BasisVAEClusterer,
    DeVAETransformer,
    DGDEmbedder,
    VAETransformer,
    VampVAE,
)
from skdevae.datasets import make_progression
from skdevae.metrics import active_units

progression = make_progression(random_state=0)
X = progression.data
axis = BasisDeVAEClusterer(n_clusters=3, likelihood="gaussian", random_state=0).fit(X, orientation=progression.times)
posterior = axis.posterior(X, credible_level=0.9)
width: np.ndarray = posterior.upper - posterior.lower
total: float = axis.score(X) + axis.elbo(X)
print(axis.labels_, axis.lower_bound_, axis.n_iter_, axis.sample(5, random_state=0).shape, width, total)
print(axis.fit_transform(X), axis.set_params(alpha=1.0).get_params())

copies = BasisVAEClusterer(5, translation_invariant=True, scale_bounds=(0.5, 2.0))
curves = DeVAETransformer(2, inference="exact", max_epochs=3).fit(X).trajectories([[0.0, 1.0]])
latent = VAETransformer(3, hidden_layer_sizes=(16,), callbacks=[], device="cpu").fit(X).transform(X)
vamp = VampVAE(likelihood="nb", size_factors="sum", prior="vamp", random_state=np.random.RandomState(0))
dgd = DGDEmbedder(n_clusters=None, likelihood="nb", size_factors=lambda table: table.sum(1)).fit(X, None)
print(copies, curves, latent, active_units(latent), vamp, dgd.labels_, skdevae.__version__)
""",
    "constructors": """\
from skdevae import BasisDeVAEClusterer, BasisVAEClusterer, DeVAETransformer, DGDEmbedder, VAETransformer, VampVAE

BasisDeVAEClusterer(n_cluster=3)  # error: call-arg
BasisVAEClusterer(weight_decay=1.0)  # error: call-arg
DeVAETransformer(inference="variational")  # error: arg-type
DGDEmbedder(max_epoch=3)  # error: call-arg
VAETransformer(hidden_layer_sizes=8)  # error: arg-type
BasisDeVAEClusterer(alpha="small")  # error: arg-type
VampVAE(activation="sigmoid")  # error: arg-type
""",
    "methods": """\
import numpy as np

from skdevae import BasisDeVAEClusterer, DGDEmbedder
from skdevae.datasets import make_progression
from skdevae.metrics import active_units

X = np.ones((5, 3))
model = BasisDeVAEClusterer()
model.fit(X, orientations=np.arange(5))  # error: call-arg
fitted = model.fit(X)
fitted.posterior(X, credible_levels=0.9)  # error: call-arg
fitted.sample("ten")  # error: arg-type
name: str = fitted.score(X)  # error: assignment
print(fitted.posterior(X).median)  # error: attr-defined
DGDEmbedder().fit(X, sample_weights=np.ones(5))  # error: call-arg
make_progression(n_sample=3)  # error: call-arg
active_units()  # error: call-arg
""",
}


def marked(script: str, source: str) -> set[tuple[str, int, str]]:
    """Mistakes that a script's comments name: file, line, kind."""
    lines = enumerate(source.splitlines(), start=1)
    return {(f"{script}.py", line, text.split("# error: ")[1]) for line, text in lines if "# error: " in text}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory) -> dict[tuple[str, int, str], str]:
    """What mypy says about all scripts: messages by file, line and kind. One run serves all tests."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "mypy.ini").write_text(CONFIG)
    for name, source in SCRIPTS.items():
        (folder / f"{name}.py").write_text(source)
    options = ["--strict", "--config-file=mypy.ini", "--cache-dir=cache", "--hide-error-context", "--no-pretty"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MYPY")}
    command = [sys.executable, "-m", "mypy", *options, *(f"{name}.py" for name in SCRIPTS)]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    found = re.findall(r"^(.+?):(\d+): error: (.*)  \[([a-z-]+)\]$", run.stdout, flags=re.MULTILINE)
    assert len(found) == run.stdout.count(": error: "), run.stdout
    return {(file, int(line), kind): message for file, line, message, kind in found}


@pytest.mark.slow(keep=1)
@pytest.mark.parametrize("script", SCRIPTS)
def test_mistakes_are_found_where_they_are(script, mistakes):
    found = {place: message for place, message in mistakes.items() if place[0] == f"{script}.py"}
    expected = marked(script, SCRIPTS[script])
    assert set(found) == expected, "\n".join(f"{place}: {found.get(place, '')}" for place in set(found) ^ expected)


def test_only_scripts_have_mistakes(mistakes):
    """The package's own annotations are checked by ``make types``, and not by its users."""
    assert {file for file, _, _ in mistakes} <= {f"{name}.py" for name in SCRIPTS}


def test_annotations_are_part_of_the_package():
    assert files("skdevae").joinpath("py.typed").is_file()
