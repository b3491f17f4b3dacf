"""PyPI wechatpayv3, in certificate and public-key mode. The client verifies each 2xx answer itself, or raises."""

import json
import os
from datetime import datetime, timezone

from wechatpayv3 import WeChatPay, WeChatPayType
from wechatpayv3.core import Core
from wechatpayv3.type import RequestType

import certificates
from checks import equal, holds, raises
from scene import (
    APPID,
    BARE_KEY,
    BOOKS_PYTHON,
    CERTIFICATE_MODE,
    MICRO,
    MICRO_DAY_FEN_MAX,
    MINI_PROGRAM_APPID,
    NET_DAY_FEN_MAX,
    OPENID,
    PUBLIC_KEY_MODE,
    SUSPENDED,
    TRANSACTION_FEN_MAX,
)
from upstream import body, header


def run(scene, checks, books):
    """Runs the checks of this client."""
    _point_at(scene.url)
    checks.suite("wechatpayv3, certificate")
    merchant = scene.merchants[CERTIFICATE_MODE]
    client = None
    with checks.rule("the constructor downloads and decrypts the platform certificate"):
        client = _client(merchant)
        found = [certificates.serial_text(certificate) for certificate in client._core._certificates]
        equal("serials", found, [scene.platform_serial])
        equal("requests that reached the upstream", scene.records.new(), [])
    if client:  # Without one, all of these would fail for the same reason.
        _pay_by_each_interface(scene, checks, client)
        _query_and_close(scene, checks, client)
        _refund(scene, checks, client)
        _limits(scene, checks, client)
        _refusals(scene, checks, client, merchant)
    _standing(scene, checks)
    _forgeries(scene, checks, merchant)
    _public_key_mode(scene, checks)
    _books(scene, checks, books)


def _point_at(url):
    """Points every client at the gate: the base URL is an attribute that the constructor sets, and uses at once."""
    Core._gate_way = property(lambda core: url, lambda core, value: None)


def _client(merchant, **changes):
    options = {
        "wechatpay_type": WeChatPayType.NATIVE,
        "mchid": merchant.mchid,
        "private_key": merchant.private_key,
        "cert_serial_no": merchant.serial,
        "appid": APPID,
        "apiv3_key": merchant.apiv3_key,
        "notify_url": "https://example.com/notify",
        "timeout": (5, 15),
    }
    return WeChatPay(**{**options, **changes})


def _with_public_key(scene, merchant, **changes):
    keys = {
        "public_key": certificates.public_key_pem(scene.public_key).decode(),
        "public_key_id": scene.public_key_id,
    }
    return _client(merchant, **{**keys, **changes})


def _pay(client, number, total=100, **changes):
    options = {"description": "腾讯充值中心 <&> \"QQ会员\"", "out_trade_no": number, "amount": {"total": total}}
    status, text = client.pay(**{**options, **changes})
    return status, text


def _pay_by_each_interface(scene, checks, client):
    payer = {"openid": OPENID}
    scene_info = {"payer_client_ip": "192.0.2.7", "h5_info": {"type": "Wap"}}
    interfaces = [
        ("native", WeChatPayType.NATIVE, "code_url", {}),
        ("jsapi", WeChatPayType.JSAPI, "prepay_id", {"payer": payer}),
        ("mini program", WeChatPayType.MINIPROG, "prepay_id", {"payer": payer, "appid": MINI_PROGRAM_APPID}),
        ("app", WeChatPayType.APP, "prepay_id", {}),
        ("h5", WeChatPayType.H5, "h5_url", {"scene_info": scene_info}),
        ("code", WeChatPayType.CODEPAY, "transaction_id", {"payer": {"auth_code": "130061098828009406"}}),
    ]
    for name, kind, member, options in interfaces:
        with checks.rule(f"{name}: an order passes and its answer verifies"):
            status, answer = _pay(client, scene.order_number(), pay_type=kind, **options)
            equal("status", status, 200)
            holds(f"no {member} in {answer}", json.loads(answer).get(member))
            equal("requests that reached the upstream", len(scene.records.new()), 1)


def _query_and_close(scene, checks, client):
    number, transaction_id = scene.order_number(), None
    with checks.rule("an order is found by its number"):
        equal("status", _pay(client, number)[0], 200)
        status, text = client.query(out_trade_no=number)
        equal("status", status, 200)
        equal("trade_state", json.loads(text)["trade_state"], "SUCCESS")
        transaction_id = json.loads(text)["transaction_id"]
    with checks.rule("an order is found by its transaction id, in an answer sent in chunks"):
        status, text = client.query(transaction_id=transaction_id)
        equal("status", status, 200)
        equal("out_trade_no", json.loads(text)["out_trade_no"], number)
    with checks.rule("an unknown order is the upstream's 404"):
        status, text = client.query(out_trade_no=scene.order_number())
        equal("answer", (status, json.loads(text)["code"]), (404, "ORDER_NOT_EXIST"))
    with checks.rule("an order is closed with a signed 204"):
        number = scene.order_number()
        equal("status", _pay(client, number)[0], 200)
        status, content = client.close(number)
        equal("answer", (status, len(content)), (204, 0))
        equal("target", scene.records.new()[-1]["target"], f"/v3/pay/transactions/out-trade-no/{number}/close")


def _refund(scene, checks, client):
    number, refund_number = scene.order_number(), scene.order_number()
    with checks.rule("a refund passes"):
        equal("status", _pay(client, number, total=300)[0], 200)
        amount = {"refund": 200, "total": 300, "currency": "CNY"}
        status, text = client.refund(refund_number, amount, out_trade_no=number, reason="商品已售完")
        equal("status", status, 200)
        equal("out_refund_no", json.loads(text)["out_refund_no"], refund_number)
    with checks.rule("a refund is found"):
        status, text = client.query_refund(refund_number)
        equal("answer", (status, json.loads(text)["amount"]["refund"]), (200, 200))
    with checks.rule("the self-test echoes, and does not reach the upstream"):
        scene.records.new()
        message = "回显 echo"
        status, text = client._core.request("/v3/security/echo", RequestType.POST, {"echo_message": message})
        equal("answer", (status, json.loads(text).get("echo_message")), (200, message))
        equal("requests that reached the upstream", scene.records.new(), [])


def _limits(scene, checks, client):
    with checks.rule("a payment at the ceiling of a transaction passes, one above is RULE_LIMIT"):
        equal("status", _pay(client, scene.order_number(), total=TRANSACTION_FEN_MAX)[0], 200)
        _refused(scene, 403, "RULE_LIMIT", lambda: _pay(client, scene.order_number(), total=TRANSACTION_FEN_MAX + 1))
    number = scene.order_number()
    with checks.rule("the same order again passes under the same decision"):
        scene.records.new()
        equal("first", _pay(client, number, total=500)[0], 200)
        equal("again", _pay(client, number, total=500)[0], 200)
        decisions = [header(record, "Tollgate-Decision") for record in scene.records.new()]
        equal("decisions", (len(decisions), decisions[0]), (2, decisions[-1]))
    with checks.rule("the same order with another amount is OUT_TRADE_NO_USED"):
        _refused(scene, 403, "OUT_TRADE_NO_USED", lambda: _pay(client, number, total=501))
    micro = _with_public_key(scene, scene.merchants[MICRO])
    first, second = scene.order_number(), scene.order_number()
    part = MICRO_DAY_FEN_MAX * 6 // 10
    with checks.rule("a payment above what is left of the day is RULE_LIMIT"):
        equal("status", _pay(micro, first, total=part)[0], 200)
        _refused(scene, 403, "RULE_LIMIT", lambda: _pay(micro, second, total=part))
    with checks.rule("closing an order gives its amount back"):
        equal("closed", micro.close(first)[0], 204)
        equal("status", _pay(micro, second, total=part)[0], 200)
    with checks.rule("what is left of the day can be used to the last fen"):
        rest, last = MICRO_DAY_FEN_MAX - part, scene.order_number()
        _refused(scene, 403, "RULE_LIMIT", lambda: _pay(micro, last, total=rest + 1))
        equal("status", _pay(micro, last, total=rest)[0], 200)


def _refusals(scene, checks, client, merchant):
    with checks.rule("an unknown appid is APPID_MCHID_NOT_MATCH"):
        number = scene.order_number()
        _refused(scene, 400, "APPID_MCHID_NOT_MATCH", lambda: _pay(client, number, appid="wx9999999999999999"))
    with checks.rule("another merchant in the body is PARAM_ERROR"):
        _refused(scene, 400, "PARAM_ERROR", lambda: _pay(client, scene.order_number(), mchid=PUBLIC_KEY_MODE))
    with checks.rule("a currency that is not CNY is PARAM_ERROR"):
        amount = {"total": 100, "currency": "USD"}
        _refused(scene, 400, "PARAM_ERROR", lambda: _pay(client, scene.order_number(), amount=amount))
    stranger = certificates.private_key_pem(certificates.new_key()).decode()
    with checks.rule("a wrong private key is SIGN_ERROR"):
        impostor = _with_public_key(scene, merchant, private_key=stranger)
        _refused(scene, 401, "SIGN_ERROR", lambda: _pay(impostor, scene.order_number()))
    with checks.rule("a wrong private key gets no certificates"):
        raises("No wechatpay platform certificate", lambda: _client(merchant, private_key=stranger))
        equal("requests that reached the upstream", scene.records.new(), [])


def _standing(scene, checks):
    suspended = None
    with checks.rule("a suspended merchant can still download certificates and query"):
        suspended = _client(scene.merchants[SUSPENDED])
        status, text = suspended.query(out_trade_no=scene.order_number())
        equal("answer", (status, json.loads(text)["code"]), (404, "ORDER_NOT_EXIST"))
        scene.records.new()
    with checks.rule("a suspended merchant's payments and refunds are NO_AUTH"):
        _refused(scene, 403, "NO_AUTH", lambda: _pay(suspended, scene.order_number()))
        number = scene.order_number()
        _refused(scene, 403, "NO_AUTH", lambda: suspended.refund(number, AMOUNT, out_trade_no=number))
    bare = _with_public_key(scene, scene.merchants[BARE_KEY])
    with checks.rule("a merchant with a bare key can pay"):
        equal("status", _pay(bare, scene.order_number())[0], 200)
        equal("requests that reached the upstream", len(scene.records.new()), 1)
    with checks.rule("a refund that is signed with a bare key is NO_AUTH"):
        number = scene.order_number()
        _refused(scene, 403, "NO_AUTH", lambda: bare.refund(number, AMOUNT, out_trade_no=number))


def _forgeries(scene, checks, merchant):
    with checks.rule("the client rejects our answers where it trusts a forged platform certificate"):
        folder = f"{scene.folder}/forged"
        os.mkdir(folder)
        with open(f"{folder}/{scene.platform_serial}.pem", "wb") as file:
            file.write(scene.forged_platform_certificate())
        misled = _client(merchant, cert_dir=folder)
        raises("failed to verify the signature", lambda: _pay(misled, scene.order_number()))
    with checks.rule("the client rejects our answers where it trusts another public key"):
        other = certificates.public_key_pem(certificates.new_key()).decode()
        misled = _with_public_key(scene, merchant, public_key=other)
        raises("failed to verify the signature", lambda: _pay(misled, scene.order_number()))
        scene.records.new()


def _public_key_mode(scene, checks):
    checks.suite("wechatpayv3, public key")
    merchant = scene.merchants[PUBLIC_KEY_MODE]
    client = _with_public_key(scene, merchant)
    number = scene.order_number()
    with checks.rule("an order passes, its answer is signed with the key that Wechatpay-Serial names"):
        equal("status", _pay(client, number)[0], 200)
        record = scene.records.new()[-1]
        equal("Wechatpay-Serial", header(record, "Wechatpay-Serial"), [scene.public_key_id])
        equal("out_trade_no", json.loads(body(record))["out_trade_no"], number)
    with checks.rule("query, close and refund pass"):
        equal("query", client.query(out_trade_no=number)[0], 200)
        equal("close", client.close(number)[0], 204)
        equal("refund", client.refund(scene.order_number(), AMOUNT, out_trade_no=number)[0], 200)
        equal("requests that reached the upstream", len(scene.records.new()), 3)
    with checks.rule("an interface that is not approved is NO_AUTH"):
        kind = {"pay_type": WeChatPayType.JSAPI, "payer": {"openid": OPENID}}
        _refused(scene, 403, "NO_AUTH", lambda: _pay(client, scene.order_number(), **kind))
    with checks.rule("there is no certificate to download"):
        raises("No wechatpay platform certificate", lambda: _client(merchant))


def _books(scene, checks, books):
    checks.suite("wechatpayv3, books")
    client = _with_public_key(scene, scene.merchants[BOOKS_PYTHON])
    first, second, third, refund = (scene.order_number() for _ in range(4))
    part = NET_DAY_FEN_MAX * 6 // 10
    rest = NET_DAY_FEN_MAX - part
    with checks.rule("orders up to the limit pass, and are held"):
        equal("first", _pay(client, first, total=part, attach="states:NOTPAY,SUCCESS")[0], 200)
        equal("second", _pay(client, second, total=rest, attach="states:NOTPAY")[0], 200)
        books.check(net=(part + rest, 0), gross=(part + rest, 0))
    with checks.rule("the next is RULE_LIMIT, and its error says which limit, and until when"):
        text = _refused(scene, 403, "RULE_LIMIT", lambda: _pay(client, scene.order_number(), total=1))
        detail = json.loads(text)["detail"]
        equal("limit", (detail["limit"], detail["window"]), ("net-day", "day"))
        resets_at = datetime.fromisoformat(detail["resets_at"])
        holds(f"{resets_at} is past", resets_at > datetime.now(timezone.utc))
        books.check(net=(part + rest, 0), gross=(part + rest, 0))
    with checks.rule("a query of an order that is not paid yet changes nothing, one of a paid order commits it"):
        equal("state", json.loads(client.query(out_trade_no=first)[1])["trade_state"], "NOTPAY")
        books.check(net=(part + rest, 0), gross=(part + rest, 0))
        equal("state", json.loads(client.query(out_trade_no=first)[1])["trade_state"], "SUCCESS")
        books.check(net=(rest, part), gross=(rest, part))
    with checks.rule("a close gives room, and another order takes it"):
        equal("closed", client.close(second)[0], 204)
        books.check(net=(0, part), gross=(0, part))
        equal("third", _pay(client, third, total=rest)[0], 200)
        books.check(net=(rest, part), gross=(rest, part))
    amount = {"refund": 200, "total": part, "currency": "CNY"}
    with checks.rule("a refund under way gives no room"):
        reason = "states:PROCESSING,SUCCESS"
        equal("refund", client.refund(refund, amount, out_trade_no=first, reason=reason)[0], 200)
        books.check(net=(rest, part), gross=(rest, part))
    with checks.rule("a refund found to have succeeded gives room, but not to a limit on what is received gross"):
        equal("state", json.loads(client.query_refund(refund)[1])["status"], "SUCCESS")
        books.check(net=(rest, part - 200), gross=(rest, part))
        _refused(scene, 403, "RULE_LIMIT", lambda: _pay(client, scene.order_number(), total=201))
        equal("fourth", _pay(client, scene.order_number(), total=200)[0], 200)
        books.check(net=(rest + 200, part - 200), gross=(rest + 200, part))
    with checks.rule("the operator settles by the decision that the upstream was told"):
        (decision,) = header(scene.records.new()[-1], "Tollgate-Decision")
        equal("told", books.commit(decision), f"{decision}: committed\n")
        books.check(net=(rest, part), gross=(rest, part + 200))
        equal("told again", books.commit(decision), f"{decision}: committed already; nothing was done\n")


def _refused(scene, status, code, call):
    scene.records.new()
    found, text = call()
    equal("answer", (found, json.loads(text)["code"]), (status, code))
    holds(f"no message in {text}", json.loads(text)["message"])
    equal("requests that reached the upstream", scene.records.new(), [])
    return text


AMOUNT = {"refund": 100, "total": 100, "currency": "CNY"}
