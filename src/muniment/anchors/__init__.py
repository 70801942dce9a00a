"""Where checkpoints go that the database's owner can't rewrite: directories, endpoints, witnesses.

`anchors_from` makes anchors of URLs.
"""

from __future__ import annotations

from muniment.anchors.base import Anchor, Prove
from muniment.anchors.directory import CheckpointDirectory, DirectoryAnchor
from muniment.anchors.opening import anchors_from

__all__ = [
    "Anchor",
    "CheckpointDirectory",
    "DirectoryAnchor",
    "Prove",
    "anchors_from",
]
