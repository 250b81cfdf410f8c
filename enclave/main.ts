/** What the image's init starts. */
import { runImageWorker } from './image.js'

/** From the GPU flavour's init: the file descriptor of a socket to the keeper of the GPUs' ready state. */
const ready = process.env['SUBROSA_GPU_READY']
await runImageWorker(ready === undefined ? {} : { gpuReadyDescriptor: Number(ready) })
