/** The hardware makers' services on one local socket, answering for SIMULATED machines; and what was asked of them. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { SimulatedGpus } from '../../scripts/simulated/gpu-platform.js'
import type { SimulatedSnpPlatform } from '../../scripts/simulated/snp-platform.js'
import type { SimulatedTdxPlatform } from '../../scripts/simulated/tdx-platform.js'
import { toBase64 } from '../../verifier/protocol/bytes.js'
import { startHttp } from '../support/http.js'

export interface Makers {
  readonly url: string
  /** Method and path of every request, in order. */
  readonly asked: string[]
  close(): Promise<void>
}

export interface Machines {
  readonly snp?: SimulatedSnpPlatform
  readonly tdx?: SimulatedTdxPlatform
  readonly gpus?: SimulatedGpus
  /** Answers in the place of all of them. */
  readonly instead?: (path: string, response: ServerResponse) => boolean
}

export async function startMakers(machines: Machines): Promise<Makers> {
  const asked: string[] = []
  const { url, close } = await startHttp((request, response) => {
    const path = request.url ?? ''
    asked.push(`${request.method} ${path.split('?')[0]}`)
    if (machines.instead?.(path, response) === true) return
    answer(machines, path, request, response).catch(() => response.writeHead(500).end())
  })
  return { url, asked, close }
}

const pem = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`

async function answer(
  { snp, tdx, gpus }: Machines,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const [vcek, ask, ark, crl] = snp?.endorsements ?? []
  if (path.startsWith('/vcek/v1/') && vcek && ask && ark && crl) {
    response.end(path.endsWith('/crl') ? crl : path.endsWith('/cert_chain') ? pem(ask) + pem(ark) : vcek)
  } else if (tdx !== undefined && /^\/(tdx|sgx)\/certification\/v4\//.test(path)) {
    const [, , signing, root, rootCrl, pckCrl, tcbInfo, qeIdentity] = tdx.endorsements.map(({ bytes }) => bytes)
    const isTcb = path.includes('/tcb?')
    const chain = encodeURIComponent(pem(signing as Uint8Array) + pem(root as Uint8Array))
    response.setHeader(isTcb ? 'TCB-Info-Issuer-Chain' : 'SGX-Enclave-Identity-Issuer-Chain', chain)
    const crlAsked = path.includes('rootcacrl') ? rootCrl : pckCrl
    response.end(isTcb ? tcbInfo : path.includes('/qe/identity') ? qeIdentity : crlAsked)
  } else if (gpus !== undefined && path.startsWith('/v1/rim/')) {
    const [driver, vbios] = gpus.endorsements.filter(({ type }) => type === 'application/xml')
    response.end(
      JSON.stringify({ rim: toBase64((path.includes('DRIVER') ? driver : vbios)?.bytes ?? new Uint8Array()) }),
    )
  } else if (gpus !== undefined && request.method === 'POST') {
    response.end(ocspAnswer(gpus, await bodyOf(request)))
  } else {
    response.writeHead(404).end()
  }
}

/** AlgorithmIdentifier of SHA-256; name hash, key hash and serial number follow it in a CertID. */
const SHA256 = Buffer.from('300d06096086480165030402010500', 'hex')

/** The response that speaks of the certificate asked about. */
function ocspAnswer(gpus: SimulatedGpus, request: Buffer): Uint8Array {
  const at = request.indexOf(SHA256) + SHA256.length
  const certId = request.subarray(at, at + 68 + 2 + (request[at + 69] ?? 0))
  const responses = gpus.endorsements.filter(({ type }) => type === 'application/ocsp-response')
  return responses.find(({ bytes }) => Buffer.from(bytes).includes(certId))?.bytes ?? new Uint8Array()
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of request) pieces.push(piece as Buffer)
  return Buffer.concat(pieces)
}
