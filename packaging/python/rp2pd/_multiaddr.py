"""Multiaddrs between text and bytes: those that the daemon listens on, dials and tells."""

from __future__ import annotations

import base64
import ipaddress
from typing import Callable, Dict, NamedTuple, Tuple

from ._ids import base58, peer_bytes, unbase32
from ._protobuf import Malformed, read_varint, varint


class _Protocol(NamedTuple):
    name: str
    # Bytes of the value; -1: its length stands before it.
    size: int
    write: Callable[[str], bytes]
    read: Callable[[bytes], str]


def _port(text: str) -> bytes:
    if not text.isdigit() or int(text) > 65535:
        raise ValueError(f"no port: {text!r}")
    return int(text).to_bytes(2, "big")


def _read_port(data: bytes) -> str:
    return str(int.from_bytes(data, "big"))


def _ip(data: bytes) -> str:
    return str(ipaddress.ip_address(data))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    if not text:
        raise ValueError("empty value in a multiaddr")
    return text.encode("utf-8", "surrogateescape")


def _nothing(_text: str) -> bytes:
    return b""


def _multibase(text: str) -> bytes:
    if not text.startswith("u"):
        raise ValueError(f"no base64url with its prefix u: {text!r}")
    return base64.urlsafe_b64decode(text[1:] + "=" * (-len(text[1:]) % 4))


def _onion3(text: str) -> bytes:
    host, _, port = text.partition(":")
    return unbase32(host) + _port(port)


_PROTOCOLS: Dict[int, _Protocol] = {
    4: _Protocol("ip4", 4, lambda text: ipaddress.IPv4Address(text).packed, _ip),
    41: _Protocol("ip6", 16, lambda text: ipaddress.IPv6Address(text).packed, _ip),
    6: _Protocol("tcp", 2, _port, _read_port),
    273: _Protocol("udp", 2, _port, _read_port),
    421: _Protocol("p2p", -1, peer_bytes, base58),
    445: _Protocol(
        "onion3",
        37,
        _onion3,
        lambda data: f"{base64.b32encode(data[:35]).decode().lower()}:{_read_port(data[35:])}",
    ),
    466: _Protocol(
        "certhash",
        -1,
        _multibase,
        lambda data: "u" + base64.urlsafe_b64encode(data).decode().rstrip("="),
    ),
}
for _code, _name in {42: "ip6zone", 53: "dns", 54: "dns4", 55: "dns6", 56: "dnsaddr"}.items():
    _PROTOCOLS[_code] = _Protocol(_name, -1, _bytes, _text)
for _code, _name in {400: "unix", 449: "sni"}.items():
    _PROTOCOLS[_code] = _Protocol(_name, -1, _bytes, _text)
for _code, _name in {
    290: "p2p-circuit",
    280: "webrtc-direct",
    281: "webrtc",
    448: "tls",
    454: "noise",
    460: "quic",
    461: "quic-v1",
    465: "webtransport",
    477: "ws",
    478: "wss",
    480: "http",
    443: "https",
}.items():
    _PROTOCOLS[_code] = _Protocol(_name, 0, _nothing, lambda _data: "")

_CODES = {protocol.name: code for code, protocol in _PROTOCOLS.items()}
_CODES["ipfs"] = 421


def addr_bytes(text: str) -> bytes:
    """The binary form. ValueError says what is wrong with the text."""
    if not text.startswith("/"):
        raise ValueError(f"multiaddr does not begin with a slash: {text!r}")
    if text.startswith("/unix/"):
        path = _bytes("/" + text[len("/unix/") :].strip("/"))
        return varint(400) + varint(len(path)) + path
    parts = text.strip("/").split("/")
    out = b""
    while parts:
        name = parts.pop(0)
        code = _CODES.get(name)
        if code is None:
            raise ValueError(f"unknown protocol {name!r} in multiaddr {text!r}")
        protocol = _PROTOCOLS[code]
        out += varint(code)
        if protocol.size == 0:
            continue
        if not parts:
            raise ValueError(f"no value of {name!r} in multiaddr {text!r}")
        value = protocol.write(parts.pop(0))
        if protocol.size < 0:
            out += varint(len(value))
        elif len(value) != protocol.size:
            raise ValueError(f"bad value of {name!r} in multiaddr {text!r}")
        out += value
    return out


def addr_text(data: bytes) -> str:
    """The text. From a protocol on that is not known here the rest is `/unknown/HEX`."""
    out, at = "", 0
    while at < len(data):
        try:
            part, after = _part(data, at)
        except (Malformed, ValueError, KeyError):
            return f"{out}/unknown/{data[at:].hex()}"
        out, at = out + part, after
    return out


def _part(data: bytes, at: int) -> Tuple[str, int]:
    code, at = read_varint(data, at)
    protocol = _PROTOCOLS[code]
    size = protocol.size
    if size < 0:
        size, at = read_varint(data, at)
    if at + size > len(data):
        raise Malformed("value is cut")
    value = protocol.read(data[at : at + size])
    if size == 0:
        return f"/{protocol.name}", at
    if protocol.name == "unix":
        value = value.lstrip("/")
    return f"/{protocol.name}/{value}", at + size
