"""A way into a network that is closed: what connects to a port of the machine reaches a port in there.

A socket stays in the network that it was made in. So the listening one is made outside, the connecting ones inside.
"""

import asyncio
import contextlib
import ctypes
import os
import socket
import threading

CLONE_NEWNET = 0x40000000


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def start(listening: socket.socket, pid: int, port: int) -> None:
    """Relays for as long as this process lives, to that port in the network of `pid`."""
    threading.Thread(target=run, args=(listening, pid, port), daemon=True).start()


def run(listening: socket.socket, pid: int, port: int) -> None:
    network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    # Of this thread alone.
    if ctypes.CDLL(None, use_errno=True).setns(network, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    os.close(network)
    asyncio.run(serve(listening, port))


async def serve(listening: socket.socket, port: int) -> None:
    server = await asyncio.start_server(lambda *outside: join(outside, port), sock=listening)
    await server.serve_forever()


async def join(outside: tuple[asyncio.StreamReader, asyncio.StreamWriter], port: int) -> None:
    with contextlib.closing(outside[1]), contextlib.suppress(OSError):
        inside = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.closing(inside[1]):
            await asyncio.gather(pump(outside[0], inside[1]), pump(inside[0], outside[1]))


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(65536):
        sink.write(piece)
        await sink.drain()
    sink.write_eof()
