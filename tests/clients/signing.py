"""API v3 signatures made and checked by hand, independent of any client: sections of the message, one line each."""

import base64
import http.client
import json
import re
import secrets
import ssl
import time
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

import upstream_v2
from checks import Mismatch, equal, holds


@dataclass
class Answer:
    """An answer of the gate."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        """Returns the parsed body."""
        return json.loads(self.body)

    def code(self):
        """Returns the error code."""
        return self.json().get("code")

    def is_signed(self):
        """Tells whether the answer carries any of the signature's headers."""
        return any(name.lower().startswith("wechatpay-") for name in self.headers)


class Caller:
    """Sends requests that are signed by hand, so that each part can be had wrong."""

    def __init__(self, scene):
        self._scene = scene
        self._tls = ssl.create_default_context(cafile=scene.authority_file)

    def authorize(self, merchant, method, target, body=b"", timestamp=None, nonce=None, key=None):
        """Returns the value of `Authorization` for a request."""
        timestamp = str(int(time.time()) if timestamp is None else timestamp)
        nonce = nonce or secrets.token_hex(16)
        message = b"\n".join([method.encode(), target.encode(), timestamp.encode(), nonce.encode(), body, b""])
        signature = base64.b64encode((key or merchant.key).sign(message, PKCS1v15(), SHA256())).decode()
        return (
            f'{SCHEME} mchid="{merchant.mchid}",nonce_str="{nonce}",timestamp="{timestamp}",'
            f'serial_no="{merchant.serial}",signature="{signature}"'
        )

    def call(self, merchant, method, target, content=None, headers=(), **signing):
        """Signs a request with JSON content and sends it."""
        body = b"" if content is None else json.dumps(content, ensure_ascii=False).encode()
        authorization = self.authorize(merchant, method, target, body, **signing)
        return self.send(method, target, body, [("Authorization", authorization), *ORDINARY, *headers])

    def send(self, method, target, body=b"", headers=()):
        """Sends a request exactly as given, on a connection of its own."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._scene.gate_port, timeout=ANSWER_SECONDS_MAX, context=self._tls
        )
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Type", "application/json")
            if body or method == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def check_answer(self, answer, serial=None):
        """Raises Mismatch unless an answer is signed, now, with the platform key of a serial or id."""
        scene = self._scene
        serial = serial or scene.platform_serial
        key = scene.public_key if serial == scene.public_key_id else scene.platform_key
        equal("Wechatpay-Serial", answer.headers.get_all("Wechatpay-Serial"), [serial])
        equal("Wechatpay-Signature-Type", answer.headers.get_all("Wechatpay-Signature-Type"), [SCHEME])
        timestamp, nonce = answer.headers["Wechatpay-Timestamp"], answer.headers["Wechatpay-Nonce"]
        holds("the answer's timestamp is not now", abs(time.time() - int(timestamp)) < FRESH_SECONDS)
        message = b"\n".join([timestamp.encode(), nonce.encode(), answer.body, b""])
        _verify(key.public_key(), answer.headers["Wechatpay-Signature"], message, "the answer's signature")


def check_forwarded(scene, record):
    """Raises Mismatch unless what reached the upstream is, byte for byte, what the merchant signed."""
    if not record["target"].startswith("/v3/"):
        return _check_forwarded_v2(scene, record)
    found = dict(re.findall(r'(\w+)="([^"]*)"', _single(record, "Authorization")))
    merchant = scene.merchants[found["mchid"]]
    body = base64.b64decode(record["body_base64"])
    lines = [record["method"], record["target"], found["timestamp"], found["nonce_str"]]
    message = b"\n".join([*(line.encode() for line in lines), body, b""])
    _verify(merchant.key.public_key(), found["signature"], message, f"{record['method']} {record['target']}")
    return _check_named(record, merchant)


def _check_forwarded_v2(scene, record):
    fields = upstream_v2.read(base64.b64decode(record["body_base64"]))
    merchant = scene.merchants[fields["mch_id"]]
    equal(f"sign of {record['target']}", fields["sign"], upstream_v2.sign(fields, merchant.apiv2_key))
    return _check_named(record, merchant)


def _check_named(record, merchant):
    equal("Tollgate-Merchant", _single(record, "Tollgate-Merchant"), merchant.mchid)
    decision = _single(record, "Tollgate-Decision")
    holds(f"Tollgate-Decision is {decision!r}", re.fullmatch("[0-9a-f]{32}", decision))


def _single(record, name):
    values = [value for key, value in record["headers"] if key.lower() == name.lower()]
    equal(f"values of {name}", len(values), 1)
    return values[0]


def _verify(public_key, signature, message, what):
    try:
        public_key.verify(base64.b64decode(signature, validate=True), message, PKCS1v15(), SHA256())
    except InvalidSignature:
        raise Mismatch(f"{what}: the signature does not hold over {message!r}") from None


SCHEME = "WECHATPAY2-SHA256-RSA2048"
ORDINARY = (("Accept", "application/json"), ("User-Agent", "tollgate-tests"))
ANSWER_SECONDS_MAX = 15
FRESH_SECONDS = 30
