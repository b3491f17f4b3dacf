"""Counts and prints checks: one line each, and a reason where one fails."""

from contextlib import contextmanager


class Mismatch(Exception):
    """Something was found that is not what the rule says."""


class Checks:
    """The outcomes of all checks so far."""

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self._suite = ""

    def suite(self, name):
        """Names the suite that the following checks belong to."""
        self._suite = name

    @contextmanager
    def rule(self, name):
        """Counts one check: passed where the block ends, failed where it raises anything."""
        try:
            yield
        except Exception as fault:  # A client may raise whatever it likes; each is a failed check, none ends the run.
            self.failed += 1
            print(f"FAIL {self._suite}: {name}: {type(fault).__name__}: {fault}", flush=True)
        else:
            self.passed += 1
            print(f"ok   {self._suite}: {name}", flush=True)

    def summary(self):
        """Returns the closing line."""
        return f"{self.passed} passed, {self.failed} failed"


def equal(what, found, expected):
    """Raises Mismatch unless a value is the one expected."""
    if found != expected:
        raise Mismatch(f"{what}: expected {expected!r}, got {found!r}")


def holds(what, condition):
    """Raises Mismatch unless a condition holds."""
    if not condition:
        raise Mismatch(what)


def raises(fragment, call):
    """Raises Mismatch unless a call raises an exception whose text contains a fragment."""
    try:
        result = call()
    except Exception as fault:  # Clients raise bare `Exception`.
        holds(f"expected an exception with {fragment!r}, got {type(fault).__name__}: {fault}", fragment in str(fault))
    else:
        raise Mismatch(f"expected an exception with {fragment!r}, got {result!r}")
