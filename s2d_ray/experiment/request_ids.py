"""Names of requests that only this experiment's servers can make and read, so that feedback needs no look at the store.

A name carries, encrypted, what a rating of the answer will count for, and when it was asked. It is bound to who asked:
with another user or key it cannot be read. Every server of the experiment has the same secret, beside its state.
"""

import logging
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from os import urandom
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from s2d_ray.arms import CORE_ARMS, CoreArm
from s2d_ray.data.files import read_json, update_json
from s2d_ray.data.storage import RemotePath
from s2d_ray.errors import UserError

log = logging.getLogger(__name__)
PREFIX = "chatcmpl-"
_LAYOUT = struct.Struct(">9sIiBH")
"""Random bytes, so that no two names are equal; seconds since 1970; version, -1 without; arm; rater."""
_NO_VERSION = -1


class UnknownRequest(UserError):
    """Feedback that no request of this experiment takes from whoever sends it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of a request by its name."""

    time: int
    """When it came in, in whole seconds since 1970."""
    arm: CoreArm
    version: int | None
    rater: int


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sends a request or its feedback."""

    user: str
    """As assigned to an arm."""
    named: bool = True
    """Whether the client said who that is, and will again: not where a name was made up for this request."""
    client: str = ""
    """Its key, or the address that it comes from: what it cannot choose freely."""
    key: str = ""
    """The key alone; empty where none is asked for."""


class RequestIds:
    """Makes names, and reads them."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(secret)

    def make(self, asked: Asked, asker: Asker) -> str:
        """A new name, each time another."""
        version = _NO_VERSION if asked.version is None else asked.version
        content = _LAYOUT.pack(urandom(9), asked.time, version, CORE_ARMS.index(asked.arm), asked.rater)
        return _written(self._cipher.encrypt(content, _bound(asker, asker.named)))

    def read(self, name: str, asker: Asker) -> Asked:
        """What was made into a name. Raises UnknownRequest where it is none, or of another user or key."""
        # Of the first request of a browser the name was made before it was told who it is.
        for named in (True, False):
            with suppress(ValueError, InvalidTag):
                sealed = urlsafe_b64decode(name.removeprefix(PREFIX))
                _, time, version, arm, rater = _LAYOUT.unpack(self._cipher.decrypt(sealed, _bound(asker, named)))
                # Decoding overlooks characters, and no request may have two names.
                if _written(sealed) == name:
                    return Asked(time, CORE_ARMS[arm], None if version == _NO_VERSION else version, rater)
        raise UnknownRequest("request_id: no answer of this server to the user, and by the key, that this comes from")


def _written(sealed: bytes) -> str:
    return PREFIX + urlsafe_b64encode(sealed).decode()


def _bound(asker: Asker, named: bool) -> list[bytes]:
    # AES-SIV tells ["ab", "c"] from ["a", "bc"].
    return [asker.key.encode(), b"named" if named else b"", asker.user.encode() if named else b""]


def open_request_ids(path: Path) -> RequestIds:
    """With the secret in that file, made where it is not there, by one of the servers that start at once.

    Where it cannot be stored, on a full disk, this server has one of its own, and reads its own names alone.
    """
    new = {"secret": AESSIV.generate_key(256).hex()}
    try:
        if not path.exists():
            update_json(path, lambda content: content or new)
        if not isinstance(path, RemotePath):
            with suppress(PermissionError):  # Another user's, who has made it so.
                path.chmod(0o600)
        secret = read_json(path)["secret"]
    except OSError:
        log.warning("%s cannot be stored: answers can be rated at this server alone", path, exc_info=True)
        secret = new["secret"]
    return RequestIds(bytes.fromhex(secret))
