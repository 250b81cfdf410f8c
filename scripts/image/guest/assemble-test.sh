# Runs in the build-test stage of Dockerfile.enclave: makes the test flavour of what assemble-production.sh made.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/usr/bin

sh /src/guest/bundle.sh /src/scripts/simulated/image-worker.ts /out/root/app/worker.mjs
# Where the worker looks for its simulated machine, from the address of its bundle.
mkdir -p /out/root/scripts/simulated
for name in snp-platform gpu-platform; do
  sh /src/guest/bundle.sh /src/scripts/simulated/$name.ts /out/root/scripts/simulated/$name.mjs
done
gcc -std=gnu11 -static -O2 -Wall -Wextra -Werror -Wl,--build-id=none -s -o /out/root/app/probe /src/guest/probe.c
sh /src/guest/compile.sh -DOWN_KERNEL -DTEST_FLAVOUR
sh /src/guest/normalise.sh
