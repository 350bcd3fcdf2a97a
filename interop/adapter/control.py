"""The control protocol of p2pd: one request a connection, as Go's own client does it."""

import socket
from contextlib import contextmanager

import multiaddr
from failure import Failure
from protobuf import fields, first, message, read_varint, varint

LARGEST_FRAME = 8 << 20
CHUNK = 256 << 10

IDENTIFY, CONNECT, STREAM_OPEN, STREAM_HANDLER, DHT, LIST_PEERS = range(6)
PUBSUB = 8
FIND_PROVIDERS, GET_CLOSEST_PEERS, PUT_VALUE, PROVIDE = 2, 3, 7, 8
PUBLISH, SUBSCRIBE = 2, 3
# A request that only rp2pd has; field and type have one number.
PUBSUB_VALIDATE = 102
END = 2


class Refused(Failure):
    """The daemon answered ERROR; the text is its own."""


class Frames:
    """Frames and raw bytes on one socket."""

    def __init__(self, connection):
        self.socket = connection
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(varint(len(data)) + data)

    def receive(self):
        """The next frame; EOFError if the other side ends first."""
        size = None
        while size is None:
            try:
                size, start = read_varint(self.buffer, 0)
            except ValueError:
                if len(self.buffer) > 10:
                    raise Failure("the daemon sends no frames") from None
                self._more()
        if size > LARGEST_FRAME:
            raise Failure(f"the daemon sends a frame of {size} bytes")
        while len(self.buffer) < start + size:
            self._more()
        frame = self.buffer[start : start + size]
        self.buffer = self.buffer[start + size :]
        return frame

    def _more(self):
        chunk = self.socket.recv(64 << 10)
        if not chunk:
            raise EOFError("the daemon closed the connection")
        self.buffer += chunk

    def read(self, limit=CHUNK):
        """What has come, at most `limit` bytes; none at the end."""
        if self.buffer:
            chunk, self.buffer = self.buffer[:limit], self.buffer[limit:]
            return chunk
        return self.socket.recv(limit)

    def read_exactly(self, size):
        parts = []
        while size:
            chunk = self.read(min(size, CHUNK))
            if not chunk:
                raise EOFError(f"the stream ended {size} bytes early")
            parts.append(chunk)
            size -= len(chunk)
        return b"".join(parts)

    def write(self, data):
        self.socket.sendall(data)

    def finish(self):
        """No more bytes from here; the other direction stays."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()


class Stream(Frames):
    """An open stream of the daemon's, and what it runs on."""

    def __init__(self, frames, info):
        super().__init__(frames.socket)
        self.buffer = frames.buffer
        told = fields(info)
        self.peer = first(told, 1, b"")
        self.address = multiaddr.to_text(first(told, 2, b""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Control:
    """Requests to the daemon behind the unix socket at `path`."""

    def __init__(self, path, deadline):
        self.path = path
        self.deadline = deadline

    @contextmanager
    def _connection(self, what):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(self.deadline.require(what) + 1)
            try:
                connection.connect(self.path)
                yield Frames(connection)
            except (OSError, EOFError, ValueError) as error:
                raise Failure(f"{what}: {str(error) or type(error).__name__}") from None

    def _answer(self, frames, what, request):
        frames.send(request)
        told = fields(frames.receive())
        if first(told, 1) != 0:
            text = first(fields(first(told, 2, b"")), 1, b"no reason").decode(errors="replace")
            raise Refused(f"{what}: {text}")
        return told

    def ask(self, what, *request):
        with self._connection(what) as frames:
            return self._answer(frames, what, message(*request))

    def identify(self):
        """Peer id in bytes, and the listen addresses as text."""
        told = fields(first(self.ask("IDENTIFY", (1, IDENTIFY)), 4, b""))
        return first(told, 1), [multiaddr.to_text(data) for data in told.get(2, [])]

    def connect(self, peer, addresses, seconds=None):
        seconds = max(1, int(seconds or self.deadline.require("CONNECT")))
        request = [(1, peer), *((2, multiaddr.to_bytes(one)) for one in addresses), (3, seconds)]
        self.ask(f"CONNECT to {addresses[0]}", (1, CONNECT), (2, message(*request)))

    def peers(self):
        """Peer id in bytes to addresses as text, of all connected peers."""
        found = {}
        for told in map(fields, self.ask("LIST_PEERS", (1, LIST_PEERS)).get(6, [])):
            addresses = [multiaddr.to_text(data) for data in told.get(2, [])]
            found.setdefault(first(told, 1), []).extend(addresses)
        return found

    def open(self, peer, protocol, seconds=None):
        """A stream of `protocol` to a peer; its socket has the time that is left as timeout."""
        what = f"STREAM_OPEN {protocol}"
        left = self.deadline.require(what)
        seconds = max(1, int(seconds or left))
        request = message((1, peer), (2, protocol.encode()), (3, seconds))
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(left + 1)
            connection.connect(self.path)
            frames = Frames(connection)
            told = self._answer(frames, what, message((1, STREAM_OPEN), (3, request)))
            return Stream(frames, first(told, 3, b""))
        except (OSError, EOFError, ValueError) as error:
            connection.close()
            raise Failure(f"{what}: {str(error) or type(error).__name__}") from None
        except BaseException:
            connection.close()
            raise

    def handle(self, path, *protocols):
        """Inbound streams of these protocols go to the unix socket at `path`."""
        request = [(1, multiaddr.to_bytes(f"/unix{path}"))]
        request += [(2, protocol.encode()) for protocol in protocols]
        # Hivemind's dialect requires `balanced`.
        request += [(3, 0)]
        self.ask("STREAM_HANDLER", (1, STREAM_HANDLER), (4, message(*request)))

    def dht(self, kind, **given):
        """The values of a DHT request, each the fields of one answer."""
        numbers = {"peer": 2, "cid": 3, "key": 4, "value": 5, "count": 6, "timeout": 7}
        request = message((1, kind), *((numbers[name], value) for name, value in given.items()))
        what = f"DHT request {kind}"
        with self._connection(what) as frames:
            told = self._answer(frames, what, message((1, DHT), (5, request)))
            head = first(told, 5)
            if head is None or first(fields(head), 1) != 0:
                return [fields(head)] if head else []
            values = []
            while first(told := fields(frames.receive()), 1) != END:
                values.append(told)
            return values

    def publish(self, topic, data):
        request = message((1, PUBLISH), (2, topic.encode()), (3, data))
        self.ask(f"PUBLISH {topic}", (1, PUBSUB), (8, request))

    @contextmanager
    def subscribe(self, topic):
        """Frames that each hold a message of the topic, for as long as it lasts."""
        what = f"SUBSCRIBE {topic}"
        with self._connection(what) as frames:
            request = message((1, SUBSCRIBE), (2, topic.encode()))
            self._answer(frames, what, message((1, PUBSUB), (8, request)))
            yield frames

    @contextmanager
    def validate(self, topic, milliseconds):
        """Frames that each hold a message to judge, in that time, before anybody gets it; Failure
        from daemons that have no such request."""
        what = f"PUBSUB_VALIDATE {topic}"
        with self._connection(what) as frames:
            request = message((1, topic.encode()), (2, milliseconds))
            self._answer(frames, what, message((1, PUBSUB_VALIDATE), (PUBSUB_VALIDATE, request)))
            yield frames
