"""Ed25519 identities made from a seed, as some matrices ask for (RFC 8032, libp2p's peer ids).

The private keys are public knowledge: this arithmetic takes no care to hide them.
"""

import hashlib

from multiaddr import base58
from protobuf import message

PRIME = 2**255 - 19
CURVE = -121665 * pow(121666, -1, PRIME) % PRIME
BASE_Y = 4 * pow(5, -1, PRIME) % PRIME
ED25519 = 1


def _base_point():
    square = (BASE_Y**2 - 1) * pow(CURVE * BASE_Y**2 + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if (x * x - square) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    return (x if x % 2 == 0 else PRIME - x), BASE_Y


def _add(one, two):
    product = CURVE * one[0] * two[0] * one[1] * two[1]
    x = (one[0] * two[1] + two[0] * one[1]) * pow(1 + product, -1, PRIME)
    y = (one[1] * two[1] + one[0] * two[0]) * pow(1 - product, -1, PRIME)
    return x % PRIME, y % PRIME


def public_key(seed):
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    scalar = scalar & ((1 << 254) - 8) | 1 << 254
    point, total = _base_point(), (0, 1)
    while scalar:
        if scalar & 1:
            total = _add(total, point)
        point = _add(point, point)
        scalar >>= 1
    x, y = total
    return (y | (x & 1) << 255).to_bytes(32, "little")


def key_file(seed):
    """What p2pd reads at -id, and the peer id as bytes and as text."""
    public = public_key(seed)
    private = message((1, ED25519), (2, seed + public))
    encoded = message((1, ED25519), (2, public))
    peer = bytes([0, len(encoded)]) + encoded
    return private, peer, base58(peer)
