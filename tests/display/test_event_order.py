"""Orders of events are drawn as they are, and ranks are counted over the replicates."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from skdevae import DeVAETransformer
from skdevae.datasets import make_progression
from skdevae.display import EventOrderDisplay
from skdevae.display._event_order import rank_probability
from skdevae.display._palette import UNNAMED_COLOR
from skdevae.inspection import bootstrap, event_order

plt = pytest.importorskip("matplotlib.pyplot")

from matplotlib.colors import to_rgba  # noqa: E402  # the line above skips all of this without matplotlib

NAMES = ["late", "early", "never", "middle"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@dataclass
class Order:
    """What event_order returns."""

    positions: pd.DataFrame
    replicates: pd.DataFrame
    order: list
    event: str | float = "half_change"


@pytest.fixture
def order() -> Order:
    random = np.random.default_rng(0)
    replicates = pd.DataFrame(random.normal([0.7, 0.2, np.nan, 0.5], 0.1, size=(50, 4)), columns=NAMES)
    positions = pd.DataFrame(
        {
            "estimate": [0.7, 0.2, np.nan, 0.5],
            "lower": replicates.quantile(0.05),
            "upper": replicates.quantile(0.95),
            "rank": [3, 1, np.nan, 2],
        },
        index=NAMES,
    )
    return Order(positions, replicates, ["early", "middle", "late"])


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def test_features_that_have_the_event_are_in_their_order(order):
    display = EventOrderDisplay.from_event_order(order)
    assert [label.get_text() for label in display.axes_[0].get_yticklabels()] == ["early", "middle", "late"]
    low, high = display.axes_[0].get_ylim()
    assert low > high  # the first event is at the top
    assert display.axes_[0].get_xlabel() == "half change (share of the samples)\n1 feature without"


def test_features_that_are_asked_for_and_lack_the_event_come_last_in_grey(order):
    labels = EventOrderDisplay.from_event_order(order, features=NAMES).axes_[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["early", "middle", "late", "never"]
    greys = [to_rgba(label.get_color()) == to_rgba(UNNAMED_COLOR) for label in labels]
    assert greys == [False, False, False, True]


def test_an_event_that_no_feature_has(order):
    order.order = []
    with pytest.raises(ValueError, match="No feature has the event 'half_change'"):
        EventOrderDisplay.from_event_order(order)


def test_positions_have_their_intervals(order):
    display = EventOrderDisplay.from_event_order(order, kind="positions")
    assert len(display.axes_) == 1
    expected = order.positions.loc[["early", "middle", "late"]]
    np.testing.assert_allclose(display.points_.get_xdata(orig=False), expected["estimate"])
    ends = np.array([segment[:, 0] for segment in display.intervals_.get_segments()])
    np.testing.assert_allclose(ends, expected[["lower", "upper"]])


def test_an_estimate_outside_of_its_interval_is_drawn_nevertheless(order):
    order.positions.loc["early", "estimate"] = 0.05
    display = EventOrderDisplay.from_event_order(order, kind="positions")
    assert display.points_.get_xdata(orig=False)[0] == 0.05
    segment = display.intervals_.get_segments()[0][:, 0]
    np.testing.assert_allclose(segment, [0.05, order.positions["upper"]["early"]])


def test_the_diagram_shows_the_probability_of_ranks(order):
    display = EventOrderDisplay.from_event_order(order, kind="positional_variance")
    expected = rank_probability(order.replicates).loc[["early", "middle", "late"]]
    np.testing.assert_array_equal(display.heatmap_.get_array(), expected)
    assert display.points_ is None


def test_some_features_keep_their_ranks_among_all(order):
    display = EventOrderDisplay.from_event_order(order, features=["late", "early"])
    assert list(display.positions.index) == ["early", "late"]
    pd.testing.assert_frame_equal(display.rank_probability, rank_probability(order.replicates).loc[["early", "late"]])
    with pytest.raises(ValueError, match="asks for 'other'"):
        EventOrderDisplay.from_event_order(order, features=["other"])
    with pytest.raises(ValueError, match="asks for nothing"):
        EventOrderDisplay.from_event_order(order, features=[])


def test_a_share_of_the_change_is_named(order):
    order.event = 0.25
    display = EventOrderDisplay.from_event_order(order)
    assert display.axes_[0].get_xlabel().startswith("25 % of the change (share of the samples)")


def test_both_panels_have_the_same_rows_at_the_same_height(order):
    display = EventOrderDisplay.from_event_order(order)
    display.figure_.draw_without_rendering()
    left, right = (axes.get_window_extent() for axes in display.axes_)
    np.testing.assert_allclose([left.y0, left.y1], [right.y0, right.y1], atol=1)
    assert display.axes_[0].get_ylim() == display.axes_[1].get_ylim()


def test_axes_that_are_given_are_used_and_others_refused(order):
    _, axes = plt.subplots(1, 2)
    assert list(EventOrderDisplay.from_event_order(order, ax=axes).axes_) == list(axes)
    figure, whole = plt.subplots()
    assert [axes.figure for axes in EventOrderDisplay.from_event_order(order, ax=whole).axes_] == [figure, figure]
    with pytest.raises(ValueError, match="ax is not 2 matplotlib Axes"):
        EventOrderDisplay.from_event_order(order, ax=axes[:1])
    with pytest.raises(ValueError, match="kind must be one of"):
        EventOrderDisplay.from_event_order(order, kind="ranks")
    with pytest.raises(ValueError, match="no probabilities of ranks"):
        EventOrderDisplay(positions=order.positions).plot()


def test_an_estimator_is_asked_for_the_order():
    X = make_progression(40, n_transient=0, n_increasing=3, n_decreasing=2, as_frame=True, random_state=0).data
    model = DeVAETransformer(n_grid_points=33, max_epochs=5, random_state=0).fit(X)
    options = {"event": "onset", "replicates": bootstrap(model, X, n_bootstrap=3, random_state=0)}
    display = EventOrderDisplay.from_estimator(model, X, **options, kind="positions")
    order = event_order(model, X, **options)
    expected = EventOrderDisplay.from_event_order(order, kind="positions")
    pd.testing.assert_frame_equal(display.positions, expected.positions)
    pd.testing.assert_frame_equal(display.rank_probability, expected.rank_probability)
    assert list(display.positions.index) == list(order.order)
    assert display.axes_[0].get_xlabel().startswith("onset")


# ---- ranks -----------------------------------------------------------------------------------------------------------


def test_ranks_are_counted_over_the_replicates():
    random = np.random.default_rng(1)
    replicates = pd.DataFrame(random.normal(size=(300, 5)) + np.arange(5) / 2, columns=list("abcde"))
    replicates = replicates.mask(random.random(replicates.shape) < 0.2)
    found = rank_probability(replicates)
    counted = pd.DataFrame(0.0, index=found.index, columns=found.columns)
    for _, row in replicates.iterrows():
        for rank, name in enumerate(row.dropna().sort_values().index, start=1):
            counted.loc[name, rank] += 1 / len(replicates)
    pd.testing.assert_frame_equal(found, counted)
    np.testing.assert_allclose(found.sum(axis=1), replicates.notna().mean())


def test_ties_share_the_ranks_that_they_take_up():
    found = rank_probability(pd.DataFrame({"a": [0.1], "b": [0.3], "c": [0.3], "d": [0.2], "e": [np.nan]}))
    np.testing.assert_array_equal(
        found, [[1, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    )
