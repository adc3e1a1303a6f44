"""The least that a relay in Python can do, on picows (Cython) and uvloop: `python -m bench.rivals.picows_relay PORT`."""

import sys
from typing import Any

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


class Message(msgspec.Struct):
    """What a peer sends."""

    target: str
    candidate: Any


class Forwarded(msgspec.Struct):
    """What another one hears."""

    source: str
    candidate: Any


sockets: dict[str, WSTransport] = {}
_parse, _encode = msgspec.json.Decoder(Message).decode, msgspec.json.Encoder().encode


class Relay(WSListener):
    """One socket."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_ws_connected(self, transport: WSTransport) -> None:
        """It is open."""
        sockets[self._name] = transport
        transport.send(WSMsgType.TEXT, b'{"open":true}')

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass a message on."""
        if frame.msg_type == WSMsgType.TEXT:
            message = _parse(frame.get_payload_as_bytes())
            target = sockets.get(message.target)
            if target:
                target.send(WSMsgType.TEXT, _encode(Forwarded(self._name, message.candidate)))
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """It is gone."""
        sockets.pop(self._name, None)


def _listen(request: WSUpgradeRequest) -> Relay:
    return Relay(request.path.decode().partition("id=")[2])


async def main(port: int) -> None:
    """Serve for ever."""
    server = await ws_create_server(
        _listen,
        "127.0.0.1",
        port,
        backlog=1024,
        enable_auto_ping=True,
        auto_ping_idle_timeout=25,
        auto_ping_reply_timeout=20,
    )
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
