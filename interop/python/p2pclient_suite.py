"""Pytest plugin: what p2pclient's own test-suite takes from its surroundings.

Its source distribution leaves out the fixture that names the daemon. Outcomes go to the
file that RESULTS names, one JSON object per test.
"""

import contextlib
import json
import os

import p2pclient.daemon
import pytest

# The suite's files take the ip4 pair by name at import; plugins are imported before them.
if os.environ["CONTROL"] == "unix":
    p2pclient.daemon.make_p2pd_pair_ip4 = p2pclient.daemon.make_p2pd_pair_unix

LITTER = []


class TidyDaemon(p2pclient.daemon.GoDaemon):
    """Remembers the files that the suite's daemons and handlers leave in /tmp."""

    def _start_logging(self):
        super()._start_logging()
        control = str(self.control_maddr).removeprefix("/unix")
        LITTER.append(self.log_filename)
        LITTER.append(control.replace("_control_", "_listen_"))


p2pclient.daemon.GoDaemon = TidyDaemon


def pytest_sessionfinish():
    for path in LITTER:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def pytest_configure(config):
    for marker in ("go_only", "jsp2pd_probable_bug"):
        config.addinivalue_line("markers", marker)


@pytest.fixture
def daemon_executable():
    # The name decides which flags the suite passes, PATH which binary runs.
    return "p2pd"


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        result = {
            "test": report.nodeid.rsplit("::", 1)[-1],
            "file": os.path.basename(report.nodeid.split("::", 1)[0]),
            "outcome": report.outcome,
            "reason": report.longreprtext,
        }
        with open(os.environ["RESULTS"], "a") as results:
            results.write(json.dumps(result) + "\n")
