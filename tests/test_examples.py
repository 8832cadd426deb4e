"""The examples are stories that the gallery can tell, and run where there is no data beside the project.

The gallery runs every example as it is whenever the site is built. Here a few are run with fits that are too short to
be good.
"""

import ast
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

import skdevae
from skdevae import inspection
from skdevae.datasets import make_progression

plt = pytest.importorskip("matplotlib.pyplot")

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("plot_*.py"))
PNG = b"\x89PNG"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_story_with_a_title_and_cells(path):
    text = path.read_text(encoding="utf-8")
    over, title, under = ast.get_docstring(ast.parse(text)).splitlines()[:3]
    assert set(over) == set(under) == {"="}
    assert len(over) == len(under) >= len(title)
    assert re.search(r"^import matplotlib|^from skdevae\.display import", text, re.MULTILINE), "draws no figure"
    cells = re.split(r"^# %%.*\n", text, flags=re.MULTILINE)[1:]
    assert len(cells) >= 3
    for cell in cells:  # text comes before the code that it explains
        assert cell.startswith("# "), f"a cell without text: {cell[:60]!r}"
    for heading, line in re.findall(r"^# (.+)\n# (-{3,}|={3,}|~{3,})$", text, re.MULTILINE):
        assert len(line) >= len(heading), f"the line below {heading!r} is too short"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_does_not_ask_for_what_the_gallery_has_not(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "__file__" not in names  # not there when the gallery runs a script


def test_examples_that_are_referred_to_exist():
    stems = {path.stem for path in EXAMPLES}
    sources = [*EXAMPLES, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs").glob("[a-z]*/*.md")]
    for source in sources:
        text = source.read_text(encoding="utf-8")
        references = re.findall(r":doc:`(plot_\w+)`|examples/(plot_\w+)\.py|auto_examples/(plot_\w+)", text)
        unknown = {name for found in references for name in found if name} - stems
        assert not unknown or source.name == "CHANGELOG.md", f"{source.name} refers to {unknown}"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run an example where no data lie beside it, with short fits and few replicates; what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    for name in ("BasisDeVAEClusterer", "BasisVAEClusterer", "DeVAETransformer"):
        estimator = getattr(skdevae, name)
        monkeypatch.setattr(skdevae, name, lambda e=estimator, **parameters: e(**parameters | {"max_epochs": 3}))
    bootstrap = inspection.bootstrap
    few = {"n_bootstrap": 3}
    monkeypatch.setattr(inspection, "bootstrap", lambda *args, **options: bootstrap(*args, **options | few))

    def run(name: str, *arguments: str) -> str:
        path = str(ROOT / "examples" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        runpy.run_path(path)
        return capsys.readouterr().out

    yield run
    plt.close("all")


@pytest.fixture
def table() -> pd.DataFrame:
    progression = make_progression(60, n_transient=2, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0)
    return progression.data.assign(stage=np.where(progression.times > 0, "late", "early"))


def behaviours_of(output: str) -> dict[str, str]:
    """Behaviour by feature, as the printed table has them."""
    behaviours = "increasing|decreasing|transient|flat|uncertain"
    return dict(re.findall(rf"^(\S.*?) +({behaviours}) +[01]\.\d\d +", output, re.MULTILINE))


def test_the_demo_prints_a_table_of_tumours_and_draws_a_figure(run):
    output = run("plot_tumour_biomarkers")
    assert set(behaviours_of(output)) == set(load_breast_cancer().feature_names)
    assert float(re.search(r"the axis: (\S+)", output)[1]) > 0.9
    assert re.search(r"^FactorAnalysis\(1\) +-\d", output, re.MULTILINE)
    assert Path("figures/tumour_biomarkers.png").read_bytes().startswith(PNG)


def test_the_demo_takes_a_table_of_ones_own(run, table):
    table.assign(who="someone").to_csv("cohort.csv", index=False)
    output = run("plot_tumour_biomarkers", "cohort.csv", "stage")
    assert set(behaviours_of(output)) == set(table.columns) - {"stage"}
    assert float(re.search(r"the axis: (\S+)", output)[1]) > 0.7
    assert Path("figures/cohort.png").read_bytes().startswith(PNG)


def test_the_demo_takes_gaps_and_needs_no_labels(run, table):
    features = table.drop(columns="stage")
    gaps = features.mask(np.random.default_rng(0).random(features.shape) < 0.1)
    gaps.iloc[3] = np.nan
    gaps.to_csv("gaps.csv", index=False)
    output = run("plot_tumour_biomarkers", "gaps.csv")
    assert "59 samples" in output
    assert set(behaviours_of(output)) == set(features.columns)
    assert "the axis:" not in output
    assert "FactorAnalysis" not in output


@pytest.mark.parametrize(
    "change, arguments, message",
    [
        (lambda table: table, ["grade"], "no column 'grade'; it has .*'stage'"),
        (lambda table: table, ["increasing_00"], "two values, but 'increasing_00' has 60"),
        (lambda table: table[["stage"]], [], "0 numeric columns"),
    ],
)
def test_tables_that_the_demo_cannot_take_are_explained(run, table, change, arguments, message):
    change(table).to_csv("table.csv", index=False)
    with pytest.raises(SystemExit, match=message):
        run("plot_tumour_biomarkers", "table.csv", *arguments)


@pytest.mark.slow(keep=1)
@pytest.mark.filterwarnings("ignore:.*not converged")  # fits are short
@pytest.mark.parametrize(
    "name, made, n_figures",
    [
        ("plot_brain_thickness", "400 people, 40 regions, made up", 1),
        ("plot_nhanes_covariates", "800 people, 10 tests, made up", 3),
        ("plot_genes_along_pseudotime", "600 cells, 40 genes, simulated", 2),
    ],
)
def test_an_example_makes_data_up_where_there_are_none(run, name, made, n_figures):
    assert made in run(name)
    assert len(plt.get_fignums()) == n_figures
