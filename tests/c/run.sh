#!/usr/bin/env bash
# The C tests of the kernels, without Python: under AddressSanitizer and UndefinedBehaviorSanitizer, or, with --valgrind, under
# valgrind, which hides AVX-512 and so covers the AVX2 and the portable paths.
set -euo pipefail
cd "$(dirname "$0")/../.."
mode="${1:-}"
build=build/c-tests
mkdir -p "$build"
flags=(-std=c11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Werror -g -Icsrc -Itests/c)

compile() { # name of the test, name of the program, further flags
    "${CC:-cc}" "${flags[@]}" "${@:3}" "tests/c/$1.c" csrc/arrays/*.c csrc/names/*.c csrc/stream/*.c -lm -pthread -o "$2"
}

for file in tests/c/test_*.c; do
    name="$(basename "$file" .c)"
    if [ "$mode" = --valgrind ]; then
        compile "$name" "$build/$name-plain" -O2
        # seed 2, 300 random cases: valgrind is about forty times slower; the kernels keep large blocks on the stack
        valgrind --quiet --error-exitcode=1 --leak-check=full --main-stacksize=8388608 --max-stackframe=4194304 \
            "$build/$name-plain" 2 300
        echo "$name: passed under valgrind"
    else
        compile "$name" "$build/$name-sanitized" -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
        "$build/$name-sanitized"
        echo "$name: passed under the sanitizers"
    fi
done
