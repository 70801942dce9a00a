"""Damaged bytes of segments, put aside where people can look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from muniment.spool.directory import write_file
from muniment.spool.segment import Segment

DAMAGED: Final = "damaged"


def set_aside(base: Path, segment: Segment) -> None:
    """Copy what is known to be damaged in a segment to `base`/damaged, durably.

    What is copied is struck off `segment.not_set_aside`. Raises `OSError`, and then the segment
    must be kept.
    """
    while segment.not_set_aside:
        damage = segment.not_set_aside[0]
        # The name tells whose bytes they are: after a crash the same ones are there already.
        path = (
            base
            / DAMAGED
            / (
                f"{segment.path.parent.name}.{segment.path.stem}.{damage.start:012d}-"
                f"{damage.end:012d}.bin"
            )
        )
        if not path.exists():
            with segment.open() as source:
                data = bytes(source.at(damage.start, damage.end - damage.start))
            write_file(path, data)
        del segment.not_set_aside[0]
