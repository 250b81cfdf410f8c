# Runs in the build-gpu-test stage of Dockerfile.enclave: the GPU flavour with a SIMULATED CPU and the driver as it is.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/usr/bin

sh /src/guest/simulated.sh /src/scripts/simulated/gpu-image-worker.ts
sh /src/guest/compile.sh -DOWN_KERNEL -DGPU_FLAVOUR -DTEST_FLAVOUR
sh /src/guest/normalise.sh
