"""A small world that faults happen to: a store, two servers, two owners with devices on both, and talk between them."""

import asyncio
import itertools
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.chaos.parts import Proxy, Store, open_proxy, open_store
from tests.process import Program, free_port, server
from tests.support import SECONDS, Mailbox, Message, Owner, Scene, open_mailbox

LONG = "CHAOS" in os.environ
"""Whether the faults last as long as they do in the field, and the bounds are held: `make chaos`."""

BACK = 3.0
"""Seconds after which the service is back when the part that failed is (`make chaos`)."""

TRUE = 15.0
"""Seconds after which presence is true again (`make chaos`)."""

PATIENCE = 60.0
_CONNECTIONS = 7
_TICK = 0.1

_FAULTS = re.compile(r"Traceback|error=\w+ at |event=loop_fault")
_numbers = itertools.count(1)


class Talker:
    """A device whose socket is read all the time."""

    def __init__(self, name: str, owner: Owner, fp: str, socket: ClientConnection) -> None:
        self.name = name
        self.owner = owner
        self.fp = fp
        self.came: list[tuple[str, Message]] = []
        """What was forwarded to it, with the connection of its own by which it came."""
        self.answers: dict[int, list[tuple[int, float]]] = {}
        """The codes that answered each of its numbered messages, and when they came."""
        self.lists: dict[int, dict[str, bool]] = {}
        self.said: set[int] = set()
        """The numbers of what it said by its present socket."""
        self.statuses: list[int] = []
        self.close_code: int | None = None
        self._peers: dict[str, bool] = {}
        self._take(socket)

    @property
    def open(self) -> bool:
        return self.close_code is None

    @property
    def is_in(self) -> bool:
        """Whether the last that it heard of itself is that it is in."""
        return self.open and bool(self.statuses) and self.statuses[-1] == 200

    def _take(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.said.clear()
        self.close_code = None
        self._reader = asyncio.create_task(self._read(socket))

    async def _read(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            async for text in socket:
                self._hear(socket, json.loads(text))
        self.close_code = socket.close_code or 1006

    def _hear(self, socket: ClientConnection, message: Message) -> None:
        if "source_fp" in message and "candidate" in message:
            self.came.append((str(socket.id), message))
        elif "peers" in message:
            self._peers = {peer["fp"]: peer["online"] for peer in message["peers"]}
        elif isinstance(number := message.get("id"), int):
            self.lists[number] = self._peers
            self.answers.setdefault(number, []).append((message["code"], time.monotonic()))
        elif message.get("code") in (200, 401):
            self.statuses.append(message["code"])

    async def say(self, message: Message) -> int:
        """Say it with a number; returns the number. A socket that is gone says nothing."""
        number = next(_numbers)
        with suppress(ConnectionClosed):
            await self.socket.send(json.dumps(message | {"id": number}))
            self.said.add(number)
        return number

    async def answer(self, number: int, seconds: float = SECONDS) -> tuple[int, float]:
        """The first answer to that message: its code, 0 for none, and when it came."""
        with suppress(TimeoutError):
            await until(lambda: number in self.answers or not self.open, seconds)
        return self.answers.get(number, [(0, time.monotonic())])[0]

    async def peers(self) -> dict[str, bool]:
        """The list that it is given now: fingerprint and whether that is online."""
        number = await self.say({"command": "get_list"})
        await self.answer(number)
        return self.lists.get(number, {})

    async def come_back(self, scene: Scene) -> None:
        """Connect to that server, and wait for the status."""
        device = await scene.connect(self.fp, email=self.owner.address, name=self.name)
        self.statuses.clear()
        self._reader.cancel()
        self._take(device.socket)
        await until(lambda: bool(self.statuses) or not self.open)


async def until(holds: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Wait until it holds; returns for how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for is the state of many objects
            await asyncio.sleep(0.01)
    return time.monotonic() - began


class Server:
    """A server that runs, the devices that come to it, and the most connections to the store that it had."""

    def __init__(self, program: Program, scene: Scene, stack: AsyncExitStack) -> None:
        self.program = program
        self.scene = scene
        self.most_connections = 0
        self.process = ""  # its name in the store
        self._stack = stack

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end of the block."""
        self.program.signal_group(signal.SIGSTOP)
        try:
            yield
        finally:
            self.program.signal_group(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL."""
        self.program.signal_group(signal.SIGKILL)
        await self.program.exit_code()

    def count_connections(self, ports: set[int]) -> None:
        with suppress(OSError):
            self.most_connections = max(self.most_connections, connections_to(ports, self.program.pid))

    async def close(self) -> None:
        await self._stack.aclose()


class World:
    """What a fault happens to, and the verdict on what came of it."""

    def __init__(
        self, store: Store, mailbox: Mailbox, mail_proxy: Proxy, stack: AsyncExitStack, *, proxied: bool
    ) -> None:
        self.store = store
        self.mailbox = mailbox
        self.mail_proxy = mail_proxy
        self.servers: list[Server] = []
        self.proxies: list[Proxy] = []
        self.owners: list[Owner] = []
        self.talkers: list[Talker] = []
        self.sent: dict[int, tuple[Talker, Talker]] = {}
        self.strange: dict[int, Talker] = {}
        """Messages to a device of somebody else."""
        self.programs: list[Program] = []
        self._proxied = proxied
        self._stack = stack
        self._origin = ""
        self._tasks: list[asyncio.Task[None]] = []

    # Making it

    async def build(self) -> None:
        """Two servers; two owners, each with two devices on the first and one on the second."""
        self.servers = [await self.serve(), await self.serve()]
        for _ in range(2):
            owner = self.servers[0].scene.owner()
            self.owners.append(owner)
            for name, where in (("laptop", 0), ("phone", 0), ("tablet", 1)):
                self.talkers.append(await self._join(owner, name, self.servers[where]))
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._count())]
        await self.back()

    async def serve(self) -> Server:
        """One more server on the same store."""
        port, known = free_port(), await self._processes()
        self._origin = self._origin or f"http://127.0.0.1:{port}"  # of one deployment, so the links of all open there
        stack = AsyncExitStack()
        self._stack.push_async_callback(stack.aclose)
        url = self.store.url
        if self._proxied:
            proxy = await stack.enter_async_context(open_proxy(self.store.port))
            self.proxies.append(proxy)
            url = f"redis://127.0.0.1:{proxy.port}/0"
        settings = {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "BASE_URL": self._origin,
            "REDIS_URL": url,
            "SECRET_KEY": "s" * 32,
            "SMTP_URL": f"smtp://127.0.0.1:{self.mail_proxy.port}?starttls=0",
        }
        program = await stack.enter_async_context(server(settings))
        await program.line("event=started")
        scene = Scene(f"http://127.0.0.1:{port}", self.mailbox)
        stack.push_async_callback(scene.close)
        started = Server(program, scene, stack)
        started.process = (await self._processes() - known).pop()
        self.programs.append(program)
        return started

    async def replace(self, server: Server) -> None:
        """Another server in the place of one that is gone."""
        self.servers[self.servers.index(server)] = await self.serve()
        self.programs.remove(server.program)
        await server.close()

    async def _processes(self) -> set[str]:
        return {str(key).removeprefix("process:") for key in await self.store.redis.keys("process:*")}

    async def _join(self, owner: Owner, name: str, where: Server) -> Talker:
        device = await where.scene.join(owner, name)
        talker = Talker(name, owner, device.fp, device.socket)
        talker.statuses.append(200)  # it has read that
        return talker

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What goes on in it

    def groups(self) -> list[list[Talker]]:
        """The devices of each owner."""
        return [[each for each in self.talkers if each.owner is owner] for owner in self.owners]

    def pairs(self) -> list[tuple[Talker, Talker]]:
        """Who talks to whom."""
        return [pair for group in self.groups() for pair in itertools.permutations(group, 2)]

    async def round(self) -> dict[int, tuple[Talker, Talker]]:
        """Each says something to each of its owner's others, and one to somebody else's; returns what was said."""
        said = {await self.post(source, target): (source, target) for source, target in self.pairs()}
        mine, others = self.groups()
        number = await mine[0].say({"target": others[0].fp, "candidate": [mine[0].fp, others[0].fp, next(_numbers)]})
        self.strange[number] = mine[0]
        return said

    async def post(self, source: Talker, target: Talker) -> int:
        """Say something to the other; returns its number."""
        number = await source.say({"target": target.fp, "candidate": [source.fp, target.fp, next(_numbers)]})
        self.sent[number] = (source, target)
        return number

    async def send(self, source: Talker, target: Talker) -> tuple[int, float]:
        """Say something to the other; returns the code of the answer and after how many seconds it came."""
        began = time.monotonic()
        code, at = await source.answer(await self.post(source, target))
        return code, at - began

    async def _talk(self) -> None:
        while True:
            await self.round()
            await asyncio.sleep(_TICK)

    async def _count(self) -> None:
        while True:
            for each in self.servers:
                each.count_connections(self._ports())
            await asyncio.sleep(_TICK)

    def _ports(self) -> set[int]:
        """Where the store is reached."""
        return {self.store.port, *(proxy.port for proxy in self.proxies)}

    # The verdict

    async def back(self, among: Sequence[Talker] = ()) -> float:
        """Wait until everybody reaches everybody, or those among each other; returns for how long that took."""
        began = at = time.monotonic()
        refused = [""]
        while refused:
            assert at - began < PATIENCE, [refused, *(program.lines[-20:] for program in self.programs)]
            await asyncio.sleep(0.02)
            at = time.monotonic()
            said = {number: pair for number, pair in (await self.round()).items() if not among or {*pair} <= {*among}}
            answers = await asyncio.gather(*(source.answer(number) for number, (source, _) in said.items()))
            refused = [
                f"{source.name} to {target.name}: {code}"
                for (source, target), (code, _) in zip(said.values(), answers, strict=True)
                if code != 200
            ]
        return at - began

    async def presence_is_true(self) -> float:
        """Wait until every list tells who is here; returns for how long that took."""
        began = time.monotonic()
        for group in self.groups():
            truth = {each.fp: each.open for each in group}
            for each in group:
                async with asyncio.timeout(PATIENCE):
                    while each.open and await each.peers() != truth:  # noqa: ASYNC110 - it has to be asked for
                        await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def verdict(self, fault: str, back: float | None = None) -> None:
        """All that must hold once a fault is over. `back`: after how many seconds the service was."""
        back = await self.back() if back is None else back
        true = await self.presence_is_true()
        print(f"{fault}: back after {back:.2f} s, presence true after {true:.2f} s more")  # noqa: T201 - of make chaos
        for program in self.programs:
            assert not [line for line in program.lines if _FAULTS.search(line)]
        for each in self.servers:
            each.program.signal_group(signal.SIGCONT)  # raises nothing, and the next line tells whether it is there
            assert running(each.program.pid), each.program.output
            each.count_connections(self._ports())
            assert 0 < each.most_connections <= _CONNECTIONS
        assert [each.name for each in self.talkers if not each.is_in] == []
        await self._all_is_answered()
        await self._books_are_whole()
        self._deliveries_are_right()
        if LONG:
            assert back <= BACK
            assert back + true <= TRUE

    async def _all_is_answered(self) -> None:
        said = {each: set(each.said) for each in self.talkers}
        await until(lambda: all(numbers <= each.answers.keys() for each, numbers in said.items()), SECONDS)

    async def _books_are_whole(self) -> None:
        for owner, group in zip(self.owners, self.groups(), strict=True):
            uid = str(await self.store.redis.get(f"uid:{owner.address}"))
            assert set(await self.store.redis.zrange(f"book:{{{uid}}}", 0, -1)) == {each.fp for each in group}

    def _deliveries_are_right(self) -> None:
        for number, source in self.strange.items():
            assert {code for code, _ in source.answers.get(number, [])} <= {401, 404, 503}
        for target in self.talkers:
            for pair in {(by, message["source_fp"]) for by, message in target.came}:
                came = [message for by, message in target.came if (by, message["source_fp"]) == pair]
                assert {tuple(each["candidate"][:2]) for each in came} <= {(pair[1], target.fp)}
                order = [each["candidate"][2] for each in came]
                assert order == sorted(order)
            twice = Counter(message["candidate"][2] for _, message in target.came)
            assert [number for number, times in twice.items() if times > 1] == []


def running(pid: int) -> bool:
    """Whether that process is there, and not a dead one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def connections_to(ports: set[int], pid: int) -> int:
    """How many TCP connections that process has to those ports of this machine."""
    far = {f"0100007F:{port:04X}" for port in ports}
    inodes = {
        fields[9]
        for fields in map(str.split, Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:])
        if fields[2] in far
    }
    held = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(link.removeprefix("socket:[").removesuffix("]") in inodes for link in held)


@asynccontextmanager
async def open_world(folder: Path, *, proxied: bool = False) -> AsyncIterator[World]:
    """A world where everybody reaches everybody. `proxied`: each server reaches the store through a proxy of its own."""
    async with AsyncExitStack() as stack:
        mailbox = await stack.enter_async_context(open_mailbox())
        mail_proxy = await stack.enter_async_context(open_proxy(mailbox.port))
        store = await stack.enter_async_context(open_store(folder))
        world = World(store, mailbox, mail_proxy, stack, proxied=proxied)
        stack.push_async_callback(world.close)
        await world.build()
        yield world
