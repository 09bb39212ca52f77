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


def run(*command: object) -> None:
    """Run a command; skip the test if it is missing or fails."""
    name, *options = (str(part) for part in command)
    # The PATH of a CI may lack the directories of root's commands.
    program = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]))
    if program is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([program, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{name} failed: {done.stderr.strip()[-200:]}")


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
