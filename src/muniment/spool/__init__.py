"""The spool: where events wait on this machine's disk while the store can't take them."""

from muniment.spool.spool import Spool

__all__ = ["Spool"]
