"""One slot's state in one file: a tar of a manifest, its hash, and the files that it names."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from dataflows.errors import TidegateError

FORMAT = 1
MANIFEST, MANIFEST_HASH = "manifest.json", "manifest.sha256"


class BundleDamaged(TidegateError):
    """A file that is no whole bundle."""


class BundledFile(msgspec.Struct, frozen=True):
    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle holds, and what it belongs to."""

    format: int
    slot: str
    flow: str
    topic: str
    partition: int
    partitions: int  # of the topic
    log: str  # the topic's identity
    offset: int  # the next input offset that the state does not cover
    published_to: int | None  # the slot's marker when the bundle was made
    state_version: int
    fingerprint: dict[str, Any]
    made_at: str
    made_by: str  # version of Tidegate
    files: list[BundledFile]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def describe_files(directory: Path, names: list[Path]) -> list[BundledFile]:
    """Size and hash of files in a directory."""
    found = []
    for name in names:
        with open(directory / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append(BundledFile(name.as_posix(), (directory / name).stat().st_size, digest))
    return found


def write_bundle(manifest: Manifest, directory: Path, target: Path) -> None:
    """Packs the files that the manifest names."""
    described = msgspec.json.format(msgspec.json.encode(manifest))
    with tarfile.open(target, "w") as tar:
        _add(tar, MANIFEST, described)
        _add(tar, MANIFEST_HASH, hashlib.sha256(described).hexdigest().encode())
        for file in manifest.files:
            tar.add(directory / file.name, file.name)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def read_bundle(file: Path, target: Path, origin: str) -> Manifest:
    """Unpacks a bundle that is whole; `origin` is what an error calls it.

    Raises:
        BundleDamaged: it is torn, or not what was written.
        TidegateError: a newer version wrote it.
    """
    try:
        with tarfile.open(file, "r:") as tar:
            manifest = _read_manifest(tar, origin)
            for described in manifest.files:
                _unpack(tar, described, target, origin)
    except (tarfile.TarError, EOFError, KeyError, msgspec.MsgspecError, OSError) as error:
        raise _damaged(origin, str(error)) from error
    return manifest


def _read_manifest(tar: tarfile.TarFile, origin: str) -> Manifest:
    described = _content(tar, MANIFEST)
    if hashlib.sha256(described).hexdigest().encode() != _content(tar, MANIFEST_HASH):
        raise _damaged(origin, "its manifest is not what was written")
    version = msgspec.json.decode(described)["format"]
    if version > FORMAT:
        raise TidegateError(
            f"{origin}: is a bundle of format {version}, this code reads up to {FORMAT}; use the "
            "version of Tidegate that wrote it"
        )
    return msgspec.json.decode(described, type=Manifest)


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    member = tar.extractfile(name)
    if member is None:
        raise KeyError(name)
    return member.read()


def _unpack(tar: tarfile.TarFile, described: BundledFile, target: Path, origin: str) -> None:
    path = target / described.name
    if not path.resolve().is_relative_to(target.resolve()):
        raise _damaged(origin, f"{described.name} leads out of it")
    source = tar.extractfile(described.name)
    if source is None:
        raise KeyError(described.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with open(path, "wb") as sink:
        while piece := source.read(1 << 20):
            digest.update(piece)
            size += sink.write(piece)
    if (size, digest.hexdigest()) != (described.size, described.sha256):
        raise _damaged(origin, f"{described.name} is not what was written")


def _damaged(origin: str, how: str) -> BundleDamaged:
    return BundleDamaged(
        f"{origin}: is torn or damaged ({how}); use another bundle of the slot, or make a new one "
        "with `tidegate state export`"
    )
