"""The perf matrix: upload, download and latency over /perf/1.0.0.

Two dialects go by that one name. libp2p's specification has the client send the size of the
download, 8 bytes big endian, then its upload, and close its side. The matrix's own program sends
two sizes, upload and download, and then exactly so many bytes. This listener tells them apart by
what it reads, and this dialer by what it is answered.
"""

import json
import os
import socket
import tempfile
import threading
import time

from control import Frames
from daemon import Daemon
from environment import Misuse
from failure import Deadline, Failure
from identity import key_file
from links import Link
from multiaddr import split_peer
from redis import Redis
from transport import KEY, LEGACY_KEY, stay

# The matrix ends a test after 300 s; the reason has to be out before that.
TIMEOUT = 285
PROTOCOL = "/perf/1.0.0"
BLOCK = bytes(256 << 10)
LARGEST = 1 << 40
MOST_STREAMS = 64
# For the answer that tells the dialects apart.
PROBE = 2.0


def run(environment, words):
    if words:
        return run_as_command(environment, words)
    is_dialer = environment.flag("IS_DIALER", "is_dialer")
    link = Link(environment)
    plan = plan_of(environment)
    deadline = Deadline(environment.timeout(TIMEOUT))
    key = environment.key(KEY, LEGACY_KEY)
    ip = environment.text("LISTENER_IP", "ip", default="0.0.0.0")
    redis = Redis(environment.redis(), deadline)
    if not is_dialer:
        flags = [*link.flags, link.listen(ip)]
        with Daemon(environment, deadline, flags) as daemon, Server(daemon):
            reachable = redis.own_ip() if ip in ("0.0.0.0", "::") else ip
            redis.set(key, daemon.address(reachable, *link.names()))
            stay(daemon, redis, deadline)
        return None
    try:
        address, peer = split_peer(redis.poll(key))
    except ValueError as error:
        raise Failure(f"the listener's address: {error}") from None
    with Daemon(environment, deadline, [*link.flags, "-noListenAddrs"]) as daemon:
        daemon.control.connect(peer, [address])
        results = measure(Client(daemon, peer), plan)
    if environment.is_legacy():
        print(json.dumps(results), flush=True)
    else:
        print("\n".join(lines(results)), flush=True)
    return None


def plan_of(environment):
    """Name to (bytes up, bytes down, times, unit)."""

    def number(name, default, highest):
        return environment.number(name, name.lower(), default=default, lowest=1, highest=highest)

    gib = 1 << 30
    up, down = number("UPLOAD_BYTES", gib, LARGEST), number("DOWNLOAD_BYTES", gib, LARGEST)
    return {
        "upload": (up, 0, number("UPLOAD_ITERATIONS", 10, 10_000), "Gbps"),
        "download": (0, down, number("DOWNLOAD_ITERATIONS", 10, 10_000), "Gbps"),
        "latency": (1, 1, number("LATENCY_ITERATIONS", 100, 100_000), "ms"),
    }


def measure(client, plan):
    results = {}
    for name, (up, down, times, unit) in plan.items():
        samples = []
        for _ in range(times):
            seconds = client.exchange(up, down)
            bits = max(up, down) * 8
            samples.append(seconds * 1e3 if unit == "ms" else bits / seconds / 1e9)
        results[name] = statistics(samples, unit)
    return results


def statistics(samples, unit):
    samples = sorted(samples)

    def quantile(part):
        at = part * (len(samples) - 1)
        low = int(at)
        high = min(low + 1, len(samples) - 1)
        return samples[low] + (samples[high] - samples[low]) * (at - low)

    q1, median, q3 = quantile(0.25), quantile(0.5), quantile(0.75)
    reach = 1.5 * (q3 - q1)
    inner = [one for one in samples if q1 - reach <= one <= q3 + reach] or samples
    return {
        "iterations": len(samples),
        "min": inner[0],
        "q1": q1,
        "median": median,
        "q3": q3,
        "max": inner[-1],
        "outliers": [one for one in samples if not q1 - reach <= one <= q3 + reach],
        "samples": samples,
        "unit": unit,
    }


def lines(results):
    """YAML, with the indentation that the matrix's scripts look for."""
    for name, values in results.items():
        digits = 3 if values["unit"] == "ms" else 2
        yield f"{name}:"
        for field, value in values.items():
            if isinstance(value, list):
                value = "[" + ", ".join(f"{one:.{digits}f}" for one in value) + "]"
            elif isinstance(value, float):
                value = f"{value:.{digits}f}"
            yield f"  {field}: {value}"


class Client:
    """Exchanges bytes with one peer, a stream for each exchange."""

    def __init__(self, daemon, peer):
        self.daemon = daemon
        self.peer = peer
        self.has_two_sizes = self._probe()

    def _open(self):
        return self.daemon.control.open(self.peer, PROTOCOL)

    def _probe(self):
        """A byte for the asking: it comes at once where two sizes are read, and never where the
        first of them, 0, is all that is asked for."""
        with self._open() as stream:
            stream.write(bytes(15) + b"\1")
            stream.socket.settimeout(PROBE)
            try:
                return stream.read(1) == b"\0"
            except OSError:
                return False

    def exchange(self, up, down):
        """Seconds from the opening of the stream to the last byte of the answer."""
        begin = time.monotonic()
        try:
            with self._open() as stream:
                sizes = [up, down] if self.has_two_sizes else [down]
                stream.write(b"".join(size.to_bytes(8) for size in sizes))
                send(stream, up)
                if self.has_two_sizes and not down:
                    # Nothing but the end tells that the whole upload has arrived.
                    drain(stream, None)
                    return time.monotonic() - begin
                if not self.has_two_sizes:
                    stream.finish()
                drain(stream, down)
        except (OSError, EOFError) as error:
            raise Failure(f"perf, {up} up, {down} down: {str(error) or type(error).__name__}") from None
        return time.monotonic() - begin


def send(stream, size):
    view = memoryview(BLOCK)
    while size:
        part = view[: min(size, len(BLOCK))]
        stream.write(part)
        size -= len(part)


def drain(stream, size):
    """Reads `size` bytes, or to the end."""
    while size is None or size:
        chunk = stream.read(len(BLOCK) if size is None else min(size, len(BLOCK)))
        if not chunk:
            if size is None:
                return
            raise EOFError(f"the answer ended {size} bytes early")
        size = None if size is None else size - len(chunk)


class Server:
    """Answers perf streams that the daemon hands over, for as long as it is entered."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.socket = socket.socket(socket.AF_UNIX)
        self.room = threading.Semaphore(MOST_STREAMS)

    def __enter__(self):
        path = self.daemon.path("perf")
        self.socket.bind(path)
        self.socket.listen(MOST_STREAMS)
        threading.Thread(target=self._accept, daemon=True).start()
        self.daemon.control.handle(path, PROTOCOL)
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _accept(self):
        while True:
            self.room.acquire()
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection:
                frames = Frames(connection)
                frames.receive()
                answer(frames)
        except (OSError, EOFError, ValueError, Failure):
            # The dialer notices, and says so.
            pass
        finally:
            self.room.release()


def answer(stream):
    """Serves one exchange of either dialect."""
    head = b""
    while len(head) < 16:
        chunk = stream.read(16 - len(head))
        if not chunk:
            break
        head += chunk
    if len(head) < 8:
        return
    sizes = [int.from_bytes(head[at : at + 8]) for at in (0, 8)]
    # By the specification nothing but an upload without a download is longer than 15 bytes
    # here, and its sizes would be 0 and whatever the upload begins with.
    if len(head) == 16 and max(sizes) <= LARGEST and any(sizes):
        drain(stream, sizes[0])
        send(stream, sizes[1])
    else:
        if len(head) == 16:
            drain(stream, None)
        send(stream, sizes[0])


def run_as_command(environment, words):
    """The older matrix's program: --run-server, or a client that prints JSON."""
    options = {}
    rest = iter(words)
    for word in rest:
        if word == "--run-server":
            options[word] = True
        elif word in ("--server-address", "--transport", "--upload-bytes", "--download-bytes"):
            options[word] = next(rest, "")
        else:
            raise Misuse(f"unknown argument {word!r}")
    host, _, port = options.get("--server-address", "").rpartition(":")
    if not host or not port.isdigit():
        raise Misuse("--server-address host:port is required")
    carriers = {"tcp": f"/ip4/{host}/tcp/{port}", "quic-v1": f"/ip4/{host}/udp/{port}/quic-v1"}
    deadline = Deadline(environment.timeout(3600))
    if options.get("--run-server"):
        serve_as_command(environment, deadline, carriers)
        return
    transport = options.get("--transport", "tcp")
    sizes = [options.get(f"--{way}-bytes", "0") for way in ("upload", "download")]
    if transport not in carriers or not all(size.isdigit() for size in sizes):
        raise Misuse(f"transport {transport!r} is not tcp or quic-v1, or a size is no number")
    up, down = map(int, sizes)
    with Daemon(environment, deadline, ["-noListenAddrs"]) as daemon:
        _, peer, _ = key_file(bytes(32))
        begin = time.monotonic()
        daemon.control.connect(peer, [carriers[transport]])
        Client(daemon, peer).exchange(up, down)
        final = {"type": "final", "timeSeconds": time.monotonic() - begin}
        print(json.dumps({**final, "uploadBytes": up, "downloadBytes": down}), flush=True)


def serve_as_command(environment, deadline, carriers):
    """Under the key that every client of that matrix knows: the seed of zeros."""
    key, _, name = key_file(bytes(32))
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "key")
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(key)
        flags = [f"-id={path}", f"-hostAddrs={','.join(carriers.values())}"]
        with Daemon(environment, deadline, flags) as daemon, Server(daemon):
            for one in daemon.addresses:
                print(f"{one}/p2p/{name}", flush=True)
            while not deadline.is_over():
                daemon.require_alive()
                time.sleep(0.5)
