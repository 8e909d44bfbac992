"""Seals: marks by which this user's runs are known again where something in them could run code.

A seal is an HMAC, with a key that only the user has, of the words that name the code or of the digests of the files
that hold it. It proves that they were written or trusted with this key; see docs/decisions/0030.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rlkit.errors import UserError
from rlkit.files import read_bytes, read_json, write_whole

REPORT = "export.json"
"""The comparison of an export with the live model, beside it."""

SIZE = 32
"""Bytes of the key."""


def key_file() -> Path:
    """The file of the user's key; RuntimeError where the user has no home."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "rlkit" / "key"


def _key() -> bytes | None:
    """The user's key, made as it is first needed; None where there is no place to keep one."""
    with suppress(OSError, RuntimeError, UserError):
        file = key_file()
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = file.with_name(f".key.{secrets.token_hex(8)}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:  # noqa: PTH123 - by number
                made.write(secrets.token_bytes(SIZE))
            with suppress(FileExistsError):  # another process was faster
                os.link(fresh, file)
            fresh.unlink()
        found = read_bytes(file, SIZE)
        return found if len(found) == SIZE else None
    return None


def seal(kind: str, value: object) -> str | None:
    """The seal of a value that JSON can hold; None where there is no key.

    Args:
        kind: of the value, so that a seal of one thing is none of another.
        value: the words or digests.
    """
    key = _key()
    text = json.dumps([kind, value], sort_keys=True, default=str).encode()
    return None if key is None else hmac.new(key, text, hashlib.sha256).hexdigest()


def sealed(mark: object, kind: str, value: object) -> bool:
    """Whether a mark is this user's seal of a value."""
    known = seal(kind, value) if isinstance(mark, str) and mark.isascii() else None
    return known is not None and hmac.compare_digest(known, str(mark))


def naming(config: Mapping[str, object]) -> list[object] | None:
    """The env and its arguments in a run's config where they name code to import; None where they do not.

    Code is named by an id with a module before it, and by the arguments of Shimmy's envs, which take such an id.
    """
    env = config.get("env")
    names = isinstance(env, str) and (":" in env or env.startswith("GymV2"))
    return [env, config.get("env_args") or {}] if names else None


def seal_model(folder: Path) -> str | None:
    """The seal of a SavedModel's folder as it is: of the SHA-256 of each file in it but its report's.

    Raises:
        OSError: a file cannot be read.
    """
    return seal("savedmodel", _digests(folder))


def _digests(folder: Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file != folder / REPORT:
            with file.open("rb") as content:
                found[file.relative_to(folder).as_posix()] = hashlib.file_digest(content, "sha256").hexdigest()
    return found


def check_model(folder: Path, trust: bool) -> None:
    """Refuse a SavedModel in a run that rlkit did not write there for this user.

    Args:
        folder: of one version, with its report.
        trust: take it all the same, and put a seal on it.

    Raises:
        UserError: it has no seal of this user's, and is not to be trusted.
    """
    try:
        report = read_json(folder / REPORT)
    except (OSError, UserError):
        report = {}
    report = report if isinstance(report, dict) else {}
    if sealed(report.get("seal"), "savedmodel", _digests(folder)):
        return
    if not trust:
        raise UserError(
            f"{folder} holds a SavedModel that rlkit did not write here: remove it, and the run's agent is exported "
            "anew, or give --trust where you trust it"
        )
    with suppress(OSError):
        write_whole(folder / REPORT, (json.dumps({**report, "seal": seal_model(folder)}, indent=2) + "\n").encode())
