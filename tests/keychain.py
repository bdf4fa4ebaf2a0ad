"""What an operating system's keychain is to the `m8tes` command, as a file in the home folder."""

import json
from pathlib import Path

from keyring.backend import KeyringBackend


class FileKeychain(KeyringBackend):
    priority = 1  # type: ignore[assignment]

    def set_password(self, service: str, username: str, password: str) -> None:
        self._write(self._read() | {f"{service}/{username}": password})

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(f"{service}/{username}")

    def delete_password(self, service: str, username: str) -> None:
        self._write({k: v for k, v in self._read().items() if k != f"{service}/{username}"})

    def _read(self) -> dict[str, str]:
        kept = self._file()
        return dict(json.loads(kept.read_text())) if kept.exists() else {}

    def _write(self, content: dict[str, str]) -> None:
        self._file().write_text(json.dumps(content))

    def _file(self) -> Path:
        return Path.home() / "keychain.json"
