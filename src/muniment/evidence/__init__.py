"""Evidence: one file that proves a tenant's events, and its verification without a database.

The file is JSON, a line at a time, and is read once, from its beginning, in constant memory:

1. a header: the signed checkpoint of the tenant's log, and what the file is;
2. then the whole tree under that checkpoint, leaf by leaf in their order: the body of an event,
   byte for byte the leaf; or `{"leaf_hash":...}` for an event whose body is not there; or
   `{"hashes":[...],"omitted":N}` for N leaves that are not in the file, with the roots of the
   largest perfect subtrees over them (`merkle.perfect_subtrees`).

A tree that is built from these lines has the checkpoint's root hash, or the file does not hold.
"""

from __future__ import annotations

from muniment.evidence.verifying import Verified, verify_evidence
from muniment.evidence.writing import EvidenceWriter

__all__ = ["EvidenceWriter", "Verified", "verify_evidence"]
