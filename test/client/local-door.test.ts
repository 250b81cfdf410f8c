/** Where a local door can be reached from, and what a worker's answers and errors can do to whoever reads them behind it. */
import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { connect } from 'node:net'
import { networkInterfaces } from 'node:os'
import { afterEach, describe, expect, it } from 'vitest'
import { type LocalDoor, openLocalDoor } from '../../client/local-door.js'
import { startProxy } from '../../client/proxy.js'
import { forward } from '../../client/proxy-forward.js'
import { proxyPage } from '../../client/proxy-page.js'
import type { WorkerPool } from '../../client/worker-pool.js'

const running: Pick<LocalDoor, 'close'>[] = []
afterEach(async () => {
  for (const one of running.splice(0)) await one.close()
})

async function doorTo(handle: RequestListener): Promise<LocalDoor> {
  const door = await openLocalDoor({
    port: 0,
    open: new Set(),
    pages: new Set(),
    handle: async (request, response) => handle(request, response),
  })
  running.push(door)
  return door
}

const get = (door: LocalDoor, path: string) =>
  fetch(`${door.origin}${path}`, { headers: { authorization: `Bearer ${door.token}` } })

describe('the address', () => {
  const elsewhere = Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .map(({ address }) => address)

  it.each<[string, () => Promise<Pick<LocalDoor, 'origin' | 'close'>>]>([
    ['proxy', () => startProxy({ workers: ['http://127.0.0.1:1'], port: 0, connect: {} })],
    ['explorer', async () => (await explorerServer()).startExplorer(0)],
  ])('of the %s is 127.0.0.1 and no other of this machine', async (_, start) => {
    const door = await start()
    running.push(door)
    const port = Number(new URL(door.origin).port)
    expect(await reached('127.0.0.1', port)).toBe(true)
    // Of the loopback network 127.0.0.0/8 too, so that this holds on a machine without any other network.
    for (const address of ['127.0.0.2', ...elsewhere]) expect(await reached(address, port), address).toBe(false)
  })
})

/** As built: the page's files lie beside it. */
async function explorerServer(): Promise<typeof import('../../client/explorer/server.js')> {
  return import(new URL('../../dist/client/explorer/server.js', import.meta.url).href)
}

async function reached(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port, timeout: 5_000 })
  try {
    await Promise.race([
      once(socket, 'connect'),
      once(socket, 'timeout').then(() => Promise.reject(new Error('no answer'))),
    ])
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

describe('a worker’s answer', () => {
  it('tells the caller what it is, and decides nothing about this machine', async () => {
    const meddling = {
      'access-control-allow-origin': '*',
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': '*',
      'alt-svc': 'h3="attacker.example:443"',
      'cache-control': 'public, max-age=31536000',
      'clear-site-data': '"*"',
      'content-security-policy': 'default-src *',
      'cross-origin-embedder-policy': 'unsafe-none',
      'cross-origin-opener-policy': 'unsafe-none',
      'cross-origin-resource-policy': 'cross-origin',
      'proxy-authenticate': 'Basic',
      'referrer-policy': 'unsafe-url',
      refresh: '0; url=http://attacker.example/',
      'set-cookie': 'tracked=1',
      'strict-transport-security': 'max-age=31536000',
      'x-content-type-options': 'off',
    }
    const passed = { 'content-type': 'application/json', 'retry-after': '7', 'x-should-retry': 'false' }
    const answer = new Response('{}', { status: 429, headers: { ...passed, ...meddling } })
    const door = await doorTo((request, response) => forward(request, response, poolAnswering(answer), () => undefined))
    const { status, headers } = await get(door, '/v1/models')
    expect(status).toBe(429)
    expect(Object.fromEntries(headers)).toMatchObject(passed)
    // The door sets some of these itself; none may carry the worker's value, and the others must be absent.
    const own = ['cache-control', 'content-security-policy', 'cross-origin-resource-policy']
    own.push('referrer-policy', 'x-content-type-options')
    for (const [name, value] of Object.entries(meddling)) {
      expect(headers.get(name), name).toEqual(own.includes(name) ? expect.any(String) : null)
      expect(headers.get(name) ?? '', name).not.toContain(value)
    }
  })
})

/** A pool whose one worker answers with that. */
function poolAnswering(answer: Response): WorkerPool {
  const session = { receipt: () => Promise.reject(new Error('none')) }
  const pool = { send: async () => ({ worker: { url: 'http://worker.example', session }, answer }) }
  return pool as unknown as WorkerPool
}

describe('the status page', () => {
  it('shows what workers and errors say as text, whatever they say', async () => {
    const hostile = (place: string) => `<img src=x onerror=alert(1)>"'&amp;\u202e\u001b[2J${place}`
    const door = await doorTo((_, response) =>
      proxyPage(response, {
        ready: false,
        text: hostile('text'),
        worker: hostile('worker'),
        failures: [{ url: hostile('url'), error: new Error(hostile('error')) }],
        receipts: 0,
      }),
    )
    const page = await (await get(door, '/')).text()
    expect(page).not.toContain('<img')
    // Nothing that could end an attribute, begin an entity, or reorder or rewrite what a terminal or browser shows.
    expect(page).not.toMatch(/onerror=alert\(1\)>|&amp;|[\u202e\u001b]/)
    // Each of the four is there, spelt out.
    expect(page.split('&#60;img src=x onerror=alert(1)&#62;&#34;&#39;&#38;amp;')).toHaveLength(5)
  })
})
