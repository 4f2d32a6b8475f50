"""`python -m keras_torch_convert`: the same as the command `keras-torch-convert`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
