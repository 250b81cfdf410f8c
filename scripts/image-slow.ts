/** `npm run image:slow`: see `image/slow.ts`. */
import { slowLane } from './image/slow.js'

process.exitCode = await slowLane()
