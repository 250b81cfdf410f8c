/** A SIMULATED worker on a real socket, the policy of someone who trusts it for a test, and a wire tap before it. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect as connectSocket, createServer, type Server, type Socket } from 'node:net'
import type { PolicyDocument } from '../../client/index.js'
import { fetchLine } from '../../client/lines.js'
import { createTransport, type Transport } from '../../client/transport.js'
import { loadModelPackage, modelClaims } from '../../enclave/inference/package.js'
import { defaultModelDirectory, type RunningWorker, type ServeOptions, serve } from '../../enclave/serve.js'
import { SIMULATED_LAUNCH_DIGEST } from '../../scripts/simulated/snp-platform.js'
import { toHex } from '../../verifier/protocol/bytes.js'

export type { RunningWorker }

export function startWorker(options: ServeOptions = {}): Promise<RunningWorker> {
  return serve({ simulated: true, port: 0, writeLog: () => undefined, ...options })
}

/** Seals to the first key that a worker publishes, and verifies nothing: for tests of the worker. */
export async function sealedTo({ url }: Pick<RunningWorker, 'url'>): Promise<Transport> {
  const keys = new Uint8Array(await (await fetch(`${url}/.well-known/ohttp-keys`)).arrayBuffer())
  return createTransport({
    endpoint: new URL(`${url}/ohttp`),
    keyConfiguration: () => keys.slice(2),
    now: () => new Date(),
    line: fetchLine(globalThis.fetch),
  })
}

/** Names the workers' throw-away roots, the simulated launch digest and the demo model. */
export async function policyFor(...workers: readonly Pick<RunningWorker, 'rootsPem'>[]): Promise<PolicyDocument> {
  const model = modelClaims(await loadModelPackage(defaultModelDirectory()))
  return {
    schema: 'subrosa-policy/1',
    trustAnchors: workers.map((worker) => worker.rootsPem ?? ''),
    allowNonVendorRoot: true,
    measurements: [{ digest: toHex(SIMULATED_LAUNCH_DIGEST) }],
    model: { digests: [toHex(model.weightsRoot)] },
  }
}

export interface WireTap {
  readonly url: string
  /** Every byte seen so far, both directions. */
  bytes(): Buffer
  /**
   * How long the body of every sealed request so far was, in bytes, in the order in which they went by. Node's fetch repeats one that got a
   * 421 by itself, without its body; that one is left out.
   */
  sealed(): readonly number[]
  /** Number of TCP connections opened. */
  connections(): number
  /** Number of those that are open now. */
  open(): number
  /** From now on leads to another worker, or nowhere; what was open is cut. As if the worker had been replaced. */
  lead(worker: string): void
  /** From now on leads new connections to another worker; what was open goes on as it was. */
  divert(worker: string): void
  close(): Promise<void>
}

/** A TCP proxy that keeps everything it forwards. */
export async function tapWire(worker: string): Promise<WireTap> {
  let { port, hostname } = new URL(worker)
  const seen: Buffer[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  const server: Server = createServer((client) => {
    connections++
    const upstream = connectSocket(Number(port), hostname)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from)
      from.on('data', (piece: Buffer) => {
        seen.push(piece)
        to.write(piece)
      })
      from.on('end', () => to.end())
      from.on('error', () => to.destroy())
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytes: () => Buffer.concat(seen),
    sealed: () => sealedIn(Buffer.concat(seen).toString('latin1')),
    connections: () => connections,
    open: () => sockets.size / 2,
    divert(next) {
      ;({ port, hostname } = new URL(next))
    },
    lead(next) {
      ;({ port, hostname } = new URL(next))
      for (const socket of sockets) socket.destroy()
      sockets.clear()
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/** Heads of requests come in one piece each. Other lengths than a declared one would not be seen, so there must be none. */
function sealedIn(wire: string): readonly number[] {
  return wire
    .split('POST /ohttp HTTP/1.1\r\n')
    .slice(1)
    .map((rest) => {
      const [, length] = /^content-length: (\d+)\r?$/im.exec(rest.slice(0, rest.indexOf('\r\n\r\n'))) ?? []
      if (length === undefined) throw new Error('a sealed request without a length')
      return Number(length)
    })
    .filter((length) => length > 0)
}
