"""The commands about signing keys: keygen, key show. No private key is ever shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Final

import click

from muniment.visible import visible

# What signs is imported where it is needed: most commands do without.

_NEXT: Final = """\
The private key is in {file}, readable by you alone. Keep a copy where the database's owner
can't reach. A log signs with it once MUNIMENT_SIGNING_KEY_FILE={file} is set.
The line on stdout is the public key: give it to whoever is to check the log. One tenant's auditor
gets `muniment key show {file} --tenant ID`.
"""
_NEXT_WITNESS: Final = """\
The private key is in {file}, readable by you alone. The line on stdout is the public key: give it
to whoever is to check this witness's cosignatures.
"""


@click.command(
    epilog="\b\nFor example:\n"
    "  muniment keygen example.com/audit --out audit.key\n"
    "  muniment keygen example.org/witness --out witness.key --witness"
)
@click.argument("name")
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the private key here, readable by you alone; a file that exists is left as it is.",
)
@click.option(
    "--witness", is_flag=True, help="For cosigning the checkpoints of others, not for a log."
)
def keygen(*, name: str, out: Path, witness: bool) -> None:
    """Make a signing key, and print its public key.

    NAME is best a URL without a scheme that is yours, such as example.com/audit. Each tenant's log
    is named after it, so a key that is to follow this one bears the same name.
    """
    from muniment.keys import KeyKind, SigningKey, write_key

    key = SigningKey.generate(name, kind=KeyKind.WITNESS if witness else KeyKind.LOG)
    write_key(out, key)
    click.echo(key.verifier.text())
    following = _NEXT_WITNESS if witness else _NEXT
    click.echo(following.format(file=visible(quote(str(out.absolute())))), err=True, nl=False)


@click.group("key")
def key_() -> None:
    """Look at signing keys."""


@key_.command(
    "show",
    epilog="\b\nFor example:\n"
    "  muniment key show audit.key\n"
    "  muniment key show audit.key --tenant acme",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--tenant",
    "tenant_ids",
    multiple=True,
    metavar="ID",
    help="As the key of this tenant's log; may be given again.",
)
def show_key(*, file: Path, tenant_ids: Sequence[str]) -> None:
    """Print the public keys of a private key file.

    One line a key, and with --tenant one a tenant. The private part is never shown.
    """
    from muniment.keys import read_keys

    for key in read_keys(file):
        found = [key.verifier.for_tenant(t) for t in tenant_ids] if tenant_ids else [key.verifier]
        for verifier in found:
            click.echo(visible(verifier.text()))
