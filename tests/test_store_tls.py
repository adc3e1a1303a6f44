"""The store over TLS (REDIS_TLS_VERIFY): full, its authority alone, or nothing, each against a real Redis."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from app.errors import Unreachable
from tests.parts import new_context
from tests.process import free_port, program

TRUSTED, UNKNOWN = "signed by an authority that this machine trusts", "signed by nobody that it knows"
OURS, ANOTHER = "localhost", "redis.invalid"

# What certificate it has, for which host, and whether it will do for each setting.
CASES = [
    (TRUSTED, OURS, {"full": True, "ca": True, "none": True}),
    (TRUSTED, ANOTHER, {"full": False, "ca": True, "none": True}),
    (UNKNOWN, OURS, {"full": False, "ca": False, "none": True}),
    (UNKNOWN, ANOTHER, {"full": False, "ca": False, "none": True}),
]


@asynccontextmanager
async def redis_with(authority: trustme.CA, host: str, folder: Path) -> AsyncIterator[str]:
    """A Redis on TLS alone, with a certificate of that authority for that host."""
    binary = shutil.which("redis-server")
    assert binary, "apt install redis-server"
    authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(str(folder / "redis.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    port = free_port()
    tls = f"--tls-port {port} --port 0 --tls-auth-clients no --tls-cert-file redis.pem --tls-key-file redis.pem"
    command = f"{binary} {tls} --tls-ca-cert-file ca.pem --bind 127.0.0.1"
    async with program(*command.split(), "--save", "", folder=folder) as store:
        await store.line("Ready to accept connections")
        yield f"rediss://localhost:{port}/0"


@pytest.mark.parametrize(("signed", "host", "will_do"), CASES)
async def test_a_certificate_will_do_as_far_as_it_is_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: str, host: str, will_do: dict[str, bool]
) -> None:
    authority, known = trustme.CA(), trustme.CA()
    (authority if signed == TRUSTED else known).cert_pem.write_to_path(str(tmp_path / "known.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "known.pem"))
    async with redis_with(authority, host, tmp_path) as url:
        for verify, does in will_do.items():
            process = new_context(url, redis_tls_verify=verify)
            try:
                if does:
                    await process.store.ping()
                else:
                    with pytest.raises(Unreachable):
                        await process.store.ping()
            finally:
                await process.close()
