"""What can go wrong, and the remedy. Every error muniment raises on purpose is a `MunimentError`.

An exception's docstring is its default message.
"""

from __future__ import annotations


class MunimentError(Exception):
    """Something went wrong in muniment."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().partition("\n")[0])


class InvalidEvent(MunimentError, ValueError):
    """The event can't be recorded as it is.

    `field` is the path of the offending field, such as `targets[2].id`. Nothing was stored.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")

    def __reduce__(self) -> tuple[type[InvalidEvent], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class InvalidQuery(MunimentError, ValueError):
    """The filter, cursor or limit of a search isn't valid.

    `field` is the name of the offending argument.
    """

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}")

    def __reduce__(self) -> tuple[type[InvalidQuery], tuple[str, str]]:
        return type(self), (self.field, self.problem)


class InvalidConfig(MunimentError, ValueError):
    """A URL, option or environment variable isn't valid."""


class Conflict(MunimentError):
    """Another event is stored under this event_id; the first one was kept.

    Raised only if the source supplied different fields; the same event again is no error.
    """

    def __init__(self, event_id: str, fields: tuple[str, ...]) -> None:
        self.event_id = event_id
        self.fields = fields
        super().__init__(
            f"event {event_id} is stored already and differs in {', '.join(fields)}; the first one "
            "was kept. Give a different event a different event_id or idempotency_key."
        )

    def __reduce__(self) -> tuple[type[Conflict], tuple[str, tuple[str, ...]]]:
        return type(self), (self.event_id, self.fields)


class StoreError(MunimentError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store can't be reached, or did not answer in time. The same call may succeed later."""


class EventRefused(StoreError):
    """The store refuses this event for its own sake; trying again won't help.

    The event was written to the quarantine in the spool directory, with the store's reason.
    """


class UnsafeStore(StoreError):
    """The store is configured so that a committed event may be lost."""


class SchemaMismatch(StoreError):
    """The database's schema is not the one this version of muniment works with."""


class SpoolError(MunimentError):
    """The local spool could not be written or read."""


class NotDurable(MunimentError):
    """The event could be stored neither in the store nor in the local spool; it is lost.

    The loss is counted, and recorded as an `audit.loss` event once the store is back.
    """


class LogClosed(MunimentError):
    """The log is not open: use it inside `async with AuditLog.open(...)`."""


class WrongProcess(LogClosed):
    """The log was opened before a fork: open one in each process that records."""


class EventNotFound(MunimentError, LookupError):
    """No such event, or it belongs to another tenant."""


class VerificationError(MunimentError):
    """A proof, signature or checkpoint does not hold."""


class NotPublished(MunimentError):
    """The event is not under a published checkpoint yet."""


class InvalidKey(InvalidConfig):
    """A key isn't one, or its file can be read by others."""


class AnchorError(MunimentError):
    """A checkpoint could not be put where the database's owner can't rewrite it."""
