"""`python -m rp2pd`: the daemon in the place of this process, so that signals reach it."""

import os
import sys

from ._find import find_rp2pd_bin


def main() -> None:
    binary = find_rp2pd_bin()
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
