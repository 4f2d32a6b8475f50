"""Files into a GitHub release, by the program `gh`."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import UploadError
from .files import ReleaseFile


@dataclass(frozen=True, slots=True)
class Release:
    """A release of a repository ("owner/name") by its git tag."""

    repository: str
    tag: str

    def command(self, files: Sequence[ReleaseFile], replace: bool) -> list[str]:
        """Return the command that uploads the files."""
        paths = [str(file.path) for file in files]
        command = ["gh", "release", "upload", self.tag, *paths, "--repo", self.repository]
        return [*command, "--clobber"] if replace else command

    def obstacle(self) -> str:
        """Return why `gh` cannot be used here, "" when it can."""
        if shutil.which("gh") is None:
            return "the program gh is not installed (https://cli.github.com)"
        if run(["gh", "auth", "status"]).returncode:
            return "gh is not logged in: run gh auth login"
        return ""

    def check(self) -> None:
        """Raise UploadError unless the release is there."""
        answer = run(["gh", "release", "view", self.tag, "--repo", self.repository])
        if answer.returncode:
            make = shlex.join(["gh", "release", "create", self.tag, "--repo", self.repository])
            raise UploadError(
                f"there is no release {self.tag} of {self.repository}: {answer.stderr.strip()}; "
                f"make it with: {make}")

    def upload(self, files: Sequence[ReleaseFile], replace: bool) -> None:
        """Upload the files and check that they have arrived whole."""
        command = self.command(files, replace)
        answer = run(command)
        if answer.returncode:
            raise UploadError(f"the upload failed: {answer.stderr.strip()}; the command was: "
                              f"{shlex.join(command)}")
        assets = self.assets()
        for file in files:
            found = assets.get(file.path.name)
            if found is None or found.get("size") != file.size:
                size = f"has {found['size']} bytes of {file.size}" if found else "is missing"
                raise UploadError(f"{file.path.name} {size} in release {self.tag} after the "
                                  "upload; upload it again")
            digest = found.get("digest")
            if digest and digest != f"sha256:{file.sha256}":
                raise UploadError(
                    f"{file.path.name} has other contents in release {self.tag}: {digest}")

    def assets(self) -> dict[str, Any]:
        """Return the files of the release by name, as GitHub lists them."""
        answer = run(
            ["gh", "release", "view", self.tag, "--repo", self.repository, "--json", "assets"])
        if answer.returncode:
            raise UploadError(f"the upload cannot be checked: {answer.stderr.strip()}")
        return {asset["name"]: asset for asset in json.loads(answer.stdout)["assets"]}


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it prints."""
    return subprocess.run(command, check=False, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
