"""Sequencers that sign, as the tests make them."""

from __future__ import annotations

from typing import Any

from muniment.diagnostics import Diagnostics
from muniment.keys import SigningKey
from muniment.sequencer import Sequencer
from muniment.signing import Signer
from muniment.stores.base import Store

KEY = SigningKey.from_seed("example.com/audit", bytes(range(32)))
KEYS = [KEY.verifier.for_tenant("acme")]


def sequencer_over(store: Store, **options: Any) -> Sequencer:
    """One that has not yet begun."""
    given = {"signer": Signer([KEY]), "interval": 60.0, **options}
    return Sequencer(store.trees, diagnostics=Diagnostics(), **given)
