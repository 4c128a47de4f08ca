"""Sockets on the server's port, which is taken before anything slow is loaded."""

import ctypes
import socket
import struct
import sys

_BACKLOG = 2_048
_SO_ATTACH_FILTER = 26
"""Linux's socket option that attaches a packet filter; Python does not name it."""
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load byte 13 of the TCP header, the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # yes: drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # no: keep it whole
)
"""Classic BPF instructions: code, jump if true, jump if false, constant."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port (`OSError` if it is not available)."""
    listener = _bind(*_address(host, port))
    listener.listen(_BACKLOG)
    return listener


def hold(host: str, port: int) -> socket.socket:
    """Bind a port for workers to share (`OSError` if it is in use). Connections are refused until a worker listens."""
    holder = _bind(*_address(host, port))
    # set after binding: set before, the socket would share the port of another server's workers
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return holder


def share(holder: socket.socket) -> socket.socket:
    """Bind another socket to the port of `holder`, for one worker to listen on."""
    return _bind(holder.family, holder.getsockname(), socket.SO_REUSEPORT)


def ignore_new_connections(listener: socket.socket) -> bool:
    """Ignore every attempt to connect from now on; those connected before can still be accepted.

    Returns whether it could: packet filters are Linux's, and some systems deny them to users other than root.

    The kernel resets the connections in a listening socket's queue when it is closed. With this, none can enter the
    queue between the last `accept` and `close`. A client whose attempt is ignored repeats it a second later, and
    reaches another worker or is refused.
    """
    if sys.platform != "linux":
        return False
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _DROP_SYN))
    program_at = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program_at)
    except OSError:
        return False
    return True


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0], (host, port)


def _bind(family: int, address: tuple[str, int], *options: int) -> socket.socket:
    bound = socket.socket(family)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        # inherited by every connection; without it a response waits 40 ms for the client's delayed acknowledgement
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
