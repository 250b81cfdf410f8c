/** What one exchange costs both ends together, by suite, and what one record costs: against the bare cryptography of each. */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256, setupBaseR, setupBaseS } from '../../verifier/protocol/hpke.js'
import {
  openRequest,
  openResponse,
  type SealedRequest,
  sealRequest,
  sealResponse,
} from '../../verifier/protocol/ohttp.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { suiteOf } from '../../verifier/protocol/ohttp-keys.js'
import { streamOf } from '../../verifier/protocol/streams.js'
import { type Contest, type Figure, measure } from './measure.js'

const RECORDS = 2000
const RECORD_BYTES = 1024

export const HANDSHAKE_BENCHMARKS: readonly Figure[] = [
  handshake('x-wing', 'MLKEM768-X25519', KEM_MLKEM768_X25519),
  handshake('x25519', 'X25519', KEM_X25519_HKDF_SHA256),
  {
    name: 'channel.records',
    unit: 'ratio',
    against: `AES-256-GCM of node:crypto alone; ${RECORDS} response records of ${RECORD_BYTES} bytes sealed at one end and opened at the other`,
    target: 4,
    rounds: 20,
    async figure(rounds) {
      const { oursMs, theirsMs } = await measure(await records(), rounds)
      const perSecond = (ms: number) => Math.round((RECORDS / ms) * 1000)
      return { value: oursMs / theirsMs, detail: `${perSecond(oursMs)} and ${perSecond(theirsMs)} records a second` }
    },
  },
]

/** Nothing asked and nothing answered: all that is left is opening a channel. */
function handshake(suffix: string, suite: string, kemId: number): Figure {
  return {
    name: `channel.handshake.${suffix}`,
    unit: 'ratio',
    against: `HPKE's two set-ups alone; an empty request sealed and opened and its empty response sealed and opened, ${suite}`,
    target: 1.5,
    rounds: 40,
    async figure(rounds) {
      const { oursMs, theirsMs } = await measure(await exchange(kemId), rounds)
      return { value: oursMs / theirsMs, detail: `${oursMs.toFixed(2)} ms ÷ ${theirsMs.toFixed(2)} ms` }
    },
  }
}

async function exchange(kemId: number): Promise<Contest> {
  const key = await generateKeyConfiguration(1, kemId)
  const suite = suiteOf(key.configuration)
  const info = new Uint8Array(32)
  return {
    async ours() {
      const sealed = await sealRequest(key.configuration, streamOf())
      const opened = await openRequest(sealed.body, () => key)
      await drain(openResponse(sealed, await sealResponse(opened, streamOf())))
    },
    async theirs() {
      const { enc } = await setupBaseS(suite, key.configuration.publicKey, info)
      await setupBaseR(suite, enc, key.privateKey, info)
    },
  }
}

async function records(): Promise<Contest> {
  const key = await generateKeyConfiguration(1, KEM_X25519_HKDF_SHA256)
  const record = new Uint8Array(RECORD_BYTES)
  async function* many(): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < RECORDS; i++) yield record
  }
  let pair: { readonly sealed: SealedRequest; readonly opened: Awaited<ReturnType<typeof openRequest>> }
  const [secret, nonce] = [new Uint8Array(32), new Uint8Array(12)]
  return {
    // A context answers once, so each round has its own.
    async before() {
      const sealed = await sealRequest(key.configuration, streamOf())
      pair = { sealed, opened: await openRequest(sealed.body, () => key) }
    },
    ours: async () => drain(openResponse(pair.sealed, await sealResponse(pair.opened, many()))),
    theirs() {
      for (let i = 0; i < RECORDS; i++) {
        const cipher = createCipheriv('aes-256-gcm', secret, nonce)
        const sealed = Buffer.concat([cipher.update(record), cipher.final()])
        const decipher = createDecipheriv('aes-256-gcm', secret, nonce).setAuthTag(cipher.getAuthTag())
        Buffer.concat([decipher.update(sealed), decipher.final()])
      }
    },
  }
}

async function drain(stream: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of stream);
}
