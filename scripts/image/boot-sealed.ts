/**
 * A boot of the test flavour with a sealed model on its disk: a SIMULATED machine that answers no chat until the model's owner
 * has verified it and released the key, by the command that owners use.
 */
import { generateKeyPairSync } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { connect } from '../../client/index.js'
import { runRelease } from '../../client/model-release.js'
import { sealPackage } from '../../enclave/cli-model.js'
import { imageDigestOf } from '../../enclave/image.js'
import { loadPublicKey } from '../../enclave/public-key.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { completion, policyOf, writeHostItems } from './boot-test.js'
import { buildImage } from './build.js'
import { ask, createGuestMaker, type GuestMaker, untilAnswering, withGuest } from './guests.js'
import { readHostConfiguration } from './host-configuration.js'
import { startHostRelay } from './host-relay.js'
import { expect, type Lane } from './lane.js'
import type { ImageLock } from './lock.js'
import { type HeldModel, readImageManifest } from './manifest.js'
import { bootFilesOf } from './measurements.js'
import { repository } from './places.js'
import type { RunningGuest } from './qemu.js'

const QUESTION = 'What is the capital of Japan?'

interface OwnerFiles {
  readonly weightsKey: string
  readonly ownerKey: string
}

export async function bootSealed(lane: Lane, qemu: string, lock: ImageLock, scratch: string): Promise<void> {
  const folder = join(scratch, 'sealed')
  await mkdir(folder, { recursive: true })
  const owner: OwnerFiles = { weightsKey: join(folder, 'weights.key'), ownerKey: join(folder, 'owner.pem') }
  let maker: GuestMaker | undefined
  await lane.check('test image with a sealed model builds, and names its owner', async () => {
    const out = join(folder, 'image')
    await buildSealed(lock, folder, out, owner)
    maker = await createGuestMaker(qemu, out, folder)
    const { model } = await readImageManifest(out)
    expect(model.sealed, 'a sealed model', JSON.stringify(model))
    return `weights ${model.weights.slice(0, 16)}…, as in the clear`
  })
  if (maker === undefined) return lane.skip('a sealed model in the booted image', 'it was not built')
  await bootAndRelease(lane, maker, folder, owner)
}

async function buildSealed(lock: ImageLock, folder: string, out: string, owner: OwnerFiles): Promise<void> {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const publicFile = join(folder, 'owner.pub')
  await writeFile(publicFile, publicKey.export({ type: 'spki', format: 'pem' }))
  await writeFile(owner.ownerKey, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  const model = join(folder, 'model')
  await sealPackage(join(repository, 'enclave', 'models', 'demo'), model, owner.weightsKey)
  const choices = { modelOwnerKey: await loadPublicKey('--model-owner', publicFile) }
  await buildImage({ flavour: 'test', lock, out, model, choices })
}

async function bootAndRelease(lane: Lane, maker: GuestMaker, scratch: string, owner: OwnerFiles): Promise<void> {
  const manifest = await readImageManifest(maker.folder)
  const imageDigest = toHex(imageDigestOf((await bootFilesOf(maker.folder)).commandLine))
  const hostItems = await writeHostItems(scratch, await readHostConfiguration(maker.folder, manifest))
  const relay = await startHostRelay(scratch, join(repository, 'releases', 'index.note'))
  const capture = join(scratch, 'network.pcap')
  await withGuest(maker.start('sealed', { hostItems, capture, ...relay.changes }), async (guest) => {
    const locked = await lane.check(
      'sealed model: the booted worker attests, and refuses chats until the release',
      async () => {
        await untilAnswering(guest)
        const { status } = await ask(guest, '/readyz')
        expect(status === 503, '/readyz 503', String(status))
        const refusal = await chat(guest, manifest.model, imageDigest)
        expect(
          refusal.status === 503 && refusal.text.includes('"model_locked"'),
          '503 model_locked',
          `${refusal.status} ${refusal.text.slice(0, 200)}`,
        )
        return '503 model_locked, inside the encryption'
      },
    )
    if (!locked) return
    await lane.check(
      'sealed model: subrosa model release verifies the booted worker, and its chats are answered',
      async () => {
        await release(guest, manifest.model, imageDigest, scratch, owner)
        const { status } = await ask(guest, '/readyz')
        expect(status === 200, '/readyz 200', String(status))
        const answer = await chat(guest, manifest.model, imageDigest)
        expect(answer.status === 200 && answer.text.includes('"choices"'), 'a completion', JSON.stringify(answer))
        return 'answered with the weights that the key opened'
      },
    )
    await lane.check('sealed model: its key is neither on the console nor in the traffic nor on a disk', async () => {
      const key = /AGE-SECRET-KEY-\S+/.exec(await readFile(owner.weightsKey, 'utf8'))?.[0] ?? ''
      expect(key !== '', 'a weights key', 'none')
      const files = [
        join(scratch, 'sealed.serial'),
        capture,
        join(maker.folder, 'root.img'),
        join(maker.folder, 'model.img'),
      ]
      for (const file of files) expect(!(await readFile(file)).includes(key), `no weights key in ${file}`, 'it')
      return `${files.length} files`
    })
  }).finally(() => relay.close())
}

async function chat(guest: RunningGuest, model: HeldModel, imageDigest: string) {
  const session = await connect(guest.url, { policy: await policyOf(guest, model, imageDigest) })
  try {
    return await completion(session, model, QUESTION)
  } finally {
    session.close()
  }
}

async function release(
  guest: RunningGuest,
  model: HeldModel,
  imageDigest: string,
  scratch: string,
  owner: OwnerFiles,
): Promise<void> {
  const policy = join(scratch, 'policy.json')
  await writeFile(policy, JSON.stringify(await policyOf(guest, model, imageDigest)))
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const status = await runRelease(guest.url, { ...owner, policy }, { stdout, stderr })
  const said = String(stdout.read() ?? '')
  expect(status === 0 && said.startsWith('released'), 'released', `${status} ${said}${String(stderr.read() ?? '')}`)
}
