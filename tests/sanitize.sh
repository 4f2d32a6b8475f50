#!/usr/bin/env bash
# The tests of the C extension in Python, on a build with AddressSanitizer and UndefinedBehaviorSanitizer of its own in build/sanitize.
# With the argument "thread" what releases the GIL runs in many threads under ThreadSanitizer instead: no free-threaded interpreter is needed
# to see whether two calls touch one thing.
# PYTHON=path/to/python chooses the interpreter, which needs numpy, pytest, hypothesis and what the package itself needs.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
build=build/sanitize

sanitizer=1 library=libasan.so
if [ "${1:-}" = thread ]; then
    shift
    sanitizer=thread library=libtsan.so build=build/sanitize-thread
fi
rm -rf "$build/lib"
KTC_SANITIZE=$sanitizer "$python" setup.py --quiet build --build-lib "$build/lib" --build-temp "$build/temp"

# Python itself is not instrumented, so the library must be there first, and libstdc++ with it: otherwise the exceptions that torch
# throws inside are not found. Python's own allocator would hide overruns of small objects, and what the interpreter leaves behind at
# its end is not ours to report.
compiler="${CC:-gcc}"
LD_PRELOAD="$("$compiler" -print-file-name=$library) $("$compiler" -print-file-name=libstdc++.so)"
export LD_PRELOAD
export PYTHONMALLOC=malloc
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:allocator_may_return_null=1
export TSAN_OPTIONS=exitcode=66:report_signal_unsafe=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export PYTHONPATH="$PWD/$build/lib"

# Run from outside the tree, so that the package is imported from the sanitized build and not from here.
cd "$build"
found="$("$python" -c 'from keras_torch_convert import _core; print(_core.__file__)')"
case "$found" in
    "$PYTHONPATH"/*) echo "testing $found" ;;
    *) echo "expected the sanitized build, got $found" >&2 && exit 1 ;;
esac
tests=../../tests
# Imported before pytest puts the tree in front of all else.
pytest=("$python" -c 'import sys, pytest, keras_torch_convert._core; sys.exit(pytest.main(sys.argv[1:]))')
if [ "$sanitizer" = thread ]; then
    # Without random addresses, of which its older versions understand few.
    exec setarch -R "${pytest[@]}" -q -p no:cacheprovider --rootdir "$tests" -o testpaths= -o pythonpath= -c /dev/null \
        "$tests/core/test_threads.py" -k "several or many" "$@"
fi
"${pytest[@]}" -q -p no:cacheprovider --timeout 600 --rootdir "$tests" -o testpaths= -o pythonpath= -c /dev/null \
    "$tests"/core/test_{permute,stream,cast,compare,dequantize,names,threads,hostile_calls,module}.py \
    "$tests/plan/test_callbacks.py" "$tests/spec/test_layer_groups.py" \
    "$tests/alignment/test_classic.py" "$@"
