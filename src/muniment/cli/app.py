"""What every command stands on: the group, its errors and exit codes, the open log.

Exit codes: 0 done; 1 it could not be done; 2 bad use; 130 interrupted. Errors are one line each.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from muniment.errors import InvalidConfig, InvalidEvent, InvalidQuery, MunimentError
from muniment.log import AuditLog
from muniment.stores import open_store
from muniment.stores.base import Store
from muniment.visible import visible

if TYPE_CHECKING:  # loaded only where there is a key
    from muniment.keys import SigningKey

_T = TypeVar("_T")

_BAD_USE: Final = (InvalidConfig, InvalidEvent, InvalidQuery)
_OPTION_OF: Final = {
    "tenant_id": "--tenant",
    "actor_id": "--actor",
    "actor_type": "--actor-type",
    "user_id": "--user",
    "agent_id": "--agent",
    "target_id": "--target",
    "target_type": "--target-type",
    "request_id": "--request",
    "trace_id": "--trace",
    "run_id": "--run",
}


class App(msgspec.Struct, frozen=True, kw_only=True):
    """What the options before the command say. `url_given` is whether --url was one of them."""

    url: str
    url_given: bool
    verbose: bool = False


class MunimentGroup(click.Group):
    """A group whose failures are one line on stderr and an exit code, never a traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and exit."""
        extra["standalone_mode"] = False
        sys.exit(self._exit_code(*args, **extra))

    def _exit_code(self, *args: Any, **extra: Any) -> int:
        _never_fail_to_encode()
        run_command: Callable[..., Any] = super().main
        try:
            result = run_command(*args, **extra)
            if sys.stdout is not None:  # as it is for whoever closed it
                sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as no_command:
            click.echo(no_command.format_message(), err=True)
            return no_command.exit_code
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "muniment"
            _complain(f"{error.format_message()} (see {command} --help)")
            return error.exit_code
        except click.ClickException as error:
            _complain(error.format_message())
            return error.exit_code
        except click.Abort:
            return 130
        except MunimentError as error:
            _complain(_message(error))
            return 2 if isinstance(error, _BAD_USE) else 1
        except BrokenPipeError:
            return _reader_left()
        except OSError as error:
            _complain(str(error))
            return 1
        return result if isinstance(result, int) else 0

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader that left (`| head`) has what it wanted, and is no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(_reader_left()) from None


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """The result of a command's coroutine, in an event loop of its own."""
    return asyncio.run(work)


@asynccontextmanager
async def open_log(
    app: App, *, for_reading: bool = False, signing_keys: Sequence[SigningKey] | None = None
) -> AsyncIterator[AuditLog]:
    """The log at the app's URL, open; `for_reading`, it must exist already, and be up to date.

    It signs with the keys that are given, else with those of the environment.
    """
    is_file = app.url.startswith("sqlite")
    # Any database would be made into a log by opening it; a reader leaves it as it is.
    log = AuditLog.open(
        app.url,
        store_options={"migrate": not for_reading} if is_file else None,
        sequence=not for_reading,
        signing_keys=signing_keys,
    )
    if for_reading:
        check_exists(log.store)
    with _logging(verbose=app.verbose):
        async with log:
            yield log


@asynccontextmanager
async def open_existing(app: App) -> AsyncIterator[Store]:
    """The store at the app's URL, open, for commands that record nothing; it must be there."""
    is_file = app.url.startswith("sqlite")
    store = open_store(app.url, **({"migrate": False} if is_file else {}))
    check_exists(store)
    with _logging(verbose=app.verbose):
        try:
            await store.open()
            yield store
        finally:
            await store.close()


def check_exists(store: Store) -> None:
    """Raise `MunimentError` if the store is a file that isn't there: looking must not make it."""
    path = getattr(store, "path", None)
    if path is not None and not path.exists():
        raise MunimentError(
            f"there is no database {path}; name one with --url, or record an event to make it"
        )


@contextmanager
def _logging(*, verbose: bool) -> Iterator[None]:
    """What the library logs is shown with --verbose only; what fails is said by the command."""
    logger = logging.getLogger("muniment")
    handler: logging.Handler = logging.NullHandler()
    if verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _message(error: MunimentError) -> str:
    text = str(error)
    if isinstance(error, InvalidQuery):
        text = f"{_OPTION_OF.get(error.field, f'--{error.field}')}: {error.problem}"
    return " ".join([text, *(f"({note})" for note in getattr(error, "__notes__", ()))])


def _complain(message: str) -> None:
    click.echo(f"muniment: {visible(' '.join(message.split(chr(10))))}", err=True)


def _reader_left() -> int:
    """Let nothing more be written, not even by the interpreter as it exits."""
    with suppress(OSError, ValueError):  # of a stream without a file, which holds nothing back
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _never_fail_to_encode() -> None:
    """On a terminal that lacks a character, show it escaped rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
