/** What the image's init starts. */
import { runImageWorker } from './image.js'

await runImageWorker()
