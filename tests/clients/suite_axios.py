"""npm wechatpay-axios-plugin: a list of calls is made by axios.mjs in one go, and judged here."""

import json
import os
import subprocess

import certificates
from checks import equal, holds
from scene import APPID, CERTIFICATE_MODE, MICRO, OPENID, PUBLIC_KEY_MODE, SUSPENDED, TRANSACTION_FEN_MAX
from signing import check_forwarded
from upstream import body


def run(scene, checks, modules_folder):
    """Runs the checks of this client."""
    checks.suite("wechatpay-axios-plugin")
    calls = Calls(scene)
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


class Calls:
    """The calls to make, and what must become of each."""

    def __init__(self, scene):
        self.listed = []
        self._expected = {}
        self._scene = scene
        self._certificate = {scene.platform_serial: scene.platform_certificate_pem.decode()}
        self._public_key = {scene.public_key_id: certificates.public_key_pem(scene.public_key).decode()}
        self._list_admissions()
        self._list_refusals()
        self._list_verifications()

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

    def _list_admissions(self):
        merchant, number, refund_number = CERTIFICATE_MODE, self._number(), self._number()
        by_number = "v3/pay/transactions/out-trade-no/{out_trade_no}"
        query = {"params": {"mchid": merchant}, "out_trade_no": number}
        self._pay("a JSAPI order passes", "jsapi", number, {"status": 200, "has": {"prepay_id": None}}, openid=OPENID)
        self._pay("the same order again passes", "jsapi", number, {"status": 200}, openid=OPENID)
        self._add("an order is found by its number", by_number, None, {"status": 200, "has": {"out_trade_no": number}},
                  config=query)
        self._refund("a refund passes", number, refund_number, {"status": 200, "has": {"out_refund_no": refund_number}})
        closed = self._number()
        self._pay("a Native order passes", "native", closed, {"status": 200, "has": {"code_url": None}})
        self._add("an order is closed with a signed 204", f"{by_number}/close", {"mchid": merchant}, {"status": 204},
                  config={"out_trade_no": closed})
        self._add("the self-test echoes", "v3/security/echo", {"echo_message": "回显"},
                  {"status": 200, "has": {"echo_message": "回显"}})
        self._add("the platform certificate can be downloaded", "v3/certificates", None,
                  {"status": 200, "has": {"data": None}})
        public = {"merchant": PUBLIC_KEY_MODE, "keys": self._public_key}
        other = self._number()
        self._pay("public key: a Native order passes", "native", other, {"status": 200}, **public)
        self._refund("public key: a refund passes", other, self._number(), {"status": 200}, **public)
        self._pay("the answer is signed with the key that the request names", "native", self._number(), {"status": 200},
                  keys=self._public_key, config={"headers": {"Wechatpay-Serial": self._scene.public_key_id}})

    def _list_refusals(self):
        def refusal(status, code):
            return {"error": "ERR_BAD_REQUEST", "status": status, "has": {"code": code, "message": None}}

        ceiling, other = TRANSACTION_FEN_MAX + 1, self._number()
        self._pay("above the ceiling is RULE_LIMIT", "native", None, refusal(403, "RULE_LIMIT"), total=ceiling)
        self._pay("an order to be spoilt passes", "native", other, {"status": 200})
        self._pay("another amount is OUT_TRADE_NO_USED", "native", other, refusal(403, "OUT_TRADE_NO_USED"), total=7)
        self._pay("an unknown appid is APPID_MCHID_NOT_MATCH", "native", None, refusal(400, "APPID_MCHID_NOT_MATCH"),
                  appid="wx9999999999999999")
        self._pay("a suspended merchant is NO_AUTH", "native", None, refusal(403, "NO_AUTH"), merchant=SUSPENDED)
        self._pay("an interface that is not approved is NO_AUTH", "app", None, refusal(403, "NO_AUTH"),
                  merchant=PUBLIC_KEY_MODE, keys=self._public_key)
        stranger = certificates.private_key_pem(certificates.new_key()).decode()
        self._pay("a wrong private key is SIGN_ERROR", "native", None, refusal(401, "SIGN_ERROR"), private_key=stranger)
        self._add("an unknown order is the upstream's 404", "v3/pay/transactions/id/{transaction_id}", None,
                  refusal(404, "ORDER_NOT_EXIST"),
                  config={"params": {"mchid": CERTIFICATE_MODE}, "transaction_id": "4200009999"})

    def _list_verifications(self):
        """Lists what the client itself must reject; the order has passed the gate all the same."""
        forged = {self._scene.platform_serial: self._scene.forged_platform_certificate().decode()}
        other_key = {self._scene.public_key_id: certificates.public_key_pem(certificates.new_key()).decode()}
        digest, serial = "EV3_RES_HEADER_SIGNATURE_DIGEST", "EV3_RES_HEADER_PLATFORM_SERIAL"
        offset = "EV3_RES_HEADER_TIMESTAMP_OFFSET"
        self._pay("the client rejects answers under a forged certificate", "native", self._number(),
                  {"error": digest, "status": 200}, keys=forged)
        self._pay("public key: the client rejects answers under another key", "native", self._number(),
                  {"error": digest, "status": 200}, merchant=PUBLIC_KEY_MODE, keys=other_key)
        self._pay("the client rejects answers under a serial it does not know", "native", self._number(),
                  {"error": serial, "status": 200}, keys=self._public_key)
        for seconds, expected in [(-310, offset), (-290, None), (290, None), (310, offset)]:
            outcome = {"error": expected, "status": 200}
            name = f"the client {'rejects' if expected else 'takes'} an answer where its clock is {seconds:+} s off"
            self._pay(name, "native", self._number(), outcome, clock_offset_s=seconds)

    def _number(self):
        return self._scene.order_number()

    def _pay(self, name, kind, number, expected, appid=APPID, total=100, openid=None, **options):
        """Lists an order. One without a number must be refused, and gets a number of its own."""
        order = {
            "appid": appid,
            "mchid": options.get("merchant", CERTIFICATE_MODE),
            "description": "Image形象店-深圳腾大-QQ公仔 <&>",
            "out_trade_no": number or self._number(),
            "notify_url": "https://example.com/notify",
            "amount": {"total": total, "currency": "CNY"},
        }
        if openid:
            order["payer"] = {"openid": openid}
        self._add(name, f"v3/pay/transactions/{kind}", order, expected, **options)

    def _refund(self, name, number, refund_number, expected, **options):
        amount = {"refund": 100, "total": 100, "currency": "CNY"}
        refund = {"out_trade_no": number, "out_refund_no": refund_number, "reason": "商品已售完", "amount": amount}
        self._add(name, "v3/refund/domestic/refunds", refund, expected, **options)

    def _add(self, name, resource, data, expected, merchant=CERTIFICATE_MODE, keys=None, private_key=None, **rest):
        merchant = self._scene.merchants[merchant]
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
    file_name = f"{scene.folder}/axios.json"
    descriptor = os.open(file_name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
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
ANSWERED_BY_THE_GATE = ("v3/security/echo", "v3/certificates")
CALLS_SECONDS_MAX = 120
