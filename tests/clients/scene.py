"""The scene that all suites play in: merchants, the platform's keys, and the configuration that names them."""

import itertools
import os
import secrets
import shutil
from dataclasses import dataclass, field
from datetime import datetime, timezone

import certificates
from upstream import Records


@dataclass
class Merchant:
    """A merchant: what it holds itself, and what the gate is told of it."""

    mchid: str
    kind: str = "ordinary"
    category: str = "retail"
    apps: tuple = ()
    platform_key: str = None
    suspended: bool = False
    bare: bool = False
    downloads: bool = True
    key: object = field(default_factory=certificates.new_key)
    serial: str = None
    apiv3_key: str = field(default_factory=lambda: secrets.token_hex(16))
    private_key_file: str = None
    apiv2_key: str = None

    @property
    def private_key(self):
        """The private key as text."""
        return certificates.private_key_pem(self.key).decode()


class Scene:
    """Merchants, keys and files below one folder. Everything is new in each run."""

    def __init__(self, folder, ports):
        self.folder = folder
        self.gate_port, self.control_port, self.upstream_port = ports
        self.url = f"https://127.0.0.1:{self.gate_port}"
        self.config_file = f"{folder}/tollgate.toml"
        self.records_file = f"{folder}/upstream.jsonl"
        self.records = Records(self.records_file)
        self._numbers = itertools.count(1)
        self._authority = certificates.Authority()
        self._make_platform()
        self.merchants = {merchant.mchid: merchant for merchant in _merchants(self.public_key_id)}
        for merchant in self.merchants.values():
            self._write_merchant(merchant)

    def order_number(self):
        """Returns an order number that was not used before."""
        return f"T{next(self._numbers):05d}_{secrets.token_hex(4)}"

    def write_config(self, deployment_key_file):
        """Writes the configuration, with a deployment key that the gate made itself."""
        shutil.copy(deployment_key_file, f"{self.folder}/deployment.key")
        limits = LIMITS.format(
            ceiling=TRANSACTION_FEN_MAX, micro=MICRO_DAY_FEN_MAX, books=BOOKS_CATEGORY, net=NET_DAY_FEN_MAX
        )
        sections = [self._gate_section(), *map(_merchant_section, self.merchants.values()), limits]
        self._write("tollgate.toml", "\n".join(sections).encode())

    def _make_platform(self):
        self.platform_key, self.public_key = certificates.new_key(), certificates.new_key()
        self.public_key_id = PUBLIC_KEY_ID
        # A first digit of zero: who drops it names another key to the clients that compare texts.
        self._platform_serial = certificates.new_serial(0x0C)
        self.platform_certificate = self._authority.platform(self.platform_key, self._platform_serial)
        self.platform_serial = certificates.serial_text(self.platform_certificate)
        server_key = certificates.new_key()
        server = self._authority.server(server_key, HOST)
        self.authority_file = self._write("authority.pem", certificates.certificate_pem(self._authority.certificate))
        self.platform_certificate_pem = certificates.certificate_pem(self.platform_certificate)
        self._write("platform.pem", self.platform_certificate_pem)
        self._write("platform.key", certificates.private_key_pem(self.platform_key))
        self._write("public_key.key", certificates.private_key_pem(self.public_key))
        self._write("server.pem", certificates.certificate_pem(server))
        self._write("server.key", certificates.private_key_pem(server_key))
        self.platform_public_file = self._write("platform_public.pem", certificates.public_key_pem(self.platform_key))

    def forged_platform_certificate(self):
        """Returns a certificate that has the platform's serial and a key that is not the platform's."""
        forged = self._authority.platform(certificates.new_key(), self._platform_serial)
        return certificates.certificate_pem(forged)

    def _write_merchant(self, merchant):
        name = merchant.mchid
        merchant.private_key_file = self._write(f"{name}.key", certificates.private_key_pem(merchant.key))
        self._write(f"{name}.apiv3", merchant.apiv3_key.encode())
        if merchant.bare:
            merchant.serial = f"PUB_KEY_ID_{merchant.mchid.zfill(34)}"
            self._write(f"{name}.pem", certificates.public_key_pem(merchant.key))
        else:
            certificate = self._authority.merchant(merchant.mchid, merchant.key)
            merchant.serial = certificates.serial_text(certificate)
            self._write(f"{name}.pem", certificates.certificate_pem(certificate))
        if merchant.apiv2_key:
            self.apiv2_key_file = self._write(f"{name}.apiv2", merchant.apiv2_key.encode())
            self.p12_file = self._write(f"{name}.p12", certificates.p12(merchant.mchid, merchant.key, certificate))

    def _write(self, name, content):
        path = f"{self.folder}/{name}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(content)
        return path

    def _gate_section(self):
        return GATE.format(
            zone=_calendar(datetime.now(timezone.utc)),
            gate_port=self.gate_port,
            control_port=self.control_port,
            upstream_port=self.upstream_port,
            platform_serial=self.platform_serial,
            public_key_id=self.public_key_id,
        )


def _merchants(public_key_id):
    every = tuple(APPS)
    return [
        Merchant(CERTIFICATE_MODE, apps=every),
        Merchant(PUBLIC_KEY_MODE, apps=("native",), platform_key=public_key_id, downloads=False),
        Merchant(SUSPENDED, apps=every, suspended=True),
        Merchant(BARE_KEY, apps=every, bare=True),
        Merchant(MICRO, apps=every, kind="micro"),
        Merchant(BOOKS_PYTHON, apps=every, category=BOOKS_CATEGORY),
        Merchant(BOOKS_NODE, apps=every, category=BOOKS_CATEGORY),
        Merchant(BOOKS_V2, apps=every, category=BOOKS_CATEGORY, apiv2_key=secrets.token_hex(16)),
    ]


def _merchant_section(merchant):
    lines = [
        "[[merchant]]",
        f'mchid = "{merchant.mchid}"',
        f'name = "Merchant {merchant.mchid}"',
        f'kind = "{merchant.kind}"',
        f'category = "{merchant.category}"',
        'risk = "normal"',
    ]
    if merchant.downloads:
        lines.append(f'apiv3_key_file = "{merchant.mchid}.apiv3"')
    if merchant.platform_key:
        lines.append(f'platform_key = "{merchant.platform_key}"')
    named = f'id = "{merchant.serial}"\npublic_key_file' if merchant.bare else "certificate_file"
    lines += ["[[merchant.key]]", f'{named} = "{merchant.mchid}.pem"', 'status = "active"']
    if merchant.apiv2_key:
        lines += ["[[merchant.key]]", f'apiv2_key_file = "{merchant.mchid}.apiv2"']
        lines += ['md5 = "allow"', 'status = "active"']
    for kind in merchant.apps:
        scenario, appid = APPS[kind]
        lines += ["[[merchant.interface]]", f'kind = "{kind}"', f'scenario = "{scenario}"', f'appids = ["{appid}"]']
    if merchant.suspended:
        lines += ["[[merchant.measure]]", 'kind = "suspended"', 'author = "risk control"']
        lines += ['reason = "complaints"', 'since = "2026-11-01T00:00:00+08:00"']
    return "\n".join(lines) + "\n"


def _calendar(now):
    """Chooses a time zone in which no day ends while the suites run."""
    shanghai_midnight_utc = 16
    return "UTC" if now.hour in (shanghai_midnight_utc - 1, shanghai_midnight_utc) else "Asia/Shanghai"


CERTIFICATE_MODE = "1900000001"
PUBLIC_KEY_MODE = "1900000002"
SUSPENDED = "1900000003"
BARE_KEY = "1900000004"
MICRO = "1900000005"
# Each has its limits to itself, so that a suite can tell to the last fen what is used of them.
BOOKS_PYTHON = "1900000006"
BOOKS_NODE = "1900000007"
# Signs by API v2.
BOOKS_V2 = "1900000008"

PUBLIC_KEY_ID = "PUB_KEY_ID_0000000000000000000000000000000001"
HOST = "api.mch.weixin.qq.com"
APPID = "wx0000000000000001"
MINI_PROGRAM_APPID = "wx0000000000000002"
OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"

TRANSACTION_FEN_MAX = 500_000
MICRO_DAY_FEN_MAX = 100_000
BOOKS_CATEGORY = "books"
NET_DAY_FEN_MAX = 1_000

# Each kind of interface with the scenario it was approved for and its appid.
APPS = {
    "jsapi": ("official_account", APPID),
    "mini_program": ("mini_program", MINI_PROGRAM_APPID),
    "native": ("pc_site", APPID),
    "app": ("app", APPID),
    "h5": ("mobile_web", APPID),
    "payment_code": ("offline", APPID),
}

GATE = """
[gate]
workers = 2
time_zone = "{zone}"
key_file = "deployment.key"

[[listener]]
name = "public"
kind = "public"
mode = "proxy"
address = "127.0.0.1:{gate_port}"
tls_certificate_file = "server.pem"
tls_key_file = "server.key"

[[listener]]
name = "control"
kind = "control"
address = "127.0.0.1:{control_port}"

[upstream]
address = "127.0.0.1:{upstream_port}"

[platform]
default_key = "{platform_serial}"

[[platform.key]]
kind = "certificate"
certificate_file = "platform.pem"
private_key_file = "platform.key"

[[platform.key]]
kind = "public_key"
id = "{public_key_id}"
private_key_file = "public_key.key"

[authority]
certificate_file = "authority.pem"
"""

LIMITS = """
[[limit]]
id = "single-payment"
per = ["merchant"]
transaction_fen = {ceiling}
day_fen = 1000000000

[[limit]]
id = "micro-day"
when = {{ merchant_kind = ["micro"] }}
per = ["merchant"]
day_fen = {micro}

[[limit]]
id = "net-day"
when = {{ category = ["{books}"] }}
per = ["merchant"]
day_fen = {net}

[[limit]]
id = "gross-day"
when = {{ category = ["{books}"] }}
per = ["merchant"]
refund = "keep"
day_fen = 1000000
"""
