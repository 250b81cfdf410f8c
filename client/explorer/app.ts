/**
 * The explorer page: verify a live worker or a file, show why, and talk through the seal. Everything is appraised here, in the
 * browser, by the same recipe as the command line; text from evidence is only ever set as text.
 */

import { verifyEvidence } from '../../verifier/appraise.js'
import { detectEvidence } from '../../verifier/detect.js'
import { fetchBundle, parseWorkerUrl } from '../../verifier/fetch-evidence.js'
import { type Bytes, toBytes } from '../../verifier/protocol/bytes.js'
import { ALL_CHECKS } from '../../verifier/registry.js'
import { type AttestationResult, resultToJson } from '../../verifier/result.js'
import { PLAIN, printable, renderResult } from '../../verifier/text.js'
import { NotTrustedError, SubrosaError, UsageError } from '../errors.js'
import { connect } from '../index.js'
import { readersOf } from '../readers.js'
import type { WorkerSession } from '../session.js'
import { renderChain } from './chain.js'
import { byId, element, replaceChildren } from './dom.js'
import { type Inputs, readInputs } from './inputs.js'
import { createTalk } from './talk.js'

const talk = createTalk((reason, result) => {
  if (result !== undefined) show({ result, locked: `Locked: ${reason}` })
  else say('none', `Accepted earlier, not any more: ${reason}`)
})

byId('ask', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault()
  void run(async () => {
    const url = byId('url', HTMLInputElement).value.trim()
    const [file] = byId('evidence', HTMLInputElement).files ?? []
    if (url === '' && file === undefined) {
      throw new UsageError('explorer.target', 'name a worker by its address, or choose a file')
    }
    return url === '' && file !== undefined ? verifyFile(file) : verifyWorker(url)
  })
})

document.addEventListener('dragover', (event) => {
  event.preventDefault()
  document.body.classList.add('dropping')
})
document.addEventListener('dragleave', () => document.body.classList.remove('dropping'))
document.addEventListener('drop', (event) => {
  event.preventDefault()
  document.body.classList.remove('dropping')
  const [file] = event.dataTransfer?.files ?? []
  if (file !== undefined) void run(() => verifyFile(file))
})
byId('copy', HTMLButtonElement).addEventListener('click', () => {
  void navigator.clipboard.writeText(byId('json', HTMLTextAreaElement).value).catch(() => undefined)
})

/** What was found, and a session where it may be talked to; or why it may not. */
interface Outcome {
  readonly result: AttestationResult
  readonly session?: WorkerSession
  readonly locked: string
}

let runs = 0

/** Only the newest question is shown: an older one that answers late changes nothing. */
async function run(verify: () => Promise<Outcome>): Promise<void> {
  const mine = ++runs
  talk.lock('Locked: verifying…')
  say('none', 'Verifying…')
  try {
    const outcome = await verify()
    if (mine !== runs) return outcome.session?.close()
    show(outcome)
  } catch (error) {
    if (mine !== runs) return
    byId('why', HTMLElement).hidden = true
    byId('summary', HTMLElement).hidden = true
    say(
      'error',
      error instanceof SubrosaError ? printable(error.message) : 'the page failed for a reason of its own making',
    )
    talk.lock('Locked: no worker is verified.')
    if (!(error instanceof SubrosaError)) throw error
  }
}

async function verifyWorker(address: string): Promise<Outcome> {
  const url = parseWorkerUrl(address)
  const inputs = await readInputs()
  if (inputs.at !== undefined) {
    throw new UsageError(
      'option.unsafe',
      'a worker is judged by the real clock; leave the time out, or open a saved bundle',
    )
  }
  try {
    const session = await connect(url, {
      policy: { resolved: inputs.policy },
      endorsements: inputs.endorsements,
      prove: 'always',
    })
    return { result: session.attestation, session, locked: '' }
  } catch (error) {
    if (error instanceof NotTrustedError) return { result: error.result, locked: `Locked: ${error.message}` }
    if (!(error instanceof UsageError)) throw error
    return { result: await lookOnly(url, inputs), locked: `Locked: ${error.message}` }
  }
}

/** Under a policy that no prompt is sent under, a worker can still be looked at. */
async function lookOnly(url: URL, { policy, endorsements }: Inputs): Promise<AttestationResult> {
  const nonce = crypto.getRandomValues(new Uint8Array(32))
  const sentAt = new Date()
  const evidence = await fetchBundle(url, nonce, { fetch: globalThis.fetch.bind(globalThis) })
  return verifyEvidence(evidence, { policy, endorsements, now: new Date(), live: { nonce, sentAt } })
}

async function verifyFile(file: File): Promise<Outcome> {
  const [bytes, inputs] = await Promise.all([bytesOf(file), readInputs()])
  const result = await verifyEvidence(detectEvidence(bytes).bytes, {
    policy: inputs.policy,
    endorsements: inputs.endorsements,
    now: inputs.at ?? new Date(),
  })
  return { result, locked: 'Locked: a file cannot answer; name its worker to talk to it.' }
}

/** Largest file read: 16 MiB of bundle, or its hex form. */
const MAX_FILE_BYTES = 33 * 1024 * 1024

async function bytesOf(file: File): Promise<Bytes> {
  return toBytes(new Uint8Array(await file.slice(0, MAX_FILE_BYTES).arrayBuffer()))
}

const VERDICTS: Readonly<Record<AttestationResult['verdict'], string>> = {
  accepted: 'Accepted',
  rejected: 'Rejected',
  malformed: 'Not evidence that can be read',
  unavailable: 'Not decided: something needed is not at hand',
}

function show({ result, session, locked }: Outcome): void {
  const simulated = result.notProven.some(({ id }) => id === 'hardware.private-root')
  const label = VERDICTS[result.verdict]
  const about = session !== undefined ? readersOf(session) : simulated ? 'SIMULATED OR PRIVATE hardware' : undefined
  say(result.verdict, about === undefined ? label : `${label}: ${about}`, simulated)
  const summary = byId('summary', HTMLElement)
  summary.hidden = false
  summary.textContent = renderResult(result, { style: PLAIN, registry: ALL_CHECKS })
  byId('why', HTMLElement).hidden = false
  renderChain(byId('chain', HTMLOListElement), result)
  replaceChildren(
    byId('not-proven', HTMLUListElement),
    result.notProven.map(({ id, text }) => element('li', { text: printable(text), data: { id } })),
  )
  byId('json', HTMLTextAreaElement).value = JSON.stringify(resultToJson(result), null, 2)
  if (session === undefined) talk.lock(printable(locked))
  else talk.unlock(session)
}

function say(verdict: string, text: string, simulated = false): void {
  const line = byId('verdict', HTMLElement)
  line.dataset['simulated'] = String(simulated)
  line.dataset['verdict'] = verdict
  line.textContent = text
}

export { verifyGpuEvidence, verifyNrasResponse, verifyRimFile } from '../../verifier/appraise-gpu.js'
export { sortEndorsements } from '../../verifier/endorsements.js'
export { resolvePolicy } from '../../verifier/policy.js'
export { parseTrustAnchors } from '../../verifier/trust-anchors.js'
export { detectEvidence, resultToJson, verifyEvidence }
