/** `npm run image:check [-- FLAVOUR…]`: see `image/check.ts`. Default: both. */
import { checkLane } from './image/check.js'
import type { Flavour } from './image/places.js'

const FLAVOURS: readonly Flavour[] = ['developer', 'test']
const wanted = process.argv.slice(2)
process.exitCode = await checkLane(FLAVOURS.filter((flavour) => wanted.length === 0 || wanted.includes(flavour)))
