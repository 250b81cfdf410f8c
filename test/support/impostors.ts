/** Who may come to a worker's address and is not that worker. */
import { toBase64Url } from '../../verifier/protocol/bytes.js'
import { startHttp } from './http.js'
import { startWorker } from './worker.js'

export interface Impostor {
  readonly url: string
  /** The roots of its evidence, where the caller trusts them. */
  readonly rootsPem?: readonly string[]
  close(): Promise<void>
}

export const NOBODY: Impostor = { url: 'http://127.0.0.1:1', close: async () => undefined }

/** A machine whose root is trusted (SIMULATED), running something else. */
export async function otherSoftware(): Promise<Impostor> {
  const worker = await startWorker({ simulatedLaunchDigest: new Uint8Array(48).fill(0x99) })
  return { url: worker.url, rootsPem: [worker.rootsPem ?? ''], close: () => worker.close() }
}

/** Any web server, which answers everything the same way. */
export function webServer(status: number): Promise<Impostor> {
  return startHttp((request, response) => {
    request.resume()
    response.writeHead(status, { 'content-type': 'text/html' }).end('<!doctype html><title>hello</title>')
  })
}

/** Has what a genuine worker said to somebody else, and says it to everybody. */
export async function replaying(genuine: string): Promise<Impostor> {
  const nonce = toBase64Url(crypto.getRandomValues(new Uint8Array(32)))
  const recorded = await fetch(`${genuine}/.well-known/attestation?nonce=${nonce}`)
  const headers = { 'content-type': recorded.headers.get('content-type') ?? '' }
  const bundle = Buffer.from(await recorded.arrayBuffer())
  return startHttp((request, response) => {
    request.resume()
    response.writeHead(200, headers).end(bundle)
  })
}

/** Hands on every question for evidence to a genuine worker, and keeps what is sealed. */
export function relayingEvidence(genuine: string): Promise<Impostor> {
  return startHttp((request, response) => {
    request.resume()
    if (request.method === 'POST') {
      response.writeHead(200, { 'content-type': 'message/ohttp-chunked-res' }).end(Buffer.alloc(200))
      return
    }
    const handOn = async (): Promise<void> => {
      const answer = await fetch(genuine + request.url)
      response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' })
      response.end(Buffer.from(await answer.arrayBuffer()))
    }
    handOn().catch(() => response.destroy())
  })
}
