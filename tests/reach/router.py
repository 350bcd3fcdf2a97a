"""A router that maps ports, at 192.168.10.1, inside a namespace of the tests.

    python3 router.py upnp|upnp-taken|nat-pmp|silent|endless|elsewhere|nonsense|private
"""

import re
import socket
import struct
import subprocess
import sys
import threading

HERE, INSIDE = "192.168.10.1", "192.168.10.2"
KIND = sys.argv[1]
EXTERNAL = "10.1.2.3" if KIND == "private" else "60.0.10.1"


def say(*words):
    print(*words, flush=True)


def forward(protocol, external, internal):
    """Lets strangers in, for real."""
    protocol = protocol.lower()
    rules = f"""table ip m {{
      chain pre {{ type nat hook prerouting priority -100
        iifname wan {protocol} dport {external} dnat to {INSIDE}:{internal}
      }}
    }}
    insert rule ip t forw ip daddr {INSIDE} {protocol} dport {internal} accept"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    say("mapped", protocol, external, internal)


def nat_pmp():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((HERE, 5351))
    done = set()
    lost = True
    while True:
        request, asker = server.recvfrom(64)
        say("asked", request.hex())
        if lost:
            # The first datagram gets lost.
            lost = False
            continue
        operation = request[1]
        if operation == 0:
            ip = socket.inet_aton(EXTERNAL)
            server.sendto(struct.pack("!BBHI", 0, 128, 0, 1) + ip, asker)
            continue
        internal, wanted, lifetime = struct.unpack("!HHI", request[4:12])
        if internal not in done:
            done.add(internal)
            forward("UDP" if operation == 1 else "TCP", wanted, internal)
        answer = struct.pack("!BBHIHHI", 0, 128 + operation, 0, 1, internal, wanted, lifetime)
        server.sendto(answer, asker)


DESCRIPTION = """<?xml version="1.0"?><root><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/wrong</controlURL></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<controlURL>/control</controlURL></service></serviceList></device></root>"""


def answer(connection, status, text, chunked=False):
    if chunked:
        head = "Transfer-Encoding: chunked"
        text = f"{len(text):x}\r\n{text}\r\n0\r\n\r\n"
    else:
        head = f"Content-Length: {len(text)}"
    connection.sendall(f"HTTP/1.1 {status} X\r\n{head}\r\n\r\n{text}".encode())


def request(connection, done):
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4096)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(4096)
    body = body.decode()
    say("asked", head.split(b"\r\n")[0].decode())
    if KIND == "silent":
        connection.recv(1)
    elif KIND == "endless":
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"<service>" * 10000)
    elif KIND == "nonsense":
        connection.sendall(b"\xff\x00" * 100)
    elif head.startswith(b"GET /root.xml "):
        answer(connection, 200, DESCRIPTION, chunked=True)
    elif "GetExternalIPAddress" in body:
        answer(connection, 200, f"<NewExternalIPAddress>{EXTERNAL}</NewExternalIPAddress>")
    else:
        field = lambda name: re.search(f"<{name}>(.*?)</{name}>", body)[1]
        external, internal = int(field("NewExternalPort")), int(field("NewInternalPort"))
        assert field("NewInternalClient") == INSIDE, body
        if KIND == "upnp-taken" and external == internal:
            answer(connection, 500, "<errorCode>718</errorCode>")
            return
        if external not in done:
            done.add(external)
            forward(field("NewProtocol"), external, internal)
        answer(connection, 200, "")


def serve(server, label):
    done = set()
    while True:
        connection, _ = server.accept()
        if label:
            say(label)
        try:
            with connection:
                request(connection, done)
        except (OSError, TypeError) as error:
            say("gone", error)


def upnp():
    server = socket.create_server((HERE, 5000))
    threading.Thread(target=serve, args=(server, None), daemon=True).start()
    # A service of the router that nobody outside is meant to reach.
    other = socket.create_server(("60.0.10.1", 5001))
    threading.Thread(target=serve, args=(other, "fetched from elsewhere"), daemon=True).start()
    place = "60.0.10.1:5001" if KIND == "elsewhere" else f"{HERE}:5000"
    ssdp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ssdp.bind(("", 1900))
    group = socket.inet_aton("239.255.255.250") + socket.inet_aton(HERE)
    ssdp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    say("ready")
    while True:
        asked, asker = ssdp.recvfrom(2048)
        if b"InternetGatewayDevice:1" not in asked:
            continue
        if KIND == "elsewhere":
            say("asked", asker)
        text = f"HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: http://{place}/root.xml\r\n\r\n"
        ssdp.sendto(text.encode(), asker)


if KIND == "nat-pmp":
    threading.Timer(0, say, ["ready"]).start()
    nat_pmp()
else:
    upnp()
