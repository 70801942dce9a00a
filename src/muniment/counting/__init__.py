"""Counting events: a histogram and facets for a filter, within a time budget.

What the store's cells answer is exact and cheap, however many events there are. What they can't
answer is counted event by event, the newest first, until the budget is used up.
"""

from __future__ import annotations

from muniment.counting.counted import Bar, Counted, Facet, FacetValue
from muniment.counting.running import MAX_BARS, count

__all__ = ["MAX_BARS", "Bar", "Counted", "Facet", "FacetValue", "count"]
