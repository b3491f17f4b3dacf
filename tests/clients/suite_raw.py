"""Requests made by hand: replays, and the faults that no client of good faith commits."""

import json
import time

from checks import equal, holds
from scene import APPID, BARE_KEY, CERTIFICATE_MODE, PUBLIC_KEY_MODE, TRANSACTION_FEN_MAX
from signing import ORDINARY, Caller, check_forwarded
from upstream import OWN_SIGNATURE, SIGN_HEADER, body, header


def run(scene, checks):
    """Runs the checks of requests made by hand."""
    checks.suite("by hand")
    suite = Suite(scene, checks)
    scene.records.new()
    suite.answers()
    suite.replay()
    suite.tampering()
    suite.forged_facts()
    suite.before_anybody_is_known()


class Suite:
    """The checks; each leaves no record unread."""

    def __init__(self, scene, checks):
        self._scene = scene
        self._checks = checks
        self._caller = Caller(scene)
        self._merchant = scene.merchants[CERTIFICATE_MODE]

    def answers(self):
        """Checks how answers are signed."""
        rule, caller, scene = self._checks.rule, self._caller, self._scene
        with rule("an answer is signed with the platform's default key, and has a Request-ID that ends in -0"):
            answer = self._pay(self._order())
            equal("status", answer.status, 200)
            caller.check_answer(answer)
            holds(f"Request-ID {answer.headers['Request-ID']!r}", (answer.headers["Request-ID"] or "").endswith("-0"))
        with rule("an answer is signed with the key that the request names"):
            named = [("Wechatpay-Serial", scene.public_key_id)]
            caller.check_answer(self._pay(self._order(), headers=named), scene.public_key_id)
        with rule("an answer is signed with the merchant's default key where the request names none"):
            merchant = scene.merchants[PUBLIC_KEY_MODE]
            caller.check_answer(self._pay(self._order(mchid=PUBLIC_KEY_MODE), merchant), scene.public_key_id)
        with rule("a request that names a key which is not the platform's is PARAM_ERROR"):
            scene.records.new()
            answer = self._pay(self._order(), headers=[("Wechatpay-Serial", self._merchant.serial)])
            self._refused(answer, 400, "PARAM_ERROR")
        with rule("a refusal under a limit is signed, and names the limit"):
            answer = self._pay(self._order(total=TRANSACTION_FEN_MAX + 1))
            self._refused(answer, 403, "RULE_LIMIT")
            caller.check_answer(answer)
            detail = answer.json()["detail"]
            equal("detail", (detail["field"], detail["limit"]), ("/amount/total", "single-payment"))
        with rule("a 204 is signed over the empty body"):
            number = scene.order_number()
            target = f"/v3/pay/transactions/out-trade-no/{number}/close"
            equal("order", self._pay(self._order(out_trade_no=number)).status, 200)
            answer = caller.call(self._merchant, "POST", target, {"mchid": CERTIFICATE_MODE})
            equal("answer", (answer.status, answer.body), (204, b""))
            caller.check_answer(answer)
        with rule("an answer that the upstream signed itself is passed on under that signature alone"):
            answer = self._pay(self._order(), headers=[(SIGN_HEADER, "1")])
            equal("status", answer.status, 200)
            found = {name: answer.headers.get_all(name) for name in OWN_SIGNATURE}
            equal("headers", found, {name: [value] for name, value in OWN_SIGNATURE.items()})
        with rule("a merchant in public-key mode has no certificates to download"):
            scene.records.new()
            answer = caller.call(scene.merchants[PUBLIC_KEY_MODE], "GET", "/v3/certificates")
            self._refused(answer, 404, "RESOURCE_NOT_EXISTS")
        with rule("a refund that is signed with a bare key is NO_AUTH"):
            number, amount = scene.order_number(), {"refund": 1, "total": 1, "currency": "CNY"}
            refund = {"out_trade_no": number, "out_refund_no": number, "amount": amount}
            answer = caller.call(scene.merchants[BARE_KEY], "POST", "/v3/refund/domestic/refunds", refund)
            self._refused(answer, 403, "NO_AUTH")

    def replay(self):
        """Checks that the identical bytes pass once."""
        with self._checks.rule("the identical request again is SIGN_ERROR, and reaches the upstream once"):
            order = json.dumps(self._order()).encode()
            authorization = self._caller.authorize(self._merchant, "POST", NATIVE, order)
            headers = [("Authorization", authorization), *ORDINARY]
            equal("first", self._caller.send("POST", NATIVE, order, headers).status, 200)
            again = self._caller.send("POST", NATIVE, order, headers)
            equal("again", (again.status, again.code()), (401, "SIGN_ERROR"))
            holds("a 401 is signed", not again.is_signed())
            equal("bodies that reached the upstream", [body(record) for record in self._scene.records.new()], [order])
        with self._checks.rule("a nonce of another merchant is not used up"):
            nonce, scene = "0123456789abcdef", self._scene
            other = scene.merchants[PUBLIC_KEY_MODE]
            equal("first", self._pay(self._order(), nonce=nonce).status, 200)
            equal("other", self._pay(self._order(mchid=PUBLIC_KEY_MODE), other, nonce=nonce).status, 200)
            scene.records.new()

    def tampering(self):
        """Checks that nothing passes but what was signed."""
        order = json.dumps(self._order(total=100)).encode()
        dearer = order.replace(b'"total": 100', b'"total": 900')
        with self._checks.rule("a body that was not signed is SIGN_ERROR, and the answer says what was checked"):
            answer = self._signed(NATIVE, order, NATIVE, dearer)
            self._refused(answer, 401, "SIGN_ERROR")
            information = answer.json()["detail"]["sign_information"]
            equal("target", (information["method"], information["url"]), ("POST", NATIVE))
            shown = information["truncated_sign_message"].split("\n")
            length = sum(len(line) + 1 for line in shown[:4]) + len(dearer) + 1
            equal("message", (shown[4], information["sign_message_length"]), (dearer[:8].decode(), length))
        with self._checks.rule("a path that was not signed is SIGN_ERROR"):
            self._refused(self._signed(NATIVE, order, "/v3/pay/transactions/app", order), 401, "SIGN_ERROR")
        with self._checks.rule("a query that was not signed is SIGN_ERROR"):
            self._refused(self._signed(NATIVE, order, f"{NATIVE}?x=1", order), 401, "SIGN_ERROR")
        for seconds in (-330, 330):
            with self._checks.rule(f"a timestamp {seconds:+} s off is SIGN_ERROR"):
                answer = self._pay(self._order(), timestamp=int(time.time()) + seconds)
                self._refused(answer, 401, "SIGN_ERROR")
        with self._checks.rule("an amount stated twice is PARAM_ERROR"):
            twice = order.replace(b'"total": 100', b'"total": 100, "total": 900')
            self._refused(self._signed(NATIVE, twice, NATIVE, twice), 400, "PARAM_ERROR")

    def forged_facts(self):
        """Checks that only the gate speaks for the gate."""
        with self._checks.rule("Tollgate headers of a client do not reach the upstream"):
            claims = {"Tollgate-Merchant": "1900000009", "Tollgate-Decision": "0" * 32, "Tollgate-Customer": "somebody"}
            spelled = {name.replace("-", "_"): value for name, value in claims.items()}
            answer = self._pay(self._order(), headers=[*claims.items(), *spelled.items()])
            equal("status", answer.status, 200)
            (record,) = self._scene.records.new()
            check_forwarded(self._scene, record)
            holds("a decision can be chosen", header(record, "Tollgate-Decision") != ["0" * 32])
            strays = [header(record, name) for name in ("Tollgate-Customer", *spelled)]
            equal("headers", strays, [[], [], [], []])

    def before_anybody_is_known(self):
        """Checks what a caller gets who signs nothing, or calls what is not there."""
        rule, send = self._checks.rule, self._caller.send
        with rule("an unknown path is an empty 404"):
            self._bare(send("GET", "/v3/nothing", headers=ORDINARY), 404)
        with rule("a path that is spelled another way is an empty 404"):
            self._bare(send("POST", "/v3/pay/transactions//native", b"{}", ORDINARY), 404)
        with rule("another method is an empty 405"):
            self._bare(send("DELETE", NATIVE, headers=ORDINARY), 405)
        with rule("no Authorization is SIGN_ERROR"):
            self._refused(send("POST", NATIVE, b"{}", ORDINARY), 401, "SIGN_ERROR")
        with rule("another scheme is SIGN_ERROR"):
            self._refused(send("POST", NATIVE, b"{}", [("Authorization", "Bearer x"), *ORDINARY]), 401, "SIGN_ERROR")
        with rule("no User-Agent where the platform demands one is INVALID_REQUEST"):
            self._refused(send("GET", "/v3/certificates", headers=ORDINARY[:1]), 400, "INVALID_REQUEST")
        with rule("nothing of this reached the upstream"):
            equal("requests", self._scene.records.new(), [])

    def _order(self, total=100, **changes):
        order = {
            "appid": APPID,
            "mchid": CERTIFICATE_MODE,
            "description": "by hand",
            "out_trade_no": self._scene.order_number(),
            "notify_url": "https://example.com/notify",
            "amount": {"total": total},
        }
        return {**order, **changes}

    def _pay(self, order, merchant=None, **options):
        return self._caller.call(merchant or self._merchant, "POST", NATIVE, order, **options)

    def _signed(self, signed_target, signed_body, target, sent):
        authorization = self._caller.authorize(self._merchant, "POST", signed_target, signed_body)
        return self._caller.send("POST", target, sent, [("Authorization", authorization), *ORDINARY])

    def _refused(self, answer, status, code):
        equal("answer", (answer.status, answer.code()), (status, code))
        holds("a 401 is signed", status != 401 or not answer.is_signed())
        equal("requests that reached the upstream", self._scene.records.new(), [])

    def _bare(self, answer, status):
        equal("answer", (answer.status, answer.body, answer.is_signed()), (status, b"", False))


NATIVE = "/v3/pay/transactions/native"
