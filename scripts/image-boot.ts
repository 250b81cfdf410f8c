/** `npm run image:boot [-- SUITE…]`: see `image/boot.ts`. */
import { BOOT_SUITES, bootLane } from './image/boot.js'

const wanted = process.argv.slice(2)
const suites = BOOT_SUITES.filter((suite) => wanted.length === 0 || wanted.includes(suite))
const unknown = wanted.find((name) => !BOOT_SUITES.some((suite) => suite === name))
if (unknown === undefined) process.exitCode = await bootLane(suites)
else {
  process.stderr.write(`image:boot: expected ${BOOT_SUITES.join(', ')} or nothing, got ${unknown}\n`)
  process.exitCode = 2
}
