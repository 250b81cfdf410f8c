/**
 * A `fetch` that connects to public addresses only, whatever a name resolves to at the moment the connection is made: a name
 * that was looked up before could lead elsewhere by then. Node only; the one importer of undici.
 */
import { lookup } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { Agent, type RequestInit, fetch as undiciFetch } from 'undici'
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

/** As `fetch`. Rejects with a TypeError before anything is sent to an address that is not public. `resolve`: default, the system's. */
export function createPublicFetch(resolve?: typeof lookup): typeof globalThis.fetch {
  const agent = new Agent({ connect: { lookup: publicLookup(resolve) } })
  return async (input, init) => {
    if (input instanceof Request) throw new TypeError('expected a URL, got a Request')
    const url = new URL(input)
    const refusal = privateEndpoint(url)
    if (refusal !== undefined) throw new TypeError('fetch failed', { cause: new Error(refusal) })
    // Its types are those of the package, what it does is what the global one does.
    // A redirect would lead to an address that nobody judged.
    const options = { ...(init as RequestInit | undefined), redirect: 'error' as const, dispatcher: agent }
    return (await undiciFetch(url, options)) as unknown as Response
  }
}
