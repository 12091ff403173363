"""Who may ask the model, and who may change the experiment.

Keys and the token are read from the environment once, kept as digests, and compared in constant time. A change needs
the admin header: no page of another site can make a browser send it without asking the server first, and the server
refuses that (CORS stays closed). Where nothing is secret, the address asked for must be this machine's own, so that
another site's name that resolves to it (DNS rebinding) gets nothing.
"""

import ssl
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from s2d_ray.errors import UserError
from s2d_ray.experiment.page import ADMIN_HEADER
from s2d_ray.recipes.serve import Serve, is_loopback

MIN_LENGTH = 16
"""Characters of a key or token: shorter ones can be guessed."""


ELSEWHERE = "this server answers to 127.0.0.1 and localhost only"


class Denied(Exception):
    """This request may not do that. What it says may be shown to the client."""


class LoginNeeded(Denied):
    """A browser may ask its person for a password."""


class Forbidden(Denied):
    """It is known who asks, but not as one who may."""


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """What requests are checked against. Holds no secret in clear and shows none."""

    api_keys: tuple[bytes, ...]
    """Digests; none lets everyone ask."""
    admin_token: bytes | None
    """Digest; None lets everyone on this machine change the experiment."""
    loopback: bool
    """Whether the server is for this machine alone."""
    tell_arms: bool = False
    """Whether every client may know which arm answered it."""

    def check_ask(self, headers: Mapping[str, str]) -> None:
        """May this request ask the model? Names of headers in lower case. Raises Denied (status 401)."""
        if not self.api_keys:
            return self._check_host(headers)
        if not self._is_key(_bearer(headers)):
            raise Denied("no valid API key: send it as `Authorization: Bearer KEY`")

    def check_look(self, headers: Mapping[str, str]) -> None:
        """May this request see the experiment's page, which has figures but no texts? Raises LoginNeeded (status 401).

        On other machines with an API key or the admin token, which a browser sends as a password.
        """
        if self.loopback:
            return self._check_host(headers)
        sent = [_bearer(headers), _password(headers), headers.get(ADMIN_HEADER, "")]
        if not any(self._is_key(secret) or self._is_token(secret) for secret in sent):
            raise LoginNeeded("the page needs an API key or the admin token: a browser asks for it as the password")

    def check_change(self, headers: Mapping[str, str]) -> None:
        """May this request change the experiment? Names of headers in lower case. Raises Forbidden (status 403)."""
        token = headers.get(ADMIN_HEADER)
        if token is None:
            raise Forbidden(f"no header {ADMIN_HEADER}")
        if self.admin_token is None and not self._is_here(headers):
            raise Forbidden(ELSEWHERE)
        if self.admin_token is not None and not self._is_token(token):
            raise Forbidden("wrong admin token")

    def check_trace(self, headers: Mapping[str, str]) -> None:
        """May this request be told which arm answered it, and how? Raises Forbidden (status 403).

        Without a token whoever may ask is who may change the experiment.
        """
        if self.tell_arms or self.admin_token is None or self._is_token(headers.get(ADMIN_HEADER, "")):
            return
        raise Forbidden(f"which arm answered is told with the admin token alone, in the header {ADMIN_HEADER}")

    def key_of(self, headers: Mapping[str, str]) -> str:
        """Which of the keys a request came with, without telling it; empty where none is asked for."""
        return _digest(_bearer(headers)).hex() if self.api_keys else ""

    def _is_key(self, secret: str) -> bool:
        # Every key is compared, so that time does not tell which one was right.
        matches = [compare_digest(_digest(secret), known) for known in self.api_keys]
        return any(matches)

    def _is_token(self, secret: str) -> bool:
        return self.admin_token is not None and compare_digest(_digest(secret), self.admin_token)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        if not self._is_here(headers):
            raise Denied(ELSEWHERE)

    def _is_here(self, headers: Mapping[str, str]) -> bool:
        return not self.loopback or is_loopback(_name(headers.get("host", "")))


def network_of(address: str) -> str:
    """What one client cannot leave: an address, or of IPv6 the network of 64 bits that it is in."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found.packed, 64), strict=False))
    return str(found.ipv4_mapped or found) if isinstance(found, IPv6Address) else str(found)


def load_access(serve: Serve, environment: Mapping[str, str]) -> Access:
    """The keys and the token that a recipe names, from the environment.

    Raises UserError where a named variable is not set or its content is too short for a secret.
    """
    keys = _variable(environment, serve.api_keys_env).split(",") if serve.api_keys_env else []
    tokens = [_variable(environment, serve.admin_token_env)] if serve.admin_token_env else []
    for secrets, variable in ((keys, serve.api_keys_env), (tokens, serve.admin_token_env)):
        if any(len(secret.strip()) < MIN_LENGTH for secret in secrets):
            raise UserError(f"a secret in {variable} is shorter than {MIN_LENGTH} characters: choose a longer one")
    digests = [_digest(secret.strip()) for secret in (*keys, *tokens)]
    return Access(tuple(digests[: len(keys)]), digests[-1] if tokens else None, serve.loopback, serve.tell_arms)


def check_certificate(serve: Serve, own_ray: bool) -> None:
    """Raises UserError where HTTPS cannot be had with the files that a recipe names."""
    if serve.certificate is None or serve.key is None:
        return
    if not own_ray:
        raise UserError("serve.certificate is for one machine: on a cluster its ingress holds the certificate")
    try:
        # A key that asks for a passphrase would wait for someone to type it.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(serve.certificate, serve.key, lambda: "")
    except OSError as error:
        files = f"serve.certificate {serve.certificate} and serve.key {serve.key}"
        raise UserError(f"{files} are no certificate with its key, in PEM: {error.strerror or error}") from error


def _variable(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise UserError(f"the recipe takes a secret from {name}, which is not set: export {name}=...")
    return environment[name]


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _password(headers: Mapping[str, str]) -> str:
    """Of HTTP's Basic authentication, whatever the name."""
    scheme, _, content = headers.get("authorization", "").partition(" ")
    try:
        return b64decode(content).decode().partition(":")[2] if scheme.lower() == "basic" else ""
    except ValueError:
        return ""


def _name(host: str) -> str:
    """Of a header `host`, without the port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _digest(secret: str) -> bytes:
    # Of one length whatever the secret's: comparing does not tell how long it is.
    return sha256(secret.encode()).digest()
