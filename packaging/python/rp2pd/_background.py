"""Tasks beside the body of an `async with`."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Awaitable, Callable, Optional, Type

import anyio
from anyio.abc import TaskGroup

log = logging.getLogger("rp2pd")


class Background:
    """A task group that ends with its body, and lets the body's exception through as it is.

    A bare task group would wrap it into a group. The tasks catch what they can expect; what they
    cannot is logged, and costs nothing but the task.
    """

    def __init__(self) -> None:
        self._group: TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> "Background":
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> bool:
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseException as raised:
            if error is None or raised is error or not isinstance(error, Exception):
                raise
        return False

    def spawn(self, task: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        self._group.start_soon(self._run, task, arguments)

    async def _run(self, task: Callable[..., Awaitable[Any]], arguments: Any) -> None:
        try:
            await task(*arguments)
        except Exception:
            log.exception("a task failed")
