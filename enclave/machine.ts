/**
 * The real machine a worker serves on: its CPU's evidence, its GPUs once they passed the gate, and endorsements from relays on
 * the host. In this order: the GPUs' gate needs endorsements, and relays are asked about the whole machine only when it is one.
 */
import { MEDIA_TYPE_SNP_REPORT, MEDIA_TYPE_TDX_QUOTE } from '../verifier/protocol/constants.js'
import type { EndorsementQuestion } from '../verifier/protocol/endorsement-exchange.js'
import { withGpus } from './gpus.js'
import { errorCode, type Logger } from './log.js'
import { detectPlatform } from './platforms/detect.js'
import { REPORT_DATA_BYTES } from './platforms/evidence-fields.js'
import { type Nvml, type NvmlOptions, openNvml } from './platforms/nvml.js'
import type { Platform } from './platforms/platform.js'
import { parseRelayAddress } from './relay-stream.js'
import { createStapler, mergeStapled } from './stapler.js'

const GPU_NONCE_BYTES = 32

export interface MachineOptions {
  /** Asked in this order; none means that only what the machine has itself is stapled. */
  readonly relays: readonly string[]
  readonly now: () => Date
  readonly log: Logger
  /** In the place of the driver's own call, which takes a privilege; see `NvmlOptions.setReady`. */
  readonly setReady?: NvmlOptions['setReady']
  /** In the place of this machine's; for tests. */
  readonly detect?: () => Promise<Platform>
  readonly openGpus?: () => Promise<Nvml | undefined>
  readonly admit?: typeof withGpus
}

export interface Machine {
  readonly platform: Platform
  close(): Promise<void>
}

/** @throws WorkerError `worker.no-tee`, `worker.platform`, `worker.gpu`, `worker.option`; nothing is left running then */
export async function openMachine(options: MachineOptions): Promise<Machine> {
  const { now, log, detect = detectPlatform, setReady, admit = withGpus } = options
  const { openGpus = () => openNvml(setReady === undefined ? {} : { setReady }) } = options
  const relays = options.relays.map(parseRelayAddress)
  let platform = await detect()
  const stapler = createStapler({
    relays,
    evidence: () => evidenceOf(platform),
    onRound(count, missing, error) {
      if (error !== undefined) return log.error('endorsements.failed', { code: errorCode(error) })
      log.info('endorsements.renewed', { count })
      if (missing > 0) log.error('endorsements.missing', { count: missing })
    },
  })
  const nvml = await openGpus()
  if (nvml !== undefined) {
    const endorsementsFor = (gpus: EndorsementQuestion['gpus']) => stapler.ask({ gpus, switches: [] })
    platform = await admit(platform, { nvml, endorsementsFor, now })
    log.info('gpus.admitted', { count: nvml.count })
  }
  const own = platform
  stapler.start()
  return {
    platform: { ...own, endorsements: async () => mergeStapled(await own.endorsements(), stapler.current()) },
    async close() {
      stapler.close()
      await nvml?.close().catch(() => undefined)
    },
  }
}

/** Evidence over random bytes: what a service is asked is which machine, not what it says. */
async function evidenceOf(platform: Platform): Promise<EndorsementQuestion> {
  const random = (length: number) => crypto.getRandomValues(new Uint8Array(length))
  const type = platform.kind === 'snp' ? MEDIA_TYPE_SNP_REPORT : MEDIA_TYPE_TDX_QUOTE
  const evidence = await platform.attest(random(REPORT_DATA_BYTES))
  return { cpu: { type, evidence }, ...(await platform.attestDevices(random(GPU_NONCE_BYTES))) }
}
