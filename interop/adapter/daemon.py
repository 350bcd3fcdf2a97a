"""The daemon under test as a child process that never outlives this one."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

from control import Control
from environment import Misuse
from failure import Failure
from multiaddr import base58

PR_SET_PDEATHSIG = 1
# From SIGTERM to SIGKILL, in seconds.
GRACE = 4
LONGEST_START = 60


def _die_with(parent):
    """In the child: the kernel ends it should this program be killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class Daemon:
    """A running daemon. Flags in `optional` are given only to daemons whose -help has them."""

    def __init__(self, environment, deadline, flags, optional=()):
        name = environment.text("P2PD", default="p2pd")
        self.program = shutil.which(name)
        if not self.program:
            raise Misuse(f"P2PD={name!r} is no program")
        self.known = self._flags()
        extra = environment.text("P2PD_FLAGS", default="-").split()
        # On by default in Go's daemon, unknown to its fork, and in no matrix.
        optional = [*optional, "-plaintext=false"]
        words = [*flags, *(one for one in optional if self.has(one)), *extra[extra == ["-"] :]]
        self.directory = tempfile.TemporaryDirectory(prefix="p2pd-adapter-")
        self.child = None
        self.last_words = b""
        self.control = Control(self.path("control"), deadline)
        try:
            self._start([f"-listen=/unix{self.path('control')}", *words], deadline)
        except BaseException:
            self.stop()
            raise

    def _flags(self):
        """The names of its flags, from the usage text in the form of Go's flag package."""
        try:
            shown = subprocess.run([self.program, "-help"], capture_output=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure(f"{self.program} -help: {error}") from None
        words = (shown.stdout + shown.stderr).decode(errors="replace").split()
        return {word.lstrip("-").rstrip(",") for word in words if word.startswith("-")}

    def has(self, flag):
        return flag.lstrip("-").partition("=")[0] in self.known

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def _start(self, words, deadline):
        parent = os.getpid()
        self.child = subprocess.Popen(
            [self.program, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=lambda: _die_with(parent),
        )
        threading.Thread(target=self._relay, daemon=True).start()
        start = min(LONGEST_START, deadline.left())

        def ready():
            if self.child.poll() is not None:
                raise Failure(f"{self.program} ended at once: {self.said()}")
            if not os.path.exists(self.path("control")):
                return None
            try:
                return self.control.identify()
            except Failure:
                return None

        identity = type(deadline)(start).poll(f"{self.program} does not answer", ready, 0.05)
        self.peer, self.addresses = identity
        self.peer_text = base58(self.peer)

    def _relay(self):
        """Its log goes to stderr; the end of it is kept for the reason of a failure."""
        for line in self.child.stderr:
            self.last_words = line
            sys.stderr.buffer.write(line)
            sys.stderr.flush()

    def said(self):
        # The thread may still have to read what the child wrote before its end.
        if self.child.poll() is not None:
            self.child.wait()
            threading.Event().wait(0.2)
        return self.last_words.decode(errors="replace").strip() or "without a word"

    def require_alive(self):
        if self.child.poll() is not None:
            raise Failure(f"{self.program} ended with {self.child.returncode}: {self.said()}")

    def stop(self):
        if self.child and self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def address(self, ip, *names):
        """The listen address on `ip` that has all these protocols, with the peer id."""
        _, self.addresses = self.control.identify()
        mine = [one for one in self.addresses if all(f"/{name}" in one for name in names)]
        on_ip = [one for one in mine if f"/{ip}/" in one]
        elsewhere = [one for one in mine if "/127.0.0.1/" not in one]
        for one in on_ip + elsewhere:
            return f"{one}/p2p/{self.peer_text}"
        raise Failure(f"{self.program} does not listen on {ip} with {'/'.join(names)}")
