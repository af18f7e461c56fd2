"""A folder anywhere that fsspec reaches: a local path, gs://, s3://, ..."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from dataflows.durable import sync
from dataflows.errors import TidegateError
from services.whole_file import whole_file

_DRIVERS = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "abfs": "adlfs"}


class Shelf:
    """Named files; a name may have folders in it. A file appears whole or not at all on an object
    store; on a local path one may be torn, which its reader must notice.

    Raises:
        TidegateError: a URL that no installed driver knows, or a place that cannot be reached.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/") or url
        scheme = url.partition("://")[0] if "://" in url else ""
        with self._explained():
            try:
                self._files, root = url_to_fs(url)
            except ImportError as error:
                driver = _DRIVERS.get(scheme, scheme)
                raise TidegateError(
                    f"{url}: needs the driver of {scheme}://; install it beside Tidegate with "
                    f"`pip install {driver}` ({error})"
                ) from error
            except ValueError as error:
                raise TidegateError(
                    f"{url}: is no folder that can be reached; use a path, gs://bucket/folder or "
                    f"s3://bucket/folder ({error})"
                ) from error
        self._root = str(root).rstrip("/")
        self.folder = Path(root) if isinstance(self._files, LocalFileSystem) else None

    def names(self) -> list[str]:
        """The files at the top, sorted; none if the folder is not there."""
        with self._explained():
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return []
            found = self._files.ls(self._root, detail=True)
        return sorted(each["name"].rpartition("/")[2] for each in found if each["type"] == "file")

    def sizes(self) -> dict[str, int]:
        """Every file there, in whatever folder, and its size in bytes."""
        loud = {"on_error": "raise"} if self.folder else {}
        with self._explained():
            self._files.invalidate_cache()
            if not self._files.exists(self._root):
                return {}
            found = self._files.find(self._root, detail=True, **loud)
        return {name[len(self._root) + 1 :]: each["size"] for name, each in sorted(found.items())}

    def read(self, name: str) -> tuple[bytes, float] | None:
        """A file's content and when it was written, seconds since the epoch; None without it."""
        with self._explained():
            try:
                content: bytes = self._files.cat_file(self._path(name))
                return content, self._files.modified(self._path(name)).timestamp()
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Makes or replaces a file, whole."""
        with self._explained():
            self._make_folder(name)
            if not self.folder:
                self._files.pipe_file(self._path(name), content)
                return
            with whole_file(self._path(name), TidegateError) as draft:
                draft.write_bytes(content)
                sync(draft)

    def write_new(self, name: str, content: bytes) -> bool:
        """Makes a file unless it is there; False if it is. Of several who try one succeeds: on
        local paths, and where the driver makes its creation conditional, as gcsfs and s3fs do."""
        with self._explained():
            self._make_folder(name)
            if self.folder:
                return _link_new(Path(self._path(name)), content)
            try:
                self._files.pipe_file(self._path(name), content, mode="create")
            except Exception:  # each driver has its own for a condition that does not hold
                self._files.invalidate_cache()
                if self._files.exists(self._path(name)):
                    return False
                raise
            return True

    def upload(self, file: Path, name: str) -> None:
        """Returns when the file is there to stay."""
        with self._explained():
            self._make_folder(name)
            self._files.put_file(str(file), self._path(name))
            if self.folder:
                sync(Path(self._path(name)))

    def download(self, name: str, file: Path) -> None:
        with self._explained():
            self._files.get_file(self._path(name), str(file))

    def remove(self, name: str) -> None:
        with self._explained():
            self._files.rm_file(self._path(name))

    def _make_folder(self, name: str) -> None:
        self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except TidegateError:
            raise
        except Exception as error:  # every driver has errors of its own
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = "make room there" if full else "check the address and your rights there"
            raise TidegateError(f"{self.url}: cannot be used ({reason}); {advice}") from error


def _link_new(file: Path, content: bytes) -> bool:
    """Makes a file, whole, unless it is there: fsspec would look first and write then."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".new.") as fresh:
        fresh.write(content)
        fresh.flush()
        os.fsync(fresh.fileno())
        try:
            os.link(fresh.name, file)
        except FileExistsError:
            return False
    sync(file.parent)
    return True
