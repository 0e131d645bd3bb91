"""Ask a Ninja SDS server for services, from Python.

    import ninja_sds

    with ninja_sds.Client() as client:              # the identity of `ninjactl join`, in NINJA_HOME or ~/.ninja
        for found in client.query('<service kind="printer"/>'):
            print(found.id, found.description.decode())

The server proves who it is by its certificate, the caller by its own, and every description that is returned carries its
owner's signature, which has been checked. It needs Debian's python3-h2, python3-protobuf and python3-cryptography, and
speaks to the same gRPC service as every other client (sds/sdspb/sds.proto); nothing here is generated but the messages.
"""

from .client import Client, Found
from .identity import Identity, NinjaError, Untrusted
from .wire import CallFailed

__all__ = ["CallFailed", "Client", "Found", "Identity", "NinjaError", "Untrusted"]
