# Runs in the gpu-kernel stage of Dockerfile.enclave: the kernel of the GPU flavour and NVIDIA's open modules for it, into /out. The
# modules come first: the kernel holds their digests, and loads nothing else (kernel.patch).
set -eu
OVERLAY=/src/gpu
. /src/kernel/configure.sh
DIGESTS=kernel/module/digests.h
# Whose rows these are is known when the modules are made.
: > $DIGESTS
make -j"$(nproc)" vmlinux modules
release=$(make -s kernelrelease)

# Debian's package of the source has the driver's core as an object, compiled by Debian; all around it is compiled here.
mkdir /src/nvidia
tar -xf /usr/src/nvidia-open-kernel.tar.xz -C /src/nvidia --strip-components=2
(cd /src/nvidia && patch -p1 --fuzz=0 --no-backup-if-mismatch < /src/gpu/nvidia.patch)
# No display, no memory of other devices: what is not built cannot be loaded.
make -C /src/nvidia -j"$(nproc)" modules SYSSRC=/src/linux CC=gcc IGNORE_CC_MISMATCH=1 \
  NV_EXCLUDE_KERNEL_MODULES="nvidia-drm nvidia-modeset nvidia-peermem" KCFLAGS="-ffile-prefix-map=/src/="

MODULES=/out/modules/$release
mkdir -p $MODULES
for name in nvidia nvidia-uvm; do
  strip --strip-debug -o $MODULES/$name.ko /src/nvidia/$name.ko
  sha256sum $MODULES/$name.ko | cut -c1-64 | sed 's/../0x&, /g; s/^/{ /; s/$/},/' >> $DIGESTS
done
make -j"$(nproc)" bzImage
cp arch/x86/boot/bzImage /out/vmlinuz
cp .config /out/config
cd /
find /out -type d -exec chmod 0755 {} +
find /out -type f -exec chmod 0444 {} +
find /out -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
rm -r /src/linux /src/nvidia
