"""What the gate has on its books, as the operator reads and settles it with the gate's own commands."""

import json

import processes
from checks import equal, holds


class Books:
    """The books of one merchant."""

    def __init__(self, binary, scene, mchid):
        self._binary = binary
        self._place = ["--control", f"127.0.0.1:{scene.control_port}"]
        self._mchid = mchid

    def check(self, net, gross):
        """Raises Mismatch unless so much is held and committed of the day of either limit, each a pair in fen."""
        usage = json.loads(self._run("usage", *self._place, "--merchant", self._mchid, "--json"))
        days = {limit["limit"]: limit["windows"][0] for limit in usage}
        for name, expected in (("net-day", net), ("gross-day", gross)):
            day = days[name]
            equal("window", day["window"], "day")
            equal(f"held and committed of {name}", (day["held"], day["committed"]), expected)
            equal(f"used of {name}", day["used"], sum(expected))
            equal(f"room of {name}", day["room"], day["ceiling"] - day["used"])

    def commit(self, decision):
        """Says that a decision was paid; returns what the gate says of it."""
        return self._run("settle", *self._place, "commit", decision)

    def _run(self, *arguments):
        status, told = processes.run([self._binary, *arguments])
        holds(f"{arguments} ended with {status}: {told}", status == 0)
        return told
