"""`release`: checksums, the entry for a zoo's PRETRAINED_DICT, the upload to GitHub."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..release.files import ReleaseFile, expected_names, model_name, read_release_file
from ..release.github import Release
from ..release.pretrained_dict import Edit, edited, entry_text, md5_value
from . import options, screen
from .configuration import config_option
from .exit_codes import DONE, NOT_DONE

EXAMPLES = """
keras-torch-convert release resnet50_imagenet.h5
keras-torch-convert release resnet50_224_imagenet.h5 --resolution 224 --dictionary zoo/resnet.py
keras-torch-convert release resnet50_imagenet.h5 --dictionary zoo/resnet.py --upload owner/zoo --release-tag resnet
keras-torch-convert release big_imagenet.1.h5 big_imagenet.2.h5 --model-name big
"""


@options.command("release", EXAMPLES)
@click.argument("files", type=options.EXISTING_FILE, nargs=-1, required=True)
@click.option(
    "--model-name",
    help="The name of the model, as it is in the dictionary. Default: the one in the file.")
@click.option("--pretrained", default="imagenet", show_default=True, help="The tag of the weights.")
@click.option("--resolution", type=click.IntRange(1),
              help="The size of the pictures, when the tag has several.")
@click.option("--dictionary", type=options.EXISTING_FILE,
              help="A Python file whose dictionary gets the entry.")
@click.option("--name", default="PRETRAINED_DICT", show_default=True,
              help="The name of the dictionary.")
@click.option("--upload", metavar="OWNER/NAME",
              help="Upload to a release of this GitHub repository, through gh.")
@click.option("--release-tag", help="The git tag of that release.")
@click.option("--replace", is_flag=True, help="Replace files of the same name in the release.")
@click.option("--dry-run", is_flag=True,
              help="Show what would be changed and uploaded; do nothing.")
@config_option
@click.pass_context
def command(ctx: click.Context, /, files: tuple[Path, ...], model_name: str | None, pretrained: str,
            resolution: int | None, dictionary: Path | None, name: str, upload: str | None,
            release_tag: str | None, replace: bool, dry_run: bool, as_json: bool) -> int:
    """Ready FILES, one model's weights, for a release.

    Prints md5 and sha256, and the entry for the dictionary, or sets it in the file, leaving
    everything else there as it is. Several files are the parts of one. Without gh, or when it is
    not logged in, the command to run is printed, and the exit code is 4.
    """
    if (upload is None) != (release_tag is None):
        raise click.UsageError("--upload and --release-tag belong together", ctx)
    model = model_name or name_in(files[0], ctx)
    read = [read_release_file(path) for path in files]
    md5 = md5_value([file.md5 for file in read])
    edit = edited(dictionary, model, pretrained, resolution, md5,
                  name) if dictionary is not None else None
    release = Release(upload,
                      release_tag) if upload is not None and release_tag is not None else None
    hints = name_hints(model, pretrained, resolution, files)
    obstacle = ""
    if release is not None and not dry_run:
        obstacle = release.obstacle()
        if not obstacle:
            release.check()
            with screen.working("uploading"):
                release.upload(read, replace)
    # Only now: an entry for a file that nobody can download would break the zoo.
    if edit is not None and edit.changed and not dry_run:
        edit.write()
    entry = entry_text(model, pretrained, resolution, md5)
    by_hand = shlex.join(release.command(
        read, replace)) if release is not None and (obstacle or dry_run) else ""
    if as_json:
        screen.show_json(
            as_data(read, entry, edit, hints, by_hand, uploaded=release is not None
                    and not by_hand))
    else:
        show(read, entry, edit, hints, dry_run)
        if release is not None:
            show_upload(release, obstacle, by_hand)
    return NOT_DONE if obstacle else DONE


def name_in(path: Path, ctx: click.Context) -> str:
    """The name of the model that a file holds; an error when it does not say."""
    found = model_name(path)
    if found is None:
        raise click.UsageError(f"{path} does not say what the model is called: give --model-name",
                               ctx)
    return found


def name_hints(model: str, tag: str, resolution: int | None, files: Sequence[Path]) -> list[str]:
    """A sentence for every file that the zoo would look for under another name."""
    expected = expected_names(model, tag, resolution, files)
    return [
        f"{path.name}: a zoo that follows keras_cv_attention_models looks for {name}"
        for path, name in zip(files, expected, strict=True) if path.name != name
    ]


def as_data(files: Sequence[ReleaseFile], entry: str, edit: Edit | None, hints: Sequence[str],
            by_hand: str, uploaded: bool) -> dict[str, Any]:
    """Everything as plain data."""
    return {
        "files": [{"path": file.path, "size": file.size, "md5": file.md5, "sha256": file.sha256}
                  for file in files], "entry":
                      entry, "dictionary":
                          None if edit is None else
                          {"path": edit.path, "changed": edit.changed, "diff": edit.diff()},
        "uploaded":
            uploaded, "by_hand":
                by_hand, "notes":
                    list(hints)
    }


def show(files: Sequence[ReleaseFile], entry: str, edit: Edit | None, hints: Sequence[str],
         dry_run: bool) -> None:
    """Checksums, and the entry or what was changed in the file of the dictionary."""
    for file in files:
        screen.say(f"{file.path}  {file.size:,} bytes", "bold")
        print(f"  md5     {file.md5}\n  sha256  {file.sha256}")
    for hint in hints:
        screen.note(f"note: {hint}")
    if edit is None:
        print(f"entry     {entry}")
    elif not edit.changed:
        print(f"{edit.path} has this entry already")
    else:
        print(edit.diff(), end="")
        screen.say(
            f"{edit.path}: {'not changed, as this is a dry run' if dry_run else 'entry set'}",
            screen.GOOD)


def show_upload(release: Release, obstacle: str, by_hand: str) -> None:
    """That the files are in the release, or what is left to do."""
    if not by_hand:
        screen.say(f"uploaded to release {release.tag} of {release.repository}", screen.GOOD)
        return
    if obstacle:
        screen.say(f"not uploaded: {obstacle}", screen.BAD)
    print(f"left to do by hand:\n  {by_hand}")
