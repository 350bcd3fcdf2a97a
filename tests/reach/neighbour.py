"""A neighbour on the segment who sends multicast DNS packets that nobody honest sends.

    neighbour.py ADDRESS PORT

Listens on PORT, tells that 5,000 peers are there and elsewhere, sends packets that are cut, oversized,
refer to themselves or mean nothing, and asks 20,000 times. Prints how many answers came, in how many
seconds, how many bytes were sent, and who has dialed PORT.
"""

import os
import random
import select
import socket
import struct
import sys
import time

ADDRESS, PORT = sys.argv[1], int(sys.argv[2])
GROUP = ("224.0.0.251", 5353)
SERVICE = b"\x04_p2p\x04_udp\x05local\x00"
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def peer():
    return base58(b"\x00\x24\x08\x01\x12\x20" + os.urandom(32))


def header(flags, questions, answers):
    return struct.pack(">6H", 0, flags, questions, answers, 0, 0)


def record(name, kind, data):
    return name + struct.pack(">2HIH", kind, 1, 120, len(data)) + data


def answer(strings):
    text = b"".join(bytes([len(string)]) + string for string in strings)
    return header(0x8400, 0, 1) + record(SERVICE, 16, text)


def question():
    return header(0, 1, 0) + SERVICE + struct.pack(">2H", 12, 1)


def told():
    addresses = [
        f"/ip4/{ADDRESS}/tcp/{PORT}",
        f"/ip4/127.0.0.1/tcp/{PORT}",
        "/ip4/8.8.8.8/tcp/4001",
        "/ip4/224.0.0.1/tcp/4001",
        f"/ip4/{ADDRESS}/tcp/22",
        f"/ip4/{ADDRESS}/tcp/{PORT}/p2p/{peer()}/p2p-circuit",
    ]
    return [f"dnsaddr={address}/p2p/{peer()}".encode()[:255] for address in addresses]


def main():
    trap = socket.create_server((ADDRESS, PORT))
    trap.setblocking(False)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    sender.bind(("", 5353))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ADDRESS))
    membership = socket.inet_aton(GROUP[0]) + socket.inet_aton(ADDRESS)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    whole = answer(told())
    loop = header(0x8400, 0, 1) + b"\xc0\x0c" + struct.pack(">2HIH", 16, 1, 1, 2) + b"\xc0\x0c"
    packets = [whole[:length] for length in range(len(whole))]
    packets += [question()[:length] for length in range(len(question()))]
    packets += [loop, header(0x8400, 65535, 65535), header(0, 65535, 0) + question()[12:]]
    packets += [os.urandom(random.randrange(1, 1400)) for _ in range(2000)]
    packets += [whole + bytes(size) for size in (9000, 20000, 60000)]
    packets += [answer([string] * 255) for string in (b"", b"dnsaddr=", b"\xff" * 255)]
    packets += [answer(told()) for _ in range(1000)]
    packets += [question()] * 20000
    answers, sent, begun = 0, 0, time.monotonic()

    def receive(wait):
        nonlocal answers
        while select.select([sender], [], [], wait)[0]:
            packet, (host, _) = sender.recvfrom(65536)
            # Type 16 (TXT) in a response: an answer of the daemon.
            if host != ADDRESS and packet[2:3] >= b"\x80" and b"dnsaddr=" in packet:
                answers += 1

    for number, packet in enumerate(packets):
        try:
            sender.sendto(packet, GROUP)
            sent += len(packet)
        except OSError:
            time.sleep(0.001)
        if number % 64 == 0:
            receive(0)
            # Slowly enough that the daemon gets most of them.
            time.sleep(0.002)
    receive(2)
    seconds = time.monotonic() - begun
    try:
        dialed = trap.accept()[1][0]
    except BlockingIOError:
        dialed = "nobody"
    print(f"{answers} {seconds:.1f} {sent} {dialed}", flush=True)


main()
