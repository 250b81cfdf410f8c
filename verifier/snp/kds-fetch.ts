/**
 * Fetching what endorses a report from AMD's key distribution service. A VEK certificate and its chain are immutable and
 * verify themselves, so a stored copy stands for ever; a revocation list is asked for again after a day.
 */
import type { EndorsementAddress, EndorsementFetcher } from '../endorsement-fetch.js'
import type { EndorsementFile } from '../endorsements.js'
import { UnavailableError } from '../errors.js'
import { looksLikePem, readPem } from '../pem.js'
import type { Bytes } from '../protocol/bytes.js'
import { parseCertificate, parseRevocationList } from '../x509.js'
import { type KdsAddresses, kdsAddresses } from './kds.js'
import type { SnpReport } from './report.js'

const DAY_MS = 86_400_000
const FOREVER = Number.POSITIVE_INFINITY

/** What a verification still lacks. */
export interface SnpNeeds {
  readonly vek: boolean
  readonly chain: boolean
  readonly crl: boolean
}

/**
 * Fetches what is needed. A report of version 2 names no product: each it may be of is asked in turn.
 * @throws UnavailableError naming what could not be had.
 */
export async function fetchSnpEndorsements(
  report: SnpReport,
  needs: SnpNeeds,
  fetcher: EndorsementFetcher,
): Promise<EndorsementFile[]> {
  let failure: unknown = new UnavailableError('endorsement.product', 'its key service knows no such processor')
  for (const candidate of kdsAddresses(report)) {
    try {
      const addresses = addressesFor(candidate, needs)
      const bytes = await Promise.all(addresses.map((address) => fetcher.get(address)))
      return bytes.map((item, i) => ({ name: addresses[i]?.url.href ?? '', bytes: item }))
    } catch (error) {
      failure = error
      if (!(error instanceof UnavailableError && error.code === 'endorsement.status')) throw error
    }
  }
  throw failure
}

function addressesFor({ vek, chain, crl }: KdsAddresses, needs: SnpNeeds): readonly EndorsementAddress[] {
  if (needs.vek && vek === undefined) {
    throw new UnavailableError(
      'endorsement.vek',
      'it hands out no certificate for a VLEK or a masked CHIP_ID; give it with --endorsements',
    )
  }
  return [
    ...(needs.vek && vek !== undefined ? [address(vek, 64 * 1024, FOREVER, (b) => parseCertificate(b))] : []),
    ...(needs.chain ? [address(chain, 64 * 1024, FOREVER, parseChain)] : []),
    ...(needs.crl ? [address(crl, 8 * 1024 * 1024, DAY_MS, (b) => parseRevocationList(b))] : []),
  ]
}

function address(
  url: string,
  maxBytes: number,
  maxAgeMs: number,
  parse: (bytes: Bytes) => unknown,
): EndorsementAddress {
  const isValid = (bytes: Bytes): boolean => {
    try {
      parse(bytes)
      return true
    } catch {
      return false
    }
  }
  return { url: new URL(url), accept: '*/*', maxBytes, maxAgeMs, isValid }
}

function parseChain(bytes: Bytes): void {
  if (!looksLikePem(bytes)) throw new TypeError('not PEM')
  for (const { der } of readPem(bytes)) parseCertificate(der)
}
