"""Keys and certificates in the forms that WeChat Pay gives them."""

import os
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def new_key():
    """Makes an RSA key of the size that the platform prescribes."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def new_serial(first_byte):
    """Makes a serial of 20 random bytes, 40 hexadecimal digits, with a given first byte."""
    return int.from_bytes(bytes([first_byte]) + os.urandom(19), "big")


def serial_text(certificate):
    """Writes the serial as merchants get it: whole bytes in upper-case hexadecimal."""
    digits = f"{certificate.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


class Authority:
    """The authority that issues every certificate of a scene."""

    def __init__(self):
        self._key = new_key()
        self._name = _name(CN="Tenpay.com Root CA", OU="Tenpay.com CA Center", O="Tenpay.com", C="CN")
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        builder = _builder(self._name, self._name, self._key, new_serial(0x4A))
        self.certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def merchant(self, mchid, key):
        """Issues a merchant's API certificate."""
        subject = _name(CN=mchid, O="微信商户系统", OU="某某科技有限公司", L="Shenzhen", C="CN")
        return self._leaf(subject, key, new_serial(0x5C), ExtendedKeyUsageOID.CLIENT_AUTH)

    def platform(self, key, serial):
        """Issues a certificate of the platform."""
        subject = _name(CN="Tenpay.com sign", OU="Tenpay.com CA Center", O="Tenpay.com", L="Shenzhen", C="CN")
        return self._leaf(subject, key, serial, ExtendedKeyUsageOID.CLIENT_AUTH)

    def server(self, key, host):
        """Issues a TLS certificate for this machine and for the name that clients know the platform by."""
        names = [x509.DNSName(host), x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        alternatives = x509.SubjectAlternativeName(names)
        return self._leaf(_name(CN=host), key, new_serial(0x3B), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def _leaf(self, subject, key, serial, purpose, alternatives=None):
        builder = (
            _builder(subject, self._name, key, serial)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True, key_encipherment=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if alternatives:
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def certificate_pem(certificate):
    """Writes a certificate."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def private_key_pem(key):
    """Writes a private key as PKCS#8, the form of apiclient_key.pem."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def p12(mchid, key, certificate):
    """Writes key and certificate as apiclient_cert.p12, whose password is the merchant number."""
    encryption = serialization.BestAvailableEncryption(mchid.encode())
    return pkcs12.serialize_key_and_certificates(b"Tenpay Certificate", key, certificate, None, encryption)


def public_key_pem(key):
    """Writes the public half of a key."""
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form)


def _builder(subject, issuer, key, serial):
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=5 * 365))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(**parts):
    return x509.Name([x509.NameAttribute(OIDS[part], text) for part, text in parts.items()])


def _key_usage(**granted):
    usages = dict.fromkeys(USAGES, False)
    return x509.KeyUsage(**{**usages, **granted})


OIDS = {
    "CN": NameOID.COMMON_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "L": NameOID.LOCALITY_NAME,
    "C": NameOID.COUNTRY_NAME,
}

USAGES = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]
