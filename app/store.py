"""The store: every Redis key, command and script. Strings in, objects out.

    user:{uid}               hash    email, created_on, generation, require_proof, admissions (a counter)
    book:{uid}               zset    fp by created_on
    peer:{uid}:<fp>          hash    name, fold (unless it is the name in lower case), kind, state, claim,
                                     created_on, verified_on, last_seen, outcome (of its latest connection)
    requests:{uid}           zset    rid by time; request:{uid}:<rid> hash with EX
    denied:{uid}             hash    rid -> until
    online:{uid}             hash    fp -> "process connection number"
    interest:{uid}           set     processes that hold this book
    version:{uid}            counter +1 at every change of the book or of presence
    books:<half of fp>       zset    uids whose book has it verified: an index, never the truth
    wait:<fp>                set     processes with a socket that waits and names nobody, EX
    uid:<email>              string  uid
    link:<hash>              string  JSON, EX; session:<hash> hash, EX
    code:{<hash>}            hash    of the browser that asked for a login mail: tries, address, uid, link, code; EX
    process:<id>             string  the lease of a process, EX; and the name of its channel
    invites:{uid}            hash    digest -> until; invite:<digest> string uid, EX: an index
    activity:{uid}           list    what happened, the last 200, newest first: [time, what, name, detail] as JSON
    browsers:{uid}           zset    the last 50 browsers that logged in, by the hash of their cookie
    secrets:{uid}            zset    the link:, session:, code: and invite: keys of this user, by their end
    stop:<hash>              string  mails to that address are stopped, EX
    limit:{uid}:<window>     counter, EX: the turns taken in a window; {server} counts for all users
    schema                   string  the version of this layout that the store holds
    since                    string  when the store began to hold books, Unix seconds
    migrating                string  a process brings the store to the present layout, EX
    importing                string  the checksum of an import that was begun and not finished
    doctor:<nonce>           string  the doctor looks for the server that sees this, EX

All keys of one user carry the hash tag {uid}, so that each change of a book is one atomic script, on one server and
on a cluster alike. Small lists and sorted sets take a fraction of the memory of streams and small sets. Times are
the store's own (TIME, EX), so clocks of several processes need not agree.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from sys import intern
from typing import Any, cast

import msgspec
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as BrokenError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as SilentError

from app.addresses import Address
from app.book import Happening, Owner, Place, Report
from app.contact import Contact
from app.errors import Unreachable
from app.peers import Fingerprint, Outcome, Peer, Request, Result, as_fingerprint, fold_name
from app.tally import Tally

SCHEMA = 1
"""The version of the layout above. Whoever changes it writes a migration (migrations.py)."""

_SCRIPTS = Path(__file__).parent / "scripts"
_SECRETS_SECONDS = 366 * 86400
_LONGEST_WAIT = 3.0  # seconds for a connection to the store
_AT_ONCE = 1000  # keys of one command
_LOCK_SECONDS = 60
_STEM = 58  # characters of a 64-character name that leave place for " 2", " 3", …


@dataclass(frozen=True, slots=True)
class Answer:
    """What a script says: its outcome in one word, and the report where it changed or loaded something."""

    outcome: str
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A browser session: of which generation of its user's logins it is, and its age in seconds."""

    generation: int
    age: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store says of itself. `info`: as INFO has it. `saves`: when it saves, None where it doesn't tell.

    `ahead`: the seconds by which our clock is before its own; `answers`: those that it took to answer, as a median.
    """

    info: Mapping[str, Any]
    saves: str | None
    ahead: float
    answers: float


@dataclass(frozen=True, slots=True)
class Window:
    """So many turns within so many seconds."""

    name: str
    most: int
    seconds: int


class Store:
    """The commands of this program, on one Redis client that decodes its answers."""

    def __init__(self, redis: Redis, contact: Contact, tally: Tally) -> None:
        self.redis = redis
        self._turns = asyncio.Semaphore(redis.connection_pool.max_connections)
        self._contact = contact
        self._tally = tally
        self._scripts = {path.stem: path.read_text() for path in _SCRIPTS.glob("*.lua")}
        common = self._scripts.pop("common")
        self._scripts = {name: common + text for name, text in self._scripts.items()}
        self._shas: dict[str, str] = {}

    async def open(self) -> None:
        """Load the scripts; raises Unreachable without a store."""
        for name, text in self._scripts.items():
            self._shas[name] = await self._answer(self.redis.script_load(text))

    async def ping(self) -> None:
        """Raises Unreachable unless the store answers."""
        await self._again(self.redis.ping)

    async def run_name(self) -> str:
        """The name that the store has from its start to its end; a store with another one may have lost what it answered."""
        return str((await self._again(lambda: self.redis.info("server"))).get("run_id", ""))

    # Books

    async def load(self, uid: str, process: str | None = None) -> Report | None:
        """The whole book, None where there is no such user; `process` hears of its changes from here on."""
        answer = await self.run("load", uid, {"process": process} if process else {})
        return answer.report

    async def run(self, script: str, uid: str, given: Mapping[str, Any]) -> Answer:
        """One atomic script on one user's keys."""
        arguments = (f"user:{{{uid}}}", uid, msgspec.json.encode(given).decode())
        ask = self._again if script == "load" else self._once  # an act that may be done already is never done again
        try:
            raw = await ask(lambda: self.redis.evalsha(self._shas[script], 1, *arguments))
        except NoScriptError:  # the store restarted without its script cache
            await self.open()
            raw = await ask(lambda: self.redis.evalsha(self._shas[script], 1, *arguments))
        return _read_answer(uid, raw)

    async def versions(self, uids: Sequence[str]) -> list[int | None]:
        """The versions of those books, None for one that is not there. One round trip for a thousand."""
        found: list[int | None] = []
        for start in range(0, len(uids), _AT_ONCE):
            keys = [f"version:{{{uid}}}" for uid in uids[start : start + _AT_ONCE]]
            found += [int(each) if each else None for each in await self._again(partial(self.redis.mget, keys))]
        return found

    async def run_all(self, calls: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Answer]:
        """Scripts (script, uid, given) in one round trip; each is atomic, all of them together are not."""
        if not calls:
            return []
        for again in (True, False):
            pipeline = self.redis.pipeline(transaction=False)
            for script, uid, given in calls:
                pipeline.evalsha(self._shas[script], 1, f"user:{{{uid}}}", uid, msgspec.json.encode(given).decode())
            raws = await self._answer(pipeline.execute(raise_on_error=False))
            if not (again and any(isinstance(raw, NoScriptError) for raw in raws)):
                break
            await self.open()
        if any(isinstance(raw, Exception) for raw in raws):
            raise Unreachable
        return [_read_answer(uid, raw) for (_, uid, _), raw in zip(calls, raws, strict=True)]

    # Users

    async def uid_of(self, address: Address) -> str | None:
        """The user with that address."""
        uid: str | None = await self._again(lambda: self.redis.get(_uid_key(address)))
        return uid

    async def enroll(self, address: Address, candidate: str, seconds: int) -> str:
        """The uid of that address: `candidate` for a new one, which ends after `seconds` unless the owner comes."""
        key = _uid_key(address)
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.set(key, candidate, ex=seconds, nx=True)
        pipeline.get(key)
        pipeline.expire(key, seconds, gt=True)
        _, uid, _ = await self._answer(pipeline.execute())
        return str(uid or candidate)

    async def settle(self, uid: str, address: Address, browser: str, detail: str) -> Answer:
        """The owner came by a mailed link, so the user stays; outcome settled, new browser, or unknown."""
        answer = await self.run("settle", uid, {"browser": browser, "detail": detail})
        if answer.outcome != "unknown":
            pipeline = self.redis.pipeline(transaction=False)
            pipeline.set(_uid_key(address), uid, nx=True)  # it may have ended while the link was in the mail
            pipeline.persist(_uid_key(address))
            await self._answer(pipeline.execute())
        return answer

    async def erase(self, uid: str, address: Address) -> Answer:
        """Everything of that user goes, whatever it is."""
        opened = await self._answer(self.redis.zrange(_secrets_key(uid), 0, -1))
        answer = await self.run("erase", uid, {})
        pipeline = self.redis.pipeline(transaction=False)
        for key in [_uid_key(address), *opened]:
            pipeline.delete(key)
        for fp in answer.report.peers if answer.report else ():
            pipeline.zrem(_index_key(fp), uid)
        await self._answer(pipeline.execute())
        return answer

    # Invites: the book knows them, and the index finds the book for a device that knows nothing but the code

    async def keep_invite(self, uid: str, digest: str, *, most: int, seconds: int) -> Answer:
        """Keep an invite into that book until it is used or `seconds` are over."""
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.set(f"invite:{digest}", uid, ex=seconds)
        self._remember(pipeline, uid, f"invite:{digest}", seconds)
        await self._answer(pipeline.execute())
        return await self.run("invite", uid, {"digest": digest, "most": most, "seconds": seconds})

    async def uid_of_invite(self, digest: str) -> str | None:
        """The uid whose book may know that invite."""
        uid: str | None = await self._again(lambda: self.redis.get(f"invite:{digest}"))
        return uid

    # The index from fingerprints to books, and who waits to be found in it

    async def books_of(self, fp: Fingerprint) -> set[str]:
        """The uids whose books may have the fingerprint verified; the books themselves are the truth."""
        return set(await self._again(lambda: self.redis.zrange(_index_key(fp), 0, -1)))

    async def index(self, fp: Fingerprint, uid: str) -> set[str]:
        """Enter the fingerprint as verified in that book; returns the processes where someone waits for that."""
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.zadd(_index_key(fp), {uid: 0})
        pipeline.smembers(f"wait:{fp}")
        _, waiting = await self._answer(pipeline.execute())
        return set(waiting)

    async def unindex(self, fp: Fingerprint, uid: str) -> None:
        """The fingerprint is not verified in that book any more."""
        await self._again(lambda: self.redis.zrem(_index_key(fp), uid))

    async def wait_for(self, fp: Fingerprint, process: str, seconds: int) -> set[str]:
        """Wait for any book to have the fingerprint; returns those that may have it by now.

        The waiter writes before it reads and the approver does likewise (`index`), so no wake-up is lost.
        """
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.sadd(f"wait:{fp}", process)
        pipeline.expire(f"wait:{fp}", seconds)
        pipeline.zrange(_index_key(fp), 0, -1)
        _, _, uids = await self._answer(pipeline.execute())
        return set(uids)

    async def stop_waiting_for(self, fps: Iterable[Fingerprint], process: str) -> None:
        """Nobody of this process waits for these fingerprints any more."""
        await self._remove_each((f"wait:{fp}" for fp in fps), process)

    # Links and sessions, by the hash of their secret

    async def keep_link(self, digest: str, members: Mapping[str, Any], seconds: int) -> None:
        """Keep what a link stands for until it is redeemed or `seconds` are over."""
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.set(f"link:{digest}", msgspec.json.encode(members), ex=seconds)
        self._remember(pipeline, members["uid"], f"link:{digest}", seconds)
        await self._answer(pipeline.execute())

    async def peek_link(self, digest: str) -> dict[str, Any] | None:
        """What a link stands for; it stays good."""
        return _read_json(await self._answer(self.redis.get(f"link:{digest}")))

    async def take_link(self, digest: str) -> dict[str, Any] | None:
        """What a link stands for; of all who ask, one gets it."""
        return _read_json(await self._answer(self.redis.getdel(f"link:{digest}")))

    async def expect_code(self, browser: str, address: str, seconds: int) -> None:
        """A browser, known by a digest, asks for a mail to that address, and may type a code for so many seconds."""
        await self.run("expect_code", browser, {"address": address, "seconds": seconds})

    async def keep_code(self, browser: str, code: Mapping[str, str], seconds: int) -> None:
        """Keep what its code stands for, unless the browser has asked for another address since."""
        pipeline = self.redis.pipeline(transaction=False)
        self._remember(pipeline, code["uid"], f"code:{{{browser}}}", seconds)
        await self._answer(pipeline.execute())
        await self.run("keep_code", browser, code)

    async def try_code(self, browser: str, most: int) -> tuple[str, dict[str, str]]:
        """Count a try; outcome gone, wrong or open (it may fit), and what is known of the browser's code."""
        answer = await self.run("try_code", browser, {"most": most})
        return answer.outcome, await self._answer(self.redis.hgetall(f"code:{{{browser}}}"))

    async def keep_session(self, digest: str, uid: str, generation: int, *, seconds: int, most: int) -> None:
        """Begin a browser session, for `seconds` that every page prolongs, `most` at the most."""
        began, _ = await self._answer(self.redis.time())
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.hset(f"session:{digest}", mapping={"uid": uid, "generation": generation, "began": began})
        pipeline.expire(f"session:{digest}", seconds)
        self._remember(pipeline, uid, f"session:{digest}", most)
        await self._answer(pipeline.execute())

    async def session_and_book(
        self, digest: str, uid: str, seconds: int | None
    ) -> tuple[Session | None, Report | None, list[Happening], int]:
        """A page's one pipeline: the session, prolonged to `seconds` if given, the book it opens, its activity, `since`."""
        for again in (True, False):
            pipeline = self.redis.pipeline(transaction=False)
            pipeline.hgetall(f"session:{digest}")
            pipeline.evalsha(self._shas["load"], 1, f"user:{{{uid}}}", uid, "{}")
            pipeline.lrange(f"activity:{{{uid}}}", 0, -1)
            pipeline.time()
            pipeline.get("since")
            if seconds is not None:
                pipeline.expire(f"session:{digest}", seconds)
            session, raw, lines, clock, since, *_ = await self._answer(pipeline.execute(raise_on_error=False))
            if not (isinstance(raw, NoScriptError) and again):
                break
            await self.open()
        if any(isinstance(each, Exception) for each in (session, raw, lines, clock, since)):
            raise Unreachable
        happenings = [Happening(*msgspec.json.decode(line)) for line in lines]
        return _read_session(session, clock[0]), _read_answer(uid, raw).report, happenings, int(since or 0)

    async def end_session(self, digest: str, uid: str) -> None:
        """End a browser session."""
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.delete(f"session:{digest}")
        pipeline.zrem(_secrets_key(uid), f"session:{digest}")
        await self._answer(pipeline.execute())

    @staticmethod
    def _remember(pipeline: Pipeline, uid: str, key: str, seconds: int) -> None:
        """Note the key beside the user for as long as it may live, so that it goes when the user does."""
        now = time.time()
        pipeline.zremrangebyscore(_secrets_key(uid), 0, now)
        pipeline.zadd(_secrets_key(uid), {key: now + seconds})
        pipeline.expire(_secrets_key(uid), _SECRETS_SECONDS)

    # Processes

    async def keep_lease(self, process: str, seconds: int) -> None:
        """This process lives for that long from now on."""
        held = await self._again(lambda: self.redis.set(f"process:{process}", "1", ex=seconds, get=True))
        if not held:  # the process starts, or the store came back empty
            await self.begin()

    async def end_lease(self, process: str) -> None:
        """This process is no more."""
        await self._answer(self.redis.delete(f"process:{process}"))

    async def living(self, processes: Iterable[str]) -> set[str]:
        """Those of the processes whose lease holds."""
        names = list(processes)
        if not names:
            return set()
        leases = await self._again(lambda: self.redis.mget([f"process:{name}" for name in names]))
        return {name for name, lease in zip(names, leases, strict=True) if lease}

    async def lose_interest(self, uids: Iterable[str], process: str) -> None:
        """The process holds these books no more."""
        await self._remove_each((f"interest:{{{uid}}}" for uid in uids), process)

    # Stops, by the digest of an address: whoever owns it may never come back, so they are no part of a user

    async def keep_stop(self, address: str, seconds: int) -> None:
        """Mails to that address are stopped for so long."""
        await self._answer(self.redis.set(f"stop:{address}", "1", ex=seconds))

    async def end_stop(self, address: str) -> None:
        """Mails to that address are stopped no more."""
        await self._answer(self.redis.delete(f"stop:{address}"))

    async def is_stopped(self, address: str) -> bool:
        """Whether mails to that address are stopped."""
        return bool(await self._answer(self.redis.exists(f"stop:{address}")))

    async def prolong_stop(self, address: str, seconds: int) -> bool:
        """The same, and if they are, then for so many seconds from now on."""
        return bool(await self._answer(self.redis.expire(f"stop:{address}", seconds)))

    # Limits

    async def take_turn(self, owner: str, windows: Sequence[Window]) -> bool:
        """Take a turn in all windows of that owner; False where one of them is full, and none is taken."""
        return (await self.run("take_turn", owner, {"windows": windows})).outcome == "taken"

    async def give_turn_back(self, owner: str, windows: Sequence[Window]) -> None:
        """Give back a turn that was taken."""
        await self.run("give_turn_back", owner, {"windows": windows})

    async def count(self, what: str, seconds: int) -> tuple[int, int]:
        """How many `what` there were with this one since the first of them, and for how many seconds more they count."""
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.set(f"limit:{what}", 0, ex=seconds, nx=True)
        pipeline.incr(f"limit:{what}")
        pipeline.ttl(f"limit:{what}")
        _, count, left = await self._answer(pipeline.execute())
        return int(count), max(1, int(left))

    # The whole instance: its layout and age, and all that it holds

    async def schema(self) -> int | None:
        """The layout that the store holds: 0 is one from before it was kept, None a store without users."""
        kept = await self._again(lambda: self.redis.get("schema"))
        if kept:
            return int(kept)
        return 0 if await self.has_users() else None

    async def has_users(self) -> bool:
        """Whether it holds any book."""
        async for uids in self.uids():
            if uids:
                return True
        return False

    async def begin(self) -> None:
        """Note the present layout and the time, unless this store holds books already."""
        now, _ = await self._again(self.redis.time)
        await self._again(lambda: self.redis.set("schema", SCHEMA, nx=True))
        await self._again(lambda: self.redis.set("since", now, nx=True))

    async def become(self, schema: int) -> None:
        """The store holds that layout from now on."""
        await self._again(lambda: self.redis.set("schema", schema))

    async def since(self) -> int:
        """When this store began to hold books (Unix seconds), 0 where it has not yet."""
        return int(await self._again(lambda: self.redis.get("since")) or 0)

    async def date_back(self, since: int) -> None:
        """The store holds books that are older than itself: it counts from `since` on."""
        if since < await self.since():
            await self._again(lambda: self.redis.set("since", since))

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[Callable[[], Any]]:
        """Only one process at a time is in here, and the others wait for it.

        Await what it gives at least once a minute; that raises Unreachable where another one had to take over.
        """
        lock = self.redis.lock("migrating", timeout=_LOCK_SECONDS, raise_on_release_error=False)
        await self._answer(lock.acquire())
        try:
            yield lambda: self._answer(lock.extend(_LOCK_SECONDS, replace_ttl=True))
        finally:
            with suppress(Unreachable):
                await self._answer(lock.release())

    async def size(self) -> int:
        """How many keys the store has, ours or not."""
        return int(await self._again(self.redis.dbsize))

    async def uids(self) -> AsyncIterator[list[str]]:
        """All users, a few of each thousand keys at a time. One may come twice where the store grows meanwhile (SCAN)."""
        async for keys in self._keys("user:{*}"):
            yield [key[len("user:{") : -1] for key in keys]

    async def stops(self) -> AsyncIterator[list[tuple[str, int]]]:
        """All stops, by the digest of their address, each with the seconds that it lasts."""
        async for keys in self._keys("stop:*"):
            pipeline = self.redis.pipeline(transaction=False)
            for key in keys:
                pipeline.ttl(key)
            lasts = await self._answer(pipeline.execute()) if keys else []
            yield [(key[len("stop:") :], left) for key, left in zip(keys, lasts, strict=True) if left > 0]

    async def _keys(self, pattern: str) -> AsyncIterator[list[str]]:
        cursor: int | None = None
        while cursor != 0:
            scan = partial(self.redis.scan, cursor or 0, match=pattern, count=_AT_ONCE)
            cursor, keys = await self._again(scan)
            yield keys

    async def settled_books(self, uids: Sequence[str]) -> list[tuple[Report, list[Happening]]]:
        """The books of those users and their activity, less those that end by themselves. Each is as of one moment."""
        for again in (True, False):
            pipeline = self.redis.pipeline(transaction=False)
            for uid in uids:
                pipeline.ttl(f"user:{{{uid}}}")
                pipeline.evalsha(self._shas["load"], 1, f"user:{{{uid}}}", uid, "{}")
                pipeline.lrange(f"activity:{{{uid}}}", 0, -1)
            raws = await self._answer(pipeline.execute(raise_on_error=False)) if uids else []
            if not (again and any(isinstance(raw, NoScriptError) for raw in raws)):
                break
            await self.open()
        if any(isinstance(raw, Exception) for raw in raws):
            raise Unreachable
        found = []
        for uid, left, raw, lines in zip(uids, raws[::3], raws[1::3], raws[2::3], strict=True):
            report = _read_answer(uid, raw).report
            if report and left < 0:
                found.append((report, [Happening(*msgspec.json.decode(line)) for line in lines]))
        return found

    async def uids_of(self, addresses: Sequence[Address]) -> list[str | None]:
        """The users with those addresses."""
        pipeline = self.redis.pipeline(transaction=False)
        for address in addresses:
            pipeline.get(_uid_key(address))
        return list(await self._answer(pipeline.execute())) if addresses else []

    async def name_users(self, users: Iterable[tuple[Address, str]]) -> None:
        """Those addresses are those users', for good."""
        pipeline = self.redis.pipeline(transaction=False)
        for address, uid in users:
            pipeline.set(_uid_key(address), uid)
        await self._answer(pipeline.execute())

    async def reindex(self, reports: Iterable[Report]) -> None:
        """Have the index say of these books' fingerprints what the books say."""
        pipeline = self.redis.pipeline(transaction=False)
        for report in reports:
            for fp, peer in report.peers.items():
                if peer and peer.state != "revoked":  # one that was entered ahead is found there as well
                    pipeline.zadd(_index_key(fp), {report.owner.uid: 0})
                else:
                    pipeline.zrem(_index_key(fp), report.owner.uid)
        if pipeline.command_stack:
            await self._answer(pipeline.execute())

    async def drop_old_index(self, reports: Iterable[Report]) -> None:
        """Up to schema 0, an index had the name of the whole fingerprint."""
        pipeline = self.redis.pipeline(transaction=False)
        for report in reports:
            for fp in report.peers:
                pipeline.delete(f"books:{fp}")
        if pipeline.command_stack:
            await self._answer(pipeline.execute())

    async def keep_stops(self, stops: Iterable[tuple[str, int]]) -> None:
        """Mails to those addresses, named by their digests, are stopped for so many seconds each."""
        pipeline = self.redis.pipeline(transaction=False)
        for address, seconds in stops:
            pipeline.set(f"stop:{address}", "1", ex=seconds)
        if pipeline.command_stack:
            await self._answer(pipeline.execute())

    async def note_import(self, checksum: str | None) -> None:
        """An import was begun; None: it is done."""
        if checksum:
            await self._again(lambda: self.redis.set("importing", checksum))
        else:
            await self._again(lambda: self.redis.delete("importing"))

    async def open_import(self) -> str | None:
        """The checksum of an import that was begun and is not done."""
        checksum: str | None = await self._again(lambda: self.redis.get("importing"))
        return checksum

    # What the doctor asks

    async def facts(self) -> Facts:
        """What the store says of itself."""
        rounds = []
        for _ in range(5):
            began = time.perf_counter()
            seconds, micros = await self._again(self.redis.time)
            ahead = time.time() - seconds - micros / 1e6
            rounds.append(time.perf_counter() - began)
        info = await self._again(self.redis.info)
        try:
            saves = (await self._answer(self.redis.config_get("save"))).get("save", "")
        except Unreachable as error:  # hosted stores don't let their users see that
            if not isinstance(error.__cause__, ResponseError):
                raise
            saves = None
        return Facts(info, saves, ahead, sorted(rounds)[len(rounds) // 2])

    async def leave_nonce(self, nonce: str, seconds: int) -> None:
        """Whoever asks this store for the nonce within so many seconds finds it."""
        await self._answer(self.redis.set(f"doctor:{nonce}", "1", ex=seconds))

    async def has_nonce(self, nonce: str) -> bool:
        """Whether the nonce was left in this store."""
        return bool(await self._answer(self.redis.exists(f"doctor:{nonce}")))

    async def _once(self, command: Callable[[], Any]) -> Any:
        return await self._answer(command())

    async def _again(self, command: Callable[[], Any]) -> Any:
        """The answer to a command that may be done twice: once more where the connection broke."""
        try:
            return await self._answer(command())
        except Unreachable as error:
            if not isinstance(error.__cause__, BrokenError | RuntimeError):
                raise
            return await self._answer(command())

    async def _remove_each(self, keys: Iterable[str], member: str) -> None:
        """Take the member out of each of these sets, in one round trip."""
        pipeline = self.redis.pipeline(transaction=False)
        for key in keys:
            pipeline.srem(key, member)
        if pipeline.command_stack:
            await self._answer(pipeline.execute())

    async def _answer(self, command: Any) -> Any:
        """The answer to a command, whose type redis-py leaves open between its sync and its async client.

        Raises Unreachable, at once while the store is known to be lost.
        """
        if self._contact.lost:
            if hasattr(command, "close"):
                command.close()
            raise Unreachable
        self._tally.add("store_round_trips")
        try:
            async with self._turn(command):
                return await command
        except NoScriptError:
            raise
        except (SilentError, TimeoutError) as error:
            self._contact.lose()  # until the bus hears of it again
            raise Unreachable from error
        except (RedisError, OSError, RuntimeError) as error:  # RuntimeError: uvloop's, for a connection that was reset
            raise Unreachable from error

    @asynccontextmanager
    async def _turn(self, command: Any) -> AsyncIterator[None]:
        """A connection, for who waits longest: the client's pool serves whoever comes, and lets some starve."""
        try:
            if self._turns.locked():
                async with asyncio.timeout(_LONGEST_WAIT):
                    await self._turns.acquire()
            else:
                await self._turns.acquire()
        except TimeoutError:
            if hasattr(command, "close"):
                command.close()
            raise Unreachable from None
        try:
            yield
        finally:
            self._turns.release()


def name_given(name: str, *, exact: bool) -> dict[str, Any]:
    """A name as the scripts take it. `exact`: refuse a taken one; else the next free "name 2", "name 3", … is used."""
    stem = name[:_STEM].rstrip()
    return {"text": name, "fold": fold_name(name), "stem": stem, "stem_fold": fold_name(stem), "exact": exact}


def _secrets_key(uid: str) -> str:
    return f"secrets:{{{uid}}}"


def _index_key(fp: str) -> str:
    return f"books:{fp[:32]}"  # 128 bits of a hash tell fingerprints apart, and whoever reads an index checks the book


def _uid_key(address: Address) -> str:
    return f"uid:{address.key}"


def _read_json(text: str | bytes | None) -> dict[str, Any] | None:
    return msgspec.json.decode(text, type=dict[str, Any]) if text else None


def _read_session(row: dict[str, str], now: int) -> Session | None:
    return Session(int(row["generation"]), now - int(row["began"])) if row else None


def _read_answer(uid: str, raw: list[Any]) -> Answer:
    if len(raw) == 1:
        return Answer(raw[0])
    outcome, version, interested, user, peers, requests = raw
    owner = _pairs(user)
    report = Report(
        owner=Owner(
            uid, owner["email"], int(owner["generation"]), int(owner["created_on"]), owner.get("require_proof") == "1"
        ),
        version=version,
        interested=frozenset(interested),
        peers={as_fingerprint(fp): _read_peer(fp, _pairs(row)) for fp, row, _ in peers},
        online={as_fingerprint(fp): _read_place(place) for fp, _, place in peers},
        requests={rid: _read_request(rid, _pairs(row)) for rid, row, _ in requests},
        denied={rid: int(until) if until else None for rid, _, until in requests},
        whole=outcome in ("loaded", "erased"),
    )
    return Answer(outcome, report)


def _read_peer(fp: str, row: dict[str, str]) -> Peer | None:
    if not row:
        return None
    return Peer(
        fp=as_fingerprint(fp),
        name=row["name"],
        kind=intern(row["kind"]),
        state=cast(Any, intern(row["state"])),
        claim=intern(row["claim"]),
        created_on=int(row["created_on"]),
        verified_on=int(row["verified_on"]),
        last_seen=int(row["last_seen"]),
        proved=row.get("proved") == "1",
        outcome=_read_outcome(row.get("outcome")),
    )


def _read_outcome(text: str | None) -> Outcome | None:
    if text is None:
        return None
    target, result, milliseconds, at = text.split(" ")
    return Outcome(Fingerprint(target), cast(Result, result), int(milliseconds), int(at))


def _read_place(text: str) -> Place | None:
    if not text:
        return None
    process, connection, number = text.split(" ")
    return Place(intern(process), connection, int(number))


def _read_request(rid: str, row: dict[str, str]) -> Request | None:
    if not row:
        return None
    return Request(
        rid=rid,
        fp=Fingerprint(row["fp"]),
        claim=row["claim"],
        asked_as=row.get("asked_as") or row["claim"],
        name=row["name"],
        kind=row["kind"],
        place=row["place"],
        asked_on=int(row["asked_on"]),
    )


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
