/** The checks on descriptors, and on verified workers that were found through them (PROTOCOL.md §15). */
import type { CheckDefinition } from '../checks.js'

export const DESCRIPTOR_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'descriptor.parse',
    title: 'The descriptor is one compact JWS of the descriptor type, within its bounds',
    spec: 'PROTOCOL.md P-15.1, RFC 7515 §7.1',
    gain: 'A token made for another purpose could be shown as a descriptor, or one without end could exhaust its reader.',
    malformed: true,
  },
  {
    id: 'descriptor.signature',
    title: 'The provider key that it names signed it',
    spec: 'PROTOCOL.md P-15.2, RFC 8037',
    gain: 'Anyone could say anything in the name of any provider.',
    needs: ['descriptor.parse'],
  },
  {
    id: 'descriptor.window',
    title: 'It is in force, and for no longer than it may be',
    spec: 'PROTOCOL.md P-15.3',
    gain: 'Whoever keeps an old descriptor could show its prices and endpoints for ever.',
    needs: ['descriptor.signature'],
  },
  {
    id: 'descriptor.newest',
    title: 'No other descriptor at hand by the same provider takes its place',
    spec: 'PROTOCOL.md P-15.4',
    gain: 'A directory could choose among all that a provider ever signed.',
    needs: ['descriptor.signature'],
  },
]

/** Made of a worker that was verified already, against what its provider says of it. */
export const LISTING_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'listing.model',
    title: 'The attested model is the one that was listed',
    spec: 'PROTOCOL.md P-15.6',
    gain: 'A provider could list one model, at its price, and serve another, or the same weights with another chat template.',
  },
  {
    id: 'listing.operator',
    title: 'The operator that the attested configuration names, if it does, is the provider',
    spec: 'PROTOCOL.md P-15.7',
    gain: 'Anyone could list another operator’s worker under prices and a region of their own invention.',
  },
]
