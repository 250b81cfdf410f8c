/** `npm run image:boot [-- SUITE…]`: see `image/boot.ts`. Default: all. */
import { BOOT_SUITES, bootLane } from './image/boot.js'
import { namesGiven } from './image/lane.js'

const suites = namesGiven('image:boot', BOOT_SUITES, process.argv.slice(2))
process.exitCode = suites === undefined ? 2 : await bootLane(suites)
