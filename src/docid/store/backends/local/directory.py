"""An open directory, calls on names in it, and their errors with the full path and a remedy.

Names are relative to a descriptor, if the platform supports that, so that no other process can exchange the directory
between two calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from os.path import join
from typing import TYPE_CHECKING, Self

from docid._files import ignore_system_errors, is_directory, is_link, is_system_error, sync_directory, sync_file
from docid.errors import UnreadableDocument
from docid.store.backends.names import temporary_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Windows has no descriptors of directories, so names are joined to paths there. It also lacks some of the flags.
_HAS_DIR_FD = os.open in os.supports_dir_fd
_COMMON = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = _COMMON | getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# Non-blocking, so that a pipe under the name of a file does not block the reader.
READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _NO_LINK
LOCK = os.O_RDWR | _NO_LINK
NEW_LOCK = LOCK | os.O_CREAT | os.O_EXCL
# The errors of opening a symbolic link or a socket, and of reading a directory or an open pipe.
_NO_FILE = frozenset({errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EAGAIN})
_CHUNK = 65_536  # bytes; most files are shorter
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COMMON

# The types of ext2 to ext4, XFS, btrfs, F2FS, ZFS and tmpfs in statfs(2).
_SYNCED_AS_A_WHOLE = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x2FC12FC1, 0x01021994})
_OVERLAYFS = 0x794C7630
# On these, a flock of one process holds against all others, which need not be true over a network or in FUSE.
_LOCKED_FOR_ALL = _SYNCED_AS_A_WHOLE | {_OVERLAYFS}
_MAC_NAMES = frozenset({b"apfs", b"hfs"})


class Directory:
    """An open directory. Its methods work as the functions of `os` with the same names, on names in the directory."""

    __slots__ = ("_prefix", "fd", "path")

    def __init__(self, name: str, parent: Directory | None = None) -> None:
        """Open a path, or a name in `parent`; raise NotADirectoryError if it is a link or another kind of file."""
        self.fd: int | None = None
        self.path: str = name if parent is None else f"{parent.path}{os.sep}{name}"
        self._prefix = "" if _HAS_DIR_FD else join(self.path, "")
        if not _HAS_DIR_FD:  # pragma: no cover  - Windows
            if not stat.S_ISDIR(os.lstat(self.path).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)
            return
        try:
            self.fd = os.open(name, _DIRECTORY, dir_fd=None if parent is None else parent.fd)
        except OSError as error:
            # For a link, O_NOFOLLOW gives ELOOP; on Linux, O_DIRECTORY gives ENOTDIR.
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path) from None
            if isinstance(error, PermissionError):
                error.filename = self.path
            raise

    @classmethod
    def at(cls, path: str) -> Self:
        """Return a directory whose names are joined to its path, without a descriptor: for one or two calls."""
        directory = cls.__new__(cls)
        directory.fd, directory.path, directory._prefix = None, path, join(path, "")  # noqa: SLF001 - the same class
        return directory

    def __enter__(self) -> Self:
        return self

    def close(self, *_: object) -> None:
        """Close it. Ignore errors: the work in it is done."""
        fd = self.fd
        if fd is not None and fd >= 0:
            self.fd = -1
            try:  # `suppress` would take a tenth of the time of opening a document
                os.close(fd)
            except OSError as error:
                if not is_system_error(error):
                    raise

    __exit__ = close
    # An interrupt (Ctrl-C) may come at any line, before the `with`.
    __del__ = close

    def open(self, name: str, flags: int, mode: int = 0o666) -> int:
        """Open a file in it and return the descriptor."""
        try:
            return os.open(self._prefix + name, flags, mode, dir_fd=self.fd)
        except PermissionError as error:
            error.filename = join(self.path, name) if self.exists(name) else self.path
            raise

    def sync(self) -> None:
        """Make all renamed, new and removed names in it durable, if the file system can sync directories."""
        if self.fd is not None:  # pragma: no branch  - Windows has no sync of directories
            sync_directory(self.fd)

    def can_sync_all(self) -> bool:
        """Return whether `sync_all` makes everything on this file system durable. This check writes nothing.

        It is true if syncfs(2) reports write errors (Linux 5.8 or later), and if it does the same as fsync of every
        file on this type of file system. On others, syncfs may return while the data is still in another process.
        """
        if sys.platform != "linux" or self.fd is None:  # pragma: no cover  - tested on Linux
            return False
        import ctypes  # noqa: PLC0415 - only for batches

        version = re.match(r"(\d+)\.(\d+)", os.uname().release)
        if version is None or tuple(map(int, version.groups())) < (5, 8) or not hasattr(ctypes.CDLL(None), "syncfs"):
            return False
        return self._find_type() in _SYNCED_AS_A_WHOLE

    def trusts_locks(self) -> bool:
        """Return whether a flock on its file system holds against all processes that can reach it."""
        return self._find_type() in (_LOCKED_FOR_ALL if sys.platform == "linux" else _MAC_NAMES)

    def renames_directories(self) -> bool:
        """Return whether its file system can certainly rename every directory."""
        return self._find_type() in (_SYNCED_AS_A_WHOLE if sys.platform == "linux" else _MAC_NAMES)

    def _find_type(self) -> int | bytes | None:
        """Return the type of its file system, from fstatfs(2): a number on Linux, a name on macOS, else None."""
        if self.fd is None or sys.platform not in {"linux", "darwin"}:  # pragma: no cover  - Windows
            return None
        try:
            import ctypes  # noqa: PLC0415 - only for batches and claims
        except ImportError:  # Python can be built without it
            return None
        status = ctypes.create_string_buffer(4096)
        if ctypes.CDLL(None).fstatfs(self.fd, status):
            return None
        if sys.platform == "darwin":  # pragma: no cover  - tested on Linux
            return status.raw[72:88].partition(b"\0")[0]  # f_fstypename
        return ctypes.c_long.from_buffer(status).value  # struct statfs begins with the type

    def sync_all(self) -> None:
        """Make all data on its file system durable. Requires `can_sync_all`."""
        import ctypes  # noqa: PLC0415 - only for batches

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(self.fd):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.path)

    def sub(self, name: str) -> Directory:
        """Open a directory in it."""
        return Directory(name, self)

    def mkdir(self, name: str) -> None:
        """Make a directory in it."""
        try:
            os.mkdir(self._prefix + name, dir_fd=self.fd)
        except PermissionError as error:
            error.filename = self.path
            raise

    def check_writable(self) -> None:
        """Raise the error of the file system if names in it cannot be changed."""
        if not self.may_write():
            # access(2) may be wrong, for example about a process with capabilities. A trial is certain.
            trial = temporary_name("trial")
            self.mkdir(trial)
            self.remove_empty(trial)

    def check_renames(self) -> None:
        """Raise the error of the file system if a new directory in it cannot be renamed."""
        trial, renamed = temporary_name("trial"), temporary_name("trial")
        self.mkdir(trial)
        try:
            self.rename(trial, renamed)
        finally:
            for name in (trial, renamed):
                self.remove_empty(name)

    def may_write(self) -> bool:
        """Return whether access(2) says that names in it may be changed."""
        return os.access(self._prefix + ".", os.W_OK, dir_fd=self.fd)

    def rename(self, name: str, new: str, to: Directory | None = None) -> None:
        """Rename a name in it, within the directory or into another one."""
        to = to or self
        try:
            os.rename(self._prefix + name, to._prefix + new, src_dir_fd=self.fd, dst_dir_fd=to.fd)  # noqa: SLF001 - the same class
        except PermissionError as error:
            refused = to if self.may_write() else self
            # A directory that gets another parent must be writable, too, because its `..` changes.
            is_moved = to is not self and refused.may_write()
            error.filename = join(self.path, name) if is_moved else refused.path
            raise
        except OSError as error:
            if error.errno in _CANNOT_RENAME:
                remedy = _NO_RENAMES
            elif error.errno == errno.EXDEV and self.is_beside(to):
                remedy = _LAYERS
            else:
                raise
            raise ExplainedError(error.errno, f"{error.strerror}; {remedy}", self.path) from error

    def move(self, name: str, new: str, to: Directory | None = None) -> None:
        """Rename a name that no other process renames. On NFS, a rename that succeeds may be reported as failed."""
        to = to or self
        try:
            self.rename(name, new, to)
        except OSError as error:
            done = False
            with ignore_system_errors:
                done = is_system_error(error) and not self.exists(name) and to.exists(new)
            if not done:
                raise

    def stat(self, name: str) -> os.stat_result | None:
        """Return the status of a name, of a link itself; None if it does not exist. `.` is the directory."""
        try:
            return os.stat(self._prefix + name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether a name exists, even if it is a link to a missing file."""
        return self.stat(name) is not None

    def is_beside(self, other: Directory) -> bool:
        """Return whether both are on one file system, so that a rename between them is possible."""
        devices = {os.stat(each.path if each.fd is None else each.fd).st_dev for each in (self, other)}
        return len(devices) == 1

    def is_at(self, name: str, parent: Directory) -> bool:
        """Return whether this directory now has that name in `parent`."""
        if self.fd is None:  # pragma: no cover  - Windows
            return True
        status = parent.stat(name)
        return status is not None and os.path.samestat(status, os.fstat(self.fd))

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file; None if it does not exist. See `read_all`."""
        return self.read_all((name,)).get(name)

    def read_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of the existing files by name; raise IsADirectoryError if one is not a regular file."""
        found: dict[str, bytes] = {}
        for name in names:
            try:
                fd = os.open(self._prefix + name, READ, dir_fd=self.fd)
                try:
                    chunks = [os.read(fd, _CHUNK)]
                    # fstat costs more than a read, so it is called only in doubt: reading anything but a file gives no
                    # bytes, an error, or more and more bytes.
                    if not 0 < len(chunks[0]) < _CHUNK and not stat.S_ISREG(os.fstat(fd).st_mode):
                        raise IsADirectoryError(errno.EISDIR, "")
                    while chunk := os.read(fd, 8 * len(chunks[0])):
                        chunks.append(chunk)
                finally:
                    os.close(fd)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in _NO_FILE:
                    raise IsADirectoryError(errno.EISDIR, "not a file", join(self.path, name)) from None
                raise
            found[name] = b"".join(chunks)
        return found

    def write(self, name: str, data: bytes, *, sync: bool) -> None:
        """Write a new file; raise FileExistsError if the name exists."""
        _fill(self.open(name, _WRITE), data, sync=sync)

    def swap_in(
        self,
        name: str,
        data: bytes,
        *,
        sync: bool,
        temporary: str = "",
        like: Directory | None = None,
        mode: int = 0o666,
    ) -> None:
        """Write a file under a temporary name and rename it, over an existing file of that name.

        Whoever may read or write in `like` may read or write the file.
        """
        temporary = temporary or temporary_name(name)
        try:
            fd = self.open(temporary, _WRITE, mode)
            if like is not None:
                share(fd, like)
            _fill(fd, data, sync=sync)
            self.move(temporary, name)
        except BaseException:
            with ignore_system_errors:
                self.unlink(temporary)
            raise

    def unlink(self, name: str) -> None:
        """Remove a file."""
        try:
            os.unlink(self._prefix + name, dir_fd=self.fd)
        except PermissionError as error:
            error.filename = self.path
            raise

    def scan(self) -> Iterator[os.DirEntry[str]]:
        """Yield the entries."""
        with os.scandir(self.path if self.fd is None else self.fd) as entries:
            yield from entries

    def names(self) -> list[str]:
        """Return the names in it."""
        return os.listdir(self.path if self.fd is None else self.fd)

    def remove_empty(self, name: str) -> bool:
        """Try to remove an empty directory; return whether it was removed."""
        try:
            os.rmdir(self._prefix + name, dir_fd=self.fd)
        except OSError as error:
            if not is_system_error(error):
                raise
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a temporary directory and its files. Ignore errors: a repair finds the rest."""
        with ignore_system_errors, self.sub(name) as directory:
            for file in directory.names():
                directory.unlink(file)
        self.remove_empty(name)


def _fill(fd: int, data: bytes, *, sync: bool) -> None:
    """Write all data to a file and close it; with `sync`, make it durable."""
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if sync:
            sync_file(fd)
    finally:
        os.close(fd)


def open_below(root: str, names: Sequence[str]) -> Directory:
    """Open a directory below a root. Only the root may be a symbolic link."""
    directory = Directory(join(root, names[0]))
    for name in names[1:]:
        with directory as above:
            directory = above.sub(name)
    return directory


def make_below(root: str, names: Sequence[str], *, sync: bool, like: Directory | None = None) -> Directory:
    """Make a directory below a root, with its missing parents, and open it. With `sync`, make them durable.

    Whoever may write in `like` may write in the directories that are made.
    """
    try:
        return open_below(root, names)
    except FileNotFoundError:
        pass
    if names[1:]:
        above = make_below(root, names[:-1], sync=sync, like=like)
    else:
        _make(root, sync=sync)
        above = open_root(root)
    with above:
        is_new = False
        if like is not None and names[1:]:
            share(above.fd, like)  # the manifest may have made it before there was a stage
        with contextlib.suppress(FileExistsError):
            above.mkdir(names[-1])
            is_new = True
        if sync:
            # Sync even if another process made the directory: its own sync may not be done yet.
            above.sync()
        made = above.sub(names[-1])
        if is_new and like is not None:
            share(made.fd, like)
        return made


def share(fd: int | None, like: Directory) -> None:
    """Let whoever may read or write in a directory do so in a file or directory that docid has made for its own use.

    The umask of one user, or one run as root, would otherwise keep the others from using their own documents. Ignore
    errors: not every file system has owners and modes.
    """
    if fd is None or like.fd is None:  # pragma: no cover  - Windows
        return
    status, model = os.fstat(fd), os.fstat(like.fd)
    with ignore_system_errors:
        if os.geteuid() == 0 and (status.st_uid, status.st_gid) != (model.st_uid, model.st_gid):
            os.fchown(fd, model.st_uid, model.st_gid)
            status = os.fstat(fd)
        mode = stat.S_IMODE(status.st_mode)
        added = mode | model.st_mode & 0o005
        if status.st_gid == model.st_gid:
            added |= model.st_mode & 0o050
        if model.st_mode & stat.S_IWGRP and status.st_gid == model.st_gid:
            added |= model.st_mode & stat.S_IRWXG
        if model.st_mode & stat.S_IWOTH:
            added |= model.st_mode & (stat.S_IRWXO | stat.S_ISVTX)
        if not stat.S_ISDIR(status.st_mode):
            added &= 0o666
        if added != mode:
            os.fchmod(fd, added)


def _make(path: str, *, sync: bool) -> None:
    """Make a directory and its missing parents."""
    if is_directory(path):
        return
    if is_link(path):
        raise FileNotFoundError(errno.ENOENT, "a symbolic link to a missing directory (is it mounted?)", path)
    above = os.path.dirname(path) or os.curdir
    if above != path:
        _make(above, sync=sync)
    with contextlib.suppress(FileExistsError):
        try:
            os.mkdir(path)
        except PermissionError as error:
            error.filename = above
            raise
    if sync:
        with open_root(above) as parent:
            parent.sync()


def open_root(path: str) -> Directory:
    """Open a directory that may be a symbolic link."""
    directory = Directory(join(path, os.curdir))
    directory.path = path
    return directory


_RUN_AGAIN = "no document is half written, so you can run it again"
_REMEDIES = {
    errno.ENOSPC: f"free disk space or inodes (df, df -i); {_RUN_AGAIN}",
    errno.EDQUOT: f"free some of the user's quota; {_RUN_AGAIN}",
    errno.EFBIG: f"raise the limit on file sizes (ulimit -f); {_RUN_AGAIN}",
    errno.EACCES: "check the owner and the mode of this path; a group that shares a store needs umask 002",
    errno.EPERM: "check the owner and the attributes of this path",
    errno.EROFS: "mount the file system for writing, or use another root",
    errno.EIO: f"check the disk and the system log; {_RUN_AGAIN}",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EXDEV: "keep the whole store on one file system: docid renames old versions into history",
}
# Mounted buckets answer so to the rename of a directory: mountpoint-s3, gcsfuse (EMFILE: more files than its
# --rename-dir-limit), rclone.
_CANNOT_RENAME = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMFILE})
_NO_RENAMES = (
    "docid stores a document by renaming its directory, which this file system cannot do. For a bucket, pass its URL "
    "(s3://, gs://, az://) instead of a mount"
)
_LAYERS = (
    "this file system cannot rename a directory of another layer or branch (overlayfs, mergerfs), such as a document "
    "of a container image; put the store on a volume"
)


class ExplainedError(OSError):
    """An error whose text already says what to do."""


def explain(error: OSError, root: str, stage: str, doc_id: str = "") -> Exception:
    """Return an error with the full path, which calls relative to a descriptor do not know, and a remedy.

    It is an `UnreadableDocument` if a path is not a directory. Without a `doc_id`, the error is about the stage.
    """
    location, path = join(root, stage, doc_id).rstrip(os.sep), error.filename
    if not isinstance(path, str) or not os.path.dirname(path):
        path = location
    if isinstance(error, NotADirectoryError):
        if is_link(path):
            problem, remedy = (
                f"{path} is a symbolic link",
                "replace it by a directory; only the store's root may be a link",
            )
        else:
            problem = f"{path if is_directory(root) else root} is not a directory"
            remedy = "check what it is, and move it away"
        return UnreadableDocument(stage, doc_id, location, problem, remedy)
    advice = None if isinstance(error, ExplainedError) else _REMEDIES.get(error.errno or 0)
    return OSError(error.errno, f"{error.strerror}; {advice}" if advice else error.strerror, path)


@contextlib.contextmanager
def explain_errors(root: str, stage: str, doc_id: str = "") -> Iterator[None]:
    """Raise each `OSError` of a `with` block as the error that `explain` returns."""
    try:
        yield
    except OSError as error:
        if not is_system_error(error):
            raise
        raise explain(error, root, stage, doc_id) from error
