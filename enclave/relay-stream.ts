/**
 * One question to a relay and its answer, over a Unix socket, TCP or vsock. The relay is the host's: it may be absent, slow,
 * endless or wrong, and all of these are the same failure after the same bounded wait.
 */
import { connect, type Socket } from 'node:net'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { FRAME_HEAD_BYTES, framed, frameLength, MAX_ANSWER_BYTES } from '../verifier/protocol/endorsement-exchange.js'
import { StreamReader } from '../verifier/protocol/streams.js'
import { within } from './deadline.js'
import { WorkerError } from './errors.js'
import { type AnswerLimits, exchangeNative, unixAddress, vsockAddress } from './platforms/native-stream.js'

export type RelayAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'vsock'; readonly cid: number; readonly port: number }
  /** A Unix socket by the calls vsock takes; for tests of those calls. */
  | { readonly kind: 'native-unix'; readonly path: string }

/** `unix:PATH`, `tcp:HOST:PORT` or `vsock:CID:PORT`. @throws WorkerError `worker.option` on anything else. */
export function parseRelayAddress(text: string): RelayAddress {
  const [, path] = /^unix:(\/.{1,100})$/.exec(text) ?? []
  if (path !== undefined) return { kind: 'unix', path }
  const [, kind, host = '', port] = /^(tcp|vsock):([^\s/]{1,253}):(\d{1,10})$/.exec(text) ?? []
  if (kind === 'tcp' && Number(port) >= 1 && Number(port) <= 65_535) {
    return { kind, host: host.replace(/^\[(.*)\]$/, '$1'), port: Number(port) }
  }
  if (kind === 'vsock' && /^\d{1,10}$/.test(host) && Number(host) < 2 ** 32 && Number(port) < 2 ** 32) {
    return { kind, cid: Number(host), port: Number(port) }
  }
  throw new WorkerError(
    'worker.option',
    `expected unix:/PATH, tcp:HOST:PORT or vsock:CID:PORT, got ${text.slice(0, 80)}`,
  )
}

/** The payload of the answer, of at most `maxBytes`, untrusted. @throws WorkerError `worker.relay` */
export async function askRelay(
  address: RelayAddress,
  question: Bytes,
  timeoutMs: number,
  maxBytes: number = MAX_ANSWER_BYTES,
): Promise<Bytes> {
  const late = (): WorkerError => new WorkerError('worker.relay', `the relay gave no answer within ${timeoutMs} ms`)
  try {
    switch (address.kind) {
      case 'vsock':
        return await exchangeNative(vsockAddress(address.cid, address.port), framed(question), { timeoutMs, maxBytes })
      case 'native-unix':
        return await exchangeNative(unixAddress(address.path), framed(question), { timeoutMs, maxBytes })
      default:
        return await exchangeSocket(address, framed(question), { timeoutMs, maxBytes }, late)
    }
  } catch (cause) {
    if (cause instanceof WorkerError) throw cause
    throw new WorkerError('worker.relay', 'the relay cannot be reached, or its answer is none', { cause })
  }
}

/**
 * What the first of the relays says whose answer can be read, asked in their order.
 * @throws WorkerError `worker.relay` when there is none to ask; else what the last of them failed with.
 */
export async function askInTurn<Answer>(
  relays: readonly RelayAddress[],
  question: Bytes,
  read: (answer: Bytes) => Answer,
  timeoutMs: number,
  maxBytes?: number,
): Promise<Answer> {
  let failure: unknown = new WorkerError('worker.relay', 'no relay was named')
  for (const relay of relays) {
    try {
      return read(await askRelay(relay, question, timeoutMs, maxBytes))
    } catch (error) {
      failure = error
    }
  }
  throw failure
}

async function exchangeSocket(
  address: Extract<RelayAddress, { kind: 'unix' | 'tcp' }>,
  frame: Bytes,
  { timeoutMs, maxBytes }: AnswerLimits,
  late: () => WorkerError,
): Promise<Bytes> {
  const socket = address.kind === 'unix' ? connect(address.path) : connect(address.port, address.host)
  try {
    const answer = readFrame(socket, maxBytes)
    answer.catch(() => undefined)
    socket.write(frame)
    return await within(answer, timeoutMs, late)
  } finally {
    socket.destroy()
  }
}

async function readFrame(socket: Socket, maxBytes: number): Promise<Bytes> {
  const reader = new StreamReader(socket, 'the relay’s answer')
  // The length is checked before anything of it is waited for.
  return reader.take(frameLength(await reader.take(FRAME_HEAD_BYTES), maxBytes))
}
