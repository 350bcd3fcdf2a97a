"""The gossipsub matrix: a script of instructions for node N of many, and a log of what arrived.

What Go's control protocol has no words for: duplicates, partial messages, message ids other than
author and sequence number, validation by clients. A script with partial messages fails here. A
validation delay is imposed where the daemon has PUBSUB_VALIDATE, and else taken note of. Messages
carry an author, which nodes with the policy StrictNoSign reject.
"""

import json
import os
import queue
import socket
import sys
import threading
import time
from datetime import datetime, timezone

from control import PUBSUB_VALIDATE, Refused
from daemon import Daemon
from environment import Misuse
from failure import Deadline, Failure
from identity import key_file
from protobuf import fields, first, message

PORT = 9000
# Seconds for which a refused CONNECT is tried again.
OTHERS_START = 20
PAUSE = 0.5
# The longest script of the matrix lasts about 6 minutes of simulated time.
TIMEOUT = 3600
LARGEST_SCRIPT = 16 << 20
# Daemons take control messages of 4 MiB.
LARGEST_MESSAGE = (4 << 20) - 1024
# Seconds: a verdict has a minute at most.
LONGEST_DELAY = 50
ACCEPT = 0
MOST_NODES = 1 << 20
DEEPEST = 8


def run(environment, words):
    start = time.monotonic()
    if len(words) != 2 or words[0] not in ("--params", "-params"):
        raise Misuse("gossipsub takes --params FILE")
    script = read_script(words[1])
    node = node_id(socket.gethostname())
    Node(environment, node, start).run(script)


def read_script(path):
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_SCRIPT + 1)
        script = json.loads(data)["script"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Misuse(f"{path}: {str(error) or type(error).__name__}") from None
    if len(data) > LARGEST_SCRIPT or not isinstance(script, list):
        raise Misuse(f"{path} holds no script of at most {LARGEST_SCRIPT} bytes")
    return script


def node_id(name):
    number = name.removeprefix("node")
    if number == name or not number.isdigit() or int(number) >= MOST_NODES:
        raise Misuse(f"the host name {name!r} is not node0 to node{MOST_NODES - 1}")
    return int(number)


def seed(node):
    return node.to_bytes(4, "little") + bytes(28)


class Node:
    """One node of the experiment; its daemon starts with the first initGossipSub."""

    def __init__(self, environment, node, start):
        self.environment = environment
        self.node = node
        self.start = start
        self.deadline = Deadline(environment.timeout(TIMEOUT))
        self.daemon = None
        # Topic to seconds.
        self.delays = {}
        self.is_over = False
        self.output = threading.Lock()
        self.key, _, self.name = key_file(seed(node))

    def run(self, script):
        self.log("PeerID", id=self.name, node_id=self.node)
        try:
            for instruction in script:
                self.obey(instruction, DEEPEST)
        finally:
            self.is_over = True
            if self.daemon:
                self.daemon.stop()

    def log(self, message, **more):
        now = datetime.now(timezone.utc).isoformat()
        line = {"time": now, "level": "INFO", "msg": message, "service": "gossipsub", **more}
        # One write: lines of several nodes that share an output stay whole.
        with self.output:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()

    def obey(self, instruction, depth):
        kind = instruction.get("type") if isinstance(instruction, dict) else None
        method = getattr(self, f"on_{kind}", None)
        if not method or not depth:
            raise Failure(f"the script has an instruction that p2pd cannot follow: {kind!r}")
        given = {name: value for name, value in instruction.items() if name != "type"}
        try:
            if kind == "ifNodeIDEquals":
                self.on_ifNodeIDEquals(depth=depth, **given)
            else:
                method(**given)
        except (TypeError, ValueError) as error:
            raise Failure(f"instruction {kind}: {error}") from None

    def on_initGossipSub(self, gossipSubParams):
        if self.daemon:
            raise Failure("the script starts gossipsub twice")
        flags = ["-pubsub", "-pubsubSign=false", "-pubsubSignStrict=false"]
        for field, flag in (("HeartbeatInterval", "Interval"), ("HeartbeatInitialDelay", "InitialDelay")):
            if value := gossipSubParams.get(field):
                flags.append(f"-gossipsubHeartbeat{flag}={int(value)}ns")
        other = sorted(set(gossipSubParams) - {"HeartbeatInterval", "HeartbeatInitialDelay"})
        if other:
            self.note(f"p2pd has no flags for {', '.join(other)}; its defaults apply")
        # Not in the daemon's own directory, which does not exist yet.
        read, write = os.pipe()
        os.write(write, self.key)
        os.close(write)
        os.set_inheritable(read, True)
        try:
            flags += [f"-id=/proc/{os.getpid()}/fd/{read}"]
            flags += [f"-hostAddrs=/ip4/{address(self.node)}/tcp/{PORT}"]
            self.daemon = Daemon(self.environment, self.deadline, flags)
        finally:
            os.close(read)
        if self.daemon.peer_text != self.name:
            raise Failure(f"the daemon is {self.daemon.peer_text}, not {self.name}")

    def on_connect(self, connectTo):
        for node in connectTo:
            _, peer, _ = key_file(seed(node))
            self._dial(peer, f"/ip4/{address(node)}/tcp/{PORT}")

    def _dial(self, peer, address):
        """CONNECT, and again for a while: the other's daemon may still be starting."""
        deadline = Deadline(min(OTHERS_START, self.deadline.left()))
        while True:
            try:
                return self.control().connect(peer, [address], deadline.left())
            except Refused:
                if deadline.left() < PAUSE:
                    raise
            time.sleep(PAUSE)

    def on_ifNodeIDEquals(self, nodeID, instruction, depth):
        if nodeID == self.node:
            self.obey(instruction, depth - 1)

    def on_waitUntil(self, elapsedSeconds):
        end = self.start + elapsedSeconds
        while (left := end - time.monotonic()) > 0:
            if self.daemon:
                self.daemon.require_alive()
            time.sleep(min(left, 1, self.deadline.require("waitUntil")))

    def on_publish(self, messageID, messageSizeBytes, topicID):
        if not 8 <= messageSizeBytes <= LARGEST_MESSAGE:
            raise Failure(f"a message of {messageSizeBytes} bytes; p2pd takes 8 to {LARGEST_MESSAGE}")
        data = messageID.to_bytes(8) + bytes(messageSizeBytes - 8)
        self.control().publish(topicID, data)

    def on_subscribeToTopic(self, topicID, partial=False):
        if partial:
            raise Failure("p2pd has no partial messages")
        self.control()
        ready = threading.Event()
        threading.Thread(target=self._read, args=(topicID, ready), daemon=True).start()
        if not ready.wait(self.deadline.left()):
            raise Failure(f"no subscription to {topicID}")

    def on_setTopicValidationDelay(self, topicID, delaySeconds):
        if not 0 <= delaySeconds <= LONGEST_DELAY:
            raise Failure(f"a validation delay of {delaySeconds} s; p2pd takes 0 to {LONGEST_DELAY}")
        control = self.control()
        if topicID in self.delays:
            self.delays[topicID] = delaySeconds
            return
        self.delays[topicID] = delaySeconds
        ready = threading.Event()
        threading.Thread(
            target=self._judge, args=(control, topicID, ready), daemon=True
        ).start()
        if not ready.wait(self.deadline.left()):
            raise Failure(f"no validator of {topicID}")

    def _judge(self, control, topic, ready):
        """Accepts every message of a topic after its delay."""
        # In the order of their times: a topic's delay is one for all its messages.
        due = queue.Queue()
        try:
            with control.validate(topic, int(LONGEST_DELAY * 1000) + 5000) as frames:
                frames.socket.settimeout(None)
                threading.Thread(target=self._accept, args=(frames, due), daemon=True).start()
                ready.set()
                while True:
                    told = first(fields(frames.receive()), PUBSUB_VALIDATE, b"")
                    due.put((time.monotonic() + self.delays[topic], first(fields(told), 1)))
        except Failure as failure:
            if not self.is_over:
                self.note(f"no validation delay on {topic}: {failure}")
        finally:
            due.put(None)
            ready.set()

    @staticmethod
    def _accept(frames, due):
        while message_due := due.get():
            at, number = message_due
            time.sleep(max(0.0, at - time.monotonic()))
            verdict = message((1, number), (2, ACCEPT))
            try:
                frames.send(message((1, PUBSUB_VALIDATE), (PUBSUB_VALIDATE, message((5, verdict)))))
            except OSError:
                # Whoever reads the connection says so.
                return

    def _read(self, topic, ready):
        try:
            with self.control().subscribe(topic) as frames:
                ready.set()
                while True:
                    told = fields(frames.receive())
                    data, author = first(told, 2, b""), first(told, 1, b"")
                    # A node's own messages come back to it from its own daemon.
                    if author != self.daemon.peer:
                        number = str(int.from_bytes(data[:8]))
                        self.log("Received Message", id=number, topic=topic)
        except Failure as failure:
            if not self.is_over:
                self.note(str(failure))

    def control(self):
        if not self.daemon:
            raise Failure("the script does something before initGossipSub")
        return self.daemon.control

    @staticmethod
    def note(text):
        print(f"adapter: {text}", file=sys.stderr, flush=True)


def address(node):
    """The IPv4 address that the experiment gives a node."""
    try:
        return socket.getaddrinfo(f"node{node}", None, socket.AF_INET)[0][4][0]
    except OSError as error:
        raise Failure(f"node{node} has no address: {error}") from None
