"""What stands between a client and a server on loopback: a way that can be cut, mended or alter bytes, and TLS."""

import selectors
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal


class Proxy:
    """Passes bytes to a port of this machine while its way is open."""

    def __init__(self, target: int, *, alter: Callable[[bytes], bytes] = bytes) -> None:
        self._target, self._alter = target, alter
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._way: Literal["open", "cut", "silent"] = "open"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Close every connection and refuse new ones."""
        with self._lock:
            self._way = "cut"
            for end in list(self._other):
                self._close(end)

    def silence(self) -> None:
        """Keep connections and accept new ones, but let nothing through."""
        self._way = "silent"

    def lead_to(self, target: int) -> None:
        """Lead new connections to another port, as a name does that is pointed at another server."""
        self._target = target

    def mend(self) -> None:
        """Pass bytes again; what was held back is passed too."""
        self._way = "open"

    def close(self) -> None:
        """End it."""
        self._ended = True
        self._thread.join(10)
        self.cut()
        self._listener.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(timeout=0.05):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._other:
                        self._pass(key.fileobj)
            if self._way == "silent":
                threading.Event().wait(0.005)  # what is held back is readable all the time

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self._way == "cut":
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._other |= {near: far, far: near}
        for end in (near, far):
            self._selector.register(end, selectors.EVENT_READ)

    def _pass(self, end: socket.socket) -> None:
        if self._way == "silent":
            return
        try:
            data = end.recv(1 << 16)
            if data:
                self._other[end].sendall(self._alter(data))
                return
        except OSError:
            pass
        self._close(end)

    def _close(self, end: socket.socket) -> None:
        other = self._other.pop(end, None)
        if other is None:
            return
        del self._other[other]
        for one in (end, other):
            self._selector.unregister(one)
            one.close()


class CutsReply:
    """Lets bytes through, and breaks the connection in place of the next reply that holds certain bytes."""

    def __init__(self) -> None:
        self.armed: bytes | None = None

    def __call__(self, data: bytes) -> bytes:
        if self.armed is not None and self.armed in data:
            self.armed = None
            raise OSError("cut")
        return data


class TlsFront:
    """TLS in front of a port of this machine, as a managed Redis has it: with a certificate of its own."""

    def __init__(self, target: int, folder: Path) -> None:
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run(["openssl", *make.split(), *files], check=True, capture_output=True)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.certificate, key)
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; connections end with their clients."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        """Questions and answers in turn, as a client without pipelines sends them."""
        with plain, socket.create_connection(("127.0.0.1", self._target)) as far:
            try:
                with self._context.wrap_socket(plain, server_side=True) as near:
                    while question := near.recv(1 << 16):
                        far.sendall(question)
                        near.sendall(far.recv(1 << 16))
            except OSError:
                return
