/**
 * How the GPUs and NVSwitches of a protected-PCIe board hang together. What each side lists as its neighbours is compared
 * with identities the boot ROM certificates carry, not with what the neighbours say of themselves.
 */
import { type Finding, fail, pass, type Transcript } from '../checks.js'
import { equalBytes, isZero, toHex } from '../protocol/bytes.js'
import { modesOf } from './appraise.js'
import { asNamed, type Device } from './device-verify.js'
import { judgeEach } from './each.js'

const GPUS = 8
const SWITCHES = 4

/** Carries out `gpu.topology.*`. */
export async function checkTopology(
  t: Transcript,
  gpus: readonly Device[],
  switches: readonly Device[],
): Promise<void> {
  t.check('gpu.topology.nonce', () => {
    const [first] = gpus
    const [other] = switches
    if (first === undefined || other === undefined) return fail('a side is missing')
    return equalBytes(first.report.request.nonce, other.report.request.nonce)
      ? pass()
      : fail('the NVSwitches answer another challenge than the GPUs')
  })
  t.check('gpu.topology.count', () => {
    const protectedGpus = modesOf(gpus).filter((mode) => mode === 'ppcie').length
    const detail = {
      expected: `${GPUS} GPUs in protected-PCIe mode, ${SWITCHES} NVSwitches`,
      actual: `${protectedGpus} of ${gpus.length} GPUs, ${switches.length} NVSwitches`,
    }
    const whole = gpus.length === GPUS && protectedGpus === GPUS && switches.length === SWITCHES
    return whole ? pass(undefined, detail) : fail('this is not a whole board', detail)
  })
  await t.checkAsync('gpu.topology.identity', () =>
    judgeEach(switches.map(asNamed), (device) => {
      const actual = device.fields?.kind === 'switch' ? toHex(device.fields.pdi) : 'none'
      const expected = certifiedPdi(device) ?? 'none'
      return actual === expected && expected !== 'none'
        ? pass()
        : fail('the switch names itself otherwise than its certificate', { expected, actual })
    }),
  )
  const switchPdis = identities(switches)
  await t.checkAsync('gpu.topology.gpu-links', () =>
    judgeEach(gpus.map(asNamed), ({ fields }) =>
      // A GPU lists its switches with the bytes of each identity reversed.
      judgeLinks(
        fields?.kind === 'gpu' ? fields.switchPdis.map((pdi) => pdi.slice().reverse()) : [],
        switchPdis,
        'NVSwitches',
      ),
    ),
  )
  const gpuPdis = identities(gpus)
  await t.checkAsync('gpu.topology.switch-links', () =>
    judgeEach(switches.map(asNamed), ({ fields }) =>
      judgeLinks(fields?.kind === 'switch' ? fields.gpuPdis : [], gpuPdis, 'GPUs'),
    ),
  )
}

/** The identities listed, disabled links aside, must be exactly the certified ones. */
function judgeLinks(listed: readonly Uint8Array[], certified: ReadonlySet<string>, what: string): Finding {
  const found = new Set(listed.filter((pdi) => !isZero(pdi)).map(toHex))
  const detail = { expected: [...certified].sort().join(' '), actual: [...found].sort().join(' ') }
  return detail.expected !== '' && detail.expected === detail.actual
    ? pass()
    : fail(`linked to other ${what} than the attested ones`, detail)
}

function identities(devices: readonly Device[]): ReadonlySet<string> {
  return new Set(devices.flatMap((device) => certifiedPdi(device) ?? []))
}

/** A boot ROM certificate's serial number is one byte of family and the device's eight-byte identity. */
function certifiedPdi({ chain }: Device): string | undefined {
  const serial = chain?.[1]?.serialHex
  return serial === undefined || serial.length < 18 ? undefined : serial.slice(-16)
}
