# Runs in the build stage of Dockerfile.enclave: puts the trees of the image together in /out, from nothing, file by file.
set -eu
umask 022
export LC_ALL=C TZ=UTC PATH=/usr/bin

KERNEL=$(ls /usr/lib/modules)
LIBRARIES="libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libstdc++.so.6 libgcc_s.so.1"
# In the order init loads them.
MODULES="net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/block/virtio_blk lib/libcrc32c
 fs/netfs/netfs fs/erofs/erofs lib/reed_solomon/reed_solomon drivers/md/dm-mod drivers/md/dm-bufio drivers/md/dm-verity
 fs/configfs/configfs drivers/virt/coco/tsm drivers/virt/coco/sev-guest/sev-guest
 drivers/virt/coco/tdx-guest/tdx-guest drivers/firmware/qemu_fw_cfg"

ROOT=/out/root
mkdir -p $ROOT/bin $ROOT/app $ROOT/lib/x86_64-linux-gnu $ROOT/lib64 /out/initrd/modules
# Mount points; the model is a disk of its own.
for name in dev model proc run sys tmp; do mkdir $ROOT/$name /out/initrd/$name 2>/dev/null || mkdir -p $ROOT/$name; done
mkdir -p /out/initrd/root

cp /opt/node/bin/node $ROOT/bin/node
cp /usr/lib64/ld-linux-x86-64.so.2 $ROOT/lib64/
for name in $LIBRARIES; do cp -L /usr/lib/x86_64-linux-gnu/$name $ROOT/lib/x86_64-linux-gnu/; done

# Our code as one file, beside the runtime it loads natively.
ln -s /opt/modules/node_modules /src/node_modules
sh /src/guest/bundle.sh /src/enclave/main.ts $ROOT/app/worker.mjs
RUNTIME=$ROOT/app/node_modules/onnxruntime-node
mkdir -p $RUNTIME/bin/napi-v6/linux/x64 $ROOT/app/node_modules/onnxruntime-common/dist
FROM=/opt/modules/node_modules
cp $FROM/onnxruntime-node/package.json $RUNTIME/
mkdir $RUNTIME/dist $ROOT/app/node_modules/onnxruntime-common/dist/cjs
cp $FROM/onnxruntime-node/dist/*.js $RUNTIME/dist/
cp $FROM/onnxruntime-node/bin/napi-v6/linux/x64/libonnxruntime.so.1 $RUNTIME/bin/napi-v6/linux/x64/
cp $FROM/onnxruntime-node/bin/napi-v6/linux/x64/onnxruntime_binding.node $RUNTIME/bin/napi-v6/linux/x64/
cp $FROM/onnxruntime-common/package.json $ROOT/app/node_modules/onnxruntime-common/
cp $FROM/onnxruntime-common/dist/cjs/*.js $FROM/onnxruntime-common/dist/cjs/package.json \
  $ROOT/app/node_modules/onnxruntime-common/dist/cjs/

# Calls into the runtime's own interface.
KOFFI=$ROOT/app/node_modules/koffi
NATIVE=@koromix/koffi-linux-x64
mkdir -p $KOFFI/src/koffi/src $ROOT/app/node_modules/$NATIVE/linux_x64
cp $FROM/koffi/package.json $FROM/koffi/index.js $KOFFI/
cp $FROM/koffi/src/koffi/index.js $KOFFI/src/koffi/
cp $FROM/koffi/src/koffi/src/static.js $KOFFI/src/koffi/src/
cp $FROM/$NATIVE/package.json $FROM/$NATIVE/index.js $ROOT/app/node_modules/$NATIVE/
cp $FROM/$NATIVE/linux_x64/koffi.node $ROOT/app/node_modules/$NATIVE/linux_x64/

cp /boot/vmlinuz-$KERNEL /out/vmlinuz
for path in $MODULES; do
  xz -dc /usr/lib/modules/$KERNEL/kernel/$path.ko.xz > /out/initrd/modules/${path##*/}.ko
done
sh /src/guest/compile.sh
sh /src/guest/normalise.sh
