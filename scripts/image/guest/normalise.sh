# What differs from one checkout to the next and means nothing: modes beyond "executable", and times.
set -eu
find /out -type d -exec chmod 0755 {} +
find /out -type f -exec chmod 0444 {} +
chmod 0555 /out/root/bin/node /out/root/lib64/ld-linux-x86-64.so.2 /out/initrd/init
if [ -e /out/root/app/probe ]; then chmod 0555 /out/root/app/probe; fi
find /out -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
