/** SIMULATED workers behind wire taps, and providers that list them: what a directory leads to, and every byte that went there. */
import { once } from 'node:events'
import { type AddressInfo, connect as connectSocket, createServer, type Socket } from 'node:net'
import type { PolicyDocument } from '../../client/index.js'
import { configurationDigest, encodeHostConfiguration } from '../../enclave/config.js'
import { engineLabel } from '../../enclave/worker.js'
import type { DescriptorPayload, Endpoint } from '../../verifier/directory/descriptor.js'
import type { DirectoryDocument } from '../../verifier/directory/document.js'
import { type Bytes, toHex } from '../../verifier/protocol/bytes.js'
import type { ModelClaims } from '../../verifier/protocol/statement.js'
import { MODEL, type StubEngine, stubEngine } from '../enclave/stub.js'
import { filled } from '../support/samples.js'
import { policyFor, type RunningWorker, startWorker, tapWire, type WireTap } from '../support/worker.js'
import { createProvider, type Provider } from './providers.js'

export interface Listed {
  readonly worker: RunningWorker
  readonly engine: StubEngine
  readonly tap: WireTap
  readonly provider: Provider
  /** As a URL object prints it. */
  readonly url: string
  readonly endpoint: Endpoint
  descriptor(change?: Partial<Endpoint>, payload?: Partial<DescriptorPayload>): Promise<string>
  /** Number of sealed requests that went there. */
  sealed(): number
}

export interface ListedOptions {
  readonly price?: readonly [input: string, output: string] | null
  readonly region?: string
  readonly model?: ModelClaims
  readonly launchDigest?: Bytes
  /** Key of the operator its configuration names; `provider`: that of the provider who lists it. */
  readonly operator?: 'provider' | Bytes
  readonly engine?: StubEngine
}

export const OTHER_MODEL: ModelClaims = { ...MODEL, weightsRoot: filled(0x55) }
export const WEIGHTS: string = toHex(MODEL.weightsRoot)
export const MANIFEST: string = toHex(MODEL.manifestDigest)

export async function listWorker(options: ListedOptions = {}): Promise<Listed> {
  const { price = ['0.15', '0.60'], region = 'eu-west-1', model = MODEL, engine = stubEngine(), operator } = options
  const provider = await createProvider(new Date())
  const operatorKey = operator === 'provider' ? provider.publicKey : operator
  const { id, weightsRoot } = model
  const configuration = encodeHostConfiguration({
    model: { id, weightsRoot },
    padding: 'tick',
    engine: engineLabel(engine),
    ...(operatorKey === undefined ? {} : { operatorKey }),
  })
  const worker = await startWorker({
    engine: { engine, model },
    configuration,
    simulatedHostData: configurationDigest('snp', configuration),
    ...(options.launchDigest === undefined ? {} : { simulatedLaunchDigest: options.launchDigest }),
  })
  const endpoint: Endpoint = {
    url: worker.url,
    region,
    model: { id: MODEL.id, manifest: MANIFEST, weights: WEIGHTS },
    price: price === null ? null : { currency: 'USD', inputPerMillion: price[0], outputPerMillion: price[1] },
  }
  return listAt(endpoint, provider, worker, engine)
}

async function listAt(
  listed: Endpoint,
  provider: Provider,
  worker: RunningWorker,
  engine: StubEngine,
): Promise<Listed> {
  const tap = await tapWire(worker.url)
  const endpoint = { ...listed, url: `${tap.url}/` }
  return {
    worker,
    engine,
    tap,
    provider,
    url: endpoint.url,
    endpoint,
    descriptor: (change = {}, payload = {}) =>
      provider.descriptor({ endpoints: [{ ...endpoint, ...change }], ...payload }),
    sealed: () => tap.sealed().length,
  }
}

/** The same worker at another address, which can be taken away alone, listed by another provider. */
export async function listAgain({ endpoint, worker, engine }: Listed, change: Partial<Endpoint>): Promise<Listed> {
  return listAt({ ...endpoint, ...change }, await createProvider(new Date()), worker, engine)
}

export async function closeAll(...all: readonly Listed[]): Promise<void> {
  for (const { worker, tap } of all) {
    await tap.close()
    await worker.close()
  }
}

/** Of somebody who trusts all these workers' roots, and either model under its name. */
export async function policyOf(...all: readonly Listed[]): Promise<PolicyDocument> {
  const digests = [MODEL, OTHER_MODEL].map(({ weightsRoot }) => toHex(weightsRoot))
  return { ...(await policyFor(...all.map(({ worker }) => worker))), model: { digests } }
}

export const directory = async (...descriptors: readonly (string | Promise<string>)[]): Promise<DirectoryDocument> => ({
  schema: 'subrosa-directory/1',
  descriptors: await Promise.all(descriptors),
})

/** Leads somewhere, and holds back what comes from there until it is told to let go. */
export async function holdBack(
  worker: string,
): Promise<{ readonly url: string; release(): void; close(): Promise<void> }> {
  const { port, hostname } = new URL(worker)
  const sockets = new Set<Socket>()
  let release: () => void = () => undefined
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  const server = createServer((client) => {
    const upstream = connectSocket(Number(port), hostname)
    for (const socket of [client, upstream]) sockets.add(socket.on('error', () => socket.destroy()))
    client.on('data', (piece: Buffer) => upstream.write(piece)).on('close', () => upstream.destroy())
    upstream.on('data', (piece: Buffer) => released.then(() => client.write(piece))).on('close', () => client.destroy())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    release,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
