"""Unary gRPC calls over HTTP/2 and TLS 1.3.

The gRPC library of Python cannot be used: it insists that the server's certificate names the host that was dialled, and
offers no place to check an ID instead.
"""

import socket
import struct
import time
import urllib.parse

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from . import identity

MAX_MESSAGE = 4 << 20  # bytes that either end accepts in one message


class CallFailed(identity.NinjaError):
    """The server answered with an error, or not at all. Code is gRPC's number: 7 is permission denied, 14 unavailable."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


UNKNOWN, DEADLINE_EXCEEDED, UNAVAILABLE = 2, 4, 14


class Connection:
    """One connection to one server, one call at a time."""

    def __init__(self, who, address, kind, timeout):
        host, _, port = address.rpartition(":")
        try:
            raw = socket.create_connection((host.strip("[]"), int(port)), timeout)
        except (OSError, ValueError) as error:
            raise CallFailed(UNAVAILABLE, f"{address}: {error}") from error
        try:
            self._socket = who.tls().wrap_socket(raw)
            self.server = identity.peer_id(self._socket, kind, who.domain)
            if self._socket.selected_alpn_protocol() != "h2":
                raise CallFailed(UNAVAILABLE, f"{address} does not speak HTTP/2")
            self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
            self._h2.initiate_connection()
            self._flush()
        except OSError as error:
            raw.close()
            raise CallFailed(UNAVAILABLE, f"{address}: {error}") from error
        except identity.NinjaError:
            raw.close()
            raise
        self._address = address

    def close(self):
        """Close the connection."""
        self._socket.close()

    def call(self, method, message, timeout):
        """Send one message to /SERVICE/METHOD and return the bytes of the answer."""
        deadline = time.monotonic() + timeout
        body = struct.pack(">BI", 0, len(message)) + message
        if len(message) > MAX_MESSAGE:
            raise identity.NinjaError(f"a request of {len(message)} bytes, at most {MAX_MESSAGE}")
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, [
                (":method", "POST"), (":scheme", "https"), (":path", method), (":authority", self._address),
                ("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", f"{int(timeout * 1000)}m"),
            ])
            return self._exchange(stream, body, deadline)
        except socket.timeout as error:
            raise CallFailed(DEADLINE_EXCEEDED, f"{self._address}: no answer in {timeout} s") from error
        except (OSError, h2.exceptions.ProtocolError) as error:
            raise CallFailed(UNAVAILABLE, f"{self._address}: {error}") from error

    def _exchange(self, stream, body, deadline):
        answer, headers = bytearray(), {}
        while True:
            body = self._send(stream, body)
            self._flush()
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout()
            self._socket.settimeout(left)
            data = self._socket.recv(64 << 10)
            if not data:
                raise ConnectionError("the server closed the connection")
            for event in self._h2.receive_data(data):
                if isinstance(event, h2.events.ConnectionTerminated):
                    raise ConnectionError("the server ended the connection")
                if getattr(event, "stream_id", 0) != stream:
                    continue
                if isinstance(event, h2.events.DataReceived):
                    answer += event.data
                    if len(answer) > MAX_MESSAGE + 5:
                        raise identity.NinjaError(f"an answer of more than {MAX_MESSAGE} bytes")
                    self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
                elif isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                    headers.update(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    raise ConnectionError(f"the server reset the call ({event.error_code})")
                elif isinstance(event, h2.events.StreamEnded):
                    return _result(answer, headers)

    def _send(self, stream, body):
        """Send as much as the server's window takes and return the rest; None when all is sent."""
        while body is not None:
            room = min(self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size)
            if room == 0:
                break
            self._h2.send_data(stream, body[:room], end_stream=len(body) <= room)
            body = body[room:] or None
        return body

    def _flush(self):
        self._socket.sendall(self._h2.data_to_send())


def _result(answer, headers):
    try:
        code = int(headers.get("grpc-status", UNKNOWN))
    except ValueError:
        code = UNKNOWN
    if code != 0:
        raise CallFailed(code, urllib.parse.unquote(headers.get("grpc-message", "")) or f"the server answers with status {code}")
    if len(answer) < 5 or answer[0] != 0 or struct.unpack(">I", answer[1:5])[0] != len(answer) - 5:
        raise CallFailed(UNKNOWN, "the server's answer is not one whole message")
    return bytes(answer[5:])
