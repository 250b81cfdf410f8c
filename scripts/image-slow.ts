/** `npm run image:slow [-- PART…]`: see `image/slow.ts`. Default: all. */
import { SLOW_PARTS, slowLane } from './image/slow.js'

const wanted = process.argv.slice(2)
const unknown = wanted.find((name) => !SLOW_PARTS.some((part) => part === name))
if (unknown === undefined) {
  process.exitCode = await slowLane(SLOW_PARTS.filter((part) => wanted.length === 0 || wanted.includes(part)))
} else {
  process.stderr.write(`image:slow: expected ${SLOW_PARTS.join(', ')} or nothing, got ${unknown}\n`)
  process.exitCode = 2
}
