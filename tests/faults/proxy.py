"""A TCP proxy in front of one broker that delays, resets, swallows, or loses a chosen reply.

Kafka tells its clients where to connect, so the broker needs a listener that advertises the proxy:
`listener(proxy)` gives its properties.
"""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from services.broker.broker import free_ports

END_TXN = 26  # the request that commits or aborts a transaction
PIECE = 1 << 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Listens on `port` of 127.0.0.1 and speaks to `upstream`; does nothing until told."""

    def __init__(self) -> None:
        self.port, self.upstream = free_ports(2)
        self.delay_s = 0.0
        self.swallows = False  # a black hole: connections stay, bytes do not
        self.lost_replies = 0  # how many replies to END_TXN were cut off
        self._lose = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._listen())

    def listener(self) -> dict[str, str]:
        """Properties of a broker: beside its usual listener one that clients reach by the proxy."""
        return {
            "listeners": "PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},"
            f"PROXIED://127.0.0.1:{self.upstream}",
            "advertised.listeners": "PLAINTEXT://127.0.0.1:{port},"
            f"PROXIED://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Every connection is broken, as by a router that forgot it."""
        self._call(self._reset())

    def lose_replies(self, count: int) -> None:
        """The next replies to END_TXN do not come: the broker has done it, nobody hears of it."""
        self._lose = count

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            there = await asyncio.open_connection("127.0.0.1", self.upstream)
            self._open.add(there[1])
            losing = asyncio.Event()
            pumps = [
                asyncio.ensure_future(self._requests(reader, there[1], losing)),
                asyncio.ensure_future(self._replies(there[0], writer, losing)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            self._discard(there[1])
        except OSError:
            pass  # the broker is down: so is the connection to us
        finally:
            self._discard(writer)

    def _discard(self, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        self._open.discard(writer)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        """Whole requests, so that one kind of them can be told from the others."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack(">i", head)[0])
                if self._lose and struct.unpack(">h", body[:2])[0] == END_TXN:
                    self._lose -= 1
                    losing.set()
                await self._pass_on(writer, head + body)

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                if losing.is_set():
                    self.lost_replies += 1
                    return
                await self._pass_on(writer, piece)

    async def _pass_on(self, writer: asyncio.StreamWriter, piece: bytes) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        while self.swallows:
            await asyncio.sleep(0.02)
        writer.write(piece)
        await writer.drain()
