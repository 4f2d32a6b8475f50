"""`release`: checksums, the entry for a zoo's PRETRAINED_DICT, the upload to GitHub."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from ..release.files import (ReleaseFile, expected_names, name_parts, read_model_facts,
                             read_release_file)
from ..release.github import Release
from ..release.pretrained_dict import Edit, Entry, edited
from . import options, screen
from .main import DONE, NOT_DONE

EXAMPLES = """
keras-torch-convert release resnet50_imagenet.h5
keras-torch-convert release resnet50_224_imagenet.h5 --dictionary zoo/resnet.py
keras-torch-convert release resnet50_imagenet.h5 --upload owner/zoo --release-tag resnet
keras-torch-convert release big_imagenet.1.h5 big_imagenet.2.h5 --model-name big
"""


# click passes each option as a parameter of its own.
@options.command("release", EXAMPLES)
@click.argument("files", type=options.EXISTING_FILE, nargs=-1, required=True)
@click.option(
    "--model-name", "model",
    help="The name of the model, as it is in the dictionary. Default: the one in the file.")
@click.option("--pretrained",
              help="The tag of the weights. Default: the one in the file's name, or imagenet.")
@click.option(
    "--resolution", type=click.IntRange(1),
    help="The size of the pictures, when the tag has several. Default: the one in the "
    "file's name, or the model's where the dictionary wants one.")
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
@options.config_option
@click.pass_context
def command(ctx: click.Context, /, files: tuple[Path,
                                                ...], model: str | None, pretrained: str | None,
            resolution: int | None, dictionary: Path | None, name: str, upload: str | None,
            release_tag: str | None, replace: bool, dry_run: bool, as_json: bool) -> int:
    """Prepare FILES, the weights of one model, for a release.

    Prints md5 and sha256, and the entry for the dictionary, or sets it in the file, leaving
    everything else there as it is. Several files are the parts of one. Without gh, or when it is
    not logged in, the command to run is printed, and the exit code is 4.
    """
    if (upload is None) != (release_tag is None):
        raise click.UsageError("--upload and --release-tag belong together", ctx)
    own_name, input_size = read_model_facts(files[0])
    model = model or own_name
    if model is None:
        raise click.UsageError(
            f"{files[0]} does not say what the model is called: give --model-name", ctx)
    named_size, named_tag = name_parts(files[0], model)
    read = [read_release_file(path) for path in files]
    entry = Entry(model, pretrained or named_tag or "imagenet", resolution or named_size,
                  read[0].md5 if len(read) == 1 else [file.md5 for file in read])
    edit = edited(dictionary, entry, name, input_size) if dictionary is not None else None
    entry = edit.entry if edit is not None else entry
    release = Release(upload, release_tag) if upload and release_tag else None
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
    left = shlex.join(release.command(read, replace)) if release and (obstacle or dry_run) else ""
    notes = [
        f"{path.name}: a zoo that follows keras_cv_attention_models looks for {expected}"
        for path, expected in zip(files, expected_names(model, entry.tag, entry.resolution, files),
                                  strict=True) if path.name != expected
    ]
    if as_json:
        dictionary_data = edit and {"path": edit.path, "changed": edit.changed, "diff": edit.diff()}
        screen.show_json({
            "files": [asdict(file) for file in read], "entry": str(entry),
            "dictionary": dictionary_data, "uploaded": release is not None and not left,
            "by_hand": left, "notes": notes
        })
    else:
        _show(read, entry, edit, notes, dry_run)
        if release is not None and not left:
            screen.say(f"uploaded to release {release.tag} of {release.repository}", "good")
        if obstacle:
            screen.say(f"not uploaded: {obstacle}", "bad")
        if left:
            print(f"left to do by hand:\n  {left}")
    return NOT_DONE if obstacle else DONE


def _show(files: Sequence[ReleaseFile], entry: Entry, edit: Edit | None, notes: Sequence[str],
          dry_run: bool) -> None:
    """Print checksums, and the entry or what was changed in the file of the dictionary."""
    for file in files:
        screen.say(f"{file.path}  {file.size:,} bytes", "title")
        print(f"  md5     {file.md5}\n  sha256  {file.sha256}")
    for text in notes:
        screen.note(f"note: {text}")
    if edit is None:
        print(f"entry     {entry}")
    elif not edit.changed:
        print(f"{edit.path} has this entry already")
    else:
        done = "not changed, as this is a dry run" if dry_run else "entry set"
        print(edit.diff(), end="")
        screen.say(f"{edit.path}: {done}", "good")
