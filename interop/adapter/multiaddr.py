"""Multiaddrs as text and bytes, and peer ids: the parts that daemons and matrices exchange."""

import base64
import ipaddress

from protobuf import read_varint, varint

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    number = int.from_bytes(data)
    out = ""
    while number:
        number, digit = divmod(number, 58)
        out = ALPHABET[digit] + out
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + out


def from_base58(text):
    number = 0
    for letter in text:
        if letter not in ALPHABET:
            raise ValueError(f"{letter!r} is not base58")
        number = number * 58 + ALPHABET.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8)


def _port(text):
    if not (text.isascii() and text.isdigit() and int(text[:6]) < 65536):
        raise ValueError(f"port {text!r}")
    return int(text).to_bytes(2)


def _certhash(text):
    # base64url without padding, the only multibase in use here.
    if not text.startswith("u"):
        raise ValueError(f"certhash {text!r}")
    return base64.urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))


def _to_certhash(data):
    return "u" + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _ip(kind):
    return lambda text: kind(text).packed, lambda data: str(kind(data))


_NAME = (str.encode, bytes.decode)
_PORT = (_port, lambda data: str(int.from_bytes(data)))
_IP4, _IP6 = _ip(ipaddress.IPv4Address), _ip(ipaddress.IPv6Address)

# Name: code, size of the value (None: a length stands before it), text to bytes and back.
PROTOCOLS = {
    "ip4": (4, 4, *_IP4),
    "tcp": (6, 2, *_PORT),
    "ip6": (41, 16, *_IP6),
    "dns": (53, None, *_NAME),
    "dns4": (54, None, *_NAME),
    "dns6": (55, None, *_NAME),
    "dnsaddr": (56, None, *_NAME),
    "udp": (273, 2, *_PORT),
    "webrtc-direct": (280, 0, None, None),
    "p2p-circuit": (290, 0, None, None),
    "unix": (400, None, lambda text: ("/" + text).encode(), bytes.decode),
    "p2p": (421, None, from_base58, base58),
    "tls": (448, 0, None, None),
    "sni": (449, None, *_NAME),
    "quic": (460, 0, None, None),
    "quic-v1": (461, 0, None, None),
    "webtransport": (465, 0, None, None),
    "certhash": (466, None, _certhash, _to_certhash),
    "ws": (477, 0, None, None),
    "wss": (478, 0, None, None),
}
CODES = {row[0]: name for name, row in PROTOCOLS.items()}


def to_bytes(text):
    """ValueError for what is no multiaddr, or not of these protocols."""
    words = text.split("/")
    if words[0] or len(words) < 2:
        raise ValueError(f"{text!r} is no multiaddr")
    if words[1] == "unix":
        words[2:] = ["/".join(words[2:])]
    out = b""
    rest = iter(words[1:])
    for name in rest:
        if name not in PROTOCOLS:
            raise ValueError(f"{text!r} has the unknown protocol {name!r}")
        code, size, encode, _ = PROTOCOLS[name]
        out += varint(code)
        if size == 0:
            continue
        value = encode(next(rest, ""))
        out += value if size else varint(len(value)) + value
    return out


def to_text(data):
    out = ""
    at = 0
    while at < len(data):
        code, at = read_varint(data, at)
        if code not in CODES:
            raise ValueError(f"multiaddr protocol {code}")
        name = CODES[code]
        _, size, _, decode = PROTOCOLS[name]
        out += f"/{name}"
        if size == 0:
            continue
        if size is None:
            size, at = read_varint(data, at)
        if at + size > len(data):
            raise ValueError("a multiaddr that ends early")
        out += "/" + decode(data[at : at + size]).lstrip("/")
        at += size
    return out


def split_peer(text):
    """Address and peer id of `text`, which ends in /p2p/<id>; ValueError for anything else."""
    address, name, peer = text.rpartition("/p2p/")
    if not (name and address and peer) or "/" in peer:
        raise ValueError(f"{text!r} does not end in /p2p/<peer id>")
    to_bytes(address)
    return address, from_base58(peer)
