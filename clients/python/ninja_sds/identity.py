"""Who is who: the caller's identity file, and the check of other principals' certificates."""

import base64
import datetime
import os
import re
import ssl

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

MAX_FILE = 64 << 10
_ID = re.compile(r"spiffe://([a-z0-9._-]+)/([a-z0-9._-]+)/([a-z0-9._-]+)")
_BLOCK = re.compile(r"-----BEGIN ([A-Z ]+)-----\n(.*?)-----END \1-----", re.S)

# Critical extensions that the checks below know; a certificate with any other is refused (RFC 5280, 4.2).
_KNOWN = (x509.BasicConstraints, x509.KeyUsage, x509.ExtendedKeyUsage, x509.SubjectAlternativeName, x509.NameConstraints)


class NinjaError(Exception):
    """Any failure of this package; its text says the remedy where there is one."""


class Untrusted(NinjaError):
    """A certificate or a signature does not hold."""


def parse_id(text):
    """Return (domain, kind, name) of a principal's ID, spiffe://DOMAIN/KIND/NAME."""
    match = _ID.fullmatch(text)
    if not match or len(text) > 255 or any(part in (".", "..") for part in match.groups()):
        raise Untrusted(f"{text!r} is not the ID of a principal")
    return match.groups()


def id_of(certificate):
    """Return the one ID that a leaf certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise Untrusted("a certificate without an ID") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise Untrusted(f"a certificate of {len(uris)} IDs")
    parse_id(uris[0])
    return uris[0]


class Identity:
    """A principal's key, certificates and trusted roots, as `ninjactl join` leaves them in DIRECTORY/identity.pem."""

    def __init__(self, directory):
        path = os.path.join(directory, "identity.pem")
        try:
            with open(path, encoding="ascii") as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise NinjaError(f"{path} can be read by others: chmod 600 it")
                text = file.read(MAX_FILE + 1)
        except OSError as error:
            raise NinjaError(f"no identity: {error}: run ninjactl join, or name its directory") from error
        blocks = {}
        for kind, body in _BLOCK.findall(text):
            # Headers, which say where to renew, are not for us.
            der = base64.b64decode("".join(line for line in body.splitlines() if ":" not in line))
            blocks.setdefault(kind, []).append(der)
        try:
            self._key = blocks["PRIVATE KEY"][0]
            self._chain = blocks["CERTIFICATE"]
            self.roots = [x509.load_der_x509_certificate(der) for der in blocks["NINJA ROOT CERTIFICATE"]]
        except (KeyError, ValueError) as error:
            raise NinjaError(f"{path} is not an identity file") from error
        leaf = x509.load_der_x509_certificate(self._chain[0])
        self.id = id_of(leaf)
        self.domain = parse_id(self.id)[0]
        if leaf.not_valid_after < datetime.datetime.utcnow():
            raise NinjaError(f"the certificate of {self.id} ended at {leaf.not_valid_after} UTC: any ninjactl command renews it")

    def tls(self):
        """Make the TLS configuration of a client: TLS 1.3, mutual, the domain's roots alone.

        Names in certificates are IDs, not hosts: whoever connects checks the ID with peer_id.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=b"".join(root.public_bytes(Encoding.DER) for root in self.roots))
        context.set_alpn_protocols(["h2"])
        # The interface wants a file. This one is in memory: the key does not touch a disk again.
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_pem("PRIVATE KEY", self._key))
            for der in self._chain:
                file.write(_pem("CERTIFICATE", der))
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        return context

    def verify(self, chain):
        """Check a chain of certificates in DER, leaf first, and return (ID, key) of the leaf.

        The chain must be of the one form that a Ninja authority makes: leaf and issuing certificate, below one of our
        roots. Everything is Ed25519.
        """
        if len(chain) != 2:
            raise Untrusted(f"a chain of {len(chain)} certificates")
        try:
            leaf, issuing = (_load(der) for der in chain)
            _check_authority(issuing, 0)
            _signed(leaf, issuing)
            self._below_a_root(issuing)
            return self._leaf(leaf, issuing)
        except NinjaError:
            raise
        except Exception as error:  # the library raises a dozen kinds, by what is wrong
            raise Untrusted(f"a certificate that cannot be read: {error}") from error

    def _below_a_root(self, issuing):
        for root in self.roots:
            try:
                _signed(issuing, root)
            except Untrusted:
                continue
            return _check_authority(root, 1)
        raise Untrusted(f"a certificate of an authority that is not ours: {issuing.issuer.rfc4514_string()}")

    def _leaf(self, leaf, issuing):
        _check_common(leaf)
        who = id_of(leaf)
        permitted = issuing.extensions.get_extension_for_class(x509.NameConstraints).value
        if permitted.excluded_subtrees or [
            tree.value for tree in permitted.permitted_subtrees if isinstance(tree, x509.UniformResourceIdentifier)
        ] != [parse_id(who)[0]]:
            raise Untrusted(f"its authority may not speak for {who}")
        try:
            if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
                raise Untrusted(f"the certificate of {who} is an authority's")
        except x509.ExtensionNotFound:
            pass
        key = leaf.public_key()
        if not isinstance(key, Ed25519PublicKey):
            raise Untrusted(f"the key of {who} is not of the kind Ed25519")
        return who, key


def _load(der):
    """Read a certificate whose parts outside what is signed are as they must be: the library does not look at them."""
    certificate = x509.load_der_x509_certificate(der)
    tail = b"\x30\x05\x06\x03\x2b\x65\x70" + b"\x03\x41\x00" + certificate.signature  # Ed25519 (RFC 8410), bit string
    inside = certificate.tbs_certificate_bytes + tail
    width = 1 if len(inside) < 256 else 2
    if der != bytes((0x30, 0x80 + width)) + len(inside).to_bytes(width, "big") + inside:
        raise Untrusted("a certificate that is not in the one form that it can have")
    return certificate


def _check_common(certificate):
    now = datetime.datetime.utcnow()
    if not certificate.not_valid_before <= now <= certificate.not_valid_after:
        raise Untrusted(f"a certificate that holds from {certificate.not_valid_before} to {certificate.not_valid_after} UTC")
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _KNOWN):
            raise Untrusted(f"a certificate with the unknown critical extension {extension.oid.dotted_string}")


def _check_authority(certificate, below):
    _check_common(certificate)
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    if not basic.ca or not usage.key_cert_sign or (basic.path_length is not None and basic.path_length < below):
        raise Untrusted(f"{certificate.subject.rfc4514_string()} may not sign certificates")


def _signed(certificate, by):
    key = by.public_key()
    if certificate.issuer != by.subject or not isinstance(key, Ed25519PublicKey):
        raise Untrusted("a certificate of another authority than the one shown")
    try:
        key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    except InvalidSignature:
        raise Untrusted("a certificate whose signature is wrong") from None


def verify_signature(key, context, message, signature):
    """Check what a principal signed under a context: a signature under one is never valid under another."""
    try:
        key.verify(signature, context.encode() + b"\0" + message)
    except InvalidSignature:
        raise Untrusted("a signature is wrong") from None


def peer_id(connection, kind, domain):
    """Return the ID at the other end of a TLS connection, which must be of the kind and the domain."""
    der = connection.getpeercert(binary_form=True)
    try:
        who = id_of(x509.load_der_x509_certificate(der))
    except (TypeError, ValueError) as error:
        raise Untrusted(f"the server's certificate cannot be read: {error}") from error
    if parse_id(who)[:2] != (domain, kind):
        raise Untrusted(f"the server is {who}, wanted the kind {kind} of {domain}")
    return who


def _pem(kind, der):
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {kind}-----\n{text}-----END {kind}-----\n".encode()


