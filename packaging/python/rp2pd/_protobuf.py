"""The wire format of protobuf, as far as the control protocol uses it.

A message is written from pairs of field number and value, and read into `Fields`. The numbers are
those of `proto/p2pd.proto`.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple, Union

Value = Union[int, str, bytes, None, Sequence[bytes], Sequence[int]]


class Malformed(ValueError):
    """Bytes that are no message."""


def varint(value: int) -> bytes:
    """An unsigned LEB128 number; negative ones as int64 has them."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> Tuple[int, int]:
    """The number that begins at `at`, and where it ends. Malformed if it is cut or too long."""
    value = 0
    for index in range(10):
        if at + index >= len(data):
            raise Malformed("number is cut")
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + index + 1
    raise Malformed("number is too long")


def encode(*fields: Tuple[int, Value]) -> bytes:
    """A message. None leaves a field out, a list repeats it."""
    out = bytearray()
    for number, value in fields:
        if value is None:
            continue
        many: Sequence[Union[int, str, bytes]]
        many = [value] if isinstance(value, (int, str, bytes)) else value
        for one in many:
            if isinstance(one, int):
                out += varint(number << 3) + varint(int(one))
            else:
                data = one.encode() if isinstance(one, str) else bytes(one)
                out += varint(number << 3 | 2) + varint(len(data)) + data
    return bytes(out)


class Fields:
    """The fields of a message that was read. Unknown ones are kept and never looked at."""

    def __init__(self, data: bytes) -> None:
        self._numbers: Dict[int, List[int]] = {}
        self._bytes: Dict[int, List[bytes]] = {}
        at = 0
        while at < len(data):
            key, at = read_varint(data, at)
            number, kind = key >> 3, key & 7
            if kind == 0:
                value, at = read_varint(data, at)
                self._numbers.setdefault(number, []).append(value)
                continue
            if kind == 2:
                length, at = read_varint(data, at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise Malformed(f"wire type {kind}")
            if at + length > len(data):
                raise Malformed("field is cut")
            if kind == 2:
                self._bytes.setdefault(number, []).append(data[at : at + length])
            at += length

    def number(self, number: int, default: int = 0) -> int:
        """An unsigned number or an enumeration's."""
        return self._numbers.get(number, [default])[-1]

    def flag(self, number: int) -> bool:
        return self.number(number) != 0

    def has(self, number: int) -> bool:
        return number in self._bytes or number in self._numbers

    def all(self, number: int) -> List[bytes]:
        return self._bytes.get(number, [])

    def raw(self, number: int) -> bytes:
        return self._bytes.get(number, [b""])[-1]

    def text(self, number: int) -> str:
        """What is not UTF-8 keeps its place with surrogates, and is encoded back the same."""
        return self.raw(number).decode("utf-8", "surrogateescape")

    def texts(self, number: int) -> List[str]:
        return [one.decode("utf-8", "surrogateescape") for one in self.all(number)]

    def message(self, number: int) -> "Fields":
        """A message inside this one; an empty one if it is absent."""
        return Fields(b"".join(self.all(number)))

    def messages(self, number: int) -> List["Fields"]:
        return [Fields(one) for one in self.all(number)]


def name(text: Union[str, bytes]) -> bytes:
    """A protocol, topic or tag as bytes."""
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
