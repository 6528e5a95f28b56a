"""The installation's own certificates: an authority that signs what QPU servers and the gateway show.

Pure: keys and moments come in, data of Secrets goes out. A server's certificate is renewed when two thirds of
its life are over. So is the authority; the one before stays in ``ca.crt`` beside it until it ends, so that
servers that were not renewed yet are still trusted.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

RENEWED_AFTER = 2 / 3
"""Part of its life after which a certificate is made anew."""
_CLOCK_SLACK = timedelta(minutes=5)
_MOST_AUTHORITIES = 3
"""In a bundle: the present one and those before it that have not ended."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs, and whom to trust: its certificate first, then earlier ones."""

    pair: Pair
    bundle: bytes


def new_authority(now: datetime, life: timedelta, before: bytes = b"") -> Authority:
    """A new authority.

    Args:
        now: with a time zone.
        life: of its certificate.
        before: bundle that was trusted so far; what has ended is left out.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"efaas-ca-{now:%Y%m%d%H%M%S}")])
    certificate = (
        _builder(name, name, key, now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_bytes(key))
    earlier = [old for old in _read_all(before) if old.not_valid_after_utc > now][: _MOST_AUTHORITIES - 1]
    bundle = pair.certificate + b"".join(old.public_bytes(serialization.Encoding.PEM) for old in earlier)
    return Authority(pair, bundle)


def issue(authority: Pair, names: Sequence[str], now: datetime, life: timedelta) -> Pair:
    """A server's certificate for these host names."""
    signer = x509.load_pem_x509_certificate(authority.certificate)
    signing_key = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(signing_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not on an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        _builder(subject, signer.subject, key, now, life)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
        )
        .sign(signing_key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), _key_bytes(key))


def renewed_authority(data: Mapping[str, str], now: datetime, life: timedelta) -> Authority | None:
    """The authority that a Secret's data should hold now, None if it is the one there.

    Args:
        data: base64, keys ``tls.crt``, ``tls.key``, ``ca.crt``; empty for none.
        now: with a time zone.
        life: of a new one.
    """
    present = pair_of(data)
    bundle = _decoded(data, "ca.crt")
    if present is not None and not _due(present, now):
        return None
    return new_authority(now, life, bundle)


def renewed_server(
    data: Mapping[str, str], authority: Authority, names: Sequence[str], now: datetime, life: timedelta
) -> dict[str, str] | None:
    """What a server's Secret should hold now, None if it holds that."""
    present = pair_of(data)
    same = (
        present is not None
        and not _due(present, now)
        and _names(present) == set(names)
        and _signed_by(present, authority.pair)
        and _decoded(data, "ca.crt") == authority.bundle
    )
    if same:
        return None
    return secret_data(issue(authority.pair, names, now, life), authority.bundle)


def secret_data(pair: Pair, bundle: bytes) -> dict[str, str]:
    """Data of a Secret of type ``kubernetes.io/tls``."""
    parts = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": bundle}
    return {name: base64.b64encode(text).decode() for name, text in parts.items()}


def pair_of(data: Mapping[str, str]) -> Pair | None:
    """Certificate and key in a Secret's data, None if they are not there or not of our kind."""
    pair = Pair(_decoded(data, "tls.crt"), _decoded(data, "tls.key"))
    try:
        x509.load_pem_x509_certificate(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError):
        return None
    return pair if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _decoded(data: Mapping[str, str], key: str) -> bytes:
    return base64.b64decode(data.get(key, ""))


def _due(pair: Pair, now: datetime) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + RENEWED_AFTER * (end - begin)


def _names(pair: Pair) -> set[str]:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value.get_values_for_type(x509.DNSName))


def _signed_by(pair: Pair, authority: Pair) -> bool:
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read_all(bundle: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(bundle) if bundle else []


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
