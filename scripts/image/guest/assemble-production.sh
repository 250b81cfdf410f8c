# Runs in the build-production stage of Dockerfile.enclave: what assemble.sh made, without Debian's kernel and its modules.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/usr/bin

rm -r /out/initrd/modules /out/vmlinuz
sh /src/guest/compile.sh -DOWN_KERNEL
sh /src/guest/normalise.sh
