"""Ed25519 keys, written as C2SP signed-note writes them (c2sp.org/signed-note, "Verifier keys").

A log's key signs checkpoints (signature type 0x01); a witness's key cosigns the checkpoints of
others (type 0x04, c2sp.org/tlog-cosignature). A public key is `NAME+ID+BASE64`. A private one is
`PRIVATE+KEY+NAME+ID+BASE64`, as in golang.org/x/mod/sumdb/note: the base64 holds the signature
type and the 32 bytes of the seed. Private keys come from files or the environment, and appear in
no message of ours, no `repr` and no log line.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from shlex import quote as quoted
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import msgspec

from muniment.errors import InvalidKey

if TYPE_CHECKING:  # loaded by the first signature: most processes make and check none
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_VARIABLE: Final = "MUNIMENT_SIGNING_KEY"
FILE_VARIABLE: Final = "MUNIMENT_SIGNING_KEY_FILE"

MAX_NAME_BYTES: Final = 2048
MAX_NEW_NAME_BYTES: Final = 256
"""With a tenant id of any length behind it, percent-encoded, such a name is still a name."""

_PRIVATE: Final = "PRIVATE+KEY+"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_TIME_BYTES: Final = 8
_LATEST: Final = 2**63 - 1
_MAX_FILE_BYTES: Final = 64 * 1024
_PRIME: Final = 2**255 - 19
_EIGHTH: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL: Final = {0, 1, _PRIME - 1, _PRIME, _PRIME + 1, _EIGHTH, _PRIME - _EIGHTH}
"""The y of every point of small order, under which one signature holds for many messages."""


class KeyKind(enum.IntEnum):
    """What a key may sign, by its C2SP signature type."""

    LOG = 0x01
    """Notes: a log's own checkpoints."""
    WITNESS = 0x04
    """Cosignatures with a time, on the checkpoints of others."""


class VerifyingKey(msgspec.Struct, frozen=True, kw_only=True):
    """The public half of a key: whoever has it can check what the other half signed."""

    name: str
    kind: KeyKind = KeyKind.LOG
    public_key: bytes
    """The 32 bytes of RFC 8032."""

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if len(self.public_key) != _KEY_BYTES:
            raise InvalidKey(f"a public key has {_KEY_BYTES} bytes, not {len(self.public_key)}")
        if int.from_bytes(self.public_key, "little") % 2**255 in _SMALL:
            raise InvalidKey("the public key is a weak one: anybody can sign for it")

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """The key in a text such as `example.com/log+530d903a+AekyeRrm…`. Raises `InvalidKey`."""
        if vkey.startswith(_PRIVATE):
            raise InvalidKey("this is a private key; keep it secret, and give out its public key")
        name, kind, public_key, key_id = _parts(vkey, "NAME+ID+BASE64")
        if len(public_key) != _KEY_BYTES:
            raise InvalidKey("a public key has one byte of type and 32 of key; copy it again")
        key = cls(name=name, kind=kind, public_key=public_key)
        _check_id(key, key_id)
        return key

    @property
    def key_id(self) -> bytes:
        """Four bytes that, with the name, tell which key signed (signed-note, "Signatures")."""
        hashed = self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key
        return hashlib.sha256(hashed).digest()[:4]

    def text(self) -> str:
        """The key as C2SP writes it (a "vkey"), without a line end."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.public_key)}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether this key signed the message, with what a signature line has behind the key id.

        That is 64 bytes, and for a witness its time, 8 bytes, before them.
        """
        if self.kind is KeyKind.WITNESS:
            seconds = cosignature_time(signature)
            if seconds is None:
                return False
            message = _cosigned(message, seconds)
            signature = signature[_TIME_BYTES:]
        if len(signature) != _SIGNATURE_BYTES:
            return False
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    def for_tenant(self, tenant_id: str) -> VerifyingKey:
        """What verifies the checkpoints of one tenant: the same key, named as that tenant's log."""
        if self.kind is not KeyKind.LOG:
            raise InvalidKey(f"{self.name} is a witness's key, and has no tenants")
        return VerifyingKey(name=origin_of(self.name, tenant_id), public_key=self.public_key)


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A private key. What it shows of itself is its public half; `text` alone has the secret."""

    verifier: VerifyingKey
    _private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str, *, kind: KeyKind = KeyKind.LOG) -> Self:
        """A new key. The name, best a URL without a scheme, has at most 256 bytes of UTF-8."""
        check_key_name(name)
        if not name.isprintable():
            raise InvalidKey("the key's name has a character that can't be seen; leave it out")
        if len(name.encode()) > MAX_NEW_NAME_BYTES:
            raise InvalidKey(f"the key's name is over {MAX_NEW_NAME_BYTES} bytes; make it shorter")
        return cls.from_seed(name, os.urandom(_KEY_BYTES), kind=kind)

    @classmethod
    def from_seed(cls, name: str, seed: bytes, *, kind: KeyKind = KeyKind.LOG) -> Self:
        """The key of a seed of 32 bytes (RFC 8032's private key). Raises `InvalidKey`."""
        if len(seed) != _KEY_BYTES:
            raise InvalidKey(f"a private key's seed has {_KEY_BYTES} bytes")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(seed)
        public = private.public_key().public_bytes_raw()
        return cls(verifier=VerifyingKey(name=name, kind=kind, public_key=public), _private=private)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key in a text that `text` gave. Raises `InvalidKey`, without a word of the text."""
        form = f"{_PRIVATE}NAME+ID+BASE64"
        if not text.strip().startswith(_PRIVATE):
            raise InvalidKey(f"a private key is {form}; make one with `muniment keygen`")
        name, kind, seed, key_id = _parts(text.strip().removeprefix(_PRIVATE), form)
        if len(seed) != _KEY_BYTES:
            raise InvalidKey("a private key has one byte of type and 32 of seed; copy it again")
        key = cls.from_seed(name, seed, kind=kind)
        _check_id(key.verifier, key_id)
        return key

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SigningKey:
        """The one key in a file that only its owner can read. Raises `InvalidKey`."""
        keys = read_keys(path)
        if len(keys) != 1:
            raise InvalidKey(f"{os.fspath(path)}: holds {len(keys)} keys, not one")
        return keys[0]

    @property
    def name(self) -> str:
        """The key's name, and so the origin of what it signs."""
        return self.verifier.name

    @property
    def kind(self) -> KeyKind:
        """What the key may sign."""
        return self.verifier.kind

    def text(self) -> str:
        """The private key itself, without a line end: for `write_key`, and never to be shown."""
        data = bytes([self.kind]) + self._private.private_bytes_raw()
        return f"{_PRIVATE}{self.name}+{self.verifier.key_id.hex()}+{_base64(data)}"

    def sign(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 (RFC 8032). A witness's key only cosigns, and raises `InvalidKey`."""
        if self.kind is not KeyKind.LOG:
            raise InvalidKey(f"{self.name} is a witness's key; a log signs with a key of its own")
        return self._private.sign(message)

    def cosign(self, message: bytes, seconds: int) -> bytes:
        """72 bytes, with a time in Unix seconds (tlog-cosignature). A log's key: `InvalidKey`."""
        if self.kind is not KeyKind.WITNESS:
            raise InvalidKey(f"{self.name} is no witness's key; make one with `keygen --witness`")
        if not 0 <= seconds <= _LATEST:
            raise InvalidKey(f"a cosignature's time is from 0 to 2^63 - 1 seconds, not {seconds}")
        return seconds.to_bytes(8, "big") + self._private.sign(_cosigned(message, seconds))

    def for_tenant(self, tenant_id: str) -> SigningKey:
        """The key that signs one tenant's checkpoints: the same seed, under that log's name."""
        return SigningKey(verifier=self.verifier.for_tenant(tenant_id), _private=self._private)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SigningKey) and self.verifier == other.verifier

    def __hash__(self) -> int:
        return hash(self.verifier)

    def __repr__(self) -> str:
        return f"SigningKey({self.verifier.text()!r})"


def origin_of(key_name: str, tenant_id: str) -> str:
    """The origin of a tenant's log, which is also the name of the key that signs it.

    The tenant id is percent-encoded (RFC 3986): no two tenants share one. Raises `InvalidKey`.
    """
    if not tenant_id or any("\ud800" <= c <= "\udfff" for c in tenant_id):
        raise InvalidKey("the tenant id is empty, or isn't text: no event can be of that tenant")
    name = f"{key_name}/{quote(tenant_id, safe='')}"
    check_key_name(name)
    return name


def keys_of_log(keys: Iterable[VerifyingKey], tenant_id: str) -> list[VerifyingKey]:
    """What verifies a tenant's log, among keys that are trusted: none vouches for two of its logs.

    A log's key whose name ends in the tenant id is the tenant's own and stays as it is: if a base
    name ends so, give the tenant's key. Others stand as `for_tenant` alone; witnesses' keys stay.
    """
    own, found = origin_of("", tenant_id), dict[VerifyingKey, None]()
    for key in keys:
        with suppress(InvalidKey):
            stays = key.kind is not KeyKind.LOG or key.name.endswith(own)
            found[key if stays else key.for_tenant(tenant_id)] = None
    return list(found)


def check_key_name(name: str) -> None:
    """Raise `InvalidKey` unless it is a key's name (signed-note, "Format"), up to 2,048 bytes."""
    if not is_key_name(name):
        raise InvalidKey(
            "the key's name is empty, or has a space, a plus or a control character; "
            "take a URL without a scheme, such as example.com/audit"
        )
    if len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidKey(f"the key's name is over {MAX_NAME_BYTES} bytes of UTF-8")


def is_key_name(name: str) -> bool:
    """Whether C2SP takes it for a key's name: not empty, no Unicode space, plus or control."""
    return bool(name) and not any(
        c.isspace() or c == "+" or c < " " or "\ud800" <= c <= "\udfff" for c in name
    )


def cosignature_time(signature: bytes) -> int | None:
    """The time in a witness's signature of 72 bytes, in Unix seconds; None if it is no such one."""
    seconds = int.from_bytes(signature[:_TIME_BYTES], "big")
    is_one = len(signature) == _TIME_BYTES + _SIGNATURE_BYTES and seconds <= _LATEST
    return seconds if is_one else None


def signing_keys(environ: Mapping[str, str] = os.environ) -> tuple[SigningKey, ...]:
    """The keys that a log signs with, all of them each time; none if the environment names none.

    `MUNIMENT_SIGNING_KEY` holds one or more private keys with white space between them, or
    `MUNIMENT_SIGNING_KEY_FILE` names files of them, with a colon between. The keys bear one name,
    which the origins begin with. Raises `InvalidKey`.
    """
    given = environ.get(KEY_VARIABLE, "").split()
    paths = [path for path in environ.get(FILE_VARIABLE, "").split(os.pathsep) if path.strip()]
    if given and paths:
        raise InvalidKey(f"{KEY_VARIABLE} and {FILE_VARIABLE} are both set; unset one of them")
    keys = _parsed(given, KEY_VARIABLE)
    for path in paths:
        keys += read_keys(path)
    where = KEY_VARIABLE if given else FILE_VARIABLE
    for key in keys:
        if key.kind is not KeyKind.LOG:
            raise InvalidKey(f"{where}: {key.name} is a witness's key; a log signs with its own")
        if key.name != keys[0].name:
            raise InvalidKey(f"{where}: {key.name} is not {keys[0].name}; its keys share a name")
    return tuple(dict.fromkeys(keys))


def read_keys(path: str | os.PathLike[str]) -> tuple[SigningKey, ...]:
    """The private keys in a file, one a line. Raises `InvalidKey`.

    The file must be ours, and neither the group nor others may have any right to it.
    """
    shown = os.fspath(path)
    try:
        # A pipe without a writer must not hold us up before we see that it is one.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_private(os.fstat(descriptor), shown)
            content = os.read(descriptor, _MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InvalidKey(f"{shown}: can't be read: {error.strerror}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidKey(f"{shown}: is over {_MAX_FILE_BYTES} bytes; that is no key file")
    # No exception of ours may carry the content, so what is no UTF-8 is replaced, and then refused.
    keys = _parsed(content.decode(errors="replace").split(), shown)
    if not keys:
        raise InvalidKey(f"{shown}: holds no key; make one with `muniment keygen`")
    return keys


def write_key(path: str | os.PathLike[str], key: SigningKey) -> None:
    """Write the private key to a new file that only its owner can read, durable on return.

    A file that exists is never overwritten: raises `InvalidKey`, as if it can't be written.
    """
    target = Path(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(target, flags, 0o600)
        try:
            _sync(descriptor, key.text().encode() + b"\n")
            _sync(os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except BaseException:
            target.unlink()  # half a key helps nobody, and would be in the way of a whole one
            raise
    except FileExistsError:
        raise InvalidKey(f"{target} exists, and is never overwritten; name another file") from None
    except OSError as error:
        raise InvalidKey(f"{target}: can't be written: {error.strerror}") from None


def _sync(descriptor: int, content: bytes = b"") -> None:
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_private(found: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise InvalidKey(f"{path}: is no regular file")
    if found.st_uid != os.geteuid():
        raise InvalidKey(f"{path}: belongs to another user; a key file must be ours: chown it")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise InvalidKey(f"{path}: others have rights to the file; run: chmod 600 {quoted(path)}")


def _parsed(texts: list[str], where: str) -> tuple[SigningKey, ...]:
    keys = []
    for n, text in enumerate(texts, 1):
        try:
            keys.append(SigningKey.parse(text))
        except InvalidKey as error:
            raise InvalidKey(f"{where}: key {n}: {error}") from None
    return tuple(keys)


def _parts(text: str, form: str) -> tuple[str, KeyKind, bytes, str]:
    """Name, kind, key bytes and id. A message says nothing of the text, which may be a secret."""
    # The name has no plus; the base64 may have some.
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    data = from_base64(encoded)
    if not re.fullmatch("[0-9a-f]{8}", key_id) or not data:
        raise InvalidKey(f"a key is {form}, ID being eight hexadecimal digits; copy it again")
    if data[0] not in (KeyKind.LOG, KeyKind.WITNESS):
        raise InvalidKey(f"the key's type is 0x{data[0]:02x}, neither 0x01 nor 0x04")
    return name, KeyKind(data[0]), data[1:], key_id


def _check_id(key: VerifyingKey, key_id: str) -> None:
    if key.key_id.hex() != key_id:
        raise InvalidKey("the key's id isn't that of its name and key; copy it again")


def _cosigned(message: bytes, seconds: int) -> bytes:
    """What a witness signs (tlog-cosignature, "Ed25519 signed message")."""
    return b"cosignature/v1\ntime %d\n" % seconds + message


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes | None:
    """The bytes of base64 (RFC 4648, section 4) in its one canonical spelling; else None."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if _base64(data) == text else None
