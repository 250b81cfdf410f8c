/** Boots of the test image: a SIMULATED machine in a real guest, a sealed chat with it, and what can be seen of it from outside. */
import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connect, type WorkerSession } from '../../client/index.js'
import { HOST_RELAYS, imageDigestOf } from '../../enclave/image.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import type { GuestProbe } from '../simulated/guest-probe.js'
import { SIMULATED_LAUNCH_DIGEST } from '../simulated/snp-platform.js'
import { leaveInOrder } from './boot-leave.js'
import { bootOtherDisks } from './boot-verity.js'
import { ImageError } from './command.js'
import { type Answer, ask, type GuestMaker, untilAnswering, withGuest } from './guests.js'
import { type HostConfigurationFile, hostConfigurationFor, readHostConfiguration } from './host-configuration.js'
import { type HostRelay, startHostRelay, VSOCK_CARRIER } from './host-relay.js'
import { expect, type Lane } from './lane.js'
import { type HeldModel, readImageManifest } from './manifest.js'
import { bootFilesOf } from './measurements.js'
import { repository } from './places.js'
import type { RunningGuest } from './qemu.js'
import { fileIncludes } from './search.js'

const BLOCK_DEADLINE_MS = 60_000

/** @throws ImageError for an image whose model or host configuration is another than what these boots ask for. */
export async function requireDefaultChoices(folder: string): Promise<void> {
  const manifest = await readImageManifest(folder)
  if (manifest.model.sealed) {
    throw new ImageError(`${folder}: expected, for the boots of test, a model in the clear, got a sealed one`)
  }
  const { hostDataHex } = await readHostConfiguration(folder, manifest)
  if (hostDataHex === hostConfigurationFor(manifest).hostDataHex) return
  throw new ImageError(
    `${folder}: expected, for the boots of test, the host configuration that build writes without options, got another; npm run image -- measure --image ${folder} --padding tick writes that one`,
  )
}

export async function bootTest(lane: Lane, maker: GuestMaker, scratch: string): Promise<void> {
  const manifest = await readImageManifest(maker.folder)
  const configuration = await readHostConfiguration(maker.folder, manifest)
  const hostItems = await writeHostItems(scratch, configuration)
  const capture = join(scratch, 'network.pcap')
  const imageDigest = toHex(imageDigestOf((await bootFilesOf(maker.folder)).commandLine))
  const relay = await startHostRelay(scratch, join(repository, 'releases', 'index.note'))
  await withGuest(maker.start('test', { hostItems, capture, ...relay.changes }), async (guest) => {
    const up = await lane.check('test flavour: ready, with a configuration whose digest is the launch’s', async () => {
      const ms = await untilAnswering(guest)
      const { status, text } = await ask(guest, '/readyz')
      expect(status === 200, '/readyz 200', `${status} ${text}`)
      return `answers after ${(ms / 1000).toFixed(1)} s`
    })
    if (!up) return
    const canary = `canary-${randomBytes(12).toString('hex')}`
    await lane.check('the client SDK verifies the booted worker and completes a sealed chat', () =>
      chat(guest, manifest.model, canary, imageDigest),
    )
    await checkRelays(lane, guest, relay)
    await lane.check('in the guest: no shell, no setuid, one writable folder, one port, no dangerous call', () =>
      checkProbe(guest),
    )
    await lane.check('the prompt is nowhere the host looks: console, disks, network, scratch files', async () => {
      const files = [...(await filesUnder(scratch)), join(maker.folder, 'root.img'), join(maker.folder, 'model.img')]
      for (const file of files) {
        expect(!(await fileIncludes(file, canary)), `no prompt in ${file}`, 'the prompt')
      }
      const { size } = await stat(capture)
      expect(size > 10_000, 'a capture of the chat’s traffic', `${size} bytes`)
      return `${files.length} files, ${size} bytes of traffic among them`
    })
    await lane.check(
      'told to leave: a stream in progress ends whole, new requests are refused, the guest ends itself',
      async () => {
        const session = await connect(guest.url, { policy: await policyOf(guest, manifest.model, imageDigest) })
        return leaveInOrder(guest, session, manifest.model.id, relay.orders).finally(() => session.close())
      },
    )
  }).finally(() => relay.close())
  await bootOtherDisks(lane, maker, 'test', true)
  await lane.check('a configuration whose digest differs is refused', async () => {
    const other = await writeHostItems(scratch, configuration, 'off')
    return withGuest(maker.start('other-configuration', { hostItems: other }), async (guest) => {
      await untilAnswering(guest)
      const { status, text } = await ask(guest, '/readyz')
      expect(status === 503 && text.includes('"worker.host-data"'), '503 worker.host-data', `${status} ${text}`)
      return 'padding off, HOST_DATA of padding tick'
    })
  })
}

/** The guest has no route: what it gets from the host comes by one port of its own subnet, or by vsock. */
async function checkRelays(lane: Lane, guest: RunningGuest, { changes, sha256 }: HostRelay): Promise<void> {
  for (const address of HOST_RELAYS) {
    const name = `the booted worker gets an endorsement from the host’s relay at ${address}`
    if (address.startsWith('vsock:') && changes.vsock === undefined) {
      lane.skip(name, `${VSOCK_CARRIER} is not on the path`)
      continue
    }
    await lane.check(name, async () => {
      const seen = JSON.parse(await block(guest, 'RELAYS')) as Readonly<Record<string, unknown>>
      const got = JSON.stringify(seen[address])
      expect(got === JSON.stringify([sha256]), `one of SHA-256 ${sha256}`, got)
      return `SHA-256 ${sha256.slice(0, 16)}…, as the host has it`
    })
  }
}

/** With `padding`, a configuration other than the one whose digest is given. */
export async function writeHostItems(
  scratch: string,
  { bytes, hostDataHex }: HostConfigurationFile,
  padding?: 'off',
): Promise<Record<string, string>> {
  const name = (what: string): string => join(scratch, `${what}${padding === undefined ? '' : '-other'}`)
  // The text `tick` is four letters in a CBOR string; `off` is another length, so the whole is not merely flipped.
  const handed = padding === undefined ? bytes : replaceOnce(Buffer.from(bytes), '\x64tick', '\x63off')
  await writeFile(name('configuration'), handed)
  await writeFile(name('host-data'), Buffer.from(hostDataHex, 'hex'))
  return { configuration: name('configuration'), 'simulated-host-data': name('host-data') }
}

function replaceOnce(bytes: Buffer, from: string, to: string): Buffer {
  const at = bytes.indexOf(from)
  expect(at >= 0, `${JSON.stringify(from)} in the configuration`, 'none')
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(to), bytes.subarray(at + from.length)])
}

async function chat(guest: RunningGuest, model: HeldModel, canary: string, imageDigest: string): Promise<string> {
  const session = await connect(guest.url, { policy: await policyOf(guest, model, imageDigest) })
  try {
    const { status, text } = await completion(session, model, `What is the capital of France? ${canary}`)
    expect(status === 200 && text.includes('"choices"'), 'a completion', `${status} ${text.slice(0, 200)}`)
    const labelled = session.attestation.notProven.some(({ text: words }) => /SIMULATED/i.test(words))
    expect(labelled, 'a verdict that says SIMULATED', 'none')
    return 'answered, the image named, verdict marked SIMULATED'
  } finally {
    session.close()
  }
}

/** What a client of this SIMULATED guest has to write: its throw-away roots, its launch, its model and its image. */
export async function policyOf(guest: RunningGuest, model: HeldModel, imageDigest: string) {
  return {
    schema: 'subrosa-policy/1',
    trustAnchors: [await block(guest, 'ROOTS')],
    allowNonVendorRoot: true,
    measurements: [{ digest: toHex(SIMULATED_LAUNCH_DIGEST) }],
    model: { digests: [model.weights] },
    image: { digests: [imageDigest] },
  } as const
}

/** A chat of one message, inside the encryption. */
export async function completion(session: WorkerSession, { id }: HeldModel, content: string): Promise<Answer> {
  const response = await session.fetch(`${session.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: id, temperature: 0, messages: [{ role: 'user', content }], max_tokens: 16 }),
  })
  return { status: response.status, text: await response.text() }
}

/** What the probe in a test flavour found, held to what a guest may have. */
export async function checkProbe(guest: RunningGuest): Promise<string> {
  const seen = JSON.parse(await block(guest, 'PROBE')) as GuestProbe
  const is = (what: string, actual: unknown, expected: unknown): void =>
    expect(
      JSON.stringify(actual) === JSON.stringify(expected),
      `${what} ${JSON.stringify(expected)}`,
      JSON.stringify(actual),
    )
  is('user', seen.userId, 1000)
  is('writable folders', seen.writableFolders, ['/tmp'])
  is('listening ports', seen.listening, ['tcp:8080'])
  is('shells and package managers', seen.shells, [])
  is('setuid files', seen.setuid, [])
  is(
    'calls and devices that are allowed',
    seen.denied.filter((line) => line.endsWith('ALLOWED')),
    [],
  )
  const calls = await deniedCalls()
  is(
    'answers to calls of the filter’s list other than EPERM',
    calls.filter((name) => !seen.denied.includes(`${name} EPERM`)),
    [],
  )
  is('kernel modules', seen.modules, [])
  is('device nodes', seen.devices, ['null', 'random', 'urandom', 'zero'])
  const root = seen.mounts.find((line) => line.split(' ')[1] === '/')
  expect(/^\/dev\/dm-0 \/ erofs ro,/.test(root ?? ''), 'a read-only erofs root on dm-verity', root ?? 'none')
  const model = seen.mounts.find((line) => line.split(' ')[1] === '/model')
  expect(/^\/dev\/dm-1 \/model erofs ro,/.test(model ?? ''), 'a read-only erofs model on dm-verity', model ?? 'none')
  return `${seen.denied.length} calls and devices denied: ${seen.denied.map((line) => line.split(' ')[0]).join(' ')}`
}

/** The list that the guest's filter is made of. */
async function deniedCalls(): Promise<readonly string[]> {
  const text = await readFile(join(repository, 'scripts', 'image', 'guest', 'denied.h'), 'utf8')
  const names = [...text.matchAll(/X\(([a-z0-9_]+)\)/g)].map(([, name]) => name as string)
  expect(names.length > 0, 'calls in denied.h', 'none')
  return names
}

/** What the test flavour printed between marks. */
export async function block(guest: RunningGuest, name: string): Promise<string> {
  const pattern = new RegExp(`-----SUBROSA ${name}-----\\r?\\n([\\s\\S]*?)\\r?\\n-----END SUBROSA ${name}-----`)
  const until = performance.now() + BLOCK_DEADLINE_MS
  while (performance.now() < until) {
    const found = pattern.exec(await guest.serialText())?.[1]
    if (found !== undefined) return found.replaceAll('\r', '')
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
  throw new Error(`expected ${name} on the console of the test flavour, got none in ${BLOCK_DEADLINE_MS / 1000} s`)
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}
