"""The variables that the matrices set, under their current and their older names."""

LONGEST_TEXT = 4096


class Misuse(Exception):
    """The environment or the command line is incomplete or contradicts itself."""


class Environment:
    """Reads variables strictly: what is absent, empty, malformed or contradictory is Misuse."""

    def __init__(self, variables):
        self.variables = variables

    def text(self, *names, default=None):
        """The one value that these names have; each matrix uses one of them."""
        found = {name: self.variables[name] for name in names if self.variables.get(name)}
        if len(set(found.values())) > 1:
            both = ", ".join(f"{name}={value!r}" for name, value in found.items())
            raise Misuse(f"the environment contradicts itself: {both}")
        for name, value in found.items():
            if len(value) > LONGEST_TEXT or not value.isprintable():
                raise Misuse(f"{name} is no text of at most {LONGEST_TEXT} characters")
            # What the matrix writes for a value that its table does not have.
            if value != "null":
                return value
        if default is None:
            raise Misuse(f"the environment lacks {' or '.join(names)}")
        return default

    def has(self, *names):
        return any(self.variables.get(name) for name in names)

    def flag(self, *names, default=None):
        value = self.text(*names, default=default)
        if value not in ("true", "false"):
            raise Misuse(f"{names[0]}={value!r} is neither true nor false")
        return value == "true"

    def number(self, *names, default, lowest, highest):
        value = self.text(*names, default=str(default))
        # Before int(), which takes underscores, signs, and digits of any script.
        if not (value.isascii() and value.isdigit() and len(value) < 20):
            raise Misuse(f"{names[0]}={value!r} is no number")
        if not lowest <= int(value) <= highest:
            raise Misuse(f"{names[0]}={value} is not between {lowest} and {highest}")
        return int(value)

    def choice(self, *names, among, default=None):
        value = self.text(*names, default=default)
        if value not in among:
            known = ", ".join(word for word in among if word)
            raise Misuse(f"{names[0]}={value!r} is none of {known}")
        return value

    def timeout(self, default):
        """Seconds for the whole test: a little less than the matrix gives it."""
        return self.number(
            "TEST_TIMEOUT_SECS", "test_timeout_seconds", default=default, lowest=1, highest=3600
        )

    def is_legacy(self):
        """Whether the names, and so the results, are the older ones."""
        return not self.has("TEST_KEY", "IS_DIALER")

    def redis(self):
        """Host and port."""
        address = self.text("REDIS_ADDR", "redis_addr", default="redis:6379")
        host, colon, port = address.rpartition(":")
        if not colon:
            host, port = address, "6379"
        if not (host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
            raise Misuse(f"REDIS_ADDR={address!r} is not host:port")
        return host, int(port)

    def key(self, suffix, legacy):
        """The name in Redis of what the partners tell each other."""
        if self.is_legacy():
            return legacy
        return f"{self.text('TEST_KEY')}_{suffix}"
