"""Runs an image's command without an engine, confined as docker-compose.yml confines it.

In a chroot of the image's files on a read-only mount, as the image's user, with no capability and no way to get one,
/tmp and the volume in memory. The network is this machine's; nothing limits memory or processors.
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
    """An image's files and how its commands are run.

    Args:
        files: the folder of the image's files
        place: an empty folder, to mount them on
        config: the image's `User` and `Env`
    """

    def __init__(self, files: Path, place: Path, config: Mapping[str, object]) -> None:
        self._files, self._place = files, place
        self._user, _, self._group = str(config["User"]).partition(":")
        environment = config["Env"]
        assert isinstance(environment, list)
        self._environment = [str(setting) for setting in environment]

    def start(self, command: Sequence[str], *settings: str) -> "subprocess.Popen[str]":
        """Start a command with more settings, NAME=value, than the image's; the process is the command itself."""
        enter = ["unshare", "--mount", "sh", "-c", _ENTER, "enter", str(self._files), str(self._place)]
        words = [*enter, self._user, self._group or self._user, *self._environment, *settings, *command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def shell(self, script: str, *settings: str) -> tuple[int, str]:
        """The status and the output of a shell's script."""
        process = self.start(["sh", "-c", script], *settings)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output.strip()

    def run(self, command: Sequence[str], *settings: str) -> tuple[int, str]:
        """The status and the output of a command."""
        return self.shell(shlex.join(command), *settings)
