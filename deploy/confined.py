"""Runs an image's command without an engine, confined as in docker-compose.yml.

The command runs in a chroot of the image's files on a read-only mount, as the image's user, without capabilities or a
way to gain them, with /tmp and the volume in memory. Network, memory and processors are not confined.
"""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_ENTER = """
set -eu
mount --make-rprivate /
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
mount -t tmpfs -o mode=1777,nosuid,nodev,size=64m tmpfs "$2/tmp"
mount -t tmpfs -o mode=0750,uid=$3,gid=$4,nosuid,nodev,size=64m tmpfs "$2/var/lib/superpos"
mount -t tmpfs -o mode=0755,nosuid,size=1m tmpfs "$2/dev"
for device in null zero random urandom; do touch "$2/dev/$device"; mount --bind "/dev/$device" "$2/dev/$device"; done
mkdir -m 1777 "$2/dev/shm"
mount --bind /proc "$2/proc"
root="$2" user="$3" group="$4"
shift 4
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all /usr/bin/env -i "$@"
"""


class Confined:
    """An image's files and configuration.

    Args:
        files: folder of the image's files
        place: empty folder to mount them on
        config: the image's `User` and `Env`
    """

    def __init__(self, files: Path, place: Path, config: Mapping[str, object]) -> None:
        self._files, self._place = files, place
        self._user, _, self._group = str(config["User"]).partition(":")
        environment = config["Env"]
        assert isinstance(environment, list)
        self._environment = [str(setting) for setting in environment]

    def start(self, command: Sequence[str], *settings: str) -> "subprocess.Popen[str]":
        """Start a command with additional settings (NAME=value); the process is the command itself."""
        enter = ["unshare", "--mount", "sh", "-c", _ENTER, "enter", str(self._files), str(self._place)]
        words = [*enter, self._user, self._group or self._user, *self._environment, *settings, *command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def shell(self, script: str, *settings: str) -> tuple[int, str]:
        """Run a shell script and return its status and output."""
        process = self.start(["sh", "-c", script], *settings)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output.strip()

    def run(self, command: Sequence[str], *settings: str) -> tuple[int, str]:
        """Run a command and return its status and output."""
        return self.shell(shlex.join(command), *settings)
