"""Certificates of a test's own authority, made with openssl."""

import subprocess
from pathlib import Path

_MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"


class Certificates:
    """An authority in a folder, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._make("ca")
        for name in ("server", "client"):
            self._make(name, "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"))

    def of(self, name: str) -> dict[str, str]:
        """The files of a certificate, as options of a Redis URL."""
        files = {"ssl_ca_certs": "ca.crt", "ssl_certfile": f"{name}.crt", "ssl_keyfile": f"{name}.key"}
        return {option: str(self.folder / file) for option, file in files.items()}

    def _make(self, name: str, *signed: str) -> None:
        files = ["-keyout", str(self.folder / f"{name}.key"), "-out", str(self.folder / f"{name}.crt")]
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        subprocess.run([*_MAKE.split(), *subject, *files, *signed], check=True, capture_output=True)
