/** Warm verification of TDX quotes with their collateral. */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { completeTdxPolicy } from '../../verifier/tdx/policy.js'
import { type TdxInput, tdxPlan, verifyTdx } from '../../verifier/tdx/verify.js'
import { bareVerifications, forgetSignatures } from './arithmetic.js'
import { capturedFiles, readCaptured } from './inputs.js'
import type { Benchmark, Contest } from './measure.js'

/**
 * Root by itself, intermediate by root, PCK by intermediate; root CRL by root, PCK CRL by intermediate; TCB signing
 * certificate by root, TCB info and QE identity by it; QE report by PCK, quote by attestation key.
 */
const TDX_SIGNATURES = 10

const QUOTE = 'tdx/v4-b0c06f-uptodate-quote.bin'
const COLLATERAL = 'tdx/v4-b0c06f-uptodate-collateral-2025-06.json'
const AT = new Date('2025-06-25T00:00:00Z')
/** As a verifier in use does: only what is new is verified, and the quote is always taken for new. */
const REMEMBERING =
  'ours remembers the chain, lists and collateral it verified before, by exact bytes, and verifies the quote and the quoting enclave anew'
const OURS = 'ours verifies every signature anew and remembers what parsed certificates and collateral say'

export const TDX_BENCHMARKS: readonly Benchmark[] = [
  {
    name: 'tdx.warm.bare',
    against: `the ${TDX_SIGNATURES} WebCrypto verifications in it alone, keys imported on both sides; ${OURS}`,
    target: 2,
    rounds: 300,
    prepare: againstBare,
  },
  {
    name: 'tdx.warm.phala',
    against: `@phala/dcap-qvl (JavaScript) on the same quote and collateral; ${REMEMBERING}`,
    target: 0.25,
    rounds: 120,
    prepare: () => againstPhala(false),
  },
  {
    name: 'tdx.anew.phala',
    against: `@phala/dcap-qvl (JavaScript) on the same quote and collateral; ${OURS}`,
    target: 0.25,
    rounds: 120,
    prepare: () => againstPhala(true),
  },
  {
    name: 'tdx.warm.phala-wasm',
    against: `@phala/dcap-qvl-web (WASM) on the same quote and collateral; ${OURS}`,
    target: 1,
    rounds: 100,
    prepare: againstPhalaWasm,
  },
]

type Ours = Required<Pick<Contest, 'ours' | 'before'>> & { ours(): Promise<void> }

async function ourSide(): Promise<Ours> {
  const endorsements = sortEndorsements(capturedFiles(COLLATERAL))
  const input: TdxInput = {
    quote: readCaptured(QUOTE),
    endorsements,
    anchors: [],
    now: AT,
    revocation: 'required',
    policy: completeTdxPolicy({}),
  }
  const [any] = endorsements.certificates
  if (any === undefined) throw new Error('the collateral has no certificate')
  const ours = async (): Promise<void> => {
    const t = new Transcript(tdxPlan(input.quote))
    await verifyTdx(t, input)
    const checks = t.checks()
    if (t.verdict() !== 'accepted') throw new Error(`${checks.find(({ status }) => status === 'fail')?.id} fails`)
  }
  await ours()
  return { ours, before: () => forgetSignatures(any) }
}

async function againstBare(): Promise<Contest> {
  const { ours, before } = await ourSide()
  await before()
  return { ours, before, theirs: await bareVerifications(TDX_SIGNATURES, ours) }
}

async function againstPhala(anew: boolean): Promise<Contest> {
  const phala = await import('@phala/dcap-qvl')
  const quote = Buffer.from(readCaptured(QUOTE))
  const collateral = phalaCollateral() as Parameters<typeof phala.verify>[1]
  const { ours, before } = await ourSide()
  return {
    ours,
    ...(anew ? { before } : {}),
    theirs: () => mustBeUpToDate(phala.verify(quote, collateral, AT.getTime() / 1000)),
  }
}

async function againstPhalaWasm(): Promise<Contest> {
  const phala = await import('@phala/dcap-qvl-web')
  const wasm = createRequire(import.meta.url).resolve('@phala/dcap-qvl-web/dcap-qvl-web_bg.wasm')
  phala.initSync({ module: readFileSync(wasm) })
  const quote = readCaptured(QUOTE)
  const collateral = phalaCollateral()
  const now = BigInt(AT.getTime() / 1000)
  return { ...(await ourSide()), theirs: () => mustBeUpToDate(phala.js_verify(quote, collateral, now)) }
}

/** The captured collateral is in the shape both packages take, and is parsed for them outside the timing. */
function phalaCollateral(): unknown {
  return JSON.parse(new TextDecoder().decode(readCaptured(COLLATERAL)))
}

/** Both of Phala's packages throw on what they cannot verify and leave the TCB status to the caller. */
function mustBeUpToDate({ status }: { readonly status: string }): void {
  if (status !== 'UpToDate') throw new Error(`expected UpToDate, got ${status}`)
}
