"""Which file system a path lies on, and whether what is synced there stays."""

from pathlib import Path

_FLEETING = {
    "tmpfs": "memory: what is synced there is gone with the machine's power",
    "ramfs": "memory: what is synced there is gone with the machine's power",
    "overlay": "a container's own layer: it is gone with the container",
}
_FOREIGN = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs"})


def file_system(path: Path, mounts: str) -> str:
    """Name the kind of the file system of a path.

    Args:
        path: Absolute, without links.
        mounts: What ``/proc/self/mounts`` says.

    Returns:
        The kernel's name for it, such as ``ext4``; empty if no mount holds the path.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        # A blank in a path is written as \040; later mounts hide earlier ones at the same place.
        place, found = (field.replace("\\040", " ") for field in line.split(" ")[1:3])
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, found
    return kind


def concern(kind: str) -> str:
    """Say why a file system should hold no spool; empty if nothing speaks against it."""
    if kind in _FLEETING:
        return _FLEETING[kind]
    if kind in _FOREIGN or kind.startswith("fuse"):
        return "not a disk of this machine: its locks and syncs are somebody else's word"
    return ""
