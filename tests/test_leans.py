"""What the WebSocket layer leans on of Sanic, `websockets` and uvloop: where an upgrade moves it, this says which."""

import asyncio
import gc
import inspect
from types import SimpleNamespace
from typing import Any, cast

import pytest
import sanic
import uvloop
from sanic.app import Sanic as App
from sanic.exceptions import RequestTimeout, SanicException
from sanic.http import Http, Stage
from sanic.response import empty
from sanic.server.async_server import AsyncioServer
from sanic.server.protocols.base_protocol import SanicProtocol
from sanic.server.protocols.http_protocol import HttpProtocol
from sanic.server.protocols.websocket_protocol import WebSocketProtocol
from sanic.signals import RESERVED_NAMESPACES, SignalRouter
from websockets import utils
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from app import frames
from app.connections import Connection
from app.handlers.websocket import Conversation
from app.signals import QuietSignals
from app.sockets import WebSocket
from app.wsprotocol import SocketProtocol
from tests.support import Scene


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


# Sanic: what we call, and what we override


def test_a_server_takes_a_protocol_and_a_socket_that_listens() -> None:
    assert {"protocol", "sock", "backlog", "return_asyncio_server"} <= set(parameters(App.create_server))


@pytest.mark.parametrize("name", ["startup", "before_start", "start_serving", "after_start", "is_serving"])
def test_a_server_begins_step_by_step(name: str) -> None:
    assert callable(getattr(AsyncioServer, name))


def test_an_app_takes_signals_of_our_own() -> None:
    assert "signal_router" in parameters(App.__init__)
    assert "inline" in parameters(SignalRouter.dispatch)
    assert parameters(SignalRouter.finalize) == ["self", "do_compile", "do_optimize"]
    assert "self.signal_router.dispatch(" in inspect.getsource(App.dispatch)


def test_sanic_names_the_steps_that_it_tells_of() -> None:
    """By two names and a third, as those who listen give them too."""
    steps = {step for steps in RESERVED_NAMESPACES.values() for step in steps}
    assert {"http.lifecycle.begin", "http.middleware.before", "websocket.handler.before"} <= steps
    assert all(len(step.split(".")) == 3 for step in steps)


async def test_a_step_that_somebody_listens_to_is_told_and_nobody_is_looked_for_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app: App[Any, Any] = App("listening", signal_router=QuietSignals(), configure_logging=False)
    told: list[str] = []
    looked_for: list[str] = []

    @app.get("/")
    async def nothing(_: sanic.Request[Any, Any]) -> sanic.HTTPResponse:
        return empty()

    app.add_signal(lambda **_: told.append("routing"), "http.routing.before")
    look = SignalRouter.get

    def get(self: SignalRouter, event: str, condition: Any = None) -> Any:
        looked_for.append(event)
        return look(self, event, condition)

    monkeypatch.setattr(SignalRouter, "get", get)
    _, response = await app.asgi_client.get("/")
    assert (response.status, told) == (204, ["routing"])
    assert {each.rpartition(".")[0] for each in looked_for if each.startswith("http.")} == {"http.routing"}
    App.unregister_app(app)


def test_the_servers_connections_are_the_set_that_its_protocols_are_given() -> None:
    connections: set[Any] = set()
    nothing: Any = SimpleNamespace()
    server = AsyncioServer(nothing, nothing, nothing, connections)
    assert server.connections is connections
    assert {"loop", "app", "connections"} <= set(parameters(SanicProtocol.__init__))
    assert "websocket_max_size" in parameters(WebSocketProtocol.__init__)


@pytest.mark.parametrize(
    ("owner", "name", "takes"),
    [
        (HttpProtocol, "connection_made", ["self", "transport"]),
        (WebSocketProtocol, "connection_lost", ["self", "exc"]),
        (WebSocketProtocol, "close", ["self", "timeout"]),
        (HttpProtocol, "close_if_idle", ["self"]),
        (SanicProtocol, "abort", ["self"]),
        (WebSocketProtocol, "websocket_handshake", ["self", "request", "subprotocols"]),
        (WebSocketProtocol, "sanic_request_to_ws_request", ["request"]),
    ],
)
def test_what_is_overridden_or_called_is_there_with_its_parameters(owner: type, name: str, takes: list[str]) -> None:
    assert parameters(getattr(owner, name)) == takes


def test_the_upgrade_is_asked_for_by_the_hook_that_we_override() -> None:
    assert "websocket_handshake" in inspect.getsource(App._websocket_handler)
    assert inspect.iscoroutinefunction(WebSocketProtocol.websocket_handshake)
    source = inspect.getsource(App._websocket_handler)
    assert "end_connection" in source  # of what the hook returned, when the handler was cancelled
    assert ".close()" in source


@pytest.mark.parametrize(
    "name",
    ["app", "connections", "transport", "state", "recv_buffer", "_task", "_callback_check_timeouts", "http"],
)
def test_a_protocol_has_the_members_that_we_use(name: str) -> None:
    assert name in {each for cls in SocketProtocol.__mro__ for each in (*getattr(cls, "__slots__", ()), *vars(cls))}


def test_a_protocol_knows_how_many_requests_it_had_and_in_which_stage_it_is() -> None:
    assert {"IDLE", "REQUEST", "HANDLER", "RESPONSE"} <= {stage.name for stage in Stage}
    assert {"stage", "request_body", "exception", "keep_alive"} <= set(Http.__slots__)
    assert 'state["requests_count"] += 1' in inspect.getsource(Http.http1_request_header)


def test_a_task_that_is_cancelled_with_an_exception_beside_answers_with_that() -> None:
    """As Sanic's own timeouts do; ours differ in when."""
    assert "self._http.exception = RequestTimeout" in inspect.getsource(HttpProtocol.check_timeouts)
    assert "self._task.cancel(" in inspect.getsource(HttpProtocol.check_timeouts)
    assert RequestTimeout().status_code == 408
    assert "self.exception or exc" in inspect.getsource(Http.http1)


def test_an_exception_carries_its_status_and_headers() -> None:
    error = SanicException("no", 426, headers={"Upgrade": "websocket"})
    assert (error.status_code, error.headers) == (426, {"Upgrade": "websocket"})


@pytest.mark.parametrize(
    "name",
    ["REQUEST_MAX_SIZE", "REQUEST_TIMEOUT", "WEBSOCKET_MAX_SIZE", "KEEP_ALIVE", "ACCESS_LOG", "TOUCHUP", "MOTD"],
)
def test_a_setting_of_sanic_is_still_called_so(name: str) -> None:
    assert name in sanic.config.DEFAULT_CONFIG


async def test_a_connection_that_was_handed_over_is_none_of_sanics_any_more(scene: Scene) -> None:
    device = await scene.connect()
    await device.hear()
    (left,) = scene.running._server.connections
    assert type(left).__name__ == "WebSocket"
    assert len(scene.context.lobby) == 0
    assert len(scene.context.wheel) == 1


async def test_nothing_keeps_hold_of_the_protocol_that_handed_its_connection_over(scene: Scene) -> None:
    """Nor does it hold itself, and wait for the collector. It weighs as much as the socket.

    uvloop keeps the one before where the next has no `data_received`; Sanic's Http has a method of its own as a member.
    """
    device = await scene.connect()
    await device.leave()
    gc.collect()
    gc.disable()
    try:
        device = await scene.connect()
        await device.hear()
        await scene.at_rest()
        in_http = [id(each) for each in scene.context.lobby._guests]
        kept = [each for each in gc.get_objects() if type(each) in (SocketProtocol, Http) and id(each) not in in_http]
        assert [each for each in kept if getattr(each, "protocol", None) not in scene.context.lobby._guests] == []
    finally:
        gc.enable()


async def test_a_socket_that_is_gone_is_freed_without_the_collector(scene: Scene) -> None:
    """Thousands are gone at the same time after a restart of what is between, and the collector seldom looks."""
    owner = scene.owner()

    def alive() -> list[object]:
        return [each for each in gc.get_objects() if type(each) in (WebSocket, Conversation, Connection)]

    gc.collect()
    of_earlier_tests = alive()
    gc.disable()
    try:
        device = await scene.join(owner)
        await device.leave()
        await scene.at_rest()
        assert [each for each in alive() if not any(each is earlier for earlier in of_earlier_tests)] == []
    finally:
        gc.enable()


# websockets: the handshake, and the mask


def test_the_library_answers_a_handshake_without_a_connection() -> None:
    headers = Headers(
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
    )
    answer = ServerProtocol().accept(Request("/ws", headers))
    assert (answer.status_code, answer.headers["Sec-WebSocket-Accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    assert "Sec-WebSocket-Extensions" not in answer.headers
    assert ("Upgrade", "websocket") in set(answer.headers.raw_items())
    assert ServerProtocol().accept(Request("/ws", Headers())).status_code == 426


def test_both_of_the_librarys_masks_are_there_and_agree() -> None:
    mask = vars(frames)["apply_mask"]
    assert mask(b"hello, you", b"\x01\x02\x03\x04") == utils.apply_mask(b"hello, you", b"\x01\x02\x03\x04")
    assert mask(bytearray(b"\x01\x02"), bytearray(b"\x01\x02\x03\x04")) == b"\0\0"
    assert mask(b"", b"\x01\x02\x03\x04") == b""


def test_the_library_reads_what_we_write() -> None:
    assert Frame(Opcode.TEXT, b"hello").serialize(mask=False) == frames.encode_frame(frames.TEXT, b"hello")


# uvloop: what a transport tells


@pytest.mark.parametrize(
    "name",
    [
        *("set_protocol", "pause_reading", "resume_reading", "set_write_buffer_limits", "get_write_buffer_size"),
        *("can_write_eof", "write_eof", "is_closing", "abort", "write"),
    ],
)
def test_a_transport_has_the_methods_that_we_use(name: str) -> None:
    assert callable(getattr(vars(uvloop)["loop"].TCPTransport, name))


async def test_a_transport_says_how_much_is_unsent_and_when_that_was_read() -> None:
    """A peer that reads nothing is known by this, and by nothing else."""
    loop = asyncio.get_running_loop()
    told: list[str] = []
    read = asyncio.Event()

    class Writer(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport = cast(asyncio.Transport, transport)
            transport.set_write_buffer_limits(high=1024)
            for _ in range(256):
                transport.write(bytes(1 << 16))

        def pause_writing(self) -> None:
            told.append(f"{self.transport.get_write_buffer_size() > 1024}")

        def resume_writing(self) -> None:
            told.append("read")
            read.set()
            self.transport.close()

    async with await loop.create_server(Writer, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await asyncio.wait_for(reader.readexactly(256 << 16), 10)
        await asyncio.wait_for(read.wait(), 10)
        writer.close()
        await writer.wait_closed()
    assert told[0] == "True"
    assert told[-1] == "read"
