/**
 * Evidence on demand (PROTOCOL.md §4 and §6). Client nonces that arrive close together share one hardware report: their
 * Merkle root goes into `fresh`, and each client gets the bundle with its own inclusion proof. One report is made at a
 * time and the queue is bounded, so a flood of requests costs clients time and the machine next to nothing.
 */
import { type Bundle, encodeBundle, type NonceProof } from '../verifier/protocol/bundle.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import {
  CLIENT_NONCE_BYTES,
  MAX_EVIDENCE_LIFETIME_S,
  MEDIA_TYPE_SNP_REPORT,
  MEDIA_TYPE_TDX_QUOTE,
} from '../verifier/protocol/constants.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { merkleTree } from '../verifier/protocol/merkle.js'
import { encodeClaims, encodeCore, encodeFresh, gpuNonceFor, reportDataFor } from '../verifier/protocol/statement.js'
import { within } from './deadline.js'
import { WorkerError } from './errors.js'
import type { KeyLadder } from './keys.js'
import type { Platform } from './platforms/platform.js'

export interface Attester {
  /**
   * A bundle over this nonce. Without one a random leaf is drawn; no client takes such a bundle for live (P-4.5).
   * @throws RangeError unless the nonce has 32 bytes; WorkerError `worker.busy`, `worker.platform`, `worker.closed`.
   */
  bundle(nonce?: Bytes): Promise<Bytes>
  /** Refuses what is queued and everything after. */
  close(): void
}

export interface AttesterOptions {
  readonly platform: Platform
  readonly keys: KeyLadder
  /** Seconds since the epoch. */
  readonly now: () => number
  /** How long the first nonce of a batch waits for others. Default 20 ms. */
  readonly windowMs?: number
  /** Most nonces in one batch. Default 1,024. */
  readonly maxBatch?: number
  /** Most nonces waiting. Default 4,096. */
  readonly maxQueue?: number
  /** Longest wait for the platform, after which clients are told to come back. Default 60 s. */
  readonly timeoutMs?: number
  readonly onBatch?: (nonces: number, error?: unknown) => void
}

interface Waiting {
  readonly nonce: Bytes
  readonly resolve: (bundle: Bytes) => void
  readonly reject: (error: unknown) => void
}

export function createAttester(options: AttesterOptions): Attester {
  const { windowMs = 20, maxBatch = 1024, maxQueue = 4096, timeoutMs = 60_000, onBatch = () => undefined } = options
  const queue: Waiting[] = []
  let running = false
  let closed = false

  async function run(): Promise<void> {
    running = true
    while (queue.length > 0) {
      if (queue.length < maxBatch) await sleep(windowMs)
      const batch = queue.splice(0, maxBatch)
      if (batch.length > 0) await serve(batch)
    }
    running = false
  }

  async function serve(batch: readonly Waiting[]): Promise<void> {
    const work = attestBatch(options, batch)
    try {
      await within(
        work,
        timeoutMs,
        () => new WorkerError('worker.platform', `the machine made no report within ${timeoutMs} ms`),
      )
      onBatch(batch.length)
    } catch (error) {
      for (const { reject } of batch) reject(error)
      onBatch(batch.length, error)
      // A report that is late is still being made, and the machine makes one at a time.
      await work.catch(() => undefined)
    }
  }

  return {
    bundle(nonce = crypto.getRandomValues(new Uint8Array(CLIENT_NONCE_BYTES))) {
      if (nonce.length !== CLIENT_NONCE_BYTES) {
        throw new RangeError(`nonce: expected ${CLIENT_NONCE_BYTES} bytes, got ${nonce.length}`)
      }
      if (closed) return Promise.reject(new WorkerError('worker.closed', 'the worker is shutting down'))
      if (queue.length >= maxQueue) {
        return Promise.reject(new WorkerError('worker.busy', 'too many attestation requests are waiting'))
      }
      return new Promise<Bytes>((resolve, reject) => {
        queue.push({ nonce, resolve, reject })
        if (!running) void run()
      })
    },
    close() {
      closed = true
      for (const { reject } of queue.splice(0)) reject(new WorkerError('worker.closed', 'the worker is shutting down'))
    },
  }
}

/** statement, fresh → core → GPU nonce → GPU evidence → claims → REPORT_DATA → report → one bundle for each nonce. */
async function attestBatch({ platform, keys, now }: AttesterOptions, batch: readonly Waiting[]): Promise<void> {
  const { boot, digests, signed } = await keys.published()
  const { root, proofs } = merkleTree(batch.map(({ nonce }) => nonce))
  const issuedAt = Math.floor(now())
  const fresh = encodeFresh({
    nonceRoot: root,
    issuedAt,
    expiresAt: Math.min(issuedAt + MAX_EVIDENCE_LIFETIME_S, boot.notAfter),
    keyConfigurations: digests,
  })
  const core = encodeCore(boot.statementBytes, fresh)
  const { gpus, switches } = await platform.attestDevices(gpuNonceFor(core))
  const claims = encodeClaims(core, [...gpus, ...switches].map(sha256))
  const evidence = await platform.attest(reportDataFor(claims))
  const bundle: Bundle = {
    claims,
    cpu: { type: platform.kind === 'snp' ? MEDIA_TYPE_SNP_REPORT : MEDIA_TYPE_TDX_QUOTE, evidence },
    gpus,
    switches,
    keys: signed,
    ...(platform.eventLog === undefined ? {} : { eventLog: platform.eventLog }),
    endorsements: await platform.endorsements(),
  }
  for (const [i, { nonce, resolve }] of batch.entries()) {
    const proof = proofs[i]
    if (proof === undefined) throw new RangeError('a nonce without a proof')
    const nonceProof: NonceProof = { nonce, ...proof }
    resolve(encodeBundle({ ...bundle, nonceProof }))
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
