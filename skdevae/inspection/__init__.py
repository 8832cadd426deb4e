"""Inspection: what a fitted axis says of the features, as tables that can be printed.

Functions take a fitted estimator, or a pipeline or search that ends in one, and a table in the user's units.
"""

from ._association import association_test
from ._bootstrap import bootstrap
from ._event_order import EventOrder, event_order
from ._feature_table import feature_table
from ._stability import Stability, stability

__all__ = [
    "EventOrder",
    "Stability",
    "association_test",
    "bootstrap",
    "event_order",
    "feature_table",
    "stability",
]
