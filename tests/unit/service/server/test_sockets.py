"""Sockets on the server's port."""

import os
import socket
import sys

import pytest

from service.server.sockets import ignore_new_connections, listen


@pytest.mark.skipif(sys.platform != "linux", reason="the packet filter is Linux's")
def test_a_listener_that_ignores_new_connections_still_gives_those_made_before() -> None:
    with listen("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.create_connection(address, timeout=10) as before:
            could = ignore_new_connections(listener)
            assert could or os.geteuid() != 0
            if could:
                with pytest.raises(TimeoutError):
                    socket.create_connection(address, timeout=0.3)
            before.sendall(b"request")
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.recv(7) == b"request"
                accepted.sendall(b"answer")
                assert before.recv(6) == b"answer"
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()
