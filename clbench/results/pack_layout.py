"""Writes and reads the bytes of a pack around the contents of its files: a zip file, whose layout pack.py describes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from clbench.system.files import open_plain

INDEX = "pack.json"
"""The first file of a pack, which lists the others."""

SUFFIX = ".zip"
LARGEST_PACK = 2**32 - 1
"""The most bytes of a pack, given the size of the fields of a zip file."""

LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
_END_64, _LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_DATE = 0x21  # 1 January 1980, the first that a zip file can express
_PLAIN_FILE = 0o100644 << 16
_MOST_COUNTED = 2**16 - 1


def local_header(name: str, size: int, crc: int) -> bytes:
    """Return the header that precedes the content of a file."""
    return LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, _DATE, crc, size, size, len(name), 0) + name.encode()


def directory(files: Iterable[tuple[str, int, int, int]], start: int) -> bytes:
    """Return the end of a pack, which begins at `start`: the list of its `files`, each with its name, the place of its
    header, its size and its CRC.

    From 65,535 files on, their number needs a separate record, zip64.
    """
    entries = [
        _CENTRAL.pack(
            b"PK\1\2", 3 << 8 | 20, 20, 0, 0, 0, _DATE, crc, size, size, len(name), 0, 0, 0, 0, _PLAIN_FILE, place
        )
        + name.encode()
        for name, place, size, crc in files
    ]
    listed = b"".join(entries)
    count, many = len(entries), b""
    if count >= _MOST_COUNTED:
        many = _END_64.pack(b"PK\6\6", 44, 3 << 8 | 45, 45, 0, 0, count, count, len(listed), start)
        many += _LOCATOR.pack(b"PK\6\7", 0, start + len(listed), 1)
        count = _MOST_COUNTED
    return listed + many + _END.pack(b"PK\5\6", 0, 0, count, count, len(listed), start, 0)


def size_in_header(header: bytes) -> int:
    """Return the size of the file as stated in the header."""
    size: int = LOCAL.unpack_from(header)[8]
    return size


def crc_in_header(header: bytes) -> int:
    """Return the CRC of the file as stated in the header."""
    crc: int = LOCAL.unpack_from(header)[6]
    return crc


def begins_a_pack(header: bytes) -> bool:
    """Return whether these bytes begin a pack, with the header of its first file."""
    return header[:4] == b"PK\3\4" and header[LOCAL.size :] == INDEX.encode()


def packs_in(folder: Path) -> list[Path]:
    """Return the packs in a folder, in order of name."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if _is_pack(path)]


def _is_pack(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return begins_a_pack(file.read(LOCAL.size + len(INDEX)))
    except OSError:
        return False
