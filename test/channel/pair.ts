/** A gateway and a transport that meet in memory, with the wire between them recorded and under the test's control. */
import { fetchLine } from '../../client/lines.js'
import { createTransport, type Transport, type TransportOptions } from '../../client/transport.js'
import { channelOf, createGateway, type GatewayDeps, type HpkeKey, type KeyRing } from '../../enclave/channel.js'
import { outerOf, responseOf } from '../../enclave/channel-web.js'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { routingHint } from '../../verifier/protocol/ohttp-keys.js'

export const NOW: Date = new Date('2026-03-01T12:00:00Z')

export class TestRing implements KeyRing {
  readonly retired: HpkeKey[] = []
  keys: HpkeKey[] = []

  async add(
    keyId: number,
    kemId: number = KEM_X25519_HKDF_SHA256,
    notAfter: Date = new Date(NOW.getTime() + 600_000),
  ): Promise<HpkeKey> {
    const key = { ...(await generateKeyConfiguration(keyId, kemId)), notAfter }
    this.keys.unshift(key)
    return key
  }

  find(keyId: number, hint?: string): HpkeKey | undefined {
    return this.keys.find(
      ({ configuration }) =>
        configuration.keyId === keyId && (hint === undefined || hint === routingHint(configuration.encoded)),
    )
  }

  retire(key: HpkeKey): void {
    this.retired.push(key)
    this.keys = this.keys.filter((other) => other !== key)
  }
}

export interface Wire {
  /** Every outer request, as sent. */
  readonly requests: { readonly headers: Headers; readonly body: Uint8Array<ArrayBuffer> }[]
  /** Every outer response byte, as received. */
  readonly responses: Uint8Array[]
  /** Replaces the outer response, for a test that plays the attacker. */
  tamper?: (response: Response) => Response | Promise<Response>
}

export interface Pair {
  readonly ring: TestRing
  readonly gateway: (outer: Request) => Promise<Response>
  readonly transport: Transport
  readonly wire: Wire
  readonly refusals: string[]
}

export async function createPair(
  handler: GatewayDeps['handler'],
  options: {
    readonly gateway?: Partial<GatewayDeps>
    readonly client?: Partial<TransportOptions>
    readonly kemId?: number
  } = {},
): Promise<Pair> {
  const ring = new TestRing()
  await ring.add(1, options.kemId)
  const refusals: string[] = []
  const onRefusal = (code: string) => void refusals.push(code)
  const sealed = createGateway({ keys: ring, handler, now: () => NOW, onRefusal, ...options.gateway })
  const gateway = async (outer: Request) => responseOf(await sealed(outerOf(outer)))
  const wire: Wire = { requests: [], responses: [] }
  const fetch: typeof globalThis.fetch = async (input, init) => {
    const outer = new Request(input, init)
    const body = new Uint8Array(await outer.clone().arrayBuffer())
    wire.requests.push({ headers: outer.headers, body })
    const response = await gateway(outer)
    const recorded = new TransformStream<Uint8Array, Uint8Array>({
      transform(piece, controller) {
        wire.responses.push(piece)
        controller.enqueue(piece)
      },
    })
    const copy = new Response(response.body?.pipeThrough(recorded) ?? null, response)
    return wire.tamper === undefined ? copy : wire.tamper(copy)
  }
  const transport = createTransport({
    endpoint: new URL('https://worker.example/ohttp'),
    line: fetchLine(fetch),
    keyConfiguration: () => {
      const key = ring.keys[0]
      if (key === undefined) throw new Error('the ring is empty')
      return key.configuration.encoded
    },
    now: () => NOW,
    ...options.client,
  })
  return { ring, gateway, transport, wire, refusals }
}

export const post = (body: string, init: RequestInit = {}): Request =>
  new Request('https://inner.example/v1/chat/completions?x=1', {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: 'Bearer canary-token' },
    body,
    ...init,
  })

/** The content of a request that a handler got from a gateway. */
export function textOf(request: Request): string {
  const channel = channelOf(request)
  if (channel === undefined) throw new Error('not from a gateway')
  return fromUtf8(channel.content)
}

/** A promise and the function that settles it. */
export function gate(): { readonly promise: Promise<void>; readonly open: () => void } {
  let open: () => void = () => undefined
  const promise = new Promise<void>((resolve) => {
    open = resolve
  })
  return { promise, open }
}
