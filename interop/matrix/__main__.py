"""The interop matrix on this machine, without containers.

    python3 interop/matrix --rp2pd target/release/rp2pd [--with NAME]... [--test NAME]... [--runs N]
                           [--out DIR]

Installs Redis and the partners where they are missing, runs every pairing over every transport,
secure channel and muxer that both sides have, then perf between daemons, the DHT among three of
them and gossipsub, all on loopback, and hole punching in network namespaces. Writes results.md and results.svg. Ends with 1 if a cell is red that
expected.json does not list with its reason, or green that it lists.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import cells
import participants
import table

HERE = Path(__file__).parent


def main():
    # So that all that was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    arguments = parse()
    known = json.loads((HERE / "expected.json").read_text())
    home = Path(arguments.target)
    home.mkdir(parents=True, exist_ok=True)
    everybody = participants.all_of(home.resolve(), arguments.rp2pd)
    with cells.Redis(home) as redis:
        results = []
        for run in range(arguments.runs):
            for cell in cells.plan(everybody, arguments.names or ["rp2pd"]):
                if arguments.tests and cell.test not in arguments.tests:
                    continue
                result = cell.run(redis)
                result.reason = known.get(result.name, "")
                results.append(result)
                print(f"{run + 1}/{arguments.runs} {result.line()}", flush=True)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.md").write_text(table.markdown(results, everybody))
    (out / "results.svg").write_text(table.svg(results))
    surprises = [one for one in results if one.passed == bool(one.reason)]
    for one in surprises:
        print(f"unexpected: {one.line()}", file=sys.stderr)
    passed = sum(one.passed for one in results)
    print(f"{passed} passed, {len(results) - passed} failed, {len(surprises)} of them unexpected")
    return 1 if surprises else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rp2pd", required=True, type=os.path.abspath, help="the daemon's path")
    names = "only cells with this participant, rp2pd unless given; may be given more than once"
    parser.add_argument("--with", dest="names", action="append", metavar="NAME", help=names)
    tests = "only cells of this test; may be given more than once"
    parser.add_argument("--test", dest="tests", action="append", metavar="NAME", help=tests)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--out", default=HERE.parent / "results")
    parser.add_argument("--target", default="target/interop-matrix", help="what is installed")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
