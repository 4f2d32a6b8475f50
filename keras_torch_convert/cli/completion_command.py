"""`completion`: the script that completes commands, options and files in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .main import DONE, group

PROGRAM = "keras-torch-convert"
# click looks for this variable when the program starts.
VARIABLE = "_KERAS_TORCH_CONVERT_COMPLETE"
SWITCHING_ON = """\b
To switch it on:
  bash  eval "$(keras-torch-convert completion bash)"    in ~/.bashrc
  zsh   eval "$(keras-torch-convert completion zsh)"     in ~/.zshrc
  fish  keras-torch-convert completion fish > ~/.config/fish/completions/keras-torch-convert.fish"""


@click.command("completion", epilog=SWITCHING_ON)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the script that completes this command in a SHELL."""
    completion = get_completion_class(shell)
    assert completion is not None
    print(completion(group, {}, PROGRAM, VARIABLE).source())
    return DONE
