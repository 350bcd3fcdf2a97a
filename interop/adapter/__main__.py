"""Makes a p2pd-compatible daemon a participant of libp2p's interop matrices.

    python3 interop/adapter [transport|perf|kad-dht|hole-punch|gossipsub]

The role and the partner come from the environment, as the matrix sets it; README.md beside
this file lists what is read and what is printed. P2PD names the daemon.

Exit codes: 0 done, 1 the test failed or its time ran out, 2 the environment or the command line
is no use, 143 and 130 on SIGTERM and SIGINT. The reason is one line on stderr.
"""

import os
import signal
import sys
import traceback

import gossipsub
import hole_punch
import kad_dht
import perf
import transport
from environment import Environment, Misuse
from failure import Failure

TESTS = {
    "transport": transport.run,
    "perf": perf.run,
    "kad-dht": kad_dht.run,
    "hole-punch": hole_punch.run,
    "gossipsub": gossipsub.run,
}


class Ended(BaseException):
    """A signal asks for the end; the daemon is ended on the way out."""


def end(number, _frame):
    raise Ended(128 + number)


def chosen(words):
    """The test to run: named by the first word, or else by P2PD_TEST."""
    name = words[0] if words else os.environ.get("P2PD_TEST", "")
    if name not in TESTS:
        raise Misuse(f"no such test: {name!r}; there are {', '.join(TESTS)}")
    return TESTS[name], words[1:]


def main():
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        test, words = chosen(sys.argv[1:])
        test(Environment(os.environ), words)
    except Misuse as misuse:
        return complain(misuse, 2)
    except Failure as failure:
        return complain(failure, 1)
    except BrokenPipeError:
        return complain("nobody reads the results", 1)
    except Ended as ended:
        return ended.args[0]
    except Exception as error:
        # A fault of this program. The matrices want one line; whoever mends it sets DEBUG.
        if os.environ.get("DEBUG") == "true":
            traceback.print_exc()
        return complain(f"{type(error).__name__}: {error}", 1)
    return 0


def complain(reason, code):
    text = " ".join(str(reason).split())
    print(f"adapter: {text}", file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
