/**
 * A boot of the test flavour with a sealed model on its disk: a SIMULATED machine that answers no chat until the model's owner
 * has verified it and released the key, by the command that owners use; of nobody else, and with no other key.
 */
import { generateKeyPairSync } from 'node:crypto'
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { PassThrough } from 'node:stream'
import { connect } from '../../client/index.js'
import { runRelease } from '../../client/model-release.js'
import { sealPackage } from '../../enclave/cli-model.js'
import { imageDigestOf } from '../../enclave/image.js'
import { loadPublicKey } from '../../enclave/public-key.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'
import { completion, policyOf, writeHostItems } from './boot-test.js'
import { buildImage } from './build.js'
import { type Answer, ask, createGuestMaker, type GuestMaker, untilAnswering, withGuest } from './guests.js'
import { readHostConfiguration } from './host-configuration.js'
import { startHostRelay } from './host-relay.js'
import { expect, type Lane } from './lane.js'
import type { ImageLock } from './lock.js'
import { type HeldModel, type ImageManifest, readImageManifest } from './manifest.js'
import { bootFilesOf } from './measurements.js'
import { repository } from './places.js'
import type { RunningGuest } from './qemu.js'
import { fileIncludes } from './search.js'

const demo = join(repository, 'enclave', 'models', 'demo')
const QUESTION = 'What is the capital of Japan?'

/** Of the test flavour with the model in the clear, these are the same: only the model disk is another, and the words that name it. */
const SHARED: readonly string[] = [
  'inventory.txt',
  'root.img',
  'initrd.cpio',
  'vmlinuz',
  'OVMF.amdsev.fd',
  'OVMF.tdx.fd',
]

interface OwnerFiles {
  readonly weightsKey: string
  readonly ownerKey: string
}

interface Booted {
  readonly guest: RunningGuest
  readonly model: HeldModel
  readonly imageDigest: string
  readonly folder: string
}

/** `open`: the test flavour with its model in the clear. */
export async function bootSealed(
  lane: Lane,
  open: GuestMaker,
  qemu: string,
  lock: ImageLock,
  scratch: string,
): Promise<void> {
  const folder = join(scratch, 'sealed')
  await mkdir(folder, { recursive: true })
  const owner: OwnerFiles = { weightsKey: join(folder, 'weights.key'), ownerKey: join(folder, 'owner.pem') }
  let maker: GuestMaker | undefined
  await lane.check('test image with a sealed model builds, and names its owner', async () => {
    const out = join(folder, 'image')
    await buildSealed(lock, folder, out, owner)
    maker = await createGuestMaker(qemu, out, folder)
    const [sealed, clear] = [await readImageManifest(out), await readImageManifest(open.folder)]
    expect(sealed.model.sealed, 'a sealed model', JSON.stringify(sealed.model))
    const digests = ({ artifacts }: ImageManifest): string =>
      artifacts.map(({ name, sha256 }) => (SHARED.includes(name) ? `${name} ${sha256}` : name)).join(', ')
    expect(digests(sealed) === digests(clear), `but for the model ${digests(clear)}`, digests(sealed))
    return `weights ${sealed.model.weights.slice(0, 16)}…, everything but the model disk as with one in the clear`
  })
  if (maker === undefined) return lane.skip('a sealed model in the booted image', 'it was not built')
  await bootAndRelease(lane, maker, folder, owner)
}

async function buildSealed(lock: ImageLock, folder: string, out: string, owner: OwnerFiles): Promise<void> {
  const publicFile = await writeOwnerKeys(folder, owner.ownerKey)
  const model = join(folder, 'model')
  await sealPackage(demo, model, owner.weightsKey)
  const choices = { modelOwnerKey: await loadPublicKey('--model-owner', publicFile) }
  await buildImage({ flavour: 'test', lock, out, model, choices })
}

/** Returns the file of the public key. */
async function writeOwnerKeys(folder: string, privateFile: string): Promise<string> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const publicFile = join(folder, `${basename(privateFile)}.pub`)
  await writeFile(publicFile, publicKey.export({ type: 'spki', format: 'pem' }))
  await writeFile(privateFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  return publicFile
}

async function bootAndRelease(lane: Lane, maker: GuestMaker, folder: string, owner: OwnerFiles): Promise<void> {
  const manifest = await readImageManifest(maker.folder)
  const imageDigest = toHex(imageDigestOf((await bootFilesOf(maker.folder)).commandLine))
  const hostItems = await writeHostItems(folder, await readHostConfiguration(maker.folder, manifest))
  const relay = await startHostRelay(folder, join(repository, 'releases', 'index.note'))
  const capture = join(folder, 'network.pcap')
  await withGuest(maker.start('sealed', { hostItems, capture, ...relay.changes }), async (guest) => {
    const booted = { guest, model: manifest.model, imageDigest, folder }
    const locked = await lane.check('sealed model: the booted worker attests, and refuses chats', async () => {
      await untilAnswering(guest)
      await expectLocked(booted)
      return '503 model_locked, inside the encryption'
    })
    if (!locked) return
    await checkRefusals(lane, booted, owner)
    await lane.check(
      'sealed model: subrosa model release verifies the booted worker, and its chats are answered',
      async () => {
        const said = await release(booted, owner)
        expect(said.startsWith('released'), 'released', said)
        const { status } = await ask(guest, '/readyz')
        expect(status === 200, '/readyz 200', String(status))
        const answer = await chat(booted)
        expect(answer.status === 200 && answer.text.includes('"choices"'), 'a completion', JSON.stringify(answer))
        return 'answered with the weights that the key opened'
      },
    )
    await lane.check('sealed model: its key is neither on the console nor in the traffic nor on a disk', async () => {
      const key = /AGE-SECRET-KEY-\S+/.exec(await readFile(owner.weightsKey, 'utf8'))?.[0] ?? ''
      expect(key !== '', 'a weights key', 'none')
      const files = [
        join(folder, 'sealed.serial'),
        capture,
        join(maker.folder, 'root.img'),
        join(maker.folder, 'model.img'),
      ]
      for (const file of files) expect(!(await fileIncludes(file, key)), `no weights key in ${file}`, 'it')
      const { size } = await stat(capture)
      expect(size > 10_000, 'a capture of the release’s traffic', `${size} bytes`)
      return `${files.length} files, ${size} bytes of traffic among them`
    })
  }).finally(() => relay.close())
}

/** Each leaves the worker as it was: locked. */
async function checkRefusals(lane: Lane, booted: Booted, owner: OwnerFiles): Promise<void> {
  const stranger = join(booted.folder, 'stranger.pem')
  await writeOwnerKeys(booted.folder, stranger)
  const otherKey = join(booted.folder, 'other-weights.key')
  await sealPackage(demo, join(booted.folder, 'other-model'), otherKey)
  const otherModel = { ...booted.model, weights: 'ab'.repeat(32) }
  const cases = [
    ['the word of somebody who is not the owner', booted, { ...owner, ownerKey: stranger }, 'release.refused'],
    ['a key that opens other files', booted, { ...owner, weightsKey: otherKey }, 'release.refused'],
    // The owner's side refuses this one: the key never leaves it.
    ['an owner whose policy names another model', { ...booted, model: otherModel }, owner, 'client.not-trusted'],
  ] as const
  for (const [what, target, files, code] of cases) {
    await lane.check(`sealed model: ${what} opens nothing`, async () => {
      const got = await release(target, files).catch((error: unknown) => {
        if (error instanceof SubrosaError) return error.code
        throw error
      })
      expect(got === code, code, got)
      await expectLocked(booted)
      return code
    })
  }
}

async function expectLocked(booted: Booted): Promise<void> {
  const { status } = await ask(booted.guest, '/readyz')
  expect(status === 503, '/readyz 503', String(status))
  const refusal = await chat(booted)
  expect(
    refusal.status === 503 && refusal.text.includes('"model_locked"'),
    '503 model_locked',
    `${refusal.status} ${refusal.text.slice(0, 200)}`,
  )
}

async function chat({ guest, model, imageDigest }: Booted): Promise<Answer> {
  const session = await connect(guest.url, { policy: await policyOf(guest, model, imageDigest) })
  try {
    return await completion(session, model, QUESTION)
  } finally {
    session.close()
  }
}

/** What the command printed. @throws SubrosaError as `runRelease`. */
async function release({ guest, model, imageDigest, folder }: Booted, files: OwnerFiles): Promise<string> {
  const policy = join(folder, 'policy.json')
  await writeFile(policy, JSON.stringify(await policyOf(guest, model, imageDigest)))
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  await runRelease(guest.url, { ...files, policy }, { stdout, stderr })
  return String(stdout.read() ?? '')
}
