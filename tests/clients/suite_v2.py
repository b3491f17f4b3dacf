"""API v2: npm tenpay and wechatpay-axios-plugin make lists of calls in one go (v2.mjs), which are judged here."""

import json
import os
import subprocess
import tempfile

import upstream_v2
from checks import equal, holds
from scene import APPID, BOOKS_V2, NET_DAY_FEN_MAX, OPENID


def run(scene, checks, modules_folder, books):
    """Runs the checks of API v2."""
    checks.suite("API v2")
    secret = scene.merchants[BOOKS_V2].apiv2_key
    first, second, third, refund = (scene.order_number() for _ in range(4))
    part = NET_DAY_FEN_MAX * 6 // 10
    rest = NET_DAY_FEN_MAX - part
    hmac = {"sign_type": "HMAC-SHA256"}

    def step(rule, net, gross, calls):
        """Makes calls, judges each, and checks what is held and committed after them."""
        with checks.rule(rule):
            outcomes = _make(scene, modules_folder, secret, [call for call, _ in calls])
            for call, expected in calls:
                _judge(call["name"], outcomes[call["name"]], expected, secret)
            books.check(net=net, gross=gross)

    def order(name, number, fen, **more):
        data = {"body": "测试 <&>", "out_trade_no": number, "total_fee": fen, "openid": OPENID, **more}
        return {"name": name, "tenpay": "unifiedOrder", "data": data}

    def by_axios(name, resource, data, **more):
        return {"name": name, "axios": resource, "data": data, **more}

    native = {"body": "测试 <&>", "notify_url": "https://example.com/notify", "spbill_create_ip": "127.0.0.1"}
    native["trade_type"] = "NATIVE"
    states = {"attach": "states:NOTPAY,SUCCESS"}
    by_hmac = {**native, "out_trade_no": second, "total_fee": rest, **hmac}
    every = (part + rest, 0)
    step("tenpay and axios: orders by either algorithm pass, their answers verify, and are held", every, every, [
        (order("MD5", first, part, **states), {"prepay_id": "wx221"}),
        (order("the same again, with HMAC-SHA256", first, part, **states, **hmac), {"prepay_id": "wx221"}),
        (by_axios("axios", "pay/unifiedorder", by_hmac), {"trade_type": "NATIVE"}),
    ])
    over = {**native, "out_trade_no": scene.order_number(), "total_fee": 1}
    step("refusals are told as the clients read them, signed as they were asked", every, every, [
        (order("above the limit", scene.order_number(), 1), "RULE_LIMIT"),
        (order("another amount", first, 1), "OUT_TRADE_NO_USED"),
        (by_axios("axios, MD5", "pay/unifiedorder", over), "RULE_LIMIT"),
        (by_axios("axios, HMAC-SHA256", "pay/unifiedorder", {**over, **hmac}), "RULE_LIMIT"),
        (by_axios("axios, no amount", "pay/unifiedorder", {**native, "out_trade_no": "T"}), "LACK_PARAMS"),
        (by_axios("axios, a wrong secret", "pay/unifiedorder", over, secret=STRANGE), None),
        ({**order("tenpay, a wrong secret", "T", 1), "secret": STRANGE}, "签名错误"),
    ])
    step("a query of an order that is not paid yet changes nothing", every, every, [
        ({"name": "query", "tenpay": "orderQuery", "data": {"out_trade_no": first}}, {"trade_state": "NOTPAY"}),
    ])
    step("a query of an order that is paid commits it, a close gives room", (0, part), (0, part), [
        ({"name": "query", "tenpay": "orderQuery", "data": {"out_trade_no": first}}, {"trade_state": "SUCCESS"}),
        ({"name": "close", "tenpay": "closeOrder", "data": {"out_trade_no": second}}, {"result_code": "SUCCESS"}),
    ])
    code = {"body": "x", "total_fee": 10, "auth_code": "130061098828009406", "out_trade_no": third}
    code["attach"] = "states:USERPAYING,SUCCESS"
    step("a payment by code whose outcome is open is held", (10, part), (10, part), [
        ({"name": "micropay", "tenpay": "micropay", "data": code}, "USERPAYING"),
    ])
    step("and is committed once it is found paid", (0, part + 10), (0, part + 10), [
        ({"name": "query", "tenpay": "orderQuery", "data": {"out_trade_no": third}}, {"trade_state": "SUCCESS"}),
    ])
    step("a reversal with the API certificate gives room", (0, part), (0, part), [
        ({"name": "reverse", "tenpay": "reverse", "data": {"out_trade_no": third}}, {"recall": "N"}),
    ])
    refunded = {"out_trade_no": first, "out_refund_no": refund, "total_fee": part, "refund_fee": 200}
    described = {**refunded, "refund_desc": "states:PROCESSING,SUCCESS", **hmac}
    step("a refund without the API certificate is CA_ERROR, with it asked for, and no room", (0, part), (0, part), [
        (by_axios("no certificate", "secapi/pay/refund", refunded, bare=True), "CA_ERROR"),
        (by_axios("axios", "secapi/pay/refund", described), {"refund_id": "50"}),
        (by_axios("processing", "pay/refundquery", {"out_refund_no": refund}), {"refund_status_0": "PROCESSING"}),
    ])
    step("and gives room once it is found to have succeeded", (0, part - 200), (0, part), [
        (by_axios("done", "pay/refundquery", {"out_refund_no": refund}), {"refund_status_0": "SUCCESS"}),
    ])


def _judge(name, outcome, expected, secret):
    """Raises Mismatch unless a call was answered with these fields, or refused with this code."""
    data, error = outcome.get("data") or {}, outcome.get("error")
    if isinstance(expected, dict):
        equal(f"{name}: error ({outcome})", error, None)
        equal(name, {field: data.get(field) for field in expected}, expected)
    elif expected is None:
        equal(f"{name}: return_code ({outcome})", data.get("return_code"), "FAIL")
        holds(f"{name}: signed", "sign" not in data)
    elif data:
        # The client does not verify what refuses; it must hold all the same.
        equal(f"{name}: err_code", data.get("err_code"), expected)
        equal(f"{name}: who asked", (data["appid"], data["mch_id"]), (APPID, BOOKS_V2))
        equal(f"{name}: sign", data["sign"], upstream_v2.sign(data, secret))
    else:
        equal(f"{name}: refusal ({outcome})", outcome.get("message"), expected)


def _make(scene, modules_folder, secret, calls):
    merchant = scene.merchants[BOOKS_V2]
    parameters = {
        "modules": f"{modules_folder}/package.json",
        "authority_file": scene.authority_file,
        "p12_file": scene.p12_file,
        "base_url": scene.url,
        "appid": APPID,
        "mchid": BOOKS_V2,
        "serial": merchant.serial,
        "private_key": merchant.private_key,
        "platform_keys": {scene.platform_serial: scene.platform_certificate_pem.decode()},
        "calls": [{"secret": secret, **call} for call in calls],
    }
    # Readable by its owner only: there is a secret in it.
    descriptor, file_name = tempfile.mkstemp(suffix=".json", dir=scene.folder)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(parameters, file)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v2.mjs")
    # tenpay takes no authority of its own.
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": scene.authority_file}
    done = subprocess.run(
        ["node", script, file_name], capture_output=True, text=True, timeout=CALLS_SECONDS_MAX, env=environment
    )
    holds(f"exit status {done.returncode}: {done.stderr}", done.returncode == 0)
    return json.loads(done.stdout)


STRANGE = "0123456789abcdef0123456789abcdef"
CALLS_SECONDS_MAX = 120
