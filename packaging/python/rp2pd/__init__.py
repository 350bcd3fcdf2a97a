"""The libp2p daemon rp2pd, as a binary in this environment."""

from ._find import find_rp2pd_bin

__all__ = ["find_rp2pd_bin"]
