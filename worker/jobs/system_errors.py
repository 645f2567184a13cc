"""The errors of the operating system, each as one sentence: the cause first, then the way out."""

import errno

__all__ = ["sentence"]

#: What the user can do about an error.
_WAYS_OUT = {
    errno.EACCES: "give this user access to it, or name another place",
    errno.EPERM: "give this user access to it, or name another place",
    errno.EROFS: "name another place",
    errno.ENOSPC: "free some space, or name another place",
    errno.ENOTDIR: "a part of this path is a file, so name another place",
}


def sentence(error: Exception) -> str:
    """Return what went wrong and, for an error of the operating system, what the user can do about it."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    cause = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    way_out = _WAYS_OUT.get(error.errno or 0)
    return f"{cause}: {way_out} (STOKER_HOME is the folder of Stoker's own files)" if way_out else cause
