"""Sends the traffic of real clients through a running gate: unmodified SDKs, curl with openssl, and requests by hand.

Everything is made anew in a temporary folder: authority, certificates, merchants, configuration. A stand-in for the
payment API records what the gate let through. Prints one line per check and exits with 1 where one failed.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile

sys.dont_write_bytecode = True  # The source tree stays as it is.

import processes
import suite_axios
import suite_openssl
import suite_raw
import suite_v2
import suite_wechatpayv3
from books import Books
from checks import Checks, equal, holds
from scene import BOOKS_NODE, BOOKS_PYTHON, BOOKS_V2, Scene
from signing import check_forwarded

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    """Runs everything; returns the exit status."""
    arguments = _arguments()
    # Ends by an exception, so that whatever was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.stdout.reconfigure(encoding="utf-8")
    checks = Checks()
    folder = tempfile.mkdtemp(prefix="tollgate-clients-")
    try:
        _run(os.path.abspath(arguments.binary), os.path.abspath(arguments.modules), folder, checks)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(checks.summary())
    return 1 if checks.failed or not checks.passed else 0


def _arguments():
    target = os.environ.get("CARGO_TARGET_DIR", f"{ROOT}/target")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", nargs="?", default=f"{target}/debug/tollgate", help="the gate")
    parser.add_argument("--modules", default=f"{target}/clients", help="the folder that holds node_modules")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    return parser.parse_args()


def _run(binary, modules, folder, checks):
    scene = Scene(folder, processes.free_ports(3))
    _only_local(scene)
    checks.suite("gate")
    children = {}
    try:
        with checks.rule("it starts from a new configuration"):
            _prepare(binary, scene)
            children["upstream"] = _start_upstream(scene)
            children["gate"] = processes.Child([binary, "serve", "--config", scene.config_file], f"{folder}/gate.log")
            processes.wait_until_ready(children["gate"], scene.control_port, "/readyz")
        if not checks.failed:
            _play(binary, scene, modules, checks)
    finally:
        statuses = {name: child.stop() for name, child in reversed(children.items())}
    checks.suite("gate")
    with checks.rule("every request that reached the upstream is, byte for byte, what its merchant signed"):
        records = scene.records.all()
        holds("nothing reached the upstream", records)
        for record in records:
            check_forwarded(scene, record)
    with checks.rule("it ends when asked to, and never panicked"):
        equal("exit status", statuses.get("gate"), 0)
        holds("its log speaks of a panic", "panicked" not in children["gate"].log())
    if checks.failed and "gate" in children:
        print(f"--- what the gate logged last ---\n{children['gate'].log()[-LOG_CHARS_MAX:]}")


def _prepare(binary, scene):
    """Lets the gate make its secret, and check the configuration before it is used."""
    made = f"{scene.folder}/made"
    status, told = processes.run([binary, "init", made])
    holds(f"init ended with {status}: {told}", status == 0)
    scene.write_config(f"{made}/deployment.key")
    for file in (f"{made}/tollgate.toml", scene.config_file):
        status, told = processes.run([binary, "check-config", file])
        holds(f"check-config of {file} ended with {status}: {told}", status == 0)


def _start_upstream(scene):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "upstream.py")
    command = [sys.executable, script, "--port", str(scene.upstream_port), "--records", scene.records_file]
    command += ["--apiv2-key-file", scene.apiv2_key_file]
    child = processes.Child(command, f"{scene.folder}/upstream.log")
    processes.wait_until_ready(child, scene.upstream_port, "/ready")
    return child


def _play(binary, scene, modules, checks):
    suites = {
        "wechatpayv3": lambda: suite_wechatpayv3.run(scene, checks, Books(binary, scene, BOOKS_PYTHON)),
        "wechatpay-axios-plugin": lambda: suite_axios.run(scene, checks, modules, Books(binary, scene, BOOKS_NODE)),
        "API v2": lambda: suite_v2.run(scene, checks, modules, Books(binary, scene, BOOKS_V2)),
        "curl and openssl": lambda: suite_openssl.run(scene, checks),
        "by hand": lambda: suite_raw.run(scene, checks),
    }
    for name, suite in suites.items():
        checks.suite(name)
        with checks.rule("the suite ran to its end"):
            suite()


def _only_local(scene):
    """Makes every client trust the scene's authority alone, and go to it directly."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    os.environ["REQUESTS_CA_BUNDLE"] = scene.authority_file


LOG_CHARS_MAX = 8000

if __name__ == "__main__":
    sys.exit(main())
