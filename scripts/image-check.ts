/** `npm run image:check [-- FLAVOUR…]`: see `image/check.ts`. Default: all. */
import { checkLane } from './image/check.js'
import { namesGiven } from './image/lane.js'
import { FLAVOURS } from './image/places.js'

const flavours = namesGiven('image:check', FLAVOURS, process.argv.slice(2))
process.exitCode = flavours === undefined ? 2 : await checkLane(flavours)
