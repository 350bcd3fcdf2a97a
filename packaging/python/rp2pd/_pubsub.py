"""Topics: publishing, subscribing, judging."""

from __future__ import annotations

import inspect
import logging
from typing import Awaitable, Callable, List, Optional, Union

from ._background import Background
from ._feed import Feed
from ._ids import base58
from ._protobuf import Fields, encode, name
from ._session import Session
from ._types import Message, Verdict, message
from ._validator import Validator, register
from ._wire import Frames

log = logging.getLogger("rp2pd")

PUBSUB, PUBSUB_VALIDATE = 8, 102
_TOPICS, _PEERS, _PUBLISH, _SUBSCRIBE = 0, 1, 2, 3

# Gets the message and the peer that sent it (None: a client of this daemon). True stands for
# ACCEPT, False for REJECT.
Judge = Callable[
    [Message, Optional[str]], Union[bool, Verdict, Awaitable[Union[bool, Verdict]]]
]


def _verdict(said: object) -> Verdict:
    if isinstance(said, bool):
        return Verdict.ACCEPT if said else Verdict.REJECT
    return Verdict(said)  # type: ignore[arg-type]


class PubSub:
    """What `node.pubsub` is. Without `-pubsub` all raises NotEnabled."""

    def __init__(self, session: Session, tasks: Background) -> None:
        self._session = session
        self._tasks = tasks

    async def publish(self, topic: str, data: bytes) -> None:
        """MessageRejected or MessageIgnored if a validator of this daemon says so."""
        await self._ask((1, _PUBLISH), (2, name(topic)), (3, data))

    async def topics(self) -> List[str]:
        """Those that clients of this daemon are subscribed to."""
        return (await self._ask((1, _TOPICS))).texts(1)

    async def peers(self, topic: str) -> List[str]:
        """Connected peers that are subscribed."""
        answer = await self._ask((1, _PEERS), (2, name(topic)))
        return [base58(one) for one in answer.all(2)]

    def subscribe(self, topic: str) -> "Feed[Message]":
        """The messages of a topic. Goes on after a restart of the daemon, without those between."""
        request = encode((1, _SUBSCRIBE), (2, name(topic)))

        async def begin(frames: Frames) -> None:
            await frames.ask(PUBSUB, (8, request))

        async def read(frames: Frames) -> Message:
            return message(await frames.receive())

        return Feed(self._session, begin, read, resumes=True)

    async def validate(
        self,
        topic: str,
        judge: Judge,
        *,
        deadline: float = 1.0,
        late: Verdict = Verdict.IGNORE,
        hold: float = 0.0,
    ) -> Validator:
        """Has `judge` say of each message whether it goes on.

        `deadline` (seconds, up to 60) is the time for each verdict, `late` what a missing one counts as.
        For `hold` seconds (up to 3600) without a validator messages are ignored, not accepted. A
        judge that raises has said IGNORE. Registered again after a restart of the daemon.
        """
        request = encode(
            (1, name(topic)),
            (2, max(1, round(deadline * 1000))),
            (3, late),
            (4, round(hold * 1000)),
        )

        async def decide(question: Fields) -> bytes:
            peer = base58(question.raw(2)) if question.has(2) else None
            try:
                said = judge(message(question.message(3)), peer)
                if inspect.isawaitable(said):
                    said = await said
                verdict = _verdict(said)
            except Exception:
                log.exception("a validator failed: the message is ignored")
                verdict = Verdict.IGNORE
            one = encode((1, question.number(1)), (2, verdict))
            return encode((1, PUBSUB_VALIDATE), (102, encode((5, [one]))))

        return await register(self._session, self._tasks, PUBSUB_VALIDATE, request, decide)

    async def _ask(self, *fields: "tuple[int, Union[int, bytes]]") -> Fields:
        return (await self._session.request(PUBSUB, (8, encode(*fields)))).message(7)
