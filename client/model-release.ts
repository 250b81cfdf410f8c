/**
 * `subrosa model release`: gives the key to encrypted weights to one worker, after verifying it live under the owner's policy
 * (PROTOCOL.md P-8.4). The key is signed for that boot and that model and travels inside the encryption. Node only.
 */
import { CompactSign, importPKCS8 } from 'jose'
import { UsageError } from '../verifier/errors.js'
import { loadFile } from '../verifier/files.js'
import { resolveFlags, type VerificationFlags } from '../verifier/options.js'
import { fromUtf8, toBase64Url, utf8 } from '../verifier/protocol/bytes.js'
import {
  AGE_IDENTITY,
  MAX_MODEL_KEY_LIFETIME_S,
  MEDIA_TYPE_MODEL_KEY,
  MODEL_KEY_TYPE,
  type ModelKeyPayload,
} from '../verifier/protocol/model-key.js'
import type { VerifiedWorker } from '../verifier/result.js'
import { printable } from '../verifier/text.js'
import type { CommandStreams } from './cli-run.js'
import { SubrosaError } from './errors.js'
import { connect } from './node.js'
import { refuseUnsafe } from './prompt-safety.js'
import { readersOf } from './readers.js'

export interface ReleaseFlags extends VerificationFlags {
  readonly weightsKey: string
  readonly ownerKey: string
  readonly verbose?: boolean
}

/** @throws UsageError before any network; NotTrustedError, and then the key never left this process. */
export async function runRelease(url: string, flags: ReleaseFlags, streams: CommandStreams): Promise<number> {
  refuseUnsafe(flags)
  const { policy, endorsements, sigstore } = await resolveFlags(flags)
  if (policy.model === 'any') {
    throw new UsageError('option.model', 'a weights key is for one model: name it with --model-digest or in the policy')
  }
  const key = parseWeightsKey(fromUtf8(await loadFile(flags.weightsKey, 'weights key')))
  const owner = await parseOwnerKey(fromUtf8(await loadFile(flags.ownerKey, 'owner key')))
  const judge = sigstore === undefined ? {} : { sigstore }
  const session = await connect(url, { policy: { resolved: policy }, endorsements, prove: 'always', ...judge })
  try {
    streams.stderr.write(`${readersOf(session)}\n`)
    const response = await session.fetch(`${session.baseURL}/model-key`, {
      method: 'POST',
      headers: { 'content-type': MEDIA_TYPE_MODEL_KEY },
      body: await signRelease(session.worker, key, owner, Date.now()),
    })
    if (!response.ok) throw new SubrosaError('release.refused', await refusal(response))
    await response.arrayBuffer()
    streams.stdout.write(
      printable(`released: the weights of ${session.worker.statement.model.id} are open in that worker`),
    )
    streams.stdout.write('\n')
    return 0
  } finally {
    session.close()
  }
}

/** The compact JWS for this boot of this worker. `nowMs`: milliseconds since the epoch. */
export async function signRelease(
  { statement, statementDigest }: Pick<VerifiedWorker, 'statement' | 'statementDigest'>,
  key: string,
  owner: CryptoKey,
  nowMs: number,
): Promise<string> {
  const iat = Math.floor(nowMs / 1000)
  const payload: ModelKeyPayload = {
    stmt: toBase64Url(statementDigest),
    weights: toBase64Url(statement.model.weightsRoot),
    iat,
    exp: iat + MAX_MODEL_KEY_LIFETIME_S,
    key,
  }
  return new CompactSign(utf8(JSON.stringify(payload)))
    .setProtectedHeader({ alg: 'EdDSA', typ: MODEL_KEY_TYPE })
    .sign(owner)
}

/** The one identity of a file with comments, as age's own tools write it. The message never quotes the file. */
function parseWeightsKey(text: string): string {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '' && !line.startsWith('#'))
  const [key = ''] = lines
  if (lines.length === 1 && AGE_IDENTITY.test(key)) return key
  throw new UsageError('option.weights-key', '--weights-key: expected a file with one age identity, AGE-SECRET-KEY-…')
}

async function parseOwnerKey(pem: string): Promise<CryptoKey> {
  try {
    return await importPKCS8(pem, 'EdDSA')
  } catch {
    throw new UsageError(
      'option.owner-key',
      '--owner-key: expected an Ed25519 private key in PKCS #8 PEM, as openssl genpkey -algorithm ed25519 writes it',
    )
  }
}

async function refusal(response: Response): Promise<string> {
  if (response.status === 404) return 'not released: this worker serves weights that are not encrypted'
  const body = (await response.json().catch(() => undefined)) as { error?: { message?: unknown } } | undefined
  return printable(`not released: the worker says: ${String(body?.error?.message ?? response.status)}`)
}
