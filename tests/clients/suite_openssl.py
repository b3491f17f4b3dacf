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
    with checks.rule("an order to the platform's own host name passes"):
        order = {
            "appid": APPID,
            "mchid": merchant.mchid,
            "description": "命令行",
            "out_trade_no": scene.order_number(),
            "notify_url": "https://example.com/notify",
            "amount": {"total": 1},
        }
        answer = _post(scene, merchant, "/v3/pay/transactions/native", json.dumps(order, ensure_ascii=False).encode())
        equal("status", answer.status, 200)
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
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def message(self):
        """Returns what the platform signs: timestamp, nonce and body, a line each."""
        lines = [self.headers["wechatpay-timestamp"].encode(), self.headers["wechatpay-nonce"].encode(), self.body]
        return b"\n".join([*lines, b""])


def _post(scene, merchant, target, body):
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
    command = ["curl", "--silent", "--show-error", "--max-time", "15", "--cacert", scene.authority_file]
    command += ["--resolve", f"{HOST}:{scene.gate_port}:127.0.0.1", "--dump-header", head_file, "--output", answer_file]
    command += ["--header", "Content-Type: application/json", "--header", f"Authorization: {authorization}"]
    command += ["--data-binary", f"@{body_file}", f"https://{HOST}:{scene.gate_port}{target}"]
    _tool(*command)
    with open(head_file, encoding="ascii") as head, open(answer_file, "rb") as answer:
        status, *lines = head.read().splitlines()
        pairs = [line.split(": ", 1) for line in lines if line]
        return _Answer(int(status.split()[1]), {name.lower(): value for name, value in pairs}, answer.read())


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
