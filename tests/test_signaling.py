"""Signaling: who reaches whom, on one process and across two, and what everybody else is told."""

import asyncio
import json
from collections.abc import Callable
from hashlib import sha256, sha512
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from app import bus as bus_module
from app.bus import Deliver, Gone
from app.connections import Stage
from app.context import Context
from app.errors import UnknownTarget
from app.messages import SIGNALS
from app.peers import Device, Fingerprint
from tests.conftest import OpenProcess
from tests.descriptions import CHROMIUM, attribute
from tests.parts import OWNER, STRANGER, Listener, Socket, a_device, fingerprint, verified
from tests.support import Message, eventually

OFFER = {"type": "offer", "sdp": "v=0\r\n"}

MESSAGES: list[Message] = [
    {"command": "get_list"},
    {"command": "ice_servers"},
    {"command": "rename", "name": "mine"},
    {"target": "AB" * 32, "offer": OFFER},
]


@pytest.fixture
async def uid(process: Context) -> str:
    return await process.books.enroll(OWNER)


@pytest.fixture
async def laptop(process: Context, uid: str) -> Socket:
    """A device of the owner that is in."""
    return await Socket(process, await verified(process, uid), OWNER).come_in()


async def bring(process: Context, uid: str, name: str = "phone") -> Socket:
    """Another device of that book that is in."""
    return await Socket(process, await verified(process, uid, name), None).come_in()


async def sees(source: Socket, target: Socket) -> None:
    """Wait until the source's book knows that the target is online."""
    book = source.connection.book
    assert book
    await eventually(lambda: target.fp in book.online)


def code_of(message: Message) -> int:
    return int(message["code"])


# Reaching a peer of the same process


@pytest.mark.parametrize("kind", SIGNALS)
async def test_a_message_arrives_from_who_sent_it(process: Context, uid: str, laptop: Socket, kind: str) -> None:
    phone = await bring(process, uid)
    await laptop.say({"target": phone.fp, kind: OFFER, "source_name": "somebody else"})
    assert await phone.hear() == {"source_fp": laptop.fp, "source_name": "laptop", kind: OFFER}


async def test_the_answer_comes_back(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    await laptop.say({"target": phone.fp, "offer": OFFER})
    await phone.say({"target": (await phone.hear())["source_fp"], "answer": "djA="})
    assert await laptop.hear() == {"source_fp": phone.fp, "source_name": "phone", "answer": "djA="}


async def test_messages_arrive_in_order(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    for number in range(50):
        await laptop.say({"target": phone.fp, "candidate": {"number": number}})
    assert [(await phone.hear())["candidate"]["number"] for _ in range(50)] == list(range(50))


async def test_a_message_with_an_id_is_acknowledged_and_one_without_is_not(
    process: Context, uid: str, laptop: Socket
) -> None:
    phone = await bring(process, uid)
    await laptop.say({"target": phone.fp, "offer": OFFER})
    await laptop.say({"target": phone.fp, "offer": OFFER, "id": 0})
    await laptop.say({"target": phone.fp, "offer": OFFER, "id": "a"})
    assert [await laptop.hear(), await laptop.hear()] == [{"id": 0, "code": 200}, {"id": "a", "code": 200}]
    assert "id" not in await phone.hear()


async def test_between_two_sockets_of_one_process_no_message_goes_to_the_store(
    process: Context, uid: str, laptop: Socket, redis: Redis
) -> None:
    phone = await bring(process, uid)
    await redis.config_resetstat()
    for number in range(20):
        assert code_of(await laptop.ask({"target": phone.fp, "offer": OFFER, "number": number})) == 200
    assert set(await redis.info("commandstats")) <= {"cmdstat_config|resetstat", "cmdstat_info"}


async def test_a_renamed_peer_sends_under_its_new_name(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    assert code_of(await laptop.ask({"command": "rename", "name": "work"})) == 200
    await laptop.say({"target": phone.fp, "offer": OFFER})
    assert (await phone.hear())["source_name"] == "work"


async def test_a_target_that_reads_too_slowly_is_told_to_the_sender(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    phone.reads = False
    assert code_of(await laptop.ask({"target": phone.fp, "offer": OFFER})) == 503


async def test_a_target_whose_socket_just_went_is_offline(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    process.connections.discard(phone.connection)
    assert code_of(await laptop.ask({"target": phone.fp, "offer": OFFER})) == 410


# Who cannot be reached


async def strangers_peer(process: Context) -> Device:
    theirs = await process.books.enroll(STRANGER)
    device = await verified(process, theirs, "tablet")
    await Socket(process, device, STRANGER).come_in()
    return device


async def test_a_strangers_a_waiting_and_an_unknown_peer_look_the_same(
    process: Context, uid: str, laptop: Socket
) -> None:
    asked, added, revoked = a_device(), a_device(), await verified(process, uid, "old phone")
    await process.books.ask(uid, None, asked)
    await process.books.add(uid, added.fp, "ahead", "lab")
    await process.books.revoke(uid, revoked.fp)
    targets = [fingerprint(), (await strangers_peer(process)).fp, asked.fp, added.fp, revoked.fp]
    heard = []
    for target in targets:
        await laptop.say({"target": target, "offer": OFFER, "id": 1})
        heard.append(await laptop.hear())
    assert heard == [{"code": 404, "text": UnknownTarget.text, "id": 1}] * len(targets)


async def test_a_proved_certificate_may_be_named_in_other_hashes_too(process: Context, uid: str) -> None:
    certificate = b"the DER of a certificate"
    device = a_device(fp=Fingerprint(sha256(certificate).hexdigest().upper()))
    await process.books.ask(uid, None, device)
    await process.books.approve(uid, device.fp)
    laptop, phone = await Socket(process, device, OWNER).come_in(), await bring(process, uid)
    lines = (attribute(device.fp), attribute(sha512(certificate).hexdigest(), "sha-512"))
    message = {"target": phone.fp, "offer": CHROMIUM.replace(attribute(), "\n".join(lines))}
    assert code_of(await laptop.ask(message)) == 403
    laptop.connection.certificate = certificate
    assert code_of(await laptop.ask(message)) == 200


async def test_an_offline_peer_is_told_with_when_it_was_last_seen(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    await phone.leave()
    heard = await laptop.ask({"target": phone.fp, "offer": OFFER})
    assert laptop.connection.book
    assert (heard["code"], heard["last_seen"]) == (410, laptop.connection.book.peers[phone.fp].last_seen)
    assert heard["last_seen"] > 0


async def test_a_connection_without_a_book_reaches_nobody(process: Context, laptop: Socket) -> None:
    with pytest.raises(UnknownTarget):
        process.signaling.route(Socket(process, a_device()).connection, laptop.fp)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("owner", [OWNER, None])
async def test_who_is_not_in_gets_nothing_and_nowhere(
    process: Context, laptop: Socket, owner: Any, message: Message
) -> None:
    thief = await Socket(process, a_device("thief"), owner).arrive()
    assert code_of(await thief.hear()) == 401
    assert code_of(await thief.ask(message)) == 401
    assert code_of(await thief.ask({"target": laptop.fp, "offer": OFFER})) == 401


async def test_a_revoked_peer_is_closed_and_can_say_nothing_more(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid)
    await process.books.revoke(uid, phone.fp)
    assert phone.closed.result() == 4403
    assert code_of(await phone.ask({"target": laptop.fp, "offer": OFFER})) == 401


# Messages that are none


@pytest.mark.parametrize("frame", [b"", b"{", b"[]", b'{"offer": 1}', b'{"command": "no such command"}'])
async def test_what_is_no_message_is_refused_and_the_socket_goes_on(laptop: Socket, frame: bytes) -> None:
    await laptop.say(frame)
    heard = await laptop.hear()
    assert (heard["code"], set(heard)) == (400, {"code", "text"})
    assert code_of(await laptop.ask({"command": "get_list"})) == 200
    assert not laptop.closed.done()


async def test_a_refusal_repeats_the_id(laptop: Socket) -> None:
    assert code_of(await laptop.ask({"command": "no such command"})) == 400


async def test_who_is_not_in_hears_of_a_bad_message_first(process: Context, uid: str) -> None:
    thief = await Socket(process, a_device("thief"), OWNER).arrive()
    await thief.hear()
    assert code_of(await thief.ask({"target": "B2", "offer": OFFER})) == 400


async def test_however_deep_an_offer_is_the_sender_hears_what_became_of_it(
    process: Context, uid: str, laptop: Socket
) -> None:
    phone = await bring(process, uid)
    codes = set()
    for depth in [10, *range(700, 1100, 5), 20_000]:
        value = "[" * depth + "]" * depth
        await laptop.say(f'{{"target": "{phone.fp}", "offer": {value}, "id": {depth}}}'.encode())
        codes.add(code_of(await laptop.hear()))
    assert codes == {200, 400}


# Commands


async def test_a_peer_hears_its_list(process: Context, uid: str, laptop: Socket) -> None:
    phone = await bring(process, uid, "a phone")
    revoked = await verified(process, uid, "old phone")
    await process.books.revoke(uid, revoked.fp)
    await process.books.add(uid, fingerprint(), "ahead", "lab")
    await strangers_peer(process)
    await laptop.say({"command": "get_list"})
    heard = await laptop.hear()
    assert heard["uid"] == uid
    assert [(peer["name"], peer["fp"], peer["verified"], peer["online"]) for peer in heard["peers"]] == [
        ("a phone", phone.fp, True, True),
        ("laptop", laptop.fp, True, True),
        ("old phone", revoked.fp, False, False),
    ]


async def test_a_peer_hears_of_the_ice_servers(open_process: OpenProcess) -> None:
    servers = [{"urls": ["stun:stun.example.org"]}]
    process = await open_process(ice_servers=tuple(servers))
    uid = await process.books.enroll(OWNER)
    laptop = await bring(process, uid)
    await laptop.say({"command": "ice_servers"})
    assert await laptop.hear() == {"ice_servers": servers}


@pytest.mark.parametrize("command", ["get_list", "ice_servers"])
async def test_an_answer_to_a_command_comes_before_its_acknowledgement(laptop: Socket, command: str) -> None:
    await laptop.say({"command": command, "id": "x"})
    assert {"peers", "ice_servers"} & set(await laptop.hear())
    assert await laptop.hear() == {"id": "x", "code": 200}


async def test_a_peer_gives_itself_another_name(process: Context, uid: str, laptop: Socket) -> None:
    await laptop.say({"command": "rename", "name": "work"})
    assert await laptop.hear(lambda heard: True) == {
        "source_fp": laptop.fp,
        "peer_update": {"verified": True, "online": True, "name": "work"},
    }
    book = await process.books.read(uid)
    assert book
    assert book.peers[laptop.fp].name == "work"


async def test_a_peer_cannot_take_anothers_name(process: Context, uid: str, laptop: Socket) -> None:
    await bring(process, uid, "phone")
    assert code_of(await laptop.ask({"command": "rename", "name": "Phone"})) == 409
    await laptop.say({"command": "rename", "name": "Phone"})
    heard = await laptop.hear()
    assert (heard["code"], "id" in heard) == (409, False)


async def test_a_rename_that_the_store_refuses_is_told(laptop: Socket, redis: Redis) -> None:
    await redis.config_set("maxmemory", 1)
    try:
        assert code_of(await laptop.ask({"command": "rename", "name": "work"})) == 503
    finally:
        await redis.config_set("maxmemory", 0)
    assert code_of(await laptop.ask({"command": "rename", "name": "work"})) == 200


# Across processes


class Pair:
    """A laptop in one process and a phone in another, who see each other."""

    def __init__(self, here: Context, there: Context, uid: str, laptop: Socket, phone: Socket) -> None:
        self.here, self.there, self.uid, self.laptop, self.phone = here, there, uid, laptop, phone


def a_delivery(pair: Pair, frame: str = "{}") -> Deliver:
    """A frame of the laptop's on its way to the phone."""
    here, there = pair.laptop.connection, pair.phone.connection
    return Deliver(pair.uid, pair.phone.fp, there.id, frame, pair.here.process, here.id, 0, None)


@pytest.fixture
async def pair(open_process: OpenProcess) -> Pair:
    here, there = await open_process(), await open_process()
    uid = await here.books.enroll(OWNER)
    laptop, phone = await bring(here, uid, "laptop"), await bring(there, uid, "phone")
    await sees(laptop, phone)
    await sees(phone, laptop)
    return Pair(here, there, uid, laptop, phone)


async def test_a_message_reaches_a_peer_of_another_process(pair: Pair) -> None:
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 200
    assert await pair.phone.hear() == {"source_fp": pair.laptop.fp, "source_name": "laptop", "offer": OFFER}
    await pair.phone.say({"target": pair.laptop.fp, "answer": "djA="})
    assert await pair.laptop.hear() == {"source_fp": pair.phone.fp, "source_name": "phone", "answer": "djA="}


async def test_messages_to_another_process_arrive_in_order(pair: Pair) -> None:
    for number in range(100):
        await pair.laptop.say({"target": pair.phone.fp, "candidate": {"number": number}})
    assert [(await pair.phone.hear())["candidate"]["number"] for _ in range(100)] == list(range(100))


async def test_a_message_to_another_process_is_one_publish_and_nothing_else(
    pair: Pair, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process in (pair.here, pair.there):
        monkeypatch.setattr(process.bus, "_ask", lambda: None)  # its probes are PUBLISHes too
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 200  # the writer connects
    await redis.config_resetstat()
    for number in range(20):
        assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER, "number": number})) == 200
    stats = await redis.info("commandstats")
    assert stats["cmdstat_publish"]["calls"] == 20
    assert set(stats) <= {"cmdstat_publish", "cmdstat_config|resetstat", "cmdstat_info"}


async def test_a_peer_that_just_left_another_process_is_offline(pair: Pair) -> None:
    for task in pair.there.presence._tasks:  # which would find that out later
        task.cancel()
    pair.there.presence.leave(pair.phone.connection)  # and the store is not told
    await pair.laptop.say({"target": pair.phone.fp, "offer": OFFER, "id": 5})
    heard = await pair.laptop.hear(
        lambda heard: heard.get("code", 200) != 200
    )  # that it was handed over is told as well
    assert (heard["code"], heard["id"], "last_seen" in heard) == (410, 5, True)
    book = pair.laptop.connection.book
    assert book
    await eventually(lambda: pair.phone.fp not in book.online)


async def test_a_refusal_that_overtakes_the_stores_own_answer_is_the_only_answer(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake(process: str, event: Any, answered: Callable[[int | None], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(pair.here.signaling._gone, Gone(event.sender, event.target, event.number, event.message_id))
        loop.call_soon(answered, 1)

    monkeypatch.setattr(pair.here.bus, "publish", overtake)
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 410
    monkeypatch.undo()
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 200


async def test_a_sender_is_told_where_the_store_does_not_take_its_message(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(pair.here.bus, "publish", lambda process, event, answered: loop.call_soon(answered, None))
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 503


async def test_what_was_handed_over_and_what_was_refused_is_counted(pair: Pair) -> None:
    await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})
    await pair.laptop.ask({"target": fingerprint(), "offer": OFFER})
    counts = pair.here.tally.counts
    assert (counts["relays", "handed_over"], counts["refusals", "UnknownTarget"]) == (1, 1)


async def test_a_slow_peer_of_another_process_holds_up_nobody(pair: Pair) -> None:
    tablet = await bring(pair.there, pair.uid, "tablet")
    await sees(pair.laptop, tablet)
    pair.phone.reads = False
    await pair.laptop.say({"target": pair.phone.fp, "offer": OFFER})
    await pair.laptop.say({"target": tablet.fp, "offer": OFFER})
    assert (await tablet.hear())["offer"] == OFFER


async def test_the_sender_is_told_of_a_slow_peer_of_another_process(pair: Pair) -> None:
    pair.phone.reads = False
    await pair.laptop.say({"target": pair.phone.fp, "offer": OFFER})
    assert code_of(await pair.laptop.hear()) == 503


async def test_a_process_that_does_not_listen_is_out_of_reach(process: Context, uid: str, laptop: Socket) -> None:
    phone = await verified(process, uid, "phone")
    await process.store.keep_lease("deaf", 30)
    given = {"fp": phone.fp, "claim": phone.claim, "process": "deaf", "connection": "c1", "named": True}
    await process.store.run("admit", uid, given)
    await process.books.check()
    book = laptop.connection.book
    assert book
    await eventually(lambda: phone.fp in book.online)
    assert code_of(await laptop.ask({"target": phone.fp, "offer": OFFER})) == 503
    await process.store.end_lease("deaf")  # it was killed, and this is found out by the next message
    assert code_of(await laptop.ask({"target": phone.fp, "offer": OFFER})) == 410
    assert phone.fp not in book.online


async def test_a_peer_is_offline_from_the_moment_in_which_its_socket_is_gone(
    process: Context, uid: str, laptop: Socket
) -> None:
    phone = await bring(process, uid)
    await sees(laptop, phone)
    tell_store = process.presence.leave(phone.connection)
    assert code_of(await laptop.ask({"target": phone.fp, "offer": OFFER})) == 410
    await tell_store()


async def test_one_that_is_gone_before_it_arrives_leaves_nothing_behind(process: Context) -> None:
    socket = Socket(process, a_device(), OWNER)
    await socket.leave()
    await socket.arrive()
    assert len(process.connections) == 0
    assert [which for what, which in process.tally.counts if what == "arrivals"] == []


async def test_a_peer_of_another_process_whose_socket_just_ended_is_offline(pair: Pair) -> None:
    pair.phone.connection.stage = Stage.ENDED
    pair.laptop.process.bus.publish(pair.there.process, a_delivery(pair))
    assert code_of(await pair.laptop.hear()) == 410


async def test_a_process_that_may_have_missed_a_revocation_relays_nothing(pair: Pair) -> None:
    tablet = await bring(pair.here, pair.uid, "tablet")
    pair.here.contact._trusted_until = 0
    for target in (tablet, pair.phone):
        assert code_of(await pair.laptop.ask({"target": target.fp, "offer": OFFER})) == 503


async def test_when_too_much_waits_for_the_bus_the_sender_is_told(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "_MOST_WAITING", 0)
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 503


async def test_a_target_that_left_the_book_meanwhile_is_unknown(pair: Pair) -> None:
    pair.there.bus.publish(pair.here.process, Gone(pair.laptop.connection.id, fingerprint(), 0, 5))
    assert await pair.laptop.hear() == {"code": 404, "text": UnknownTarget.text, "id": 5}


async def test_a_sender_that_has_no_book_any_more_hears_nothing_of_the_target(pair: Pair) -> None:
    thief = await Socket(pair.here, a_device("thief"), None).arrive()
    assert code_of(await thief.hear()) == 401
    pair.there.bus.publish(pair.here.process, Gone(thief.connection.id, pair.phone.fp, 0, 5))
    assert code_of(await thief.hear()) == 404


async def test_news_for_a_sender_that_left_is_dropped(pair: Pair) -> None:
    pair.there.bus.publish(pair.here.process, Gone("nobody", pair.phone.fp, 0, 5))
    pair.there.bus.publish(pair.here.process, Gone(pair.laptop.connection.id, pair.phone.fp, 0, 6))
    assert (await pair.laptop.hear())["id"] == 6


async def test_a_message_for_a_peer_that_is_being_let_in_comes_after_its_welcome(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    tablet = Socket(pair.there, await verified(pair.there, pair.uid, "tablet"), OWNER)
    admit, admitted, go_on = pair.there.books.admit, asyncio.Event(), asyncio.Event()

    async def late(*args: Any, **kwargs: Any) -> tuple[str, int]:
        outcome = await admit(*args, **kwargs)
        admitted.set()
        await go_on.wait()
        return outcome

    monkeypatch.setattr(pair.there.books, "admit", late)
    arriving = asyncio.create_task(tablet.arrive())
    await admitted.wait()
    await sees(pair.laptop, tablet)
    assert code_of(await pair.laptop.ask({"target": tablet.fp, "offer": OFFER})) == 200
    await eventually(lambda: bool(tablet.connection.early))
    go_on.set()
    await arriving
    assert [set(await tablet.hear()) & {"code", "peers", "offer"} for _ in range(3)] == [{"code"}, {"peers"}, {"offer"}]


async def test_a_message_for_a_connection_that_is_in_another_book_by_now_does_not_reach_it(pair: Pair) -> None:
    message = msgspec.structs.replace(a_delivery(pair), uid=await pair.here.books.enroll(STRANGER))
    pair.here.bus.publish(pair.there.process, message)
    assert code_of(await pair.laptop.hear()) == 410
    await pair.phone.say({"command": "get_list"})
    assert "peers" in await pair.phone.hear()


async def test_a_frame_arrives_as_the_bytes_that_left(pair: Pair) -> None:
    text = "\u0000\u2028\U0001f600é"
    frame = json.dumps({"source_fp": pair.laptop.fp, "offer": text})
    pair.here.bus.publish(pair.there.process, a_delivery(pair, frame))
    assert (await pair.phone.hear())["offer"] == text


async def test_a_removed_peer_is_closed_on_every_process_and_reaches_nobody(pair: Pair) -> None:
    await pair.here.books.remove(pair.uid, pair.phone.fp)
    assert await asyncio.wait_for(pair.phone.closed, 10) == 4403
    assert code_of(await pair.phone.ask({"target": pair.laptop.fp, "offer": OFFER})) == 401
    assert code_of(await pair.laptop.ask({"target": pair.phone.fp, "offer": OFFER})) == 404


async def test_nobody_hears_of_a_book_that_is_not_theirs(pair: Pair) -> None:
    theirs, listener = await pair.here.books.enroll(STRANGER), Listener()
    tablet = await Socket(pair.here, await verified(pair.here, theirs, "tablet"), STRANGER).come_in()
    await pair.there.books.hold(theirs, listener)
    await pair.phone.ask({"command": "rename", "name": "my phone"})
    await tablet.say({"command": "get_list"})
    assert [peer["name"] for peer in (await tablet.hear(lambda heard: True))["peers"]] == ["tablet"]
    assert listener.heard_nothing
