"""The server's port: taken before anything slow is loaded, by one process or for several."""

import socket

_BACKLOG = 2_048


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port (`OSError` where it cannot be had)."""
    listener = _bind(*_address(host, port))
    listener.listen(_BACKLOG)
    return listener


def hold(host: str, port: int) -> socket.socket:
    """Take a port for workers to share (`OSError` where anybody has it). Who connects before they listen is refused."""
    holder = _bind(*_address(host, port))
    # only now: bound like this from the start it would share the port of another server's workers
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return holder


def share(holder: socket.socket) -> socket.socket:
    """Another socket on the port that is held, for one worker to listen on."""
    return _bind(holder.family, holder.getsockname(), socket.SO_REUSEPORT)


def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0], (host, port)


def _bind(family: int, address: tuple[str, int], *options: int) -> socket.socket:
    bound = socket.socket(family)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        # every connection inherits it; without it an answer waits 40 ms for the caller's delayed acknowledgement
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
