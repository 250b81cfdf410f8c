/**
 * Boots with a software TPM: what firmware, stub and kernel measured into it is what the launch digests of TDX were computed
 * from. A TD has registers instead of PCRs, with the same events in them: 2 to 6 are RTMR1, 8 to 15 RTMR2.
 */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { type GuestMaker, untilAnswering, withGuest } from './guests.js'
import { expect, type Lane } from './lane.js'
import { type ImageMeasurements, measureImage } from './measurements.js'
import type { RunningGuest } from './qemu.js'
import { type PcrEvent, startTpm } from './tpm.js'

const SEPARATOR = createHash('sha384').update(Buffer.alloc(4)).digest()

export async function bootTpm(lane: Lane, maker: GuestMaker, qemu: string, scratch: string): Promise<void> {
  const { tdx } = await measureImage(maker.folder)
  for (const { boot, rtmr1, rtmr2 } of tdx) {
    await lane.check(`TPM: what a boot of ${boot} measures is what was computed from the files`, async () => {
      const { events, ms } = await measuredBoot(maker, qemu, scratch, boot)
      const replayed = { rtmr1: registerOf(events, 2, 6), rtmr2: registerOf(events, 8, 15) }
      expect(replayed.rtmr1 === rtmr1, `PCR 2 to 6 as RTMR1 ${rtmr1}`, replayed.rtmr1)
      expect(replayed.rtmr2 === rtmr2, `PCR 8 to 15 as RTMR2 ${rtmr2}`, replayed.rtmr2)
      const pcrs = [...new Set(events.map(({ pcr }) => pcr))].sort((a, b) => a - b)
      return `${events.length} events in PCR ${pcrs.join(', ')}; answers after ${(ms / 1000).toFixed(1)} s`
    })
  }
}

async function measuredBoot(
  maker: GuestMaker,
  qemu: string,
  scratch: string,
  boot: ImageMeasurements['tdx'][number]['boot'],
): Promise<{ readonly events: readonly PcrEvent[]; readonly ms: number }> {
  const tpm = await startTpm(qemu, join(scratch, `tpm-${boot}`))
  try {
    const changes = { firmware: { file: join(maker.folder, 'OVMF.tdx.fd') }, tpm: tpm.socket }
    const name = `tpm-${boot}-guest`
    const starting: Promise<RunningGuest> =
      boot === 'uki.efi' ? maker.startUnified(name, changes) : maker.start(name, changes)
    const ms = await withGuest(starting, untilAnswering)
    return { events: await tpm.events(), ms }
  } finally {
    await tpm.stop()
  }
}

/** PCRs `from` to `to` as one register. A TPM gets a separator for each PCR, a TD one for the register. */
function registerOf(events: readonly PcrEvent[], from: number, to: number): string {
  let separated = false
  let register = Buffer.alloc(48)
  for (const { pcr, digest } of events) {
    if (pcr < from || pcr > to) continue
    if (digest.equals(SEPARATOR)) {
      if (separated) continue
      separated = true
    }
    register = createHash('sha384').update(register).update(digest).digest()
  }
  return register.toString('hex')
}
