"""Signatures of a mirror's index, in the files and formats of minisign: who holds the key vouches for what is listed.

    mirror/index.json            lists the cards and the SHA-256 of each, and a card has the SHA-256 of its checkpoint
    mirror/index.json.minisig    the signature, which `minisign -V` reads too

The package `py-minisign`, which does the cryptography, is an extra and is imported on use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ZooError
from zoo.transfer import FetchError, NoSuchFileError, download_bytes
from zoo.utils import expand_path, new_file, read_file

if TYPE_CHECKING:
    import minisign

VERIFY_WITH = "ZOO_VERIFY_WITH"
ENDING = ".minisig"
_MAX_FILE = 1 << 14  # bytes of a key or a signature


class SignatureError(FetchError):
    """A mirror's index does not have the signature that is demanded."""


@contextmanager
def verifying_with(key: str) -> Iterator[None]:
    """Within the block entries come only from mirrors whose index this key signed, as with ``ZOO_VERIFY_WITH``.

    key  a public key of minisign, RW..., or the path of a file with one

    Raises:
        ZooError: it is no such key, or `py-minisign` is not installed.
    """
    _public_key(key)
    before = os.environ.get(VERIFY_WITH)
    os.environ[VERIFY_WITH] = key  # a variable, so that no thread or process of this command does without
    try:
        yield
    finally:
        if before is None:
            del os.environ[VERIFY_WITH]
        else:
            os.environ[VERIFY_WITH] = before


def demanded_key() -> str | None:
    """The public key, or its path, that an index must be signed with; None: it need not be signed."""
    return os.environ.get(VERIFY_WITH, "").strip() or None


def check_signature(base: str, name: str, content: bytes, key: str) -> None:
    """Raise SignatureError unless a mirror has a signature, by this key, of the content of its file ``name``."""
    public = _public_key(key)
    try:
        signature = download_bytes(base, name + ENDING, limit=_MAX_FILE)
    except NoSuchFileError as error:
        raise SignatureError(f"it is not signed ({name}{ENDING} is missing), and {key} must have signed it") from error
    try:
        public.verify(content, _minisign().Signature.from_bytes(signature))
    except ValueError as error:
        raise SignatureError(
            f"its {name} is not what {key} signed ({error}): it was changed, or is being published, then try again"
        ) from error


class Signer:
    """A secret key of minisign that signs."""

    def __init__(self, path: str | os.PathLike[str], password: Callable[[], str] = str) -> None:
        """The key in a file, as `new_key` or ``minisign -G`` writes it.

        password  is called for the password if the key has one

        Raises:
            ZooError: the file cannot be read, or is no secret key; the password is wrong; or `py-minisign` is not
                installed.
        """
        minisign, path = _minisign(), expand_path(path)
        try:
            self._key = minisign.SecretKey.from_bytes(read_file(path, limit=_MAX_FILE))
            if self._key.is_encrypted():
                self._key.decrypt(password())
        except OSError as error:
            how = "zoo publish --new-key FILE makes one"
            raise ZooError(f"the key {path} cannot be read: {error.strerror or error}; {how}") from error
        except (ValueError, ZooError) as error:
            raise ZooError(f"{path} cannot sign: {error}") from error
        self._public = self._key.get_public_key()

    @property
    def public_key(self) -> str:
        """The text that `verifying_with` takes."""
        return str(self._public.to_base64(), "ascii")

    def sign(self, name: str, content: bytes) -> bytes:
        """The signature of a file with this content; it states the time and the name as minisign's do."""
        comment = f"timestamp:{int(time.time())}\tfile:{name}\thashed"
        return bytes(self._key.sign(content, trusted_comment=comment)) + b"\n"

    def has_signed(self, content: bytes, signature: bytes) -> bool:
        """Whether this is a signature of the content by this key."""
        try:
            self._public.verify(content, _minisign().Signature.from_bytes(signature))
        except ValueError:
            return False
        return True


def new_key(path: Path, password: Callable[[], str] = str) -> str:
    """Write a new secret key, which its owner alone can read, and beside it the public one, ``.pub``; return that.

    password  is called for the password that encrypts the secret key; an empty one does not

    Raises:
        ZooError: one of the files exists or cannot be written, or `py-minisign` is not installed.
    """
    minisign, path = _minisign(), expand_path(path)
    public_file = path.with_suffix(".pub")
    if public_file == path:
        raise ZooError(f"{path} will be the public key: give another name for the secret one")
    for file in (path, public_file):
        if os.path.lexists(file):
            raise ZooError(f"{file} exists already: give another name, because what it signed needs it")
    pair = minisign.KeyPair.generate()
    if word := password():
        pair.secret_key.encrypt(word)
    for file, key, mode in ((path, pair.secret_key, 0o600), (public_file, pair.public_key, 0o666)):
        with new_file(file, mode=mode) as out:
            out.write(bytes(key) + b"\n")
    return str(pair.public_key.to_base64(), "ascii")


def _public_key(key: str) -> minisign.PublicKey:
    minisign = _minisign()
    try:
        return minisign.PublicKey.from_base64(key.strip())
    except ValueError:
        pass
    try:
        return minisign.PublicKey.from_bytes(read_file(expand_path(key), limit=_MAX_FILE))
    except (OSError, ValueError, ZooError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ZooError(f"{key!r} is no public key of minisign (RW...), and no file with one: {reason}") from error


def _minisign() -> Any:
    """The module, which has no types."""
    try:
        import minisign
    except ImportError as error:
        raise ZooError("signatures need one more package: pip install 'pruned-zoo[sign]'") from error
    return minisign
