"""Carry connections between standard input and output and a port of the loopback interface.

Run as ``python -I -S -c "$(cat relay.py)" PORT`` inside a container without network. Frames go both ways: a byte that
says what it is, the number of the connection, the number of bytes that follow, and these.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

HELLO, OPEN, DATA, END, GONE = range(5)
HEAD = 9
CHUNK = 1 << 16


class Carrier:
    """The connections, by number."""

    def __init__(self, port: int, output: asyncio.StreamWriter) -> None:
        self.port = port
        self.output = output
        self.said: dict[int, asyncio.Queue[tuple[int, bytes]]] = {}
        self.tasks: set[asyncio.Future[None]] = set()

    def say(self, kind: int, number: int, content: bytes = b"") -> None:
        """Write a frame."""
        self.output.write(bytes([kind]) + number.to_bytes(4, "big") + len(content).to_bytes(4, "big") + content)

    async def serve(self, frames: asyncio.StreamReader) -> None:
        """Follow what comes in until it ends."""
        while True:
            head = await frames.readexactly(HEAD)
            kind, number = head[0], int.from_bytes(head[1:5], "big")
            content = await frames.readexactly(int.from_bytes(head[5:], "big"))
            if kind == HELLO:
                self.say(HELLO, number)
            elif kind == OPEN:
                self.said[number] = asyncio.Queue()
                task = asyncio.ensure_future(self.carry(number, self.said[number]))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            elif number in self.said:
                self.said[number].put_nowait((kind, content))

    async def carry(self, number: int, said: asyncio.Queue[tuple[int, bytes]]) -> None:
        """Carry one connection from its start to its end. A server that is slow to take it holds up no other one."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            self.said.pop(number, None)
            self.say(GONE, number)
            return
        passing = asyncio.ensure_future(self.pass_on(writer, said))
        await self.answer(number, reader, writer)
        passing.cancel()

    async def pass_on(self, writer: asyncio.StreamWriter, said: asyncio.Queue[tuple[int, bytes]]) -> None:
        """Hand the server what its client says."""
        while True:
            kind, content = await said.get()
            if kind == DATA:
                writer.write(content)
            elif kind == END and writer.can_write_eof():
                with contextlib.suppress(OSError):
                    writer.write_eof()
            elif kind == GONE:
                writer.transport.abort()

    async def answer(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what the server says, no faster than it is taken."""
        kind = END
        try:
            while True:
                content = await reader.read(CHUNK)
                if not content:
                    break
                self.say(DATA, number, content)
                await self.output.drain()
        except OSError:
            kind = GONE
        self.say(kind, number)
        self.said.pop(number, None)
        writer.close()


async def main() -> None:
    """Carry until standard input ends."""
    loop = asyncio.get_running_loop()
    frames = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(frames), sys.stdin)
    protocol = asyncio.streams.FlowControlMixin(loop=loop)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, os.fdopen(os.dup(1), "wb", 0))
    output = asyncio.StreamWriter(transport, protocol, None, loop)
    with contextlib.suppress(asyncio.IncompleteReadError):
        await Carrier(int(sys.argv[1]), output).serve(frames)


asyncio.run(main())
