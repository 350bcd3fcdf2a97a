"""Peer ids and CIDs between text and bytes."""

from __future__ import annotations

import base64
import hashlib
from typing import Union

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS = {letter: value for value, letter in enumerate(_ALPHABET)}


def base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    out = ""
    while number:
        number, digit = divmod(number, 58)
        out = _ALPHABET[digit] + out
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + out


def unbase58(text: str) -> bytes:
    """ValueError if a letter is none of base58."""
    number = 0
    for letter in text:
        if letter not in _DIGITS:
            raise ValueError(f"no base58: {text!r}")
        number = number * 58 + _DIGITS[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def unbase32(text: str) -> bytes:
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError as error:
        raise ValueError(f"no base32: {text!r}") from error


def peer_bytes(peer: str) -> bytes:
    """The multihash of a peer id, in base58 or as a CID in base32. ValueError if it is neither."""
    if not isinstance(peer, str) or not peer:
        raise ValueError(f"no peer id: {peer!r}")
    if peer.startswith("b") and len(peer) > 52:
        data = unbase32(peer[1:])
        # Version 1, the codec of keys.
        if data[:2] != b"\x01\x72":
            raise ValueError(f"no peer id: {peer!r}")
        return data[2:]
    data = unbase58(peer)
    if len(data) < 2:
        raise ValueError(f"no peer id: {peer!r}")
    return data


def cid_bytes(cid: Union[str, bytes]) -> bytes:
    """A CID as bytes: `Qm...`, `b...` in base32, `z...` in base58, or bytes as they are."""
    if isinstance(cid, bytes):
        return cid
    if cid.startswith("Qm"):
        return unbase58(cid)
    if cid.startswith("b"):
        return unbase32(cid[1:])
    if cid.startswith("z"):
        return unbase58(cid[1:])
    raise ValueError(f"no CID: {cid!r}")


def cid_of(data: bytes) -> str:
    """The CID of a block of raw bytes: version 1, SHA-256, as `ipfs block put` names it."""
    raw = b"\x01\x55\x12\x20" + hashlib.sha256(data).digest()
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")
