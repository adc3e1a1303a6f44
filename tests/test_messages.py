"""The wire: what a peer may say, what it hears, and that no bytes at all break the parser."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.book import Place
from app.errors import BadInput, NameTaken, NotIn, Offline, UnknownTarget
from app.messages import (
    SERVER_WORDS,
    SIGNALS,
    BadMessage,
    Command,
    GetIceServers,
    GetList,
    MessageId,
    Rename,
    Signal,
    encode_done,
    encode_error,
    encode_ice_servers,
    encode_peers,
    encode_signal,
    encode_update,
    encode_waiting,
    encode_welcome,
    parse_message,
    parse_object,
)
from app.peers import Fingerprint, Peer

LAPTOP, PHONE = Fingerprint("A1" * 32), Fingerprint("B2" * 32)
SOURCE = Peer(LAPTOP, "laptop", "lab", "verified")

texts = st.text()  # hypothesis leaves out lone surrogates here: no JSON text can carry them
whole_numbers = st.integers(-(10**40), 10**40)
json_values = st.recursive(
    st.none() | st.booleans() | whole_numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(texts, values, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(sorted(SERVER_WORDS | set(SIGNALS) | {"name", "result", "ms", "extra"}))
messages = st.dictionaries(words | texts, json_values | st.just(PHONE) | st.just("get_list"), max_size=6)


def frame(**members: Any) -> bytes:
    return json.dumps(members).encode()


def offer(value: bytes) -> bytes:
    """A frame with an offer whose value is spelled like this."""
    return b'{"target": "%s", "offer": %s}' % (PHONE.encode(), value)


def parse_signal(data: bytes) -> Signal:
    command, _ = parse_message(data)
    assert isinstance(command, Signal)
    return command


def forward(data: bytes) -> dict[str, Any]:
    """What the target hears when the source says this; strictly JSON."""
    return strictly(encode_signal(SOURCE, parse_signal(data)))


def strictly(data: bytes) -> dict[str, Any]:
    """The JSON object in data, which has no NaN and names no member twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({name for name, _ in pairs}) == len(pairs)
        return dict(pairs)

    def never(constant: str) -> None:
        raise AssertionError(constant)

    value = json.loads(data.decode(), object_pairs_hook=once, parse_constant=never)
    assert isinstance(value, dict)
    return value


# What a peer may say


@pytest.mark.parametrize(
    ("data", "command"),
    [
        (frame(command="get_list"), GetList()),
        (frame(command="ice_servers"), GetIceServers()),
        (frame(command="rename", name=" my  laptop "), Rename("my laptop")),
        (frame(command="get_list", extra=1), GetList()),
        (frame(command="get_list", target=PHONE), GetList()),
        (frame(target=PHONE, offer={"sdp": "v=0"}), Signal("offer", PHONE, {"offer": {"sdp": "v=0"}})),
        (frame(target=PHONE.lower(), answer="djA="), Signal("answer", PHONE, {"answer": "djA="})),
        (frame(target=PHONE, candidate=None), Signal("candidate", PHONE, {"candidate": None})),
    ],
)
def test_each_message_is_understood(data: bytes, command: Command) -> None:
    assert parse_message(data) == (command, None)


@pytest.mark.parametrize("message_id", [0, -1, 7, 2**63 - 1, 1 - 2**63, "", "a", "x" * 64])
def test_an_id_is_given_back(message_id: MessageId) -> None:
    assert parse_message(frame(command="get_list", id=message_id)) == (GetList(), message_id)


def test_an_id_of_null_is_none() -> None:
    assert parse_message(frame(command="get_list", id=None)) == (GetList(), None)


@pytest.mark.parametrize("message_id", [True, False, 1.0, 2**63, -(2**63), "x" * 65, [1], {}])
def test_a_bad_id_is_refused_without_being_repeated(message_id: object) -> None:
    with pytest.raises(BadMessage) as refusal:
        parse_message(frame(command="get_list", id=message_id))
    assert refusal.value.message_id is None


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"command": None},
        {"command": "no such command"},
        {"command": "GET_LIST"},
        {"command": ["get_list"]},
        {"command": {}},
        {"command": True},
        {"command": "rename"},
        {"command": "rename", "name": 5},
        {"command": "rename", "name": " "},
        {"target": PHONE},
        {"offer": 1},
        {"target": None, "offer": 1},
        {"target": 7, "offer": 1},
        {"target": "B2", "offer": 1},
        {"target": [PHONE], "offer": 1},
        {"target": PHONE, "offer": 1, "answer": 1},
        {"target": PHONE, "offer": 1, "answer": 1, "candidate": 1},
    ],
)
def test_other_messages_are_refused_with_their_id(members: dict[str, Any]) -> None:
    with pytest.raises(BadMessage) as refusal:
        parse_message(frame(**members, id="mine"))
    assert (refusal.value.code, refusal.value.message_id) == (400, "mine")


def test_a_message_to_nobody_in_particular_says_what_is_missing() -> None:
    with pytest.raises(BadMessage, match="carries an offer, an answer or a candidate"):
        parse_message(frame(target=PHONE))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"null",
        b"true",
        b"1",
        b'"get_list"',
        b'["get_list"]',
        b"{",
        b'{"command": "get_list"',
        b'{"command": "get_list"} x',
        b"{'command': 'get_list'}",
        b'{"command": "get_list",}',
        b'\xef\xbb\xbf{"command": "get_list"}',
        b'{"command": "\xff"}',
        offer(b"NaN"),
        offer(b"-Infinity"),
        offer(b"1e400"),
        offer(b'"\\ud800"'),
        offer(b'"\\udc00\\ud800"'),
        offer(b'"\xed\xa0\x80"'),
        offer(b"[" * 20_000 + b"]" * 20_000),
        offer(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
        offer(b"9" * 10_000),
        offer(b"-" + b"9" * 10_000),
        offer(b"01"),
        offer(b'"\n"'),
    ],
)
def test_what_is_not_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadMessage):
        parse_message(data)
    with pytest.raises(BadInput):
        parse_object(data)


@pytest.mark.parametrize("text", ["\ud800", '{"a": "\ud800"}', '{"\udcff": 1}'])
def test_a_text_with_half_a_character_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_object(text)


# No input breaks the parser


def heard_after(data: bytes) -> None:
    """Parse it, and forward it where it is a signal: refused, or served with good JSON."""
    try:
        command, message_id = parse_message(data)
    except BadMessage as refusal:
        strictly(encode_error(refusal, refusal.message_id))
        return
    assert message_id is None or strictly(encode_done(message_id))["id"] == message_id
    if isinstance(command, Signal):
        strictly(encode_signal(SOURCE, command))


@given(st.binary())
@settings(deadline=None)
def test_no_bytes_break_the_parser(data: bytes) -> None:
    heard_after(data)


@given(st.text())
@settings(deadline=None)
def test_no_text_breaks_the_parser(text: str) -> None:
    heard_after(text.encode())


@given(json_values | messages)
@settings(deadline=None, max_examples=400)
def test_no_json_breaks_the_parser(value: Any) -> None:
    heard_after(json.dumps(value, ensure_ascii=False).encode())


@given(json_values)
@settings(deadline=None)
def test_an_object_is_read_as_it_is_and_anything_else_refused(value: Any) -> None:
    data = json.dumps(value)
    if isinstance(value, dict):
        assert parse_object(data) == parse_object(data.encode()) == value
    else:
        with pytest.raises(BadInput):
            parse_object(data)


@given(messages, st.data())
@settings(deadline=None, max_examples=400)
def test_no_damaged_message_breaks_the_parser(message: dict[str, Any], data: st.DataObject) -> None:
    whole = json.dumps({"target": PHONE, "offer": {"sdp": "v=0"}} | message).encode()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 8, len(whole))))
    heard_after(whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:])


# What the target hears


@given(st.sampled_from(SIGNALS), texts | st.dictionaries(texts, json_values), st.dictionaries(texts, json_values))
@settings(deadline=None)
def test_a_signal_arrives_untouched_in_the_servers_own_envelope(
    kind: str, value: str | dict[str, Any], more: dict[str, Any]
) -> None:
    more = {key: member for key, member in more.items() if key not in SERVER_WORDS | set(SIGNALS)}
    heard = forward(frame(target=PHONE, **{kind: value}, **more))
    assert heard == {"source_fp": LAPTOP, "source_name": "laptop", kind: value} | more


def test_other_members_travel_along_and_the_servers_words_do_not() -> None:
    spoofed = dict.fromkeys(SERVER_WORDS, "spoofed")
    heard = forward(frame(**spoofed | {"target": PHONE, "offer": "djA=", "restart": True, "name": "mine"}))
    assert heard == {
        "source_fp": LAPTOP,
        "source_name": "laptop",
        "offer": "djA=",
        "restart": True,
        "name": "mine",
    }


def test_every_word_that_only_the_server_says_is_dropped() -> None:
    promised = "code text id pair nonce proof uid verified peers peer_update ice_servers command source_fp source_name"
    assert {*promised.split(), "last_seen", "target"} == SERVER_WORDS


def test_an_offer_cannot_come_from_somebody_else() -> None:
    heard = forward(frame(target=PHONE, offer="djA=", source_fp=PHONE, source_name="phone"))
    assert (heard["source_fp"], heard["source_name"]) == (LAPTOP, "laptop")


@pytest.mark.parametrize(
    "value",
    [
        "eyJzZHAiOiAidj0wIn0=",
        "",
        "\u0000\u2028\u2029</script>\U0001f600",
        {},
        {"type": "offer", "sdp": "v=0\r\na=fingerprint:sha-256 AA:BB\r\n"},
        {"target": PHONE, "source_fp": PHONE, "code": 200},
        {"big": 10**39, "small": -(2**63) - 1, "half": 0.5, "none": None, "list": [[], {}]},
    ],
)
def test_the_value_of_an_offer_is_opaque(value: object) -> None:
    assert forward(frame(target=PHONE, offer=value)) == {
        "source_fp": LAPTOP,
        "source_name": "laptop",
        "offer": value,
    }


def test_of_a_member_that_is_named_twice_only_what_was_read_travels_on() -> None:
    data = b'{"offer": "first", "target": "%s", "offer": "second", "a": {"b": 1, "b": 2}}' % PHONE.encode()
    assert parse_signal(data).members == {"offer": "second", "a": {"b": 2}}
    assert b"first" not in encode_signal(SOURCE, parse_signal(data))


def test_however_deep_an_offer_is_it_travels_on_or_is_refused() -> None:
    refused = 0
    for depth in range(800, 1100):
        try:
            forward(offer(b"[" * depth + b"]" * depth))
        except BadMessage:
            refused += 1
        except RecursionError:
            assert depth > 900  # the test's own parser gave up
    assert refused


def test_what_could_be_read_but_is_too_deep_to_write_is_refused() -> None:
    value: list[Any] = []
    for _ in range(20_000):
        value = [value]
    with pytest.raises(BadMessage, match="nested too deeply"):
        encode_signal(SOURCE, Signal("offer", PHONE, {"offer": value}))


# What the server says


def test_the_text_of_a_welcome_is_the_uid() -> None:
    assert strictly(encode_welcome("u1", "n1")) == {"code": 200, "text": "u1", "nonce": "n1"}
    assert strictly(encode_welcome("u1", None)) == {"code": 200, "text": "u1"}


def test_a_waiting_peer_hears_its_pair_code_where_somebody_was_asked() -> None:
    assert strictly(encode_waiting("Wait.", "123-456", "n1")) == {
        "code": 401,
        "text": "Wait.",
        "pair": "123-456",
        "nonce": "n1",
    }
    assert strictly(encode_waiting("Wait.", None, None)) == {"code": 401, "text": "Wait."}


def test_an_error_carries_its_code_a_sentence_and_the_id() -> None:
    assert strictly(encode_error(NotIn())) == {"code": 401, "text": NotIn.text}
    assert strictly(encode_error(NameTaken("No."), 0)) == {"code": 409, "text": "No.", "id": 0}


def test_an_offline_peer_is_told_with_when_it_was_last_seen() -> None:
    assert strictly(encode_error(Offline(1700000000), "a")) == {
        "code": 410,
        "text": Offline.text,
        "last_seen": 1700000000,
        "id": "a",
    }


def test_an_unknown_target_is_told_without_a_hint() -> None:
    assert strictly(encode_error(UnknownTarget())) == {"code": 404, "text": UnknownTarget.text}


@pytest.mark.parametrize("message_id", [0, -5, "", "a"])
def test_an_acknowledgement_repeats_the_id(message_id: MessageId) -> None:
    assert strictly(encode_done(message_id)) == {"id": message_id, "code": 200}


def test_a_peer_list_has_exactly_the_promised_members_sorted_by_name_then_fingerprint() -> None:
    phone = Peer(PHONE, "a phone", "app", "revoked", "none", 1, 2, 3)
    twin = Peer(Fingerprint("00" * 32), "laptop", "lab", "verified")
    heard = strictly(encode_peers("u1", [SOURCE, phone, twin], {LAPTOP: Place("p", "c", 1)}))
    assert heard["uid"] == "u1"
    assert [peer["fp"] for peer in heard["peers"]] == [PHONE, twin.fp, LAPTOP]
    assert [peer["online"] for peer in heard["peers"]] == [False, False, True]
    assert heard["peers"][0] == {
        "name": "a phone",
        "fp": PHONE,
        "kind": "app",
        "created_on": 1,
        "last_seen": 3,
        "verified_on": 2,
        "verified": False,
        "online": False,
    }


def test_an_empty_peer_list_is_a_list() -> None:
    assert strictly(encode_peers("u1", [], {})) == {"peers": [], "uid": "u1"}


def test_a_peer_update_has_its_three_members() -> None:
    assert strictly(encode_update(LAPTOP, "laptop", verified=True, online=False)) == {
        "source_fp": LAPTOP,
        "peer_update": {"verified": True, "online": False, "name": "laptop"},
    }


def test_ice_servers_come_in_the_browsers_own_shape() -> None:
    servers = [{"urls": ["stun:stun.example.org"]}]
    assert strictly(encode_ice_servers(servers)) == {"ice_servers": servers}
