"""The stand-in for the payment API behind the gate: realistic JSON, unsigned, and a record of all that reached it."""

import argparse
import base64
import gzip
import json
import re
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import upstream_v2


class Records:
    """The requests that reached the stand-in, read from the file it writes."""

    def __init__(self, path):
        self._path = path
        self._seen = 0

    def all(self):
        """Returns every request so far."""
        try:
            with open(self._path, encoding="utf-8") as file:
                return [json.loads(line) for line in file]
        except FileNotFoundError:
            return []

    def new(self):
        """Returns the requests that arrived since the last call."""
        records = self.all()
        new, self._seen = records[self._seen :], len(records)
        return new


def header(record, name):
    """Returns all values of a header of a recorded request."""
    return [value for key, value in record["headers"] if key.lower() == name.lower()]


def body(record):
    """Returns the body of a recorded request, byte for byte."""
    return base64.b64decode(record["body_base64"])


class Book:
    """Orders and refunds, as far as answers need them.

    The free text of an order or a refund may name the states that it passes through, as `states:NOTPAY,SUCCESS`: each
    answer that shows a state moves on to the next, and the last one stays.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._orders = {}
        self._refunds = {}
        self._states = {}

    def order(self, order, kind):
        """Takes an order; the same number again is the same order."""
        with self._lock:
            number = order["out_trade_no"]
            if number not in self._orders:
                self._orders[number] = self._transaction(order, kind)
                self._states[number] = _states(order.get("attach"), "SUCCESS")
            transaction = self._orders[number]
            return self._shown(transaction, number, "trade_state") if kind == "CODEPAY" else transaction

    def query(self, name, value):
        """Finds an order by its number or transaction id."""
        with self._lock:
            found = next((order for order in self._orders.values() if order[name] == value), None)
            return found and self._shown(found, found["out_trade_no"], "trade_state")

    def close(self, number):
        """Closes an order, where there is one."""
        with self._lock:
            if number in self._orders:
                self._states[number] = ["CLOSED"]

    def refund(self, request):
        """Takes a refund."""
        amount = request["amount"]
        refund = {
            "refund_id": f"5030000000{len(self._refunds):018d}",
            "out_refund_no": request["out_refund_no"],
            "transaction_id": request.get("transaction_id", "4200000000000000000000000000"),
            "out_trade_no": request.get("out_trade_no", ""),
            "channel": "ORIGINAL",
            "user_received_account": "支付用户零钱",
            "create_time": _now(),
            "funds_account": "AVAILABLE",
            "amount": {**amount, "payer_total": amount["total"], "payer_refund": amount["refund"]},
        }
        number = request["out_refund_no"]
        with self._lock:
            if number not in self._refunds:
                self._refunds[number] = refund
                self._states[f"refund {number}"] = _states(request.get("reason"), "PROCESSING")
            return self._shown(self._refunds[number], f"refund {number}", "status")

    def refund_of(self, number):
        """Finds a refund by its number."""
        with self._lock:
            found = self._refunds.get(number)
            return found and self._shown(found, f"refund {number}", "status")

    def _shown(self, content, key, member):
        states = self._states[key]
        state = states.pop(0) if len(states) > 1 else states[0]
        return {**content, member: state}

    def _transaction(self, order, kind):
        total = order["amount"]["total"]
        return {
            "transaction_id": f"4200000000{len(self._orders):018d}",
            "out_trade_no": order["out_trade_no"],
            "appid": order["appid"],
            "mchid": order["mchid"],
            "trade_type": kind,
            "bank_type": "OTHERS",
            "success_time": _now(),
            "payer": {"openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"},
            "amount": {"total": total, "payer_total": total, "currency": "CNY", "payer_currency": "CNY"},
        }


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        """Answers queries, and the question whether the stand-in is up."""
        if self.path == READY_PATH:
            return self._answer(200, {})
        self._record(b"")
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/v3/pay/transactions/out-trade-no/([^/]+)", path):
            return self._found(self.server.book.query("out_trade_no", found[1]))
        if found := re.fullmatch(r"/v3/pay/transactions/id/([^/]+)", path):
            return self._found(self.server.book.query("transaction_id", found[1]), spread=True)
        if found := re.fullmatch(r"/v3/refund/domestic/refunds/([^/]+)", path):
            return self._found(self.server.book.refund_of(found[1]))
        return self._unknown()

    def do_POST(self):
        """Answers orders, closings and refunds."""
        received = self._body()
        self._record(received)
        if self.path.startswith(V2_PATHS):
            return self._answer_v2(received)
        if found := re.fullmatch(r"/v3/pay/transactions/out-trade-no/([^/]+)/close", self.path):
            self.server.book.close(found[1])
            return self._answer(204, None)
        if self.path == "/v3/refund/domestic/refunds":
            return self._answer(200, self.server.book.refund(json.loads(received)))
        if found := re.fullmatch(r"/v3/pay/transactions/([a-z0-9]+)", self.path):
            return self._order(found[1], json.loads(received))
        return self._unknown()

    def log_message(self, *_):
        """Logs nothing: the record says more."""

    def _order(self, kind, order):
        transaction = self.server.book.order(order, kind.upper())
        answers = {
            "jsapi": {"prepay_id": f"wx{transaction['transaction_id']}"},
            "app": {"prepay_id": f"wx{transaction['transaction_id']}"},
            "native": {"code_url": f"weixin://wxpay/bizpayurl?pr={transaction['transaction_id']}"},
            "h5": {"h5_url": f"https://example.com/checkmweb?prepay_id=wx{transaction['transaction_id']}&package=1"},
            "codepay": transaction,
        }
        return self._answer(200, answers[kind]) if kind in answers else self._unknown()

    def _found(self, content, spread=False):
        if content is None:
            return self._answer(404, {"code": "ORDER_NOT_EXIST", "message": "订单不存在"})
        return self._spread(content) if spread else self._answer(200, content)

    def _unknown(self):
        self._answer(404, {"code": "RESOURCE_NOT_EXISTS", "message": "no such resource"})

    def _answer(self, status, content):
        answer = b"" if content is None else json.dumps(content, ensure_ascii=False).encode()
        # As common servers do: whoever reads on the way must have said that it cannot.
        compressed = content is not None and "gzip" in self.headers.get("Accept-Encoding", "")
        if compressed:
            answer = gzip.compress(answer)
        self.send_response(status)
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        if self.headers.get(SIGN_HEADER):
            for name, value in OWN_SIGNATURE.items():
                self.send_header(name, value)
        if content is not None:
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _answer_v2(self, received):
        answer = self.server.book_v2.answer(self.path, received)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _spread(self, content):
        """Answers in chunks and with odd white space: what is signed must be these bytes, not a tidier copy."""
        answer = json.dumps(content, ensure_ascii=False, indent=3).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(answer), CHUNK_BYTES):
            chunk = answer[start : start + CHUNK_BYTES]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        received = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            received += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline() not in (b"\r\n", b"\n", b""):
            pass
        return received

    def _record(self, received):
        record = {
            "method": self.command,
            "target": self.path,
            "headers": self.headers.items(),
            "body_base64": base64.b64encode(received).decode(),
        }
        with self.server.record_lock, open(self.server.records_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def _states(text, usual):
    _, named, states = (text or "").partition("states:")
    return states.split(",") if named else [usual]


def _now():
    beijing = timezone(timedelta(hours=8))
    return datetime.now(beijing).isoformat(timespec="seconds")


def main():
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--records", required=True, help="the file to append each request to, as a line of JSON")
    parser.add_argument("--apiv2-key-file", required=True, help="the file of the secret that API v2 is signed with")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler)
    server.book = Book()
    with open(arguments.apiv2_key_file, encoding="ascii") as file:
        server.book_v2 = upstream_v2.Book(file.read())
    server.record_lock = threading.Lock()
    server.records_file = arguments.records
    server.serve_forever()


# A request with this header is answered as an upstream would that signs by itself.
SIGN_HEADER = "X-Upstream-Signs"
OWN_SIGNATURE = {
    "Wechatpay-Timestamp": "1554208460",
    "Wechatpay-Nonce": "593BEC0C930BF1AFEB40B4A08C8FB242",
    "Wechatpay-Signature": "c2lnbmVkIGJ5IHRoZSB1cHN0cmVhbQ==",
    "Wechatpay-Serial": "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB",
    "Wechatpay-Signature-Type": "WECHATPAY2-SHA256-RSA2048",
}

READY_PATH = "/ready"
V2_PATHS = ("/pay/", "/secapi/pay/")
CHUNK_BYTES = 17

if __name__ == "__main__":
    main()
