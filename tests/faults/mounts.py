"""Temporary file systems on disk images and in memory. Mounting them needs root."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, of ext4, XFS and F2FS
LOG_FLUSHED, LOG_DROPPED = 1, 2


def run(*command: object) -> str:
    """Run a command and return its output; skip the test if it is missing or fails."""
    name, *options = (str(part) for part in command)
    # The PATH of a CI may lack the directories of root's commands.
    program = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if program is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([program, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{name} failed: {done.stderr.strip()[-200:]}")
    return done.stdout


class Image:
    """A file system in a file, mounted at `path`."""

    def __init__(self, directory: Path, kind: str, size: str = "400M", options: tuple[str, ...] = ()) -> None:
        if os.geteuid():
            pytest.skip("needs root, to mount")
        self.kind = kind
        self.file = directory / f"{kind}.img"
        self.path = directory / f"{kind}.mounted"
        self.path.mkdir()
        run("truncate", "-s", size, self.file)
        run(f"mkfs.{kind}", "-q", *options, self.file)

    def mount(self) -> None:
        run("mount", "-o", "loop", self.file, self.path)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.path)], capture_output=True, check=False)

    def cut_power(self, flags: int) -> None:
        """Cut the power: data that is not yet on disk is lost. Mount the image again afterwards."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, flags.to_bytes(4, "little"))
        finally:
            os.close(fd)


@contextlib.contextmanager
def image(directory: Path, kind: str, size: str = "400M", options: tuple[str, ...] = ()) -> Iterator[Image]:
    disk = Image(directory, kind, size, options)
    disk.mount()
    try:
        yield disk
    finally:
        disk.unmount()
        disk.file.unlink()


@contextlib.contextmanager
def tmpfs(directory: Path, options: str) -> Iterator[Path]:
    """A file system in memory, mounted with the given options."""
    if os.geteuid():
        pytest.skip("needs root, to mount")
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", options, "tmpfs", directory)
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], capture_output=True, check=False)


class Mounts:
    """The other file systems of the tests, by name: a function that mounts one, and yields a directory in it."""

    @staticmethod
    def exfat(directory: Path) -> Iterator[Path]:
        run("truncate", "-s", "200M", directory / "image")
        run("mkfs.exfat", directory / "image")
        device = run("losetup", "--find", "--show", directory / "image").strip()
        try:
            yield from _mounted(directory, "mount.exfat-fuse", device)
        finally:
            subprocess.run(["losetup", "--detach", device], check=False)

    @staticmethod
    def ntfs(directory: Path) -> Iterator[Path]:
        run("truncate", "-s", "200M", directory / "image")
        run("mkfs.ntfs", "-F", "-q", "-f", directory / "image")
        yield from _mounted(directory, "ntfs-3g", directory / "image")

    @staticmethod
    def overlayfs(directory: Path) -> Iterator[Path]:
        for name in ("lower", "upper", "work"):
            (directory / name).mkdir(exist_ok=True)
        options = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work"
        yield from _mounted(directory, "mount", "-t", "overlay", "-o", options, "overlay")

    @staticmethod
    def bindfs(directory: Path) -> Iterator[Path]:
        """A mount without chmod and chown."""
        (directory / "source").mkdir()
        yield from _mounted(directory, "bindfs", "--chmod-deny", "--chown-deny", directory / "source")

    @staticmethod
    def mergerfs(directory: Path) -> Iterator[Path]:
        """A union mount whose branches hold copies of the same directories, as its default policies make them."""
        for name in ("one", "two"):
            (directory / name).mkdir()
        yield from _mounted(directory, "mergerfs", f"{directory}/one:{directory}/two")

    @staticmethod
    def s3fs(directory: Path) -> Iterator[Path]:
        """A bucket of a local S3 server."""
        pytest.importorskip("moto")
        from tests.servers import CREDENTIALS, moto  # noqa: PLC0415 - only where moto is installed

        password = directory / "password"
        password.write_text(f"{CREDENTIALS['access_key_id']}:{CREDENTIALS['secret_access_key']}")
        password.chmod(0o600)
        with moto() as server:
            bucket = server.bucket().split("/")[2]
            options = f"url={server.endpoint},use_path_request_style,passwd_file={password}"
            yield from _mounted(directory, "s3fs", bucket, options=("-o", options))


def _mounted(directory: Path, *command: object, options: tuple[str, ...] = ()) -> Iterator[Path]:
    if os.geteuid():
        pytest.skip("needs root, to mount")
    if not os.path.exists("/dev/fuse") and command[0] != "mount":
        pytest.skip("needs /dev/fuse")
    mounted = directory / "mounted"
    mounted.mkdir()
    run(*command, mounted, *options)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], capture_output=True, check=False)
