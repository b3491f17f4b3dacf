"""npm wechatpay-axios-plugin: a list of calls is made by axios.mjs in one go, and judged here."""

import json
import os
import subprocess
import tempfile
from datetime import datetime, timezone

import certificates
from checks import equal, holds
from scene import (
    APPID,
    BOOKS_NODE,
    CERTIFICATE_MODE,
    NET_DAY_FEN_MAX,
    OPENID,
    PUBLIC_KEY_MODE,
    SUSPENDED,
    TRANSACTION_FEN_MAX,
)
from signing import check_forwarded
from upstream import body


def run(scene, checks, modules_folder, books):
    """Runs the checks of this client."""
    checks.suite("wechatpay-axios-plugin")
    _traffic(scene, checks, modules_folder)
    checks.suite("wechatpay-axios-plugin, books")
    _books(scene, checks, modules_folder, books)


def _traffic(scene, checks, modules_folder):
    calls = Calls(scene)
    calls.list_admissions()
    calls.list_refusals()
    calls.list_verifications()
    outcomes = {}
    scene.records.new()
    with checks.rule("all calls were made"):
        outcomes = _make(scene, modules_folder, calls.listed)
        equal("outcomes", sorted(outcomes), sorted(call["name"] for call in calls.listed))
    for call in calls.listed:
        with checks.rule(call["name"]):
            calls.judge(call["name"], outcomes[call["name"]])
    with checks.rule("exactly the admitted requests reached the upstream, as they were signed"):
        records = scene.records.new()
        for record in records:
            check_forwarded(scene, record)
        equal("bodies", [_content(record) for record in records], [call["data"] for call in calls.forwarded()])


def _books(scene, checks, modules_folder, books):
    first, second, refund = (scene.order_number() for _ in range(3))
    part = NET_DAY_FEN_MAX * 6 // 10
    rest = NET_DAY_FEN_MAX - part

    def step(rule, list_calls, net, gross):
        """Makes calls, and checks what is held and committed after them."""
        with checks.rule(rule):
            calls = Calls(scene, BOOKS_NODE)
            list_calls(calls)
            outcomes = _make(scene, modules_folder, calls.listed)
            for call in calls.listed:
                calls.judge(call["name"], outcomes[call["name"]])
            books.check(net=net, gross=gross)
            return outcomes

    def orders(calls):
        calls.pay("first", "native", first, {"status": 200}, total=part, attach="states:NOTPAY,SUCCESS")
        calls.pay("second", "native", second, {"status": 200}, total=rest, attach="states:NOTPAY")

    def above(calls):
        calls.pay("above", "native", None, refusal(403, "RULE_LIMIT"), total=1)

    def unpaid(calls):
        calls.query("unpaid", first, {"status": 200, "has": {"trade_state": "NOTPAY"}})

    def paid(calls):
        calls.query("paid", first, {"status": 200, "has": {"trade_state": "SUCCESS"}})

    def close(calls):
        calls.close("closed", second, {"status": 204})

    def refunded(calls):
        status = {"status": 200, "has": {"status": "PROCESSING"}}
        calls.refund("refund", first, refund, status, fen=200, reason="states:PROCESSING,SUCCESS")

    def found(calls):
        calls.query_refund("refund found", refund, {"status": 200, "has": {"status": "SUCCESS"}})

    every = (part + rest, 0)
    step("orders up to the limit pass, and are held", orders, every, every)
    outcomes = step("the next is RULE_LIMIT", above, every, every)
    with checks.rule("its error says which limit, and until when"):
        error = outcomes["above"]
        detail = error["data"]["detail"]
        equal("limit", (detail["limit"], detail["window"]), ("net-day", "day"))
        left_s = (datetime.fromisoformat(detail["resets_at"]) - datetime.now(timezone.utc)).total_seconds()
        wait_s = int(error["retry_after"])
        holds(f"a wait of {wait_s} s with {left_s} s left", 0 <= wait_s - left_s < CALLS_SECONDS_MAX)
    step("a query of an order that is not paid yet changes nothing", unpaid, every, every)
    step("a query of an order that is paid commits it", paid, (rest, part), (rest, part))
    step("a close gives room", close, (0, part), (0, part))
    step("a refund under way gives none", refunded, (0, part), (0, part))
    step("a refund found to have succeeded gives room where the limit says so", found, (0, part - 200), (0, part))
    remaining = NET_DAY_FEN_MAX - (part - 200)
    step("what came back can be used, to the last fen", lambda calls: _rest(calls, remaining), (remaining, part - 200),
         (remaining, part))


def _rest(calls, fen):
    calls.pay("one fen more", "native", None, refusal(403, "RULE_LIMIT"), total=fen + 1)
    calls.pay("the rest", "native", calls.number(), {"status": 200}, total=fen)


def refusal(status, code):
    """Returns what must become of a call that is refused."""
    return {"error": "ERR_BAD_REQUEST", "status": status, "has": {"code": code, "message": None}}


class Calls:
    """The calls to make, and what must become of each. Where a call names no merchant, it is made by `merchant`."""

    def __init__(self, scene, merchant=CERTIFICATE_MODE):
        self.listed = []
        self._expected = {}
        self._scene = scene
        self._merchant = merchant
        self._certificate = {scene.platform_serial: scene.platform_certificate_pem.decode()}
        self._public_key = {scene.public_key_id: certificates.public_key_pem(scene.public_key).decode()}

    def judge(self, name, outcome):
        """Raises Mismatch unless the outcome of a call is the one expected."""
        expected = self._expected[name]
        found = {part: outcome.get(part) for part in expected if part != "has"}
        equal(f"outcome ({outcome})", found, {part: value for part, value in expected.items() if part != "has"})
        for member, value in expected.get("has", {}).items():
            content = outcome.get("data") or {}
            holds(f"no {member} in {content}", content.get(member))
            if value is not None:
                equal(member, content[member], value)

    def forwarded(self):
        """Returns the calls that must reach the upstream, in order."""
        return [
            call
            for call in self.listed
            if self._expected[call["name"]]["status"] not in REFUSALS and call["resource"] not in ANSWERED_BY_THE_GATE
        ]

    def list_admissions(self):
        """Lists what passes."""
        number, refund_number = self.number(), self.number()
        self.pay("a JSAPI order passes", "jsapi", number, {"status": 200, "has": {"prepay_id": None}}, openid=OPENID)
        self.pay("the same order again passes", "jsapi", number, {"status": 200}, openid=OPENID)
        self.query("an order is found by its number", number, {"status": 200, "has": {"out_trade_no": number}})
        self.refund("a refund passes", number, refund_number, {"status": 200, "has": {"out_refund_no": refund_number}})
        closed = self.number()
        self.pay("a Native order passes", "native", closed, {"status": 200, "has": {"code_url": None}})
        self.close("an order is closed with a signed 204", closed, {"status": 204})
        self._add("the self-test echoes", "v3/security/echo", {"echo_message": "回显"},
                  {"status": 200, "has": {"echo_message": "回显"}})
        self._add("the platform certificate can be downloaded", "v3/certificates", None,
                  {"status": 200, "has": {"data": None}})
        public = {"merchant": PUBLIC_KEY_MODE, "keys": self._public_key}
        other = self.number()
        self.pay("public key: a Native order passes", "native", other, {"status": 200}, **public)
        self.refund("public key: a refund passes", other, self.number(), {"status": 200}, **public)
        self.pay("the answer is signed with the key that the request names", "native", self.number(), {"status": 200},
                 keys=self._public_key, config={"headers": {"Wechatpay-Serial": self._scene.public_key_id}})

    def list_refusals(self):
        """Lists what is refused."""
        ceiling, other = TRANSACTION_FEN_MAX + 1, self.number()
        self.pay("above the ceiling is RULE_LIMIT", "native", None, refusal(403, "RULE_LIMIT"), total=ceiling)
        self.pay("an order to be spoilt passes", "native", other, {"status": 200})
        self.pay("another amount is OUT_TRADE_NO_USED", "native", other, refusal(403, "OUT_TRADE_NO_USED"), total=7)
        self.pay("an unknown appid is APPID_MCHID_NOT_MATCH", "native", None, refusal(400, "APPID_MCHID_NOT_MATCH"),
                 appid="wx9999999999999999")
        self.pay("a suspended merchant is NO_AUTH", "native", None, refusal(403, "NO_AUTH"), merchant=SUSPENDED)
        self.pay("an interface that is not approved is NO_AUTH", "app", None, refusal(403, "NO_AUTH"),
                 merchant=PUBLIC_KEY_MODE, keys=self._public_key)
        stranger = certificates.private_key_pem(certificates.new_key()).decode()
        self.pay("a wrong private key is SIGN_ERROR", "native", None, refusal(401, "SIGN_ERROR"), private_key=stranger)
        self._add("an unknown order is the upstream's 404", "v3/pay/transactions/id/{transaction_id}", None,
                  refusal(404, "ORDER_NOT_EXIST"),
                  config={"params": {"mchid": CERTIFICATE_MODE}, "transaction_id": "4200009999"})

    def list_verifications(self):
        """Lists what the client itself must reject; the order has passed the gate all the same."""
        forged = {self._scene.platform_serial: self._scene.forged_platform_certificate().decode()}
        other_key = {self._scene.public_key_id: certificates.public_key_pem(certificates.new_key()).decode()}
        digest, serial = "EV3_RES_HEADER_SIGNATURE_DIGEST", "EV3_RES_HEADER_PLATFORM_SERIAL"
        offset = "EV3_RES_HEADER_TIMESTAMP_OFFSET"
        self.pay("the client rejects answers under a forged certificate", "native", self.number(),
                 {"error": digest, "status": 200}, keys=forged)
        self.pay("public key: the client rejects answers under another key", "native", self.number(),
                 {"error": digest, "status": 200}, merchant=PUBLIC_KEY_MODE, keys=other_key)
        self.pay("the client rejects answers under a serial it does not know", "native", self.number(),
                 {"error": serial, "status": 200}, keys=self._public_key)
        for seconds, expected in [(-310, offset), (-290, None), (290, None), (310, offset)]:
            outcome = {"error": expected, "status": 200}
            name = f"the client {'rejects' if expected else 'takes'} an answer where its clock is {seconds:+} s off"
            self.pay(name, "native", self.number(), outcome, clock_offset_s=seconds)

    def number(self):
        """Returns an order number that was not used before."""
        return self._scene.order_number()

    def pay(self, name, kind, number, expected, appid=APPID, total=100, openid=None, attach=None, **options):
        """Lists an order. One without a number must be refused, and gets a number of its own."""
        order = {
            "appid": appid,
            "mchid": options.get("merchant", self._merchant),
            "description": "Image形象店-深圳腾大-QQ公仔 <&>",
            "out_trade_no": number or self.number(),
            "notify_url": "https://example.com/notify",
            "amount": {"total": total, "currency": "CNY"},
        }
        if openid:
            order["payer"] = {"openid": openid}
        if attach:
            order["attach"] = attach
        self._add(name, f"v3/pay/transactions/{kind}", order, expected, **options)

    def query(self, name, number, expected):
        """Lists a query for an order."""
        config = {"params": {"mchid": self._merchant}, "out_trade_no": number}
        self._add(name, BY_NUMBER, None, expected, config=config)

    def close(self, name, number, expected):
        """Lists the closing of an order."""
        self._add(name, f"{BY_NUMBER}/close", {"mchid": self._merchant}, expected, config={"out_trade_no": number})

    def refund(self, name, number, refund_number, expected, fen=100, reason="商品已售完", **options):
        """Lists a refund."""
        amount = {"refund": fen, "total": fen, "currency": "CNY"}
        refund = {"out_trade_no": number, "out_refund_no": refund_number, "reason": reason, "amount": amount}
        self._add(name, "v3/refund/domestic/refunds", refund, expected, **options)

    def query_refund(self, name, number, expected):
        """Lists a query for a refund."""
        resource = "v3/refund/domestic/refunds/{out_refund_no}"
        self._add(name, resource, None, expected, config={"out_refund_no": number})

    def _add(self, name, resource, data, expected, merchant=None, keys=None, private_key=None, **rest):
        merchant = self._scene.merchants[merchant or self._merchant]
        client = {
            "mchid": merchant.mchid,
            "serial": merchant.serial,
            "private_key": private_key or merchant.private_key,
            "platform_keys": keys or self._certificate,
        }
        self.listed.append({"name": name, "resource": resource, "data": data, "client": client, **rest})
        self._expected[name] = {"error": None, **expected}


def _make(scene, modules_folder, calls):
    parameters = {
        "modules": f"{modules_folder}/package.json",
        "authority_file": scene.authority_file,
        "base_url": scene.url,
        "calls": calls,
    }
    # Readable by its owner only: there are private keys in it.
    descriptor, file_name = tempfile.mkstemp(suffix=".json", dir=scene.folder)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(parameters, file)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "axios.mjs")
    done = subprocess.run(["node", script, file_name], capture_output=True, text=True, timeout=CALLS_SECONDS_MAX)
    holds(f"exit status {done.returncode}: {done.stderr}", done.returncode == 0)
    return json.loads(done.stdout)


def _content(record):
    received = body(record)
    return json.loads(received) if received else None


REFUSALS = (400, 401, 403)
BY_NUMBER = "v3/pay/transactions/out-trade-no/{out_trade_no}"
ANSWERED_BY_THE_GATE = ("v3/security/echo", "v3/certificates")
CALLS_SECONDS_MAX = 120
