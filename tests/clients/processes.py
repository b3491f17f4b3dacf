"""Child processes: the gate, the stand-in upstream. Each is stopped by its own id, whatever happens to the driver."""

import ctypes
import http.client
import signal
import socket
import subprocess
import time


class Child:
    """A child process whose output goes to a file."""

    def __init__(self, command, log_file):
        self.log_file = log_file
        with open(log_file, "wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent
            )

    def running(self):
        """Tells whether the process has not ended."""
        return self._process.poll() is None

    def stop(self):
        """Asks the process to end, insists after a while, and returns its exit status."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def log(self):
        """Returns what the process has printed."""
        with open(self.log_file, encoding="utf-8", errors="replace") as log:
            return log.read()


def run(command):
    """Runs a command to its end; returns its exit status and all that it printed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=RUN_SECONDS_MAX
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def free_ports(count):
    """Returns loopback ports on which nothing listens; all are held until the last is found, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_until_ready(child, port, path):
    """Waits until a plain HTTP server answers a path with 200.

    Raises RuntimeError where its process ends, or time is over, before.
    """
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline:
        if not child.running():
            raise RuntimeError(f"it ended before it was ready:\n{child.log()}")
        if _status(port, path) == 200:
            return
        time.sleep(POLL_SECONDS)
    raise RuntimeError(f"it was not ready after {READY_SECONDS_MAX} s:\n{child.log()}")


def _status(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _end_with_parent():
    """Asks the kernel to end this process with its parent, should the driver itself be killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.05
READY_SECONDS_MAX = 30
STOP_SECONDS_MAX = 20
RUN_SECONDS_MAX = 60
