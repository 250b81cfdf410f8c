/**
 * Reaches public addresses only, whatever a name resolves to at the moment a connection is opened: a name that was looked up before
 * could lead elsewhere by then. Node only.
 */
import { lookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { type Reach, reachOver } from '../lines.js'
import { reachOverLines } from '../reach-here.js'
import { isPublicAddress, privateEndpoint } from './addresses.js'

/** Hands on what `resolve` says, unless any of it is not public. */
export function publicLookup(resolve: typeof lookup = lookup): LookupFunction {
  return (hostname, options, callback) => {
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, [])
      const stray = addresses.some(({ address }) => !isPublicAddress(address))
      const [first] = addresses
      if (stray || first === undefined) {
        const reason = 'its name leads to an address that is not a public one'
        return callback(Object.assign(new Error(reason), { code: 'EACCES' }), [])
      }
      return options.all === true ? callback(null, addresses) : callback(null, first.address, first.family)
    })
  }
}

/** Nothing is sent to an address that is not public, and no redirect leads to one. `resolve`: default, the system's. */
export async function publicReach(resolve?: typeof lookup): Promise<Reach> {
  const reach = await reachOverLines(publicLookup(resolve))
  return (worker) => {
    const refusal = privateEndpoint(worker)
    if (refusal === undefined) return reach(worker)
    return reachOver(async () => {
      throw new TypeError('fetch failed', { cause: new Error(refusal) })
    })(worker)
  }
}
