"""The stand-in's side of API v2: flat XML, status 200 always, answers signed as the request was."""

import hashlib
import hmac
import threading
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape


def read(document):
    """Reads a flat document."""
    return {field.tag: field.text or "" for field in ElementTree.fromstring(document)}


def sign(fields, secret):
    """Signs parameters by the algorithm that they name, or by that of a signature that stands in them."""
    signed = sorted((name, value) for name, value in fields.items() if name != "sign" and value)
    message = ("".join(f"{name}={value}&" for name, value in signed) + f"key={secret}").encode()
    if fields.get("sign_type") == "HMAC-SHA256" or len(fields.get("sign", "")) == HMAC_DIGITS:
        return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().upper()
    return hashlib.md5(message).hexdigest().upper()


class Book:
    """Orders and refunds; the free text `attach` or `refund_desc` may name states, as in the stand-in's v3 side."""

    def __init__(self, secret):
        self._secret = secret
        self._lock = threading.Lock()
        self._states = {}

    def answer(self, path, received):
        """Answers a request, and signs the answer."""
        asked = read(received)
        with self._lock:
            outcome = getattr(self, f"_{path.rsplit('/', 1)[1]}")(asked)
        fields = {"return_code": "SUCCESS", "return_msg": "OK", "result_code": "SUCCESS"}
        fields |= {name: asked[name] for name in ("appid", "mch_id", "nonce_str")} | outcome
        if asked.get("sign_type"):
            fields["sign_type"] = asked["sign_type"]
        fields["sign"] = sign(fields, self._secret)
        elements = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in fields.items())
        return f"<xml>{elements}</xml>".encode()

    def _unifiedorder(self, asked):
        self._states.setdefault(asked["out_trade_no"], _states(asked.get("attach"), "SUCCESS"))
        code_url = "weixin://wxpay/bizpayurl?pr=1&a=2"
        return {"prepay_id": "wx221", "trade_type": asked["trade_type"], "code_url": code_url}

    def _micropay(self, asked):
        self._unifiedorder(asked | {"trade_type": "MICROPAY"})
        state = self._next(asked["out_trade_no"])
        if state != "SUCCESS":
            return {"result_code": "FAIL", "err_code": state, "err_code_des": "not paid yet"}
        paid = {name: asked[name] for name in ("out_trade_no", "total_fee")}
        return {"bank_type": "OTHERS", "transaction_id": "42", **paid}

    def _orderquery(self, asked):
        number = asked["out_trade_no"]
        if number not in self._states:
            return {"result_code": "FAIL", "err_code": "ORDERNOTEXIST", "err_code_des": "no such order"}
        return {"trade_state": self._next(number), "out_trade_no": number, "bank_type": "OTHERS"}

    def _closeorder(self, asked):
        self._states[asked["out_trade_no"]] = ["CLOSED"]
        return {}

    def _reverse(self, asked):
        self._states[asked["out_trade_no"]] = ["REVOKED"]
        return {"recall": "N"}

    def _refund(self, asked):
        number = asked["out_refund_no"]
        self._states.setdefault(number, _states(asked.get("refund_desc"), "PROCESSING"))
        return {"refund_id": "50", "out_refund_no": number, "refund_fee": asked["refund_fee"]}

    def _refundquery(self, asked):
        number = asked["out_refund_no"]
        return {"refund_count": "1", "out_refund_no_0": number, "refund_status_0": self._next(number)}

    def _next(self, number):
        states = self._states[number]
        return states.pop(0) if len(states) > 1 else states[0]


def _states(text, usual):
    _, named, states = (text or "").partition("states:")
    return states.split(",") if named else [usual]


HMAC_DIGITS = 64
