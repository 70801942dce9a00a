"""The spool: durable local overflow of a log, in append-only segment files.

    DIRECTORY/INSTANCE/lock              held by the process that INSTANCE is named after
    DIRECTORY/INSTANCE/00000001.segment  events, oldest first; see spool_segment
    DIRECTORY/damaged/                   bytes of segments that were no whole events
    DIRECTORY/quarantine/EVENT_ID.json   events that the store refused for their own sake

A crash leaves INSTANCE as it is, with its lock free: an orphan. The next process to start takes the
lock and drains the segments where they lie, from their beginning, deleting each when it is done.
A crash in that leaves the rest as an orphan again; restart is the normal path.
"""

from __future__ import annotations

import re
from typing import Final

_ATTEMPTS: Final = 3
_COUNTED_AT_ONCE: Final = 32 * 2**20
_USUAL_RECORD: Final = 600
_segment_number = re.compile(r"(\d{8,})\.segment").fullmatch
