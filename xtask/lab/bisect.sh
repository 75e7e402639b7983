#!/bin/sh
# For `git bisect run`, in the tree of a kernel: builds it, and has the lab judge it.
#
#   git bisect run EPT-TRACE/xtask/lab/bisect.sh [OPTION OF cargo xtask lab]... [-- COMMAND]
#
# A commit is good if the verdict is clean, and bad if a rule finds a mismatch. One that does not
# build, does not boot, or cannot be judged to the end is skipped. See docs/kernel-development.md.
#
# BUILD    what builds the kernel
# KERNEL   what to boot then, as `--kernel`
# MODULES  where its modules are, as `--modules`
: "${BUILD:=make olddefconfig && make -j$(nproc) bzImage modules}"
: "${KERNEL:=arch/x86/boot/bzImage}"
: "${MODULES:=.}"
SKIP=125 # of git bisect; from 128 on, it gives up
GIVE_UP=128

top=$(cd "$(dirname "$0")/../.." && pwd)
xtask() {
    if [ -n "$EPT_TRACE_XTASK" ]; then
        "$EPT_TRACE_XTASK" "$@"
    else
        cargo run --quiet --manifest-path "$top/Cargo.toml" --package xtask -- "$@"
    fi
}

# No commit's fault.
xtask lab --help >/dev/null || exit $GIVE_UP

sh -c "$BUILD" </dev/null || exit $SKIP
xtask lab --kernel "$KERNEL" --modules "$MODULES" "$@"
code=$?
case $code in
    0 | 1) exit $code ;;
    *) exit $SKIP ;;
esac
