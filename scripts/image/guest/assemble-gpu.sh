# Runs in the build-gpu stage of Dockerfile.enclave: the GPU flavour of what assemble-production.sh made. The kernel's modules are
# added with the kernel.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/usr/bin

ROOT=/out/root
LIBRARIES=/gpu/lib/x86_64-linux-gnu
FIRMWARE=$(ls /gpu/lib/firmware/nvidia)

# Under the name that a program asks for: there are no links in the image.
cp -L $LIBRARIES/nvidia/current/libnvidia-ml.so.1 $LIBRARIES/nvidia/current/libnvidia-cfg.so.1 $ROOT/lib/x86_64-linux-gnu/
# What the daemon is linked against.
for name in libtirpc.so.3 libgssapi_krb5.so.2 libkrb5.so.3 libk5crypto.so.3 libkrb5support.so.0 libcom_err.so.2 libkeyutils.so.1; do
  cp -L $LIBRARIES/$name $ROOT/lib/x86_64-linux-gnu/
done
cp -L /usr/lib/x86_64-linux-gnu/libresolv.so.2 $ROOT/lib/x86_64-linux-gnu/
cp /gpu/bin/nvidia-persistenced $ROOT/bin/
# Of Hopper and later; the other is for GPUs without confidential computing.
mkdir -p $ROOT/lib/firmware/nvidia/$FIRMWARE $ROOT/var/run/nvidia-persistenced
cp /gpu/lib/firmware/nvidia/$FIRMWARE/gsp_ga10x.bin $ROOT/lib/firmware/nvidia/$FIRMWARE/

# Beside the worker, which looks for it there when there is a GPU.
sh /src/guest/bundle.sh /src/enclave/gpu-gate.ts $ROOT/app/gpu-gate.mjs
gcc -std=gnu11 -O2 -Wall -Wextra -Werror -Wl,--build-id=none -s -o $ROOT/app/gpu-ready /src/guest/gpu-ready.c
sh /src/guest/compile.sh -DOWN_KERNEL -DGPU_FLAVOUR
sh /src/guest/normalise.sh
