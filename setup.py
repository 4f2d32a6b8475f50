"""Builds the C extension `keras_torch_convert._core`; all metadata is in pyproject.toml.

Debug switches, by environment: KTC_WERROR=1 turns every warning into an error (as CI does),
KTC_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer (tests/sanitize.sh runs
the suite on that).
"""

import os
import sys
import sysconfig
from glob import glob

import numpy
from setuptools import Extension, setup

# No -march=native: kernels carry their own target attributes and choose an instruction set when the
# module is imported.
if sys.platform == "win32":
    compile_args = ["/O2", "/std:c11", "/W3"]
    link_args = []
else:
    compile_args = ["-O3", "-std=c11", "-fvisibility=hidden"]
    link_args = []
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
    if os.environ.get("KTC_SANITIZE") == "1":
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
        compile_args += [*sanitize, "-O1", "-g", "-fno-omit-frame-pointer"]
        link_args += sanitize

setup(
    ext_modules=[
        Extension(
            "keras_torch_convert._core", sources=sorted(glob("csrc/*/*.c")),
            depends=sorted(glob("csrc/**/*.h", recursive=True)),
            include_dirs=["csrc", numpy.get_include()], define_macros=[
                ("NPY_NO_DEPRECATED_API", "NPY_1_25_API_VERSION"),
                ("NPY_TARGET_VERSION", "NPY_1_25_API_VERSION"),
            ], extra_compile_args=compile_args, extra_link_args=link_args,
        )
    ],)
