"""What a device that nobody wants costs when it dials for ever: `python -m bench.dials`, with a server of its own."""

import tempfile

import uvloop
from redis.asyncio import Redis

from bench.pages import cpu_seconds, reads, show
from tests.process import free_port, redis_server, scene_at, server
from tests.support import Scene, new_fingerprint, open_mailbox

DIALS = 2000
A_DAY = 28_800
"""As often as once in three seconds."""


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        port = str(free_port())
        async with open_mailbox() as mailbox, redis_server() as store_url:
            settings = {
                "HOST": "127.0.0.1",
                "PORT": port,
                "BASE_URL": f"http://127.0.0.1:{port}",
                "REDIS_URL": store_url,
                "SECRET_KEY": "k" * 32,
                "SMTP_URL": mailbox.url,
                "DATA_DIR": folder,
                "LOG_LEVEL": "warning",
            }
            async with server(settings) as running, scene_at(running.url, mailbox) as scene:
                await measure(running.pid, store_url, scene)


async def measure(pid: int, store_url: str, scene: Scene) -> None:
    owner, fp = scene.owner(), new_fingerprint()
    await owner.log_in()
    await scene.verify(fp, email=owner.address, kind="webexec")
    await owner.do(f"/peers/{fp}/reject")
    await scene.mailbox.next_mail(owner.address)
    async with Redis.from_url(store_url, decode_responses=True) as redis:
        trips, cpu = await reads(redis), cpu_seconds(pid)
        for _ in range(DIALS):
            device = await scene.connect(fp, email=owner.address, kind="webexec", name="unwanted")
            assert await device.close_code() == 4403
        cpu = cpu_seconds(pid) - cpu
        trips = await reads(redis) - trips
    assert scene.mailbox.mails == []
    assert fp not in await owner.page()
    show(
        [
            (f"a denied device dials {DIALS} times", "", "target"),
            ("  server CPU a dial, upgrade and close included", f"{cpu / DIALS * 1000:.2f} ms", "< 1 ms"),
            ("  round trips to the store a dial", f"{trips / DIALS:.2f}", ""),
            ("  a day of dialling every 3 s", f"{cpu / DIALS * A_DAY:.0f} s of a core", ""),
            ("  mails, requests", "0, 0", "0, 0"),
        ]
    )


if __name__ == "__main__":
    uvloop.run(main())
