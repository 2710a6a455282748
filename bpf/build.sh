#!/usr/bin/env bash
# Builds the kernel programs into target/bpf/mizar-bpf.o of the outer workspace.
#
# Two ways, the first that is there:
#   1. Debian's rustc with its precompiled core for BPF (packages rustc-web, cargo-web,
#      libstd-rust-web-dev-bpf);
#   2. rustup's nightly with rust-src, core built on the spot (untried on the project's machines).
# Both need bpf-linker on PATH, of an LLVM at least as new as the compiler's.
set -euo pipefail
cd "$(dirname "$0")"
out=../target/bpf/mizar-bpf.o
target=bpfel-unknown-none
flags=$(printf -- '-Cdebuginfo=2\037-Clinker=bpf-linker\037-Clink-arg=--btf')

command -v bpf-linker >/dev/null || { echo "bpf-linker is missing: run ./dev setup" >&2; exit 1; }
# What an outer cargo sets must not leak into this one: another compiler, another target.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS RUSTC RUSTDOC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO \
    RUSTUP_TOOLCHAIN CARGO_BUILD_TARGET CARGO_TARGET_DIR LD_LIBRARY_PATH
# Incremental code is parted otherwise, and what the kernel's verifier then sees it may refuse.
export CARGO_INCREMENTAL=0

if [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/$target" ]; then
    # The loader reads what must be loaded from what aya_ebpf names; it alone uses unstable features.
    RUSTC_BOOTSTRAP=aya_ebpf RUSTC=/usr/bin/rustc CARGO_ENCODED_RUSTFLAGS=$flags \
        /usr/bin/cargo build --release --locked --target "$target" --target-dir target
else
    CARGO_ENCODED_RUSTFLAGS=$flags rustup run nightly \
        cargo build --release --locked --target "$target" --target-dir target -Z build-std=core
fi
mkdir -p "$(dirname "$out")"
built=target/$target/release/mizar-bpf
# Written only when it changed, so that what embeds it is not built again for nothing.
cmp -s "$built" "$out" || cp "$built" "$out"
echo "${out#../}: $(stat -c %s "$out") bytes" >&2
