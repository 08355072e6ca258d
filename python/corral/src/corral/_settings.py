"""Which server to ask, and by which token: as the command line finds them."""

from __future__ import annotations

import os
import ssl
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import InvalidError

DEFAULT_URL = "http://127.0.0.1:8400"


@dataclass(frozen=True)
class Settings:
    """A server and the right to ask it."""

    url: str
    token: str | None
    ca_certificate: str | None = None

    def ssl_context(self) -> ssl.SSLContext | bool:
        """Trust in the usual authorities, and in the one that the settings name."""
        if self.ca_certificate is None:
            return True
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(self.ca_certificate)
        except OSError as error:
            raise InvalidError(
                f"read the CA certificate {self.ca_certificate} as PEM", causes=[str(error)]
            ) from None
        return context


def find_settings(
    url: str | None = None,
    token: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """What is given, else `CORRAL_URL` and `CORRAL_TOKEN`, else `[client]` of the command
    line's configuration file, else a server on this machine."""
    found = url or environment.get("CORRAL_URL")
    found_token = token or environment.get("CORRAL_TOKEN")
    ca_certificate = environment.get("CORRAL_CA_CERTIFICATE")
    in_file = _client_table(environment)
    found = found or in_file.get("url") or DEFAULT_URL
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidError(
            f"`{found}` is not a URL of a server",
            hint=f"set CORRAL_URL or `url` to something like {DEFAULT_URL}",
        )
    return Settings(
        url=found.rstrip("/"),
        token=found_token or in_file.get("token"),
        ca_certificate=ca_certificate or in_file.get("ca_certificate"),
    )


def _client_table(environment: Mapping[str, str]) -> dict[str, str]:
    named = environment.get("CORRAL_CONFIG")
    if named:
        path = Path(named)
    else:
        folder = (
            environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")) / ".config"
        )
        path = Path(folder).expanduser() / "corral" / "config.toml"
        if not path.exists():
            return {}
    try:
        table = _toml(path).get("client", {})
    except (OSError, ValueError) as error:
        raise InvalidError(f"read the configuration file {path}", causes=[str(error)]) from None
    return {key: value for key, value in table.items() if isinstance(value, str)}


def _toml(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if sys.version_info >= (3, 11):
        import tomllib

        return tomllib.loads(text)
    if "[client]" in text:
        warnings.warn(
            f"Python 3.10 reads no TOML: {path} is left aside; give `url` and `token`, or set "
            "CORRAL_URL and CORRAL_TOKEN",
            stacklevel=2,
        )
    return {}
