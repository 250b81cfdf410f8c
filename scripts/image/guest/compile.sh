# compile.sh [-DFLAG]…: our init, static, so that the initrd holds no library. With -DGPU_FLAVOUR the GPU's part is in it.
set -eu
cd /src/guest
PARTS="init.c disks.c confine.c"
case " $* " in *" -DGPU_FLAVOUR "*) PARTS="$PARTS gpu.c" ;; esac
exec gcc -std=gnu11 -static -O2 -Wall -Wextra -Werror -Wl,--build-id=none -s "$@" -o /out/initrd/init $PARTS
