"""One request with every header line as it is given, and its answer with every line that came."""

import http.client
import json
import re
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """An answer; several lines of one header stay several."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The one value of a header; two of them would be news."""
        values = [value for other, value in self.headers if other == name]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)


class Connection:
    """One connection that stays: Envoy serves all its requests with one worker."""

    def __init__(self, port: int):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        # The standard library refuses odd paths; that they are refused behind it is what is tested.
        self.http._validate_path = lambda path: None

    def send(self, method: str, path: str, headers=(), body: bytes | dict | None = None, length: bool = True) -> Answer:
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.http.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            self.http.putheader(name, value)
        if body is not None and length:
            self.http.putheader("content-length", str(len(body)))
        self.http.endheaders(body)
        response = self.http.getresponse()
        lines = [(name.lower(), value) for name, value in response.getheaders()]
        return Answer(response.status, lines, response.read())

    def close(self) -> None:
        self.http.close()


def send(port: int, method: str, path: str, headers=(), body: bytes | dict | None = None) -> Answer:
    """One request on a connection of its own."""
    connection = Connection(port)
    try:
        return connection.send(method, path, headers, body)
    finally:
        connection.close()


def status_of(port: int, request: bytes) -> int | None:
    """The status that these very bytes are answered with; `None`: only a closed connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        while b"\r\n" not in answer and (chunk := connection.recv(65536)):
            answer += chunk
    match = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(match[1]) if match else None
