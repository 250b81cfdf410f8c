/**
 * Where a stranger's list may send this machine: to `https:` on public addresses (PROTOCOL.md P-15.9). Loopback, private,
 * link-local and every other reserved range hold what only this machine or its network can reach, such as a cloud's metadata.
 */
import ipaddr from 'ipaddr.js'

/** What IANA gives out as global unicast. The rest of the IPv6 space holds IPv4 addresses in old disguises, and nothing public. */
const GLOBAL_IPV6 = ipaddr.IPv6.parseCIDR('2000::/3')

/**
 * Public by their numbers, and a service of the cloud this machine stands in: Azure's wire server; IBM's service endpoints. The
 * other clouds' lie in ranges that IANA reserves.
 */
const INSIDE_OF_CLOUDS = ['168.63.129.16/32', '161.26.0.0/16', '166.8.0.0/14'].map((range) =>
  ipaddr.IPv4.parseCIDR(range),
)

/** Whether an address, as text, is globally reachable unicast. Anything that is no address is not. */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false
  // An IPv4 address mapped into an IPv6 one is judged as what it is; tunnels to one are not unicast.
  const address = ipaddr.process(text)
  if (address.range() !== 'unicast') return false
  if (address instanceof ipaddr.IPv4) return !INSIDE_OF_CLOUDS.some((range) => address.match(range))
  return address.match(GLOBAL_IPV6)
}

/** Names that never are of the public DNS (RFC 6761, RFC 6762, RFC 8375 and ICANN's `internal`), or have no dot. */
const PRIVATE_NAME =
  /^[^.]*\.?$|(^|\.)(localhost|local|internal|home\.arpa|onion|test|example|invalid|intranet|lan|home|corp)\.?$/

/** Why a listed URL is not connected to; undefined when nothing in it speaks against it. What its name resolves to is not looked at. */
export function privateEndpoint(url: URL): string | undefined {
  if (url.protocol !== 'https:') return 'it is not https'
  const host = url.hostname.replace(/^\[|\]$/g, '')
  if (ipaddr.isValid(host)) return isPublicAddress(host) ? undefined : 'its address is not a public one'
  return PRIVATE_NAME.test(host) ? 'its name is not of the public DNS' : undefined
}
