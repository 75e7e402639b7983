#!/bin/sh
# .ci/check.sh: `ept-trace check` for CI, on this machine's KVM where it has TDP, else in the lab. What
# CI systems need of it is here, once; action.yml and .ci/gitlab.yml only call it. docs/ci.md has the
# whole story. It is told by the environment:
#
#   EPT_TRACE_WHERE     auto (default), here, or lab
#   EPT_TRACE_KERNEL    of the lab: 5.10, 6.1, 6.12, 7.2, or a bzImage; given, it is the lab
#   EPT_TRACE_MODULES   of the lab: with a bzImage, the directory with its modules
#   EPT_TRACE_CPU       of the lab: svm, svm-la48, vmx, or vmx5 (default)
#   EPT_TRACE_SCENARIO  scenarios, with commas (default: all)
#   EPT_TRACE_BASELINE  a file of known findings
#   EPT_TRACE_ARGS      further arguments of `ept-trace check`
#   EPT_TRACE_RESULTS   where reports and recordings go (default: ept-trace-results)
#   EPT_TRACE_BINARY    an ept-trace to use here (default: that of PATH)
#   EPT_TRACE_VERSION   without one: the release to download; without that it is built from source
#   EPT_TRACE_SKIPPED   fail (default: exit code 4), or pass, where nothing could be run
#   EPT_TRACE_XTASK     what stands for `cargo xtask`
#
# The exit code is that of `ept-trace check`.
set -eu

source_dir=$(cd "$(dirname "$0")/.." && pwd)
results=${EPT_TRACE_RESULTS:-ept-trace-results}
mkdir -p "$results"
results=$(cd "$results" && pwd)

say() { echo "ept-trace: $*"; }

# A path that holds from any directory.
absolute() {
    case $1 in
        /*) echo "$1" ;;
        *) echo "$PWD/$1" ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Why this machine's KVM is not checked; nothing if it is.
why_not_here() {
    if [ -n "${EPT_TRACE_KERNEL:-}" ]; then
        echo "a kernel is given"
    elif [ ! -c /dev/kvm ]; then
        echo "there is no /dev/kvm"
    elif ! grep -qsE '^(Y|1)$' /sys/module/kvm_intel/parameters/ept \
        /sys/module/kvm_amd/parameters/npt; then
        echo "its KVM has neither EPT nor NPT"
    elif [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        echo "there is no root: sudo asks for a password"
    fi
}

# Sets $binary, which is run on this machine.
provide() {
    binary=${EPT_TRACE_BINARY:-$(command -v ept-trace || true)}
    if [ -n "$binary" ]; then
        binary=$(absolute "$binary")
    elif [ -n "${EPT_TRACE_VERSION:-}" ]; then
        name=ept-trace-x86_64-linux
        from=${GITHUB_SERVER_URL:?}/${GITHUB_ACTION_REPOSITORY:?}/releases/download/v$EPT_TRACE_VERSION
        say "downloading $name $EPT_TRACE_VERSION"
        binary=$results/bin/$name
        mkdir -p "$results/bin"
        for file in "$name" "$name.sha256"; do
            curl --fail --silent --show-error --location -o "$results/bin/$file" "$from/$file"
        done
        (cd "$results/bin" && sha256sum --check --quiet "$name.sha256")
        chmod +x "$binary"
    else
        say "building from source"
        (cd "$source_dir" && cargo xtask setup && cargo build --release --package ept-trace)
        binary=$source_dir/target/release/ept-trace
    fi
}

# The arguments of `check`, one a line, with reports in directory $1 and the baseline at $2.
arguments() {
    for report in junit=junit.xml sarif=results.sarif tap=results.tap json=results.jsonl \
        html=report.html github=annotations.txt; do
        printf '%s\n' --report "${report%%=*}=$1/${report#*=}"
    done
    printf '%s\n' --color never --keep "$1"
    [ -z "${EPT_TRACE_SCENARIO:-}" ] || printf '%s\n' --scenario "$EPT_TRACE_SCENARIO"
    [ -z "$2" ] || printf '%s\n' --baseline "$2"
    # Words, on purpose.
    # shellcheck disable=SC2086
    [ -z "${EPT_TRACE_ARGS:-}" ] || printf '%s\n' $EPT_TRACE_ARGS
}

# Checks this machine's KVM.
here() {
    provide
    set -- env GITHUB_STEP_SUMMARY="$results/summary.md" "$binary" check "$@"
    code=0
    as_root "$@" || code=$?
    # For the steps to come, which are not root's.
    as_root chown -R "$(id -u):$(id -g)" "$results"
    return "$code"
}

# Checks an emulated machine's.
lab() {
    kernel=${EPT_TRACE_KERNEL:-6.12}
    [ ! -f "$kernel" ] || kernel=$(absolute "$kernel")
    set -- env GITHUB_STEP_SUMMARY=/out/summary.md ept-trace check "$@"
    set -- --out "$results" -- "$@"
    [ -z "$baseline" ] || set -- --add "$baseline" "$@"
    [ -z "${EPT_TRACE_MODULES:-}" ] || set -- --modules "$(absolute "$EPT_TRACE_MODULES")" "$@"
    set -- lab --cpu "${EPT_TRACE_CPU:-vmx5}" --kernel "$kernel" "$@"
    cd "$source_dir"
    # shellcheck disable=SC2086
    ${EPT_TRACE_XTASK:-cargo xtask} "$@"
}

baseline=${EPT_TRACE_BASELINE:+$(absolute "$EPT_TRACE_BASELINE")}
if [ -n "$baseline" ] && [ ! -r "$baseline" ]; then
    say "EPT_TRACE_BASELINE: $baseline cannot be read"
    exit 2
fi
where=${EPT_TRACE_WHERE:-auto}
case $where in
    auto)
        why=$(why_not_here)
        if [ -z "$why" ]; then where=here; else where=lab; fi
        say "${why:+not this machine ($why), but }$where"
        ;;
    here | lab) ;;
    *)
        say "EPT_TRACE_WHERE is auto, here or lab, and not $where"
        exit 2
        ;;
esac

if [ "$where" = here ]; then
    list=$(arguments "$results" "$baseline")
else
    list=$(arguments /out "${baseline:+/add/${baseline##*/}}")
fi
# A line each.
IFS='
'
set -f
# shellcheck disable=SC2086
set -- $list
set +f
unset IFS

# Each in a shell of its own, which its first failure ends.
set +e
if [ "$where" = here ]; then
    (set -e; here "$@")
else
    (set -e; lab "$@")
fi
code=$?
set -e

case $code in
    0) result=clean ;;
    1) result=mismatch ;;
    3) result=incomplete ;;
    4) result=skipped ;;
    *) result=failure ;;
esac
say "$result ($where, exit code $code); reports are in $results"

if [ -n "${GITHUB_ACTIONS:-}" ]; then
    if [ -s "$results/annotations.txt" ]; then
        cat "$results/annotations.txt"
    else
        echo "::error title=ept-trace::no report was written (exit code $code): see the log"
    fi
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -s "$results/summary.md" ]; then
    cat "$results/summary.md" >>"$GITHUB_STEP_SUMMARY"
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    {
        echo "where=$where"
        echo "result=$result"
        echo "exit-code=$code"
        echo "results=$results"
        echo "junit=$results/junit.xml"
        echo "sarif=$results/results.sarif"
    } >>"$GITHUB_OUTPUT"
fi

if [ "$code" = 4 ] && [ "${EPT_TRACE_SKIPPED:-fail}" = pass ]; then
    exit 0
fi
exit "$code"
