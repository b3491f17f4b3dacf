"""curl and openssl alone: a request signed on the command line, and its answer verified there."""

import json
import subprocess
import time

from checks import Mismatch, equal, holds
from scene import APPID, CERTIFICATE_MODE, HOST
from signing import SCHEME


def run(scene, checks):
    """Runs the checks of these tools."""
    checks.suite("curl and openssl")
    merchant = scene.merchants[CERTIFICATE_MODE]
    scene.records.new()
    answer = None
    for version in ("1.1", "2"):
        with checks.rule(f"an order to the platform's own host name passes by HTTP/{version}"):
            order = {
                "appid": APPID,
                "mchid": merchant.mchid,
                "description": "命令行",
                "out_trade_no": scene.order_number(),
                "notify_url": "https://example.com/notify",
                "amount": {"total": 1},
            }
            body = json.dumps(order, ensure_ascii=False).encode()
            answer = _post(scene, merchant, "/v3/pay/transactions/native", body, version)
            equal("version and status", (answer.version, answer.status), (f"HTTP/{version}", 200))
            holds("no code_url", json.loads(answer.body)["code_url"])
            equal("requests that reached the upstream", len(scene.records.new()), 1)
    with checks.rule("openssl verifies the answer"):
        _verify(scene, answer.message(), answer.headers["wechatpay-signature"])
    with checks.rule("openssl does not verify another answer"):
        altered = answer.message().replace(b"weixin", b"Weixin")
        try:
            _verify(scene, altered, answer.headers["wechatpay-signature"])
        except Mismatch:
            return
        raise Mismatch("the signature holds over an altered body")


class _Answer:
    def __init__(self, version, status, headers, body):
        self.version = version
        self.status = status
        self.headers = headers
        self.body = body

    def message(self):
        """Returns what the platform signs: timestamp, nonce and body, a line each."""
        lines = [self.headers["wechatpay-timestamp"].encode(), self.headers["wechatpay-nonce"].encode(), self.body]
        return b"\n".join([*lines, b""])


def _post(scene, merchant, target, body, version):
    timestamp, nonce = str(int(time.time())), _tool("openssl", "rand", "-hex", "16").decode().strip()
    message = b"\n".join([b"POST", target.encode(), timestamp.encode(), nonce.encode(), body, b""])
    signature = _tool("openssl", "dgst", "-sha256", "-sign", merchant.private_key_file, given=message)
    signature = _tool("openssl", "base64", "-A", given=signature).decode()
    authorization = (
        f'{SCHEME} mchid="{merchant.mchid}",serial_no="{merchant.serial}",nonce_str="{nonce}",'
        f'timestamp="{timestamp}",signature="{signature}"'
    )
    body_file, head_file, answer_file = (f"{scene.folder}/curl.{name}" for name in ("body", "head", "answer"))
    with open(body_file, "wb") as file:
        file.write(body)
    command = ["curl", f"--http{version}", "--silent", "--show-error", "--max-time", "15"]
    command += ["--cacert", scene.authority_file]
    command += ["--resolve", f"{HOST}:{scene.gate_port}:127.0.0.1", "--dump-header", head_file, "--output", answer_file]
    command += ["--header", "Content-Type: application/json", "--header", f"Authorization: {authorization}"]
    command += ["--data-binary", f"@{body_file}", f"https://{HOST}:{scene.gate_port}{target}"]
    _tool(*command)
    with open(head_file, encoding="ascii") as head, open(answer_file, "rb") as answer:
        first, *lines = head.read().splitlines()
        version, status = first.split()[:2]
        pairs = [line.split(": ", 1) for line in lines if line]
        return _Answer(version, int(status), {name.lower(): value for name, value in pairs}, answer.read())


def _verify(scene, message, signature):
    signature_file = f"{scene.folder}/openssl.signature"
    with open(signature_file, "wb") as file:
        file.write(_tool("openssl", "base64", "-d", "-A", given=signature.encode()))
    command = ["openssl", "dgst", "-sha256", "-verify", scene.platform_public_file, "-signature", signature_file]
    _tool(*command, given=message)


def _tool(*command, given=b""):
    done = subprocess.run(command, input=given, capture_output=True, timeout=30)
    if done.returncode != 0:
        told = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
        raise Mismatch(f"{command[0]} {command[1]} ended with {done.returncode}: {told}")
    return done.stdout
