# Runs in the kernel stage of Dockerfile.enclave: our own kernel, from Debian's source, two patches and config, into /out.
set -eu
. /src/kernel/configure.sh

make -j"$(nproc)" bzImage
mkdir -p /out
cp arch/x86/boot/bzImage /out/vmlinuz
cp .config /out/config
cd /
find /out -type f -exec chmod 0444 {} +
find /out -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
# A layer of the recipe would keep it.
rm -r /src/linux
