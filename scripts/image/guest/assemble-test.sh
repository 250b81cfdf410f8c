# Runs in the build-test stage of Dockerfile.enclave: makes the test flavour of what assemble-production.sh made.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/usr/bin

sh /src/guest/simulated.sh /src/scripts/simulated/image-worker.ts
sh /src/guest/compile.sh -DOWN_KERNEL -DTEST_FLAVOUR
sh /src/guest/normalise.sh
