"""Sockets on the server's port, which is taken before anything slow is loaded."""

import socket

_BACKLOG = 2_048


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
