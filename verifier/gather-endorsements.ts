/**
 * Everything the makers' services say about a machine, from its evidence: for relays that staple it. The evidence is nobody's
 * word yet, which is harmless: a wrong question gets answers that fit nothing. Services that fail leave a reason in words.
 */
import type { EndorsementFetcher } from './endorsement-fetch.js'
import { type EndorsementFile, sortEndorsements } from './endorsements.js'
import { UnavailableError } from './errors.js'
import { fetchNvidiaEndorsements, type NvidiaServices } from './gpu/nvidia-fetch.js'
import { STRICT_GPU_POLICY } from './gpu/policy.js'
import { MEDIA_TYPE_TDX_QUOTE } from './protocol/constants.js'
import type { EndorsementAnswer, EndorsementQuestion } from './protocol/endorsement-exchange.js'
import { FormatError } from './protocol/errors.js'
import { asStapled } from './save.js'
import { readSnpEvidence } from './snp/evidence.js'
import { fetchSnpEndorsements } from './snp/kds-fetch.js'
import { parseSnpReport } from './snp/report.js'
import { readTdxEvidence } from './tdx/evidence.js'
import type { PcsOptions } from './tdx/pcs.js'
import { fetchTdxEndorsements } from './tdx/pcs-fetch.js'
import { parseTdxQuote } from './tdx/quote.js'

export interface GatherOptions extends PcsOptions {
  readonly fetcher: EndorsementFetcher
  readonly nvidia?: NvidiaServices
  readonly now: Date
}

/** What there is to staple for this machine. Never throws for the network’s or the evidence’s sake. */
export async function gatherEndorsements(
  question: EndorsementQuestion,
  options: GatherOptions,
): Promise<EndorsementAnswer> {
  const missing: string[] = []
  const attempt = async (work: () => Promise<readonly EndorsementFile[]>): Promise<readonly EndorsementFile[]> => {
    try {
      return await work()
    } catch (error) {
      if (!(error instanceof FormatError) && !(error instanceof UnavailableError)) throw error
      missing.push(error.message)
      return []
    }
  }
  const found = await Promise.all([
    ...cpuParts(question, options, missing).map(attempt),
    attempt(async () => {
      const { files, failures } = await deviceEndorsements(question, options)
      missing.push(...failures)
      return files
    }),
  ])
  return { endorsements: asStapled(found.flat()), missing: [...new Set(missing)] }
}

type Part = () => Promise<readonly EndorsementFile[]>

/** Apart from each other: that one of them cannot be had keeps none of the others away. */
function cpuParts({ cpu }: EndorsementQuestion, options: GatherOptions, missing: string[]): readonly Part[] {
  const { fetcher } = options
  if (cpu === undefined) return []
  if (cpu.type === MEDIA_TYPE_TDX_QUOTE) {
    const ask = (collateral: boolean, crls: boolean) => async () =>
      fetchTdxEndorsements(parseTdxQuote(readTdxEvidence(cpu.evidence).quote), { collateral, crls }, fetcher, options)
    return [ask(true, false), ask(false, true)]
  }
  const ask = async (vek: boolean) =>
    fetchSnpEndorsements(parseSnpReport(readSnpEvidence(cpu.evidence).report), { vek, chain: true, crl: true }, fetcher)
  return [
    async () => {
      try {
        // Together, because the certificate tells which product a report that does not say is of.
        return await ask(true)
      } catch (error) {
        if (!(error instanceof UnavailableError)) throw error
        missing.push(error.message)
        return ask(false)
      }
    },
  ]
}

async function deviceEndorsements({ gpus, switches }: EndorsementQuestion, { fetcher, nvidia, now }: GatherOptions) {
  if (gpus.length + switches.length === 0) return { files: [], failures: [] }
  const input = {
    devices: gpus,
    switches,
    form: 'container',
    endorsements: sortEndorsements([]),
    anchors: [],
    now,
    revocation: 'required',
    policy: STRICT_GPU_POLICY,
  } as const
  return fetchNvidiaEndorsements(input, fetcher, nvidia)
}
