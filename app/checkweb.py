"""The doctor's look at BASE_URL: does the whole way from the outside lead to this very server?"""

import asyncio
import http.client
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import msgspec

from app.errors import Unreachable
from app.findings import Finding, fail, ok
from app.handlers.doctor import NONCE_SECONDS, doctor_tokens
from app.handlers.places import MARK
from app.settings import Settings
from app.store import Store

_SECONDS = 10.0
_MOST_BYTES = 65536


class _Answer(msgspec.Struct):
    base_url: str
    store: bool
    proxies: int
    trusted: int


async def check_web(settings: Settings, store: Store | None) -> AsyncIterator[Finding]:
    """Ask the server at BASE_URL who it is. Without a store, out of reach or held by another process, it is not compared."""
    nonce = secrets.token_urlsafe(16)
    try:
        if store:
            await store.leave_nonce(nonce, NONCE_SECONDS)
        status, where, body = await asyncio.to_thread(
            _get, settings.base_url, f"/doctor/{doctor_tokens(settings).sign(nonce)}"
        )
    except Unreachable:
        return  # the store has had its line
    except (OSError, http.client.HTTPException) as error:
        yield fail("BASE_URL", _explain(error, settings.base_url))
        return
    if status in (301, 302, 303, 307, 308):
        to = urlsplit(where)
        target = f"to {to.scheme}://{to.netloc}" if to.netloc else "elsewhere"
        yield fail(
            "BASE_URL", f"{settings.base_url} redirects {target}: set BASE_URL to the origin that users end up at."
        )
    elif status == 503:
        yield fail("BASE_URL", f"the server at {settings.base_url} answers, but its store or itself is out of reach.")
    elif status != 200:
        yield fail(
            "BASE_URL",
            f"{settings.base_url} answers ({status}), but not as this server: it is another one, an older one, "
            "or it has another SECRET_KEY.",
        )
    else:
        for finding in _judge(body, settings, compare_store=store is not None):
            yield finding


def _judge(body: bytes, settings: Settings, *, compare_store: bool) -> list[Finding]:
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.DecodeError:
        return [fail("BASE_URL", f"{settings.base_url} is a server of another kind: point BASE_URL at this one.")]
    if answer.base_url != settings.base_url:
        return [
            fail(
                "BASE_URL",
                f"is {settings.base_url} here, and {answer.base_url} at the server that answers there: set both alike.",
            )
        ]
    if compare_store and not answer.store:
        return [fail("BASE_URL", f"the server at {settings.base_url} has another store: check its REDIS_URL.")]
    return [ok("BASE_URL", f"{settings.base_url} leads to this server."), _judge_proxies(answer)]


def _judge_proxies(answer: _Answer) -> Finding:
    seen, trusted = answer.proxies, answer.trusted
    told = f"{seen} before the server, {trusted} trusted"
    if seen < trusted:
        return fail("proxies", f"{told}: anybody can pass for any IP; set PROXIES_COUNT={seen}.")
    if seen > trusted:
        return fail("proxies", f"{told}: all clients look like one and share its limits; set PROXIES_COUNT={seen}.")
    return ok("proxies", f"{told}.")


def _get(base_url: str, path: str) -> tuple[int, str, bytes]:
    """Status, Location and the body's beginning; redirects are not followed. Raises OSError and HTTPException."""
    parts = urlsplit(base_url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": "application/json", "X-Forwarded-For": MARK})
        response = connection.getresponse()
        return response.status, response.getheader("Location", ""), response.read(_MOST_BYTES)
    finally:
        connection.close()


def _explain(error: Exception, base_url: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {base_url} does not verify: browsers refuse it too."
    if isinstance(error, ssl.SSLError):
        return f"{base_url} does not speak TLS: set BASE_URL to http://, or put a proxy with a certificate before it."
    if isinstance(error, socket.gaierror):
        return f"nobody knows the host of {base_url}: check BASE_URL, or the name's DNS entry."
    if isinstance(error, TimeoutError):
        return f"{base_url} does not answer in time: check BASE_URL, the firewall and the proxy."
    if isinstance(error, http.client.HTTPException):
        return f"{base_url} does not speak HTTP: check BASE_URL."
    return f"nobody answers at {base_url}: start the server, or check BASE_URL and the proxy before it."
