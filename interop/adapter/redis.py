"""What of Redis the matrices use: strings, lists and PING, over RESP 2."""

import socket
import time

from failure import Failure

LONGEST_LINE = 1024
LARGEST_VALUE = 64 << 10
MOST_ITEMS = 64


class RedisError(Exception):
    """Redis refused a command."""


class Redis:
    """One connection; a Failure names the address when it cannot be made or is lost."""

    def __init__(self, address, deadline):
        self.name = "{}:{}".format(*address)
        self.deadline = deadline
        self.socket = self._connect(address)
        self.buffer = bytearray()

    def _connect(self, address):
        while True:
            try:
                return socket.create_connection(address, timeout=min(5, self._left(address)))
            except OSError as error:
                # The container of Redis may start after this one.
                if self.deadline.left() < 1:
                    raise Failure(f"Redis at {self.name} cannot be reached: {error}") from None
                time.sleep(0.5)

    def _left(self, _address):
        return max(0.1, self.deadline.left())

    def call(self, *words, patience=10.0):
        """The answer to one command: bytes, int, list or None."""
        frame = b"*%d\r\n" % len(words)
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            frame += b"$%d\r\n%b\r\n" % (len(data), data)
        self.socket.settimeout(patience)
        try:
            self.socket.sendall(frame)
            return self._value()
        except (OSError, EOFError) as error:
            reason = str(error) or type(error).__name__
            raise Failure(f"Redis at {self.name} went away: {reason}") from None

    def _value(self):
        line = self._line()
        kind, text = line[:1], line[1:]
        if kind == b"+":
            return text
        if kind == b"-":
            raise RedisError(text.decode(errors="replace"))
        number = self._number(text)
        if kind == b":":
            return number
        if kind == b"$":
            return None if number < 0 else self._bulk(number)
        if kind == b"*":
            if number > MOST_ITEMS:
                raise OSError(f"an answer of {number} items")
            return None if number < 0 else [self._value() for _ in range(number)]
        raise OSError(f"an answer that begins with {kind!r}")

    @staticmethod
    def _number(text):
        try:
            return int(text)
        except ValueError:
            raise OSError(f"{bytes(text[:32])!r} where a number belongs") from None

    def _bulk(self, size):
        if size > LARGEST_VALUE:
            raise OSError(f"a value of {size} bytes")
        while len(self.buffer) < size + 2:
            self._more()
        value = bytes(self.buffer[:size])
        del self.buffer[: size + 2]
        return value

    def _line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > LONGEST_LINE:
                raise OSError("a line without end")
            self._more()
        end = self.buffer.index(b"\r\n")
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    def _more(self):
        chunk = self.socket.recv(4096)
        if not chunk:
            raise EOFError("it closed the connection")
        self.buffer += chunk

    def ping(self):
        self.call("PING")

    def set(self, key, value):
        self.call("SET", key, value)

    def push(self, key, value):
        """Makes `key` a list of this one value, as listeners do: an earlier run may have left
        something else there."""
        self.call("DEL", key)
        self.call("RPUSH", key, value)

    def wait(self, key):
        """The value of `key` once there is one, a list's first or a string, as text."""
        while True:
            seconds = max(1, min(2, int(self.deadline.require(f"Redis has no {key}"))))
            try:
                answer = self.call("BLPOP", key, seconds, patience=seconds + 10)
                value = answer and answer[1]
            except RedisError as error:
                if "WRONGTYPE" not in str(error):
                    raise Failure(f"Redis refuses BLPOP {key}: {error}") from None
                value = self.call("GET", key)
            if value:
                return value.decode(errors="replace")

    def poll(self, key):
        """As `wait`, for a value that several partners read: it stays there."""

        def ask():
            try:
                value = self.call("GET", key)
            except RedisError:
                value = self.call("LINDEX", key, 0)
            return value.decode(errors="replace") if value else None

        return self.deadline.poll(f"Redis has no {key}", ask, pause=0.25)

    def own_ip(self):
        """The address of this host that Redis, and so the partners, can reach."""
        return self.socket.getsockname()[0]
