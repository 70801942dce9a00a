"""For the tests of applications and stores: see what is recorded, make a store fail.

`muniment.testing.contract` holds the suite that every store must pass; it needs pytest.
"""

from muniment.testing.capture import capture_events
from muniment.testing.faulty import FaultyStore
from muniment.testing.faulty_trees import FaultyTrees

__all__ = ["FaultyStore", "FaultyTrees", "capture_events"]
