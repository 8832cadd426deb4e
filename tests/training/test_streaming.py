"""Streams: sums of chunks are those of the whole, older rows fade at a stated pace, and steps never lose ground."""

import numpy as np
import pytest
import torch
from agreement import assert_agree
from inference.random_models import random_model, random_table, source_of

from skdevae.inference.behaviors import evidence_of_behaviors, evidence_of_sums
from skdevae.nn.latent_grid import LatentGrid
from skdevae.table.column_summary import summarize_columns
from skdevae.training.fitting import TrainingOptions
from skdevae.training.stream_sums import StreamSums
from skdevae.training.streaming import Stream, kept_share, step_

GRID = LatentGrid.standard_normal(15, 4.0)
BEHAVIORS = ("increasing", "decreasing", "transient", "flat")
CONSTANTS = np.arange(30) / 7


def judged_model(likelihood, **more):
    model = random_model("exact", likelihood, n_components=1, behaviors=BEHAVIORS, **more)
    model.margin = 0.15
    return model


def of_rows(model, table, rows, others=None, **context):
    source = source_of(table[rows], **{name: values[rows] for name, values in context.items()})
    return StreamSums.of(model, source, GRID, CONSTANTS[rows], others)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb", "bernoulli"])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_sums_of_chunks_in_any_order_are_those_of_the_whole(likelihood, missing):
    model, table = judged_model(likelihood), random_table(likelihood, 30, missing=missing)
    weight = np.random.default_rng(0).uniform(0.5, 3, 30)
    whole = of_rows(model, table, np.arange(30), weight=weight)
    order = np.random.default_rng(1).permutation(30)
    sums = of_rows(model, table, order[:1], whole, weight=weight)
    for chunk in np.split(order[1:], [4, 20]):
        sums = sums + of_rows(model, table, chunk, whole, weight=weight)
    for name in ("weighted", "mass", "divergence", "n_rows"):
        assert_agree(getattr(sums.statistics, name), getattr(whole.statistics, name), err_msg=name)
    if likelihood == "zinb":
        assert_agree(sums.statistics.positive, whole.statistics.positive)
    assert_agree(sums.constants, weight @ CONSTANTS)
    summary, expected = (of.columns.summary(torch.zeros((), dtype=torch.float64)) for of in (sums, whole))
    assert_agree(model.linear_likelihood.column_constant(summary), model.linear_likelihood.column_constant(expected))
    evidence = evidence_of_behaviors(model, source_of(table, weight=weight), GRID, whole.varying)
    assert_agree(evidence_of_sums(model, sums.judged, GRID, sums.varying), evidence, computed_in=np.float32)


@pytest.mark.parametrize("likelihood", ["gaussian", "nb", "zinb", "bernoulli"])
def test_sums_times_a_number_are_those_of_rows_that_count_as_often(likelihood):
    model, table = judged_model(likelihood), random_table(likelihood, 30)
    weight = np.random.default_rng(0).uniform(0.5, 3, 30)
    found = of_rows(model, table, np.arange(30), weight=weight).times(2.5)
    expected = of_rows(model, table, np.arange(30), weight=2.5 * weight)
    for name in ("weighted", "mass", "divergence", "n_rows"):
        assert_agree(getattr(found.statistics, name), getattr(expected.statistics, name), err_msg=name)
    if likelihood == "zinb":
        assert_agree(found.statistics.positive, expected.statistics.positive)
    assert_agree(found.constants, expected.constants)
    constants = (
        model.linear_likelihood.column_constant(sums.columns.summary(torch.zeros((), dtype=torch.float64)))
        for sums in (found, expected)
    )
    assert_agree(*constants)
    evidence = (evidence_of_sums(model, sums.judged, GRID, sums.varying) for sums in (found, expected))
    assert_agree(*evidence, computed_in=np.float32)


def test_counts_of_rows_with_sizes_add_up():
    model = random_model("exact", "nb", n_components=1)
    log_size = np.random.default_rng(0).normal(0, 0.5, 30)
    table = random_table("nb", 30, sizes=np.exp(log_size))
    first = of_rows(model, table, slice(0, 30), log_size=log_size)
    edges = first.columns.size_edges
    both = first + of_rows(model, table[::-1].copy(), slice(0, 30), first, log_size=log_size[::-1].copy())
    twice = first.times(2)
    assert_agree(both.columns.size_edges, edges)
    like = torch.zeros((), dtype=torch.float64)
    constants = [model.linear_likelihood.column_constant(sums.columns.summary(like)) for sums in (both, twice)]
    assert_agree(*constants)
    once = summarize_columns(source_of(table, log_size=log_size), counts=True)
    assert_agree(twice.columns.summary(like).multiplicity, 2 * once.multiplicity)


@pytest.mark.parametrize("likelihood", ["gaussian", "zinb"])
def test_sums_come_back_from_plain_values(likelihood):
    model, table = judged_model(likelihood), random_table(likelihood, 30)
    sums = of_rows(model, table, slice(0, 20))
    stream = Stream.opened(sums, GRID, in_pass=True).held(of_rows(model, table, slice(20, 30), sums))
    back = Stream.restored(stream.plain())
    assert back.grid(1, GRID.points).points.equal(GRID.points)
    for mine, theirs in ((stream.sums, back.sums), (stream.of_pass, back.of_pass)):
        assert mine.statistics.weighted.equal(theirs.statistics.weighted)
        assert mine.columns.entries.equals(theirs.columns.entries)
        assert evidence_of_sums(model, mine.judged, GRID, mine.varying).equal(
            evidence_of_sums(model, theirs.judged, GRID, theirs.varying)
        )


def test_what_a_row_counts_for_does_not_depend_on_chunks():
    """The n-th of N rows counts sqrt(n / N)."""
    assert kept_share(10, 5) * kept_share(15, 25) == pytest.approx(kept_share(10, 30))
    kept = 1.0
    for n in range(7, 100):
        kept *= kept_share(n, 1)
    assert kept == pytest.approx(np.sqrt(7 / 100))


def test_sums_of_a_pass_take_the_place_of_all_others():
    model, table = judged_model("gaussian"), random_table("gaussian", 30)
    first, second, third = (of_rows(model, table, rows) for rows in (slice(10), slice(10, 20), slice(20, 30)))
    stream = Stream.opened(first, GRID, in_pass=False)
    faded = stream.after(second)
    assert faded.sums.n_rows == pytest.approx(10 * np.sqrt(0.5) + 10)
    assert faded.n_behind == 20
    passed = faded.held(third).after_pass(second)
    assert_agree(passed.sums.statistics.weighted, (second + third).statistics.weighted)
    assert passed.n_behind == passed.sums.n_rows == 20
    assert passed.of_pass is None
    assert (stream.n_updates, faded.n_updates, passed.n_updates) == (1, 2, 3)


def test_behaviors_are_judged_when_a_stream_has_grown_by_a_tenth():
    model, table = judged_model("gaussian"), random_table("gaussian", 30)
    first, three, one = (of_rows(model, table, rows) for rows in (slice(30), slice(3), slice(1)))
    stream = Stream.opened(first, GRID, in_pass=False).after(three)
    assert not stream.is_to_be_judged
    assert stream.after(one).is_to_be_judged
    assert not stream.after(one).judged().after(three).is_to_be_judged
    assert stream.after_pass(one).is_to_be_judged


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
@pytest.mark.parametrize("learning_rate", [0.01, 30.0])
def test_steps_never_make_the_bound_worse(likelihood, learning_rate):
    """Whatever the learning rate: steps that do are taken back."""
    model = random_model("exact", likelihood, n_components=1, spread=0.2).requires_grad_(True)
    sums = StreamSums.of(model, source_of(random_table(likelihood, 30)), GRID, 0.0)
    model.n_samples = sums.n_rows
    with torch.no_grad():
        before = -float(model(sums.statistics, sums.columns.summary(GRID.points), GRID).total)
    options = TrainingOptions(1, 10, learning_rate, (0.9, 0.99), 0, 0.0, 10, False, "cosine")
    _, bound = step_(model, sums, GRID, options, ())
    assert bound >= before
    if learning_rate == 0.01:
        assert bound > before
