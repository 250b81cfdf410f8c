# bundle.sh ENTRY OUTPUT: one file of JavaScript from our sources and their dependencies. Packages in CommonJS need require().
set -eu
exec /opt/modules/node_modules/@esbuild/linux-x64/bin/esbuild "$1" --bundle --outfile="$2" \
  --platform=node --format=esm --target=node24 --external:onnxruntime-node --external:koffi --legal-comments=none --log-level=warning \
  --banner:js="import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);"
