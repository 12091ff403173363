"""Who may ask the model, and who may change the experiment.

Keys and the token are read from the environment once, kept as digests, and compared in constant time. A change needs
the admin header: no page of another site can make a browser send it without asking the server first, and the server
refuses that (CORS stays closed). Where nothing is secret, the address asked for must be this machine's own, so that
another site's name that resolves to it (DNS rebinding) gets nothing.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from urllib.parse import urlsplit

from s2d_ray.errors import UserError
from s2d_ray.experiment.page import ADMIN_HEADER
from s2d_ray.recipes.serve import Serve, is_loopback

MIN_LENGTH = 16
"""Characters of a key or token: shorter ones can be guessed."""


class Denied(Exception):
    """This request may not do that. What it says may be shown to the client."""


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """What requests are checked against. Holds no secret in clear and shows none."""

    api_keys: tuple[bytes, ...]
    """Digests; none lets everyone ask."""
    admin_token: bytes | None
    """Digest; None lets everyone on this machine change the experiment."""
    loopback: bool
    """Whether the server is for this machine alone."""

    def check_ask(self, headers: Mapping[str, str]) -> None:
        """May this request ask the model? Names of headers in lower case. Raises Denied (status 401)."""
        if not self.api_keys:
            return self._check_host(headers)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        # Every key is compared, so that time does not tell which one was right.
        matches = [compare_digest(_digest(key.strip()), known) for known in self.api_keys]
        if scheme.lower() != "bearer" or not any(matches):
            raise Denied("no valid API key: send it as `Authorization: Bearer KEY`")

    def check_look(self, headers: Mapping[str, str]) -> None:
        """May this request see the experiment's page, which has figures but no texts? Raises Denied (status 401)."""
        self._check_host(headers)

    def check_change(self, headers: Mapping[str, str]) -> None:
        """May this request change the experiment? Names of headers in lower case. Raises Denied (status 403)."""
        token = headers.get(ADMIN_HEADER)
        if token is None:
            raise Denied(f"no header {ADMIN_HEADER}")
        if self.admin_token is None:
            return self._check_host(headers)
        if not compare_digest(_digest(token), self.admin_token):
            raise Denied("wrong admin token")

    def _check_host(self, headers: Mapping[str, str]) -> None:
        if self.loopback and not is_loopback(_name(headers.get("host", ""))):
            raise Denied("this server answers to 127.0.0.1 and localhost only")


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
    return Access(tuple(digests[: len(keys)]), digests[-1] if tokens else None, serve.loopback)


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


def _name(host: str) -> str:
    """Of a header `host`, without the port; empty where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _digest(secret: str) -> bytes:
    # Of one length whatever the secret's: comparing does not tell how long it is.
    return sha256(secret.encode()).digest()
