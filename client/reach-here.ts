/** How this process reaches workers. Not for browsers. */
import type { LookupFunction } from 'node:net'
import { type Reach, reachOver } from './lines.js'

/** Over lines, unless this runtime goes its own way to the network. */
export async function reachHere(): Promise<Reach> {
  return goesItsOwnWay() ? reachOver(globalThis.fetch.bind(globalThis)) : reachOverLines()
}

/** Loaded when it is wanted: not every runtime that reads this file can. */
export async function reachOverLines(lookup?: LookupFunction): Promise<Reach> {
  const { nodeReach } = await import('./node-lines.js')
  return nodeReach(lookup)
}

/**
 * Bun and Deno, which reach the network by means of their own; and Node where its `fetch` was told to go through something, such as a
 * proxy (`NODE_USE_ENV_PROXY`, undici's `setGlobalDispatcher`): what it uses by itself is a plain `Agent`, made at the first use.
 */
function goesItsOwnWay(): boolean {
  if ('Bun' in globalThis || 'Deno' in globalThis) return true
  const [now, before] = [2, 1].map((version) =>
    Reflect.get(globalThis, Symbol.for(`undici.globalDispatcher.${version}`)),
  )
  const dispatcher: unknown = now ?? before
  return typeof dispatcher === 'object' && dispatcher !== null && dispatcher.constructor.name !== 'Agent'
}
