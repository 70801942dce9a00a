"""fsck: every leaf, tile, root and checkpoint is derived from the events again, and compared.

Where `verify` looks at one claim, fsck looks at everything: each event against its own columns and
its leaf, each tree against its leaves, each checkpoint against its tree.
"""

from __future__ import annotations

from muniment.fsck.findings import Finding, FindingKind, Summary
from muniment.fsck.running import fsck

__all__ = ["Finding", "FindingKind", "Summary", "fsck"]
