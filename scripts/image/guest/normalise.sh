# What differs from one checkout to the next and means nothing: modes beyond "executable", and times.
set -eu
find /out -type d -exec chmod 0755 {} +
find /out -type f -exec chmod 0444 {} +
chmod 0555 /out/root/bin/* /out/root/lib64/ld-linux-x86-64.so.2 /out/initrd/init
for name in probe gpu-ready; do
  if [ -e /out/root/app/$name ]; then chmod 0555 /out/root/app/$name; fi
done
find /out -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
