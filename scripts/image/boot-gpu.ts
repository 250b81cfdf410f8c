/**
 * Boots of the GPU flavour on a machine without a GPU, the only kind there was: the kernel takes NVIDIA's modules of this build and
 * no others, they find nothing, and the worker refuses and says so. What a GPU would do next was never seen.
 */
import { bootPlain } from './boot-plain.js'
import { block, checkProbe } from './boot-test.js'
import { ask, type GuestMaker, untilAnswering, withGuest } from './guests.js'
import { expect, type Lane } from './lane.js'

/** In this order: what init says, and between it what the kernel and the driver say. */
const CONSOLE: readonly string[] = [
  'SIMULATED flavour',
  'its digest is not built in',
  'subrosa: an altered module was refused',
  'NVRM: No NVIDIA GPU found',
  'subrosa: no GPU',
  'subrosa: no module is taken any more',
  'subrosa: worker started',
]

/** nvmlReturn_t NVML_ERROR_DRIVER_NOT_LOADED. */
const DRIVER_NOT_LOADED = '9'

/** `test` has the driver as it is, and a SIMULATED CPU, so that the worker gets as far as its GPU. */
export async function bootGpu(lane: Lane, gpu: GuestMaker, test: GuestMaker): Promise<void> {
  await bootPlain(lane, gpu, 'gpu')
  await withGuest(test.start('gpu-test'), async (guest) => {
    const up = await lane.check('GPU flavour without a GPU: the worker refuses to serve, and says why', async () => {
      const ms = await untilAnswering(guest)
      const { status, text } = await ask(guest, '/readyz')
      expect(status === 503 && text.includes('"worker.gpu"'), '503 worker.gpu', `${status} ${text}`)
      return `answers after ${(ms / 1000).toFixed(1)} s: ${text}`
    })
    if (!up) return
    await lane.check(
      'the kernel takes a module with an altered bit at no time, and any other at none after boot',
      async () => {
        const text = await guest.serialText()
        let at = 0
        for (const words of CONSOLE) {
          const found = text.indexOf(words, at)
          expect(found >= 0, `${JSON.stringify(words)} next on the console`, text.slice(at, at + 600))
          at = found
        }
        return 'EKEYREJECTED for the one, EPERM for the other; NVIDIA’s own module ran and found no GPU'
      },
    )
    await lane.check(
      'the keeper of the ready state answers the worker, through the descriptor that init left it',
      async () => {
        const code = await block(guest, 'KEEPER')
        expect(code === DRIVER_NOT_LOADED, `${DRIVER_NOT_LOADED}, the driver is not loaded`, code)
        return `code ${code}: the driver is not loaded`
      },
    )
    await lane.check(
      'in the guest: no module left, no GPU device, no shell, no setuid, one writable folder, one port',
      () => checkProbe(guest),
    )
  })
}
