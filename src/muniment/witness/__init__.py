"""A witness: it cosigns a log's checkpoint only if its tree grew out of the last one that it saw.

Protocol and signatures are those of c2sp.org/tlog-witness and c2sp.org/tlog-cosignature. The HTTP
face, which needs aiohttp, is `muniment.witness.server`.
"""

from __future__ import annotations

from muniment.witness.deciding import Answer, Witness
from muniment.witness.ledger import Ledger, Seen

__all__ = ["Answer", "Ledger", "Seen", "Witness"]
