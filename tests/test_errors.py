from __future__ import annotations

import inspect
import pickle

import pytest

from muniment import errors
from muniment.errors import (
    AnchorError,
    Conflict,
    EventNotFound,
    EventRefused,
    InvalidConfig,
    InvalidEvent,
    InvalidKey,
    InvalidQuery,
    LogClosed,
    MunimentError,
    NotDurable,
    NotPublished,
    SchemaMismatch,
    SpoolError,
    StoreError,
    StoreUnavailable,
    UnsafeStore,
    VerificationError,
    WrongProcess,
)

_ERRORS: list[MunimentError] = [
    InvalidEvent("targets[2]", "is str, not a Target"),
    InvalidQuery("since", "has no time zone"),
    Conflict("019cb8b8-1e00-7000-8000-000000000000", ("reason", "targets")),
    InvalidConfig("deadline: is 0, not above 0"),
    *(
        kind()
        for kind in (
            MunimentError,
            InvalidConfig,
            StoreError,
            StoreUnavailable,
            EventRefused,
            UnsafeStore,
            SchemaMismatch,
            SpoolError,
            NotDurable,
            LogClosed,
            WrongProcess,
            EventNotFound,
            VerificationError,
            NotPublished,
            InvalidKey,
            AnchorError,
        )
    ),
]


def test_every_error_is_tried_here() -> None:
    """No error of muniment is missing from the list that these tests go through."""
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    assert {type(error) for error in _ERRORS} == kinds


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: MunimentError) -> None:
    """An error that crosses to another process keeps its type, message and fields."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - it was pickled here
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize("error", _ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_can_be_caught_as_one(error: MunimentError) -> None:
    """Whatever muniment raises on purpose is a `MunimentError` with a message."""
    assert isinstance(error, MunimentError)
    assert str(error)


def test_an_error_says_its_docstring_by_default() -> None:
    """Raised without a message, an error says the first line of its docstring."""
    assert str(LogClosed()) == (
        "The log is not open: use it inside `async with AuditLog.open(...)`."
    )
    assert str(LogClosed("The log is open already.")) == "The log is open already."


@pytest.mark.parametrize("kind", [InvalidEvent, InvalidQuery])
def test_bad_input_names_its_field(kind: type[InvalidEvent | InvalidQuery]) -> None:
    """The field and the problem of bad input are there for programs, and in the message."""
    error = kind("tenant_id", "is empty")
    assert (error.field, error.problem) == ("tenant_id", "is empty")
    assert str(error) == "tenant_id: is empty"


def test_a_conflict_names_event_and_fields() -> None:
    """A conflict says which event it is about, and in which fields the two differ."""
    error = Conflict("some-id", ("details.amount", "reason"))
    assert (error.event_id, error.fields) == ("some-id", ("details.amount", "reason"))
    assert "some-id" in str(error)
    assert "details.amount, reason" in str(error)


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (InvalidEvent, ValueError),
        (InvalidQuery, ValueError),
        (InvalidConfig, ValueError),
        (EventNotFound, LookupError),
        (StoreUnavailable, StoreError),
        (EventRefused, StoreError),
        (UnsafeStore, StoreError),
        (SchemaMismatch, StoreError),
        (WrongProcess, LogClosed),
    ],
)
def test_errors_are_what_callers_already_catch(
    kind: type[MunimentError], base: type[Exception]
) -> None:
    """An error is also of the kind that code knows which never heard of this one."""
    assert issubclass(kind, base)
