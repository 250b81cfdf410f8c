/** `npm run image:check [-- FLAVOUR…]`: see `image/check.ts`. Default: all. */
import { checkLane } from './image/check.js'
import { FLAVOURS } from './image/places.js'

const wanted = process.argv.slice(2)
process.exitCode = await checkLane(FLAVOURS.filter((flavour) => wanted.length === 0 || wanted.includes(flavour)))
