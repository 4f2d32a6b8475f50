#!/bin/sh
# The C tests of the kernels, without Python: under AddressSanitizer and UndefinedBehaviorSanitizer, then under valgrind, which hides
# AVX-512 and so covers the AVX2 and the portable paths. `tests/c/run.sh sanitizers` or `tests/c/run.sh valgrind` does one of the two.
set -eu
cd "$(dirname "$0")/../.."
what="${1:-all}"
build=build/c-tests
mkdir -p "$build"
compiler="${CC:-cc}"
warnings="-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Werror"

compile() { # test name, suffix, flags
    # shellcheck disable=SC2086
    $compiler $warnings $3 -Icsrc -Itests/c "tests/c/$1.c" csrc/kernels/*.c -lm -o "$build/$1-$2"
}

for file in tests/c/test_*.c; do
    name="$(basename "$file" .c)"
    if [ "$what" != valgrind ]; then
        compile "$name" sanitized "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
        "$build/$name-sanitized"
        echo "$name: passed under the sanitizers"
    fi
    if [ "$what" != sanitizers ]; then
        if ! command -v valgrind >/dev/null; then
            echo "$name: valgrind is not installed, left out" >&2
            continue
        fi
        compile "$name" plain "-O2 -g"
        # seed 2, 300 random cases: valgrind is about forty times slower
        valgrind --quiet --error-exitcode=1 --leak-check=full --main-stacksize=8388608 "$build/$name-plain" 2 300
        echo "$name: passed under valgrind"
    fi
done
