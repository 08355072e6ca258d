"""What is uploaded: files, frames and several of them as one form."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ._exchange import Body
from ._frames import FRAME_PACKAGES, Rows, body_of_rows
from .errors import NotFoundError

Source: TypeAlias = "str | os.PathLike[str] | Rows"
"""A file's path, or rows."""

# Bytes read from a file at once: large enough that neither disk nor socket waits.
BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Upload:
    """One file on its way to the server."""

    body: Body
    file_name: str
    # Where the body says better than the file's name what is in it.
    format: str | None = None
    split: str | None = None


def upload_of(source: Source, split: str | None = None) -> Upload:
    """A path or rows, as something to send."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return Upload(file_body(path), path.name, split=split)
    body, file_format = body_of_rows(source)
    return Upload(body, f"{split or 'rows'}.{file_format}", file_format, split)


def uploads_of(source: Source | Mapping[str, Source] | list[Any]) -> list[Upload]:
    """A source, a list of paths, or a mapping from split to source."""
    is_frame = type(source).__module__.partition(".")[0] in FRAME_PACKAGES
    if isinstance(source, Mapping) and not is_frame:
        return [upload_of(part, split) for split, part in source.items()]
    if isinstance(source, list | tuple) and source and all(map(_is_path, source)):
        return [upload_of(path) for path in source]
    return [upload_of(source)]


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def file_body(path: str | os.PathLike[str]) -> Body:
    """A file, read block by block."""
    try:
        length = os.stat(path).st_size
    except OSError as error:
        raise NotFoundError(f"open {os.fspath(path)}", causes=[error.strerror or ""]) from None

    def blocks() -> Iterator[bytes]:
        with open(path, "rb") as file:
            yield from _blocks_of(file)

    return Body(blocks, length=length)


def _blocks_of(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(BLOCK_BYTES):
        yield block


def form_body(uploads: list[Upload]) -> Body:
    """Several files as a form (RFC 7578); a field's name carries the split of its file."""
    boundary = uuid.uuid4().hex

    def blocks() -> Iterator[bytes]:
        for upload in uploads:
            field = f"file:{upload.split}" if upload.split else "file"
            yield (
                f"--{boundary}\r\n"
                f'content-disposition: form-data; name="{_quoted(field)}"; '
                f'filename="{_quoted(upload.file_name)}"\r\n'
                f"content-type: application/octet-stream\r\n\r\n"
            ).encode()
            yield from upload.body.open()
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    can_reopen = all(upload.body.can_reopen for upload in uploads)
    return Body(blocks, f"multipart/form-data; boundary={boundary}", can_reopen)


def _quoted(text: str) -> str:
    # As browsers write them (HTML Living Standard, "Multipart form data").
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


class FileSink:
    """A download into a file, which appears whole or not at all."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}")
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        self._close()
        self._file = open(self._partial, "wb")

    def write(self, block: bytes, /) -> object:
        assert self._file is not None, "a download begins before it writes"
        return self._file.write(block)

    def finish(self) -> Path:
        """Puts the whole file in its place."""
        self._close()
        os.replace(self._partial, self.path)
        return self.path

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._close()
        self._partial.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
