# Runs in the kernel stage of Dockerfile.enclave: our own kernel, from Debian's source, aml.patch and config, into /out.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/src/kernel/bin:/usr/bin
export KBUILD_BUILD_USER=subrosa KBUILD_BUILD_HOST=subrosa KBUILD_BUILD_VERSION=1
export KBUILD_BUILD_TIMESTAMP="@$SOURCE_DATE_EPOCH"
# Debian makes these links when it configures the packages, which nobody does here.
mkdir /src/kernel/bin
ln -s /usr/bin/mawk /src/kernel/bin/awk

mkdir /src/linux
tar -xf /usr/src/linux-source-*.tar.xz -C /src/linux --strip-components=1
cd /src/linux
patch -p1 --fuzz=0 --no-backup-if-mismatch < /src/kernel/aml.patch

make -s tinyconfig
cat /src/kernel/config >> .config
make -s olddefconfig 2>/dev/null
# A name that no longer exists, or a default that won, would go unnoticed otherwise.
wrong=0
while IFS= read -r line; do
  case $line in
    CONFIG_*=n) ! got=$(grep "^${line%n}" .config) || { echo "config: expected $line, got $got"; wrong=1; } ;;
    CONFIG_*) grep -qxF "$line" .config || { echo "config: expected $line, got $(grep -w "${line%%=*}" .config || echo nothing)"; wrong=1; } ;;
  esac
done < /src/kernel/config
[ $wrong = 0 ]

make -j"$(nproc)" bzImage
mkdir -p /out
cp arch/x86/boot/bzImage /out/vmlinuz
cp .config /out/config
cd /
find /out -type f -exec chmod 0444 {} +
find /out -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
# A layer of the recipe would keep it.
rm -r /src/linux
