"""Builds the C extension `keras_torch_convert._core`; all metadata is in pyproject.toml.

Debug switches, by environment: KTC_WERROR=1 turns every warning into an error (as CI does),
KTC_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer (tests/sanitize.sh runs
the suite on that), KTC_SANITIZE=thread with ThreadSanitizer (tests/sanitize.sh thread).
"""

import os
import re
import sys
import sysconfig
from glob import glob
from pathlib import Path

import numpy
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, PlatformError

# The address of the repository, where the package is built to be uploaded. Elsewhere the links of
# the README lead to files beside it.
REPOSITORY = os.environ.get("KTC_REPOSITORY", "")
NO_COMPILER = """
keras_torch_convert could not be built, as no C compiler was found ({error}).
  - Is there a wheel for your Python? They are for CPython 3.10 to 3.14, and need a recent pip:
    python -m pip install --upgrade pip
  - Debian, Ubuntu: apt install build-essential python3-dev
  - Fedora: dnf install gcc python3-devel
  - macOS: xcode-select --install
  - Windows: "Build Tools for Visual Studio" with "Desktop development with C++"
  - conda: conda install -c conda-forge c-compiler
"""


class BuildExtension(build_ext):
    """Says what to do where there is no compiler."""
    def build_extensions(self):
        """Build, or name what is missing."""
        try:
            super().build_extensions()
        except (CompileError, ExecError, PlatformError) as error:
            # What a compiler finds wrong in the code is another matter.
            if re.search(r"No such file|not found|cannot find|is required", str(error)):
                raise SystemExit(NO_COMPILER.format(error=error)) from error
            raise


def readme():
    """Return the README for the page of the package, where links must be absolute."""
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    if not REPOSITORY:
        return text
    text = re.sub(r"(!\[[^]]*\]\()(?!\w+:)", rf"\1{REPOSITORY}/raw/HEAD/", text)
    return re.sub(r"((?<!!)\[[^]]*\]\()(?!\w+:|#)", rf"\1{REPOSITORY}/blob/HEAD/", text)


def urls():
    """Return the addresses of [project.urls]."""
    pages = {
        "Homepage": "", "Source": "", "Issues": "/issues", "Changelog": "/blob/HEAD/CHANGELOG.md",
        "Documentation": "/blob/HEAD/docs/index.md"
    }
    return {name: REPOSITORY + page for name, page in pages.items()} if REPOSITORY else {}


# No -march=native: kernels carry their own target attributes and choose an instruction set when the
# module is imported.
if sys.platform == "win32":
    compile_args = ["/O2", "/std:c11", "/W3"]
    link_args = []
else:
    compile_args = ["-O3", "-std=c11", "-fvisibility=hidden", "-pthread"]
    # Before glibc 2.34 threads are in a library of their own.
    link_args = ["-pthread"]
    if os.environ.get("KTC_WERROR") == "1":
        compile_args += [
            "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Werror"
        ]
        # The headers of Python and NumPy are not ours to keep free of warnings; -isystem overrides
        # -I for the same folder.
        compile_args += [
            "-isystem",
            sysconfig.get_paths()["include"], "-isystem",
            numpy.get_include()
        ]
    sanitizer = os.environ.get("KTC_SANITIZE")
    if sanitizer:
        sanitize = ["-fsanitize=thread"] if sanitizer == "thread" else [
            "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"
        ]
        compile_args += [*sanitize, "-O1", "-g", "-fno-omit-frame-pointer"]
        link_args += sanitize
    else:
        # A wheel is a fifth of the size without symbols.
        link_args += ["-Wl,-x"] if sys.platform == "darwin" else ["-s"]

setup(
    long_description=readme(), long_description_content_type="text/markdown", project_urls=urls(),
    cmdclass={"build_ext": BuildExtension}, ext_modules=[
        Extension(
            "keras_torch_convert._core", sources=sorted(glob("csrc/*/*.c")),
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc", numpy.get_include()], define_macros=[
                ("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION"),
                ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
            ], extra_compile_args=compile_args, extra_link_args=link_args,
        )
    ],
)
