# To be sourced: Debian's kernel source in /src/linux, patched and configured, and the shell in there. Where OVERLAY names a folder,
# that has one patch more, and a `config` whose lines take the place of those of that name, or come beside them.
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
for patch in aml wakeup; do patch -p1 --fuzz=0 --no-backup-if-mismatch < /src/kernel/$patch.patch; done
if [ -n "${OVERLAY-}" ]; then
  patch -p1 --fuzz=0 --no-backup-if-mismatch < "$OVERLAY/kernel.patch"
  names=$(sed -n 's/^\(CONFIG_[A-Z0-9_]*=\).*/^\1/p' "$OVERLAY/config")
  grep -v "$names" /src/kernel/config > /src/kernel/wanted
  cat "$OVERLAY/config" >> /src/kernel/wanted
else
  cp /src/kernel/config /src/kernel/wanted
fi

make -s tinyconfig
cat /src/kernel/wanted >> .config
make -s olddefconfig 2>/dev/null
# A name that no longer exists, or a default that won, would go unnoticed otherwise.
wrong=0
while IFS= read -r line; do
  case $line in
    CONFIG_*=n) ! got=$(grep "^${line%n}" .config) || { echo "config: expected $line, got $got"; wrong=1; } ;;
    CONFIG_*) grep -qxF "$line" .config || { echo "config: expected $line, got $(grep -w "${line%%=*}" .config || echo nothing)"; wrong=1; } ;;
  esac
done < /src/kernel/wanted
[ $wrong = 0 ]
