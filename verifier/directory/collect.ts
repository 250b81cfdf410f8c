/** From what was found in files and at addresses to what may be listed (PROTOCOL.md P-15.4, P-15.5). */
import { printable } from '../text.js'
import type { DescriptorPayload } from './descriptor.js'
import { DIRECTORY_SCHEMA, type DirectoryDocument, MAX_DESCRIPTORS, MAX_DIRECTORY_BYTES } from './document.js'
import { verifyDescriptors } from './verify.js'

/** Descriptors, unverified, and where they were found. */
export interface DescriptorSourceList {
  readonly source: string
  readonly descriptors: readonly string[]
}

export interface KeptDescriptor {
  readonly source: string
  readonly jws: string
  /** Verified to be the provider's own word, in force and the newest. No more than that. */
  readonly payload: DescriptorPayload
}

export interface LeftOut {
  readonly source: string
  /** Key it names; not authenticated. */
  readonly provider?: string
  /** Id of the check that stood in the way, where one did. */
  readonly check?: string
  readonly reason: string
  /** Whether it is not a descriptor at all. */
  readonly malformed: boolean
}

export interface Collection {
  readonly kept: readonly KeptDescriptor[]
  readonly leftOut: readonly LeftOut[]
  /** By provider, the highest number that it ever signed as far as is known here, kept or not (P-15.4). */
  readonly newest: ReadonlyMap<string, number>
}

/** `floors`: by provider, the highest `seq` seen before. Never throws on what is listed. */
export async function collectDescriptors(
  lists: readonly DescriptorSourceList[],
  now: Date,
  floors: ReadonlyMap<string, number> = new Map(),
): Promise<Collection> {
  // What stands in several lists is one descriptor.
  const sources = new Map<string, string>()
  for (const { source, descriptors } of lists)
    for (const jws of descriptors) if (!sources.has(jws)) sources.set(jws, source)
  const kept: KeptDescriptor[] = []
  const leftOut: LeftOut[] = []
  const newest = new Map(floors)
  let bytes = 0
  for (const { jws, verdict, payload, checks } of await verifyDescriptors([...sources.keys()], now, floors)) {
    const source = sources.get(jws) ?? ''
    const provider = payload === undefined ? {} : { provider: payload.provider }
    const authentic = checks.some(({ id, status }) => id === 'descriptor.signature' && status === 'pass')
    if (payload !== undefined && authentic) remember(newest, payload)
    if (verdict === 'accepted' && payload !== undefined) {
      bytes += jws.length + 4
      if (kept.length < MAX_DESCRIPTORS && bytes < MAX_DIRECTORY_BYTES - 100) kept.push({ source, jws, payload })
      else leftOut.push({ source, ...provider, reason: 'a directory holds no more', malformed: false })
      continue
    }
    const failed = checks.find(({ status }) => status === 'fail')
    leftOut.push({
      source,
      ...provider,
      ...(failed === undefined ? {} : { check: failed.id }),
      reason: printable(failed?.reason ?? verdict),
      malformed: verdict === 'malformed',
    })
  }
  return { kept, leftOut, newest }
}

/** So many providers are remembered; of more, those heard of last. */
const MOST_REMEMBERED = 16 * MAX_DESCRIPTORS

function remember(newest: Map<string, number>, { provider, seq }: DescriptorPayload): void {
  const highest = Math.max(seq, newest.get(provider) ?? 0)
  newest.delete(provider)
  newest.set(provider, highest)
  const [oldest] = newest.keys()
  if (newest.size > MOST_REMEMBERED && oldest !== undefined) newest.delete(oldest)
}

export function directoryOf(kept: readonly KeptDescriptor[]): DirectoryDocument {
  return { schema: DIRECTORY_SCHEMA, descriptors: kept.map(({ jws }) => jws) }
}
