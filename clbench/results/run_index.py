"""An index of many stored runs, so that they need not be read and checked again; the files remain authoritative.

It holds the facts (see run_facts.py) of runs that were read from their files and found sound, each with the fingerprint
that the files had. They are valid as long as the fingerprint is the same; whatever is missing or does not match is read
from the files. So an index may be lost, damaged, old or in use by others: reading then only takes longer.

It is in the user's cache folder, not next to the runs: results may come from strangers, be read-only or belong to
somebody else, and a database is not a file to accept from a stranger. A row is valid only if its hash is that of its
content and of the code that checked the run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs

from clbench import evaluation, results
from clbench.results.run_facts import FactsRow
from clbench.results.run_files import RunFiles
from clbench.system.files import Exposed, require_private

SMALLEST = 100
"""Runs from which on there is an index; fewer are read from their files each time, in less than a second."""

SETTLED_AFTER = 2.0
"""Seconds since the last change of a file after which its times will show another change, however coarse they are."""

_WAIT = 5.0
"""Seconds to wait for another process that writes, before the index is left as it is."""

_UNUSED_AFTER = 60 * 86400.0
"""Seconds without use after which the index of a folder is removed; the folder may be long gone."""

_BATCH = 200
"""Runs after which the index is written, so that little is lost if the process ends before all are read."""

_TABLES = (
    "CREATE TABLE texts (hash BLOB PRIMARY KEY, text BLOB)",
    "CREATE TABLE runs (name TEXT PRIMARY KEY, seen BLOB,"
    " family BLOB, strategy BLOB, own BLOB, counts BLOB, hash BLOB)",
)


class RunIndexes:
    """The indexes of the results folders that contain the runs to be read."""

    def __init__(self, files: Mapping[str, RunFiles]) -> None:
        """`files` are given by their real paths; their fingerprints are taken now."""
        named: dict[str, dict[str, RunFiles]] = defaultdict(dict)
        for path, each in files.items():
            root, *name = path.rsplit("/", 3)
            if len(name) == 3:
                named[root]["/".join(name)] = each
        self._seen_at = time.time()
        self._indexes = {root: _Index(root) for root, own in named.items() if len(own) >= SMALLEST}
        self._seen = {
            root: {name: seen for name, each in named[root].items() if (seen := each.fingerprint())}
            for root in self._indexes
        }
        self._learned: dict[str, list[tuple[str, bytes, FactsRow]]] = defaultdict(list)

    def known(self) -> Iterator[tuple[str, FactsRow]]:
        """Yield the facts that are known of the runs, by their paths."""
        for root, index in self._indexes.items():
            for name, facts in index.rows({name: seen.digest for name, seen in self._seen[root].items()}):
                yield f"{root}/{name}", facts

    def unchanged(self) -> Iterator[str]:
        """Yield the paths of runs that were found sound and have not changed since, whatever else is known of them."""
        for root, index in self._indexes.items():
            seen = self._seen[root]
            for name, digest in index.fingerprints().items():
                if name in seen and seen[name].digest == digest:
                    yield f"{root}/{name}"

    def learn(self, path: str, facts: FactsRow) -> None:
        """Take in the facts that were read from a run's files."""
        root, *parts = path.rsplit("/", 3)
        name = "/".join(parts)
        seen = self._seen.get(root, {}).get(name)
        # The times of a file that was changed a moment ago may stay the same if it is changed again.
        if seen and seen.newest < self._seen_at - SETTLED_AFTER:
            self._learned[root].append((name, seen.digest, facts))
            if len(self._learned[root]) >= _BATCH:
                self._indexes[root].put(self._learned.pop(root))

    def write(self) -> None:
        """Store what was learned, and forget runs that no longer exist."""
        for root, index in self._indexes.items():
            index.put(self._learned.pop(root, []))
            index.forget(
                [name for name in index.fingerprints() if name not in self._seen[root] and _is_gone(root, name)]
            )

    def forget(self, paths: Iterable[str]) -> None:
        """Forget these runs."""
        for root, index in self._indexes.items():
            index.forget([path.removeprefix(f"{root}/") for path in paths if path.startswith(f"{root}/")])


def _is_gone(root: str, name: str) -> bool:
    return not os.path.lexists(f"{root}/{name}")


class _Index:
    """The index of one results folder. If anything is wrong with it, it yields or stores nothing."""

    def __init__(self, root: str) -> None:
        self._path = folder() / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:32]}.sqlite"

    def rows(self, seen: Mapping[str, bytes]) -> Iterator[tuple[str, FactsRow]]:
        """Yield the facts that are known of the runs with these fingerprints, by name."""
        with self._tolerating(), self._opened(make=False) as database:
            if database is None:
                return
            texts = dict(database.execute("SELECT hash, text FROM texts"))
            columns = "name, seen, family, strategy, own, counts, hash"
            for name, digest, family, strategy, own, counts, whole in database.execute(f"SELECT {columns} FROM runs"):
                if seen.get(name) != digest:
                    continue
                parts = (texts.get(family), texts.get(strategy), own, counts)
                if all(isinstance(part, bytes) for part in parts):
                    facts = FactsRow._make(parts)
                    if whole == _hash_of(name, digest, facts):
                        yield name, facts

    def fingerprints(self) -> dict[str, bytes]:
        """Return the names of all runs in the index, with the fingerprints that they had."""
        found: dict[str, bytes] = {}
        with self._tolerating(), self._opened(make=False) as database:
            if database is not None:
                found.update(database.execute("SELECT name, seen FROM runs"))
        return found

    def put(self, rows: Sequence[tuple[str, bytes, FactsRow]]) -> None:
        """Store the facts of runs by name and fingerprint, in one transaction."""
        if not rows:
            return
        with self._tolerating(), self._opened(make=True) as database:
            assert database is not None
            with _transaction(database):
                for name, seen, facts in rows:
                    hashes = [_hash(text) for text in facts[:2]]
                    database.executemany(
                        "INSERT OR REPLACE INTO texts VALUES (?, ?)", zip(hashes, facts[:2], strict=True)
                    )
                    row = (name, seen, *hashes, facts.own, facts.counts, _hash_of(name, seen, facts))
                    database.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def forget(self, names: Sequence[str]) -> None:
        """Forget these runs."""
        if not names:
            return
        with self._tolerating(), self._opened(make=False) as database:
            if database is not None:
                with _transaction(database):
                    database.executemany("DELETE FROM runs WHERE name = ?", [(name,) for name in names])
                    used = "SELECT family FROM runs UNION SELECT strategy FROM runs"
                    database.execute(f"DELETE FROM texts WHERE hash NOT IN ({used})")

    @contextlib.contextmanager
    def _opened(self, make: bool) -> Iterator[sqlite3.Connection | None]:
        """Open the database as a context; it is None if there is none and `make` is false.

        Raises sqlite3.Error, OSError, and Exposed if somebody else may have written it.
        """
        if not self._path.exists():
            if not make:
                yield None
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_unused(self._path.parent)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL, 0o600))
        require_private(self._path.parent)
        require_private(self._path)
        with contextlib.suppress(OSError):
            os.utime(self._path)
        with contextlib.closing(sqlite3.connect(self._path, timeout=_WAIT, isolation_level=None)) as database:
            _prepare(database)
            yield database

    @contextlib.contextmanager
    def _tolerating(self) -> Iterator[None]:
        """In this context, no problem with the database is an error; a damaged one is removed."""
        try:
            yield
        except sqlite3.OperationalError:  # in use by others, or a full disk
            pass
        except sqlite3.DatabaseError:
            with contextlib.suppress(OSError):
                self._path.unlink()
        except (Exposed, OSError):
            pass


def _prepare(database: sqlite3.Connection) -> None:
    """Create the tables unless they exist. Raises sqlite3.DatabaseError for a database that has others."""
    # Nothing waits for the disk: what a power cut damages does not match its hash. There is no write-ahead log, since
    # it needs memory that machines do not share over a network.
    database.executescript("PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF")
    found = {text for (text,) in database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    if not found:
        made = "".join(f"{text};".replace("TABLE", "TABLE IF NOT EXISTS") for text in _TABLES)
        database.executescript(f"BEGIN IMMEDIATE; {made} COMMIT")
    elif found != set(_TABLES):
        raise sqlite3.DatabaseError("it has other tables")


def folder() -> Path:
    """Return the folder of all indexes of this user."""
    return platformdirs.user_cache_path("clbench") / "index"


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _remove_unused(indexes: Path) -> None:
    for path in indexes.glob("*.sqlite"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNUSED_AFTER:
                path.unlink()


@functools.cache
def _code() -> bytes:
    """Return a hash of the code that checks runs and derives their numbers: other code may judge them differently."""
    files = sorted(path for package in (results, evaluation) for path in Path(package.__path__[0]).glob("*.py"))
    return _hash(*(path.read_bytes() for path in files))


def _hash_of(name: str, seen: bytes, facts: FactsRow) -> bytes:
    return _hash(_code(), name.encode(), seen, *facts)


def _hash(*parts: bytes) -> bytes:
    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        made.update(len(part).to_bytes(8, "big"))
        made.update(part)
    return made.digest()
