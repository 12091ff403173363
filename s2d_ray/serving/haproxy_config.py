"""HAProxy's configuration as Ray Serve writes it, made fit for clients that are not to be trusted.

Ray has no setting for these: it gives a client an hour, shows its counts on all addresses, knows no TLS, and lets a
client say itself from which address it comes.
"""

import re
from dataclasses import dataclass
from pathlib import Path

MOST_CONNECTIONS = 16_384
ADDRESS_CONNECTIONS = 512
"""Connections of one address once most places are taken: until then an address may be a proxy with many people
behind it."""
CROWDED = 0.75
"""Share of all places that counts as most."""
REQUEST_SECONDS = 10
"""For the header, and for as much of the body as HAProxy holds, together."""
CLIENT_SECONDS = 30
"""Without a byte sent or taken by a client whose turn it is."""


@dataclass(frozen=True)
class Edge:
    """What clients meet."""

    connections: int = MOST_CONNECTIONS
    """That HAProxy holds at once."""
    host: str | None = None
    """Address to listen at; None leaves Ray's."""
    certificate: Path | None = None
    """In PEM, with the key in a file of the same name and `.key`; None serves without TLS."""


def connections_within(files: int) -> int:
    """As many as a process may hold that may open so many files: one each, and a second where it is answered."""
    return min(MOST_CONNECTIONS, files * 3 // 4)


def for_clients(config: str, edge: Edge) -> str:
    """Ray's configuration with what it lacks. Raises ValueError where it is not what this was written for."""
    for line, instead in _rules(edge).items():
        config, found = re.subn(f"^{line}$", instead, config, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"Ray's HAProxy configuration has {found} lines like {line!r}, and not one")
    return config


def _rules(edge: Edge) -> dict[str, str]:
    """Pattern of a line → what takes its place."""
    tls = f" ssl crt {edge.certificate} alpn http/1.1 ssl-min-ver TLSv1.2" if edge.certificate else ""
    host = r"\1" if edge.host is None else edge.host
    return {
        # It would not start without two files for each connection, and two more for every fourth.
        r"    maxconn \d+": f"    maxconn {edge.connections}\n    no strict-limits",
        # It commands HAProxy.
        r"    (stats socket \S+) mode 666 (.*)": r"    \1 mode 600 \2",
        r"    timeout client \d+s": f"""\
    timeout client {CLIENT_SECONDS}s
    timeout http-request {REQUEST_SECONDS}s
    option http-buffer-request""",
        r"    bind :(\d+)": r"    bind 127.0.0.1:\1",
        r"  bind \*:(\d+)": r"  bind 127.0.0.1:\1",
        r"frontend http_frontend\n    bind (\S+):(\d+)": f"""\
frontend http_frontend
    bind {host}:\\2{tls}
    stick-table type ipv6 size 100k expire 1m store conn_cur
    tcp-request connection track-sc0 src,ipmask(32,64)
    tcp-request connection reject if {{ sc0_conn_cur gt {ADDRESS_CONNECTIONS} }} \
{{ fe_conn gt {int(edge.connections * CROWDED)} }}
    http-request set-header X-Forwarded-For %[src]""",
    }
