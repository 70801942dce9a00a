"""Damaged bytes of segments, put aside where people can look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from muniment.spool.directory import write_file
from muniment.spool.segment import Damage, Segment

DAMAGED: Final = "damaged"


def set_aside(base: Path, segment: Segment, damage: Damage) -> bool:
    """Copy damaged bytes of a segment to `base`/damaged, durably; False if they are there already.

    Raises `OSError`, and then the segment must be kept.
    """
    # The name tells whose bytes they are: after a crash the same ones may be there already.
    whose = f"{segment.path.parent.name}.{segment.path.stem}"
    path = base / DAMAGED / f"{whose}.{damage.start:012d}-{damage.end:012d}.bin"
    if path.exists():
        return False
    with segment.open() as source:
        data = bytes(source.at(damage.start, damage.end - damage.start))
    write_file(path, data)
    return True
