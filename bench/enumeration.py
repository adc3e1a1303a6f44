"""Whether the time of an answer tells which addresses are known: `python -m bench.enumeration`, with parts of its own."""

import random
import tempfile
import time
from collections.abc import Callable
from statistics import median

import httpx
import uvloop

from app.addresses import Address
from app.codes import asker
from app.context import Context
from bench.pages import show
from tests.parts import a_device, new_context
from tests.process import free_port, redis_server, scene_at, server
from tests.support import new_fingerprint, open_mailbox

TRIES = 500
_WARM_TRIES = 20
_TARGET = 5.0  # milliseconds
_KNOWN = [Address(f"known{number:03}@example.org") for number in range(2 * (_WARM_TRIES + TRIES))]
_LIMITED, _DENYING = Address("limited0@example.org"), Address("denying0@example.org")

Body = Callable[[], dict[str, str]]


async def fill_store(process: Context) -> str:
    """Owners who have been here, one of them mailed just now; returns the device that one of them turned away."""
    for address in (*_KNOWN, _LIMITED, _DENYING):
        uid = await process.books.enroll(address)
        await process.books.settle(uid, address, "browser", "")
    await process.asking.login(_LIMITED, asker(None))
    await process.asking.ask(_LIMITED, a_device(), "verify")
    uid, device = await process.books.enroll(_DENYING), a_device()
    await process.books.ask(uid, None, device)
    await process.books.reject(uid, device.fp)
    return device.fp


def cases_of(shut_out: str) -> dict[str, dict[str, Body]]:
    """What is sent where, and for whom. Each known and each unknown address is used once, so that all are mailed."""
    known, unknown = iter(_KNOWN), iter(range(10**9))

    def body(address: str, fp: str = "") -> dict[str, str]:
        return {"fp": fp or new_fingerprint(), "email": address}

    everybody: dict[str, Body] = {
        "known": lambda: body(next(known).typed),
        "unknown": lambda: body(f"nobody{next(unknown)}@example.org"),
        "unserved": lambda: body(f"nobody{next(unknown)}@example.com"),
        "limited": lambda: body(_LIMITED.typed),
    }
    return {"/verify": everybody | {"denied": lambda: body(_DENYING.typed, shut_out)}, "/login": everybody}


async def ask(http: httpx.AsyncClient, path: str, body: dict[str, str]) -> float:
    """How many milliseconds the answer took."""
    start = time.perf_counter()
    answer = await (http.post(path, data=body) if path == "/login" else http.post(path, json=body))
    took = time.perf_counter() - start
    assert answer.status_code == 200, answer.text
    return took * 1000


async def measure(http: httpx.AsyncClient, path: str, cases: dict[str, Body]) -> dict[str, float]:
    """The median of each case. All take turns, in a new order each time: what one leaves to do delays any other."""
    took: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_WARM_TRIES + TRIES):
        for name in random.sample(list(cases), len(cases)):
            took[name].append(await ask(http, path, cases[name]()))
    return {name: median(times[_WARM_TRIES:]) for name, times in took.items()}


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_mailbox() as mailbox, redis_server() as store_url:
            settings = {
                "HOST": "127.0.0.1",
                "PORT": str(free_port()),
                "BASE_URL": "http://book.test",
                "REDIS_URL": store_url,
                "SECRET_KEY": "k" * 32,
                "SMTP_URL": mailbox.url,
                "DATA_DIR": folder,
                "OWNERS": "@example.org",
                "MAIL_INTERVAL": "8640",
            }
            process = new_context(store_url, mail_interval=8640)
            await process.open()
            shut_out = await fill_store(process)
            await process.close()
            port = settings["PORT"]
            async with server(settings), scene_at(f"http://127.0.0.1:{port}", mailbox) as scene:
                rows = [(f"POST, median of {TRIES} tries", "", "target")]
                for path, cases in cases_of(shut_out).items():
                    medians = await measure(scene.http, path, cases)
                    rows += [(f"  {path}, {name}", f"{took:.2f} ms", "") for name, took in medians.items()]
                    spread = max(medians.values()) - min(medians.values())
                    rows.append((f"  {path}, furthest apart", f"{spread:.2f} ms", f"<= {_TARGET:.0f} ms"))
                show(rows)


if __name__ == "__main__":
    uvloop.run(main())
