"""A witness's HTTP face (c2sp.org/tlog-witness). It needs aiohttp, of the extra `witness`."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp import web

from muniment.anchors.add_checkpoint import PATH
from muniment.errors import MunimentError
from muniment.witness.deciding import Answer, Witness

MAX_BODY_BYTES: Final = 256 * 1024
"""Enough for 16 signatures of every kind that C2SP knows, and 63 hashes."""
MAX_AT_ONCE: Final = 64
BODY_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 10.0
_KEPT_ALIVE_SECONDS: Final = 75.0
_SHOWN: Final = 200
_is_origin_hash = re.compile(r"[0-9a-f]{64}").fullmatch
_logger = logging.getLogger("muniment.witness")


class WitnessServer:
    """Serves a witness over plain HTTP. What it decides is logged to `muniment.witness`, at INFO.

    Each line is a JSON object. More than `at_once` requests at the same time are answered 503.
    """

    def __init__(
        self,
        witness: Witness,
        *,
        at_once: int = MAX_AT_ONCE,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._witness = witness
        self._at_once = at_once
        self._body_seconds = body_seconds
        self._busy = 0
        # One thread: the disk takes one commit after the other anyway.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="muniment-witness")
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> str:
        """Begin to listen; returns the URL. Port 0 takes a free one. `OSError` if it can't be."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post(f"/{PATH}", self._add_checkpoint)
        app.router.add_get("/{origin_hash}/checkpoint", self._checkpoint)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,  # an encoded body is refused, so nothing is to be unpacked
            keepalive_timeout=_KEPT_ALIVE_SECONDS,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def close(self) -> None:
        """Stop listening, and answer what was asked already."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._thread.shutdown()

    async def _add_checkpoint(self, request: web.Request) -> web.Response:
        began = time.monotonic()
        if self._busy >= self._at_once:
            return self._respond(_failure(503, "too many requests at once"), began)
        self._busy += 1
        try:
            answer = await self._answer(request)
        finally:
            self._busy -= 1
        return self._respond(answer, began)

    async def _answer(self, request: web.Request) -> Answer:
        if "Content-Encoding" in request.headers:
            return _failure(400, "the body is encoded; send it as it is")
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await request.read()
        except TimeoutError:
            return _failure(408, f"the body took over {self._body_seconds:g} s")
        except web.HTTPRequestEntityTooLarge:
            return _failure(413, f"the body is over {MAX_BODY_BYTES} bytes")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._witness.add_checkpoint, body)
        except MunimentError as error:
            # It may be remembered all the same; whoever asks again is told.
            _logger.warning("%s", _line({"error": str(error)}))
            return _failure(500, "the witness can't remember checkpoints now")

    async def _checkpoint(self, request: web.Request) -> web.Response:
        if self._busy >= self._at_once:
            return self._respond(_failure(503, "too many requests at once"), time.monotonic())
        self._busy += 1
        try:
            return await self._shown(request)
        finally:
            self._busy -= 1

    async def _shown(self, request: web.Request) -> web.Response:
        hashed = request.match_info["origin_hash"]
        note = None
        if _is_origin_hash(hashed):
            loop = asyncio.get_running_loop()
            try:
                note = await loop.run_in_executor(self._thread, self._witness.checkpoint, hashed)
            except MunimentError as error:
                _logger.warning("%s", _line({"error": str(error)}))
                return web.Response(status=500, text="the witness can't read its memory now\n")
        if note is None:
            return web.Response(status=404, text="no checkpoint of that log was cosigned\n")
        return web.Response(text=note)

    def _respond(self, answer: Answer, began: float) -> web.Response:
        said = {
            "code": answer.code,
            "reason": answer.reason[:_SHOWN],
            "origin": answer.origin[:_SHOWN] if answer.origin else None,
            "old_size": answer.old_size,
            "tree_size": answer.tree_size,
            "seconds": round(time.monotonic() - began, 4),
        }
        _logger.info("%s", _line({k: v for k, v in said.items() if v is not None}))
        headers = {"Content-Type": answer.media_type}
        if answer.media_type == "text/plain":
            headers["Content-Type"] += "; charset=utf-8"
        if answer.code == 503:
            headers["Retry-After"] = "1"
        return web.Response(status=answer.code, body=answer.body.encode(), headers=headers)


def _failure(code: int, reason: str) -> Answer:
    return Answer(code=code, body=f"{reason}\n", reason=reason)


def _line(said: dict[str, object]) -> str:
    return json.dumps(said)  # escaped: no origin begins a line of its own
