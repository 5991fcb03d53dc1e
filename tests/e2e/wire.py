"""Connections close to the wire, for what no well-behaved client does."""

import http.client
import io
import json
import socket
import struct

import h2.config
import h2.connection
import h2.events

VERSION = "2023-06-01"


def encode(body) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def head(key: str, path: str = "/v1/messages", method: str = "POST", **headers) -> bytes:
    """A request's head in HTTP/1.1, without its last empty line; `_` in a name stands for `-`."""
    fields = {
        "host": "tollgate",
        "content-type": "application/json",
        "anthropic-version": VERSION,
        "x-api-key": key,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    return "".join(f"{line}\r\n" for line in lines).encode()


def whole(key: str, body, **headers) -> bytes:
    """A request with its body's length."""
    body = encode(body)
    return head(key, content_length=len(body), **headers) + b"\r\n" + body


def chunks(body: bytes, sizes) -> list[bytes]:
    """The body as chunks of these sizes, over and over; the end of the body is not among them."""
    pieces, at, sizes = [], 0, list(sizes)
    while at < len(body):
        piece = body[at : at + sizes[len(pieces) % len(sizes)]]
        pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        at += len(piece)
    return pieces


class Incoming(io.BufferedReader):
    """What comes on a connection, whose end is not that of an answer."""

    def close(self) -> None:
        pass


class Http1:
    """One connection. A test says when what bytes go, and when the client leaves."""

    def __init__(self, port: int, timeout: float = 30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = self.socket.makefile("rb", buffering=0)
        # One for all answers: what is read ahead of one belongs to the next.
        self.incoming = Incoming(self.raw)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def makefile(self, _mode: str) -> Incoming:
        """What an answer asks a socket for."""
        return self.incoming

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> http.client.HTTPResponse:
        """The head of the next answer; its body is still to be read."""
        answer = http.client.HTTPResponse(self)
        answer.begin()
        return answer

    def ask(self, request: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        """A whole exchange: the head and the body of the answer."""
        self.send(request)
        answer = self.answer()
        return answer, answer.read()

    def close(self) -> None:
        """Leaves. Both handles of the socket have to go, or nothing is closed."""
        self.raw.close()
        self.socket.close()

    def abort(self) -> None:
        """Leaves without a goodbye: a reset instead of an end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def read_events(answer: http.client.HTTPResponse, name: str, count: int) -> None:
    """Reads a stream until so many events of this name have begun."""
    while count:
        line = answer.readline()
        assert line, f"the stream ended before {count} more events {name}"
        count -= line.rstrip() == f"event: {name}".encode()


class Http2:
    """One connection that speaks HTTP/2 without asking first, and one stream on it."""

    def __init__(self, port: int, timeout: float = 30):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.stream = self.h2.get_next_available_stream_id()
        self.status, self.body, self.ended, self.reset = None, b"", False, None
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def head(self, key: str, path: str = "/v1/messages", end: bool = False, **headers) -> None:
        fields = {
            "content-type": "application/json",
            "anthropic-version": VERSION,
            "x-api-key": key,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        pseudo = {":method": "POST", ":path": path, ":scheme": "http", ":authority": "tollgate"}
        self.h2.send_headers(self.stream, [*pseudo.items(), *fields.items()], end_stream=end)
        self.flush()

    def data(self, data: bytes, end: bool = False) -> None:
        self.h2.send_data(self.stream, data, end_stream=end)
        self.flush()

    def trailers(self, **fields) -> None:
        self.h2.send_headers(self.stream, list(fields.items()), end_stream=True)
        self.flush()

    def cancel(self) -> None:
        self.h2.reset_stream(self.stream, error_code=8)
        self.flush()

    def read_until(self, condition) -> None:
        """Takes what comes until the condition holds or the stream is over."""
        while not (condition() or self.ended or self.reset is not None):
            data = self.socket.recv(65536)
            assert data, "the connection ended"
            for event in self.h2.receive_data(data):
                self.take(event)
            self.flush()

    def take(self, event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, self.stream)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended = True
        elif isinstance(event, h2.events.StreamReset):
            self.reset = event.error_code

    def answer(self) -> tuple[int, bytes]:
        self.read_until(lambda: False)
        assert self.reset is None, f"the stream was reset: {self.reset}"
        return self.status, self.body
