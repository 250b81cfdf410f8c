# compile.sh [-DFLAG]: our init, static, so that the initrd holds no library.
set -eu
cd /src/guest
exec gcc -std=gnu11 -static -O2 -Wall -Wextra -Werror -Wl,--build-id=none -s "$@" -o /out/initrd/init init.c disks.c confine.c
