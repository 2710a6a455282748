#!/usr/bin/env bash
# The newcomer's first ten minutes, in a root file system made from Debian's packages: clone,
# ./dev up, ./dev test, ./dev down, and what is left afterwards.
#
#   sudo tests/fresh-root.sh FOLDER [test]
#
# FOLDER is made by debootstrap if it is empty and can be used again (the second run is quicker).
# rustup cannot be had from packages: the toolchain and cargo's cache of this machine are copied
# in. Needs root, debootstrap, and a package mirror; changes nothing outside FOLDER. With `test`
# the whole suite runs between up and down.
set -euo pipefail
root=${1:?usage: sudo tests/fresh-root.sh FOLDER [test]}
what=${2:-}
here=$(cd "$(dirname "$0")/.." && pwd)
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
[ "$(id -u)" = 0 ] || { echo "run it as root: sudo $0 $*" >&2; exit 1; }

step() { printf '\n== %s (%s)\n' "$*" "$(date +%H:%M:%S)"; }

if [ ! -e "$root/bin/bash" ]; then
    step "debootstrap into $root"
    debootstrap --variant=minbase --include=git,ca-certificates,procps bookworm "$root" "$mirror"
fi
cat > "$root/etc/apt/sources.list" <<SOURCES
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb ${mirror}-security bookworm-security main
SOURCES
rm -f "$root"/etc/apt/sources.list.d/*
# No service is started in there, as in any container.
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
# A mirror behind a private authority is trusted as it is outside; Node.js has to be told.
rm -rf "$root/etc/ssl/certs"
cp -rL /etc/ssl/certs "$root/etc/ssl/certs"
if [ ! -e "$root/root/.cargo/bin/cargo" ]; then
    step "copy the Rust toolchain"
    mkdir -p "$root/root/.cargo"
    cp -a "${RUSTUP_HOME:-$HOME/.rustup}" "$root/root/.rustup"
    mkdir -p "$root/root/.cargo/bin"
    for tool in cargo rustc rustup rustfmt cargo-fmt cargo-clippy clippy-driver rustdoc; do
        cp -a "${CARGO_HOME:-$HOME/.cargo}/bin/$tool" "$root/root/.cargo/bin/"
    done
fi
step "clone"
rm -rf "$root/root/mizar"
git clone -q "file://$here" "$root/root/mizar"

# Own mounts and process ids: nothing that runs in there outlives this script, and what `ps`,
# `mount` and `bpftool` show is what the project left.
export root what
unshare --mount --pid --fork --kill-child --mount-proc bash -euc '
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
chroot "$root" /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive RUSTUP_AUTO_INSTALL=0 \
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
    PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin what="$what" bash -euc "
cd /root/mizar
left() {
    ip netns list 2>/dev/null || true
    bpftool -j prog list 2>/dev/null | tr \"{\" \"\\n\" | grep -o \"\\\"name\\\":\\\"[^\\\"]*\\\"\" | sort || true
    ps -e -o comm= | grep -v -E \"^(bash|ps|sort|grep|tr|unshare|env)\$\" | sort || true
    awk \"{print \\\$2, \\\$3}\" /proc/mounts | sort
}
apt-get update -qq
time ./dev setup
left > /root/before
time ./dev up
./dev status
# What a failed test leaves is compared too, and then told.
passed=0
[ \"\$what\" != test ] || { time ./dev test; } || passed=\$?
./dev down
left > /root/after
diff /root/before /root/after && echo \"nothing is left\" || passed=1
exit \$passed
"'
