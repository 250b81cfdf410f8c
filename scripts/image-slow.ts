/** `npm run image:slow [-- PART…]`: see `image/slow.ts`. Default: all. */
import { namesGiven } from './image/lane.js'
import { SLOW_PARTS, slowLane } from './image/slow.js'

const parts = namesGiven('image:slow', SLOW_PARTS, process.argv.slice(2))
process.exitCode = parts === undefined ? 2 : await slowLane(parts)
