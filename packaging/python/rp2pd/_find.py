"""Where the binary of this wheel was installed."""

import os
import sys
import sysconfig

NAME = "rp2pd"


def find_rp2pd_bin() -> str:
    """The path of the binary.

    `RP2PD_BIN` in the environment names another one. Looks where `pip install`, `pip install --user` and `pip install --target` put scripts.
    Raises FileNotFoundError if it is in none of these places.
    """
    named = os.environ.get("RP2PD_BIN")
    if named:
        if not os.path.isfile(named):
            raise FileNotFoundError(f"RP2PD_BIN names no file: {named}")
        return named
    places = [sysconfig.get_path("scripts")]
    user = "posix_user" if os.name == "posix" else "nt_user"
    if user in sysconfig.get_scheme_names():
        places.append(sysconfig.get_path("scripts", scheme=user))
    package = os.path.dirname(os.path.abspath(__file__))
    places.append(os.path.join(os.path.dirname(package), "bin"))
    # In a virtual environment whose interpreter is a link to another one's.
    places.append(os.path.dirname(sys.executable))
    for place in places:
        path = os.path.join(place, NAME)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"{NAME} is in none of {', '.join(places)}")
