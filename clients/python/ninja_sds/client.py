"""The client of an SDS server."""

import dataclasses
import json
import logging
import os
import struct
import threading
import time

from google.protobuf.message import DecodeError

from . import capability_pb2, identity, sds_pb2, wire

_log = logging.getLogger("ninja_sds")


@dataclasses.dataclass(frozen=True)
class Found:
    """A service that matches. The description's bytes are those that its owner signed."""

    owner: str
    name: str
    version: int
    description: bytes
    numbers: dict  # vouched for by the server, not signed by the owner
    age: float  # seconds since the server last heard of it

    @property
    def id(self):
        """The service's ID, OWNER-ID#name."""
        return f"{self.owner}#{self.name}"


class Client:
    """Asks one SDS server. Threads may share it; they wait for each other.

    home     directory of the identity; None is NINJA_HOME, else ~/.ninja
    sds      the server's address, HOST:PORT; None is the one that ninjactl or sdsquery used last
    manager  the capability manager's address; None likewise; "" asks without capability, for what everyone may find
    timeout  seconds that one call may take
    """

    def __init__(self, home=None, sds=None, manager=None, timeout=15.0):
        home = home or os.environ.get("NINJA_HOME") or os.path.expanduser("~/.ninja")
        self.identity = identity.Identity(home)
        if sds is None or manager is None:
            known = _servers(home)
            sds = sds or known.get("sds")
            manager = known.get("capability", "") if manager is None else manager
        self._sds, self._manager, self._timeout = sds, manager, timeout
        self._lock = threading.Lock()
        self._connection = None
        self._token, self._renew = b"", 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Close the connection; the next query opens another."""
        with self._lock:
            self._drop()

    def query(self, template="", *, xpath="", by="", limit=0, order_by="", descending=False):
        """Return what matches and you may find, as a list of Found, each with its owner's signature checked.

        template  a partial document: the elements, attributes and text that must be there; "" asks for nothing
        xpath     an expression that must be true as well
        by        the ID of the owner, if it matters
        limit     how many at most; 0 is as many as one answer holds
        order_by  a named number (load, queue ...) or a path within the document
        """
        answer = self._ask(template, xpath=xpath, by=by, limit=limit, order_by=order_by, descending=descending)
        found = []
        for item in answer.found:
            try:
                found.append(self._open(item))
            except identity.Untrusted as error:
                _log.warning("%.512s#%.512s is left out: %s", ascii(item.owner), ascii(item.name), error)
        return found

    def count(self, template="", *, xpath="", by=""):
        """Return how many services match and you may find."""
        return self._ask(template, xpath=xpath, by=by, count_only=True).count

    def _ask(self, template, **rest):
        if isinstance(template, str):
            template = template.encode()
        question = sds_pb2.Question(version=1, template=template, **rest)
        with self._lock:
            for again in (True, False):
                fresh = self._connection is None
                try:
                    request = sds_pb2.QueryRequest(version=1, capability=self._capability(), question=question)
                    if self._connection is None:
                        self._connection = wire.Connection(self.identity, self._sds, "sds", self._timeout)
                    answer = self._connection.call("/ninja.sds.v1.Discovery/Query", request.SerializeToString(), self._timeout)
                    return sds_pb2.QueryResponse.FromString(answer)
                except wire.CallFailed as error:
                    self._drop()
                    # A connection ends with the certificates that opened it: ask once more on a new one.
                    if fresh or not again or error.code != wire.UNAVAILABLE:
                        raise
                except DecodeError as error:
                    self._drop()
                    raise identity.NinjaError(f"the server's answer cannot be read: {error}") from error
                except BaseException:
                    self._drop()  # in the middle of a call it is of no more use
                    raise

    def _drop(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _capability(self):
        """Return the identity's capability, fetched anew after two thirds of its life."""
        if self._manager == "" or self._token and time.time() < self._renew:
            return self._token
        connection = wire.Connection(self.identity, self._manager, "capability", self._timeout)
        try:
            request = capability_pb2.IssueRequest(version=1)
            answer = connection.call("/ninja.capability.Manager/Issue", request.SerializeToString(), self._timeout)
            issued = capability_pb2.IssueResponse.FromString(answer)
        except DecodeError as error:
            raise identity.NinjaError(f"the capability manager's answer cannot be read: {error}") from error
        finally:
            connection.close()
        now = time.time()
        self._token, self._renew = issued.token, now + (issued.expires - now) * 2 / 3
        return self._token

    def _open(self, item):
        owner, key = self.identity.verify(list(item.chain))
        if owner != item.owner:
            raise identity.Untrusted(f"it carries the certificate of {owner}")
        signed = b"".join((_sized(item.owner), _sized(item.name), struct.pack(">Q", item.version), _sized(item.description)))
        identity.verify_signature(key, "ninja description 1", signed, item.signature)
        return Found(item.owner, item.name, item.version, item.description, dict(item.numbers), item.age_ms / 1000)


def _sized(part):
    part = part.encode() if isinstance(part, str) else part
    return struct.pack(">I", len(part)) + part


def _servers(home):
    path = os.path.join(home, "servers.json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.loads(file.read(identity.MAX_FILE))
    except (OSError, ValueError) as error:
        raise identity.NinjaError(f"no server is known: name its address, or run sdsquery once ({error})") from error
