"""What the file system refuses, as an error that names the whole path and says what to do."""

from __future__ import annotations

import errno
import os
from os.path import join

from docid.errors import UnreadableDocument

_RUN_AGAIN = "nothing is half written, so that it can be run again"
_REMEDIES = {
    errno.ENOSPC: f"free bytes or inodes (df, df -i); {_RUN_AGAIN}",
    errno.EDQUOT: f"free some of the user's quota; {_RUN_AGAIN}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f); {_RUN_AGAIN}",
    errno.EACCES: "look at the owner and the mode of the directories on this path: this user may not do that here",
    errno.EPERM: "look at the owner and the attributes of the directories on this path: this user may not do that here",
    errno.EROFS: "mount the file system for writing, or use another root",
    errno.EIO: f"look at the disk, in the system's log; {_RUN_AGAIN}",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EXDEV: "have all of a store on one file system: a version is put aside by a rename",
    errno.ENOLCK: "changing a document needs a file system with locks (flock)",
    errno.EOPNOTSUPP: "changing a document needs a file system with locks (flock)",
}


class explain_errors:  # noqa: N801 - for a `with`, as contextlib.suppress; a generator costs every read three times that
    """Raise every `OSError` of a `with` again, with the whole path and a remedy.

    Calls relative to a descriptor do not know the path. Where no `doc_id` is given, the error is about the stage.

    Raises:
        UnreadableDocument: something else stands where a directory was expected.
    """

    __slots__ = ("_doc_id", "_root", "_stage")

    def __init__(self, root: str, stage: str, doc_id: str = "") -> None:
        self._root = root
        self._stage = stage
        self._doc_id = doc_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, OSError):
            return
        location, path = join(self._root, self._stage, self._doc_id).rstrip(os.sep), error.filename
        if not isinstance(path, str) or not os.path.dirname(path):
            path = location
        if isinstance(error, NotADirectoryError):
            problem, remedy = _describe_obstacle(path, self._root)
            raise UnreadableDocument(self._stage, self._doc_id, location, problem, remedy) from None
        advice = _REMEDIES.get(error.errno or 0)
        raise OSError(error.errno, f"{error.strerror}; {advice}" if advice else error.strerror, path) from error


def _describe_obstacle(path: str, root: str) -> tuple[str, str]:
    """Return what stands where a directory was expected, and what to do about it."""
    if os.path.islink(path):
        return f"{path} is a symbolic link", "link the store's root instead, which may be one"
    return f"{path if os.path.isdir(root) else root} is no directory", "look what it is, and move it aside"
