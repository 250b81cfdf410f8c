# simulated.sh ENTRY: a worker on a SIMULATED machine in the place of the worker, with that machine and a probe of the guest.
set -eu
sh /src/guest/bundle.sh "$1" /out/root/app/worker.mjs
# Where the worker looks for its simulated machine, from the address of its bundle.
mkdir -p /out/root/scripts/simulated
for name in snp-platform gpu-platform; do
  sh /src/guest/bundle.sh /src/scripts/simulated/$name.ts /out/root/scripts/simulated/$name.mjs
done
gcc -std=gnu11 -static -O2 -Wall -Wextra -Werror -Wl,--build-id=none -s -o /out/root/app/probe /src/guest/probe.c
