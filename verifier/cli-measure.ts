/**
 * `verify-attestation measure snp|tdx`: launch digests from the files that are launched, so that reference values can be
 * computed instead of copied from a report. Node only.
 */
import { type Command, InvalidArgumentError, Option } from 'commander'
import { stringify } from 'yaml'
import { UsageError } from './errors.js'
import { loadFile } from './files.js'
import { type FirmwareFile, parseFirmware } from './measure/firmware.js'
import type { BootFiles } from './measure/kernel-hashes.js'
import { requireEnforcement } from './measure/known-firmware.js'
import { computeMrTd, type PassOrder } from './measure/mrtd.js'
import { type InitrdArgument, rtmr1, rtmr2 } from './measure/rtmr.js'
import { asLoadedByQemu } from './measure/setup-header.js'
import { MAX_VCPUS, sevFacts, snpLaunchDigest } from './measure/snp-digest.js'
import { parseUki, ukiRtmr1, ukiRtmr2 } from './measure/uki.js'
import { type Hypervisor, VCPU_TYPES, vcpuSignature } from './measure/vmsa.js'
import type { Output } from './print.js'
import { type Bytes, toHex } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'

export const MEASURE_SCHEMA = 'subrosa-launch-measurements/1'

interface BootFlags {
  readonly firmware: string
  readonly kernel?: string
  readonly initrd?: string
  readonly append?: string
  readonly format: 'text' | 'json' | 'policy'
}

interface SnpFlags extends BootFlags {
  readonly vcpus: readonly number[]
  readonly vcpuType: string
  readonly guestFeatures: bigint
  readonly vmm: Hypervisor
  readonly unlistedFirmware?: boolean
}

interface TdxFlags extends BootFlags {
  readonly passes: PassOrder
  readonly initrdArgument: InitrdArgument
  readonly patchedMemory?: number
}

/** One set of values a policy can name, and what they are for. */
interface Measured {
  readonly platform: 'snp' | 'tdx'
  readonly name: string
  /** As a policy's `measurements` entry has them. */
  readonly values: Readonly<Record<string, string>>
  /** What else is worth publishing. */
  readonly also: Readonly<Record<string, string>>
}

const DEFAULT_COUNTS: readonly number[] = [1]
const MAX_KERNEL_BYTES = 256 * 1024 * 1024
const MAX_INITRD_BYTES = 2 * 1024 * 1024 * 1024 - 1

export function registerMeasure(program: Command, output: Output, done: (status: number) => void): void {
  const measure = program.command('measure').description('compute launch digests from the files that are launched')
  const snp = bootOptions(measure.command('snp').description('MEASUREMENT of an AMD SEV-SNP launch'))
    .addOption(
      new Option('--vcpus <n...>', 'number of vCPUs; several give one digest each')
        .argParser(parseCounts)
        .default(DEFAULT_COUNTS, '1'),
    )
    .option('--vcpu-type <model>', `QEMU’s vCPU model (${VCPU_TYPES.join(', ')})`, 'EPYC-Genoa')
    .addOption(
      new Option('--guest-features <hex>', 'SEV_FEATURES the host sets').argParser(parseFeatures).default(1n, '0x1'),
    )
    .addOption(new Option('--vmm <name>', 'who launches').choices(['qemu', 'ec2', 'gce']).default('qemu'))
    .option('--unlisted-firmware', 'take your word that this firmware enforces kernel hashes')
  snp.action(async (flags: SnpFlags) => done(await run(flags, output, measureSnp)))
  const tdx = bootOptions(measure.command('tdx').description('MRTD, RTMR1 and RTMR2 of an Intel TDX launch'))
    .addOption(
      new Option('--passes <order>', 'page order: QEMU 10.1 and later are single-pass')
        .choices(['single-pass', 'two-pass'])
        .default('single-pass'),
    )
    .addOption(
      new Option('--initrd-argument <where>', 'edk2 from 2025-05-26 on puts it in front')
        .choices(['prefix', 'suffix'])
        .default('prefix'),
    )
    .option('--patched-memory <MiB>', 'the VMM writes into the kernel header: its memory size', parseMebibytes)
  tdx.action(async (flags: TdxFlags) => done(await run(flags, output, measureTdx)))
}

function bootOptions(command: Command): Command {
  return command
    .requiredOption('--firmware <file>', 'firmware file, as launched')
    .option('--kernel <file>', 'kernel or unified kernel image, as given to the VMM')
    .option('--initrd <file>', 'initrd, as given to the VMM')
    .option('--append <text>', 'kernel command line')
    .addOption(
      new Option('--format <format>', 'how to print; policy is a policy’s measurements')
        .choices(['text', 'json', 'policy'])
        .default('text'),
    )
    .option('--verbose', 'show the stack of an unexpected error')
}

async function run<F extends BootFlags>(
  flags: F,
  output: Output,
  measure: (flags: F, firmware: FirmwareFile, boot: BootFiles | undefined) => readonly Measured[],
): Promise<number> {
  const boot = await loadBoot(flags)
  const bytes = await loadFile(flags.firmware, 'firmware', 64 * 1024 * 1024)
  try {
    const firmware = parseFirmware(bytes)
    output.stdout.write(render(measure(flags, firmware, boot), firmware, flags.format))
    return 0
  } catch (error) {
    // The files are the caller's own: what is wrong with them is a mistake in the call and no verdict on evidence.
    if (error instanceof FormatError) throw new UsageError(error.code, error.message, { cause: error })
    throw error
  }
}

async function loadBoot({ kernel, initrd, append }: BootFlags): Promise<BootFiles | undefined> {
  if (kernel === undefined) {
    if (initrd === undefined && append === undefined) return undefined
    throw new UsageError('measure.kernel', '--initrd and --append go with --kernel')
  }
  const image: Bytes = await loadFile(kernel, 'kernel', MAX_KERNEL_BYTES)
  const disk = initrd === undefined ? {} : { initrd: await loadFile(initrd, 'initrd', MAX_INITRD_BYTES) }
  return { kernel: image, commandLine: append ?? '', ...disk }
}

function measureSnp(flags: SnpFlags, file: FirmwareFile, boot: BootFiles | undefined): readonly Measured[] {
  const { vcpus, vcpuType, guestFeatures, vmm, unlistedFirmware } = flags
  if (boot !== undefined) requireEnforcement(file, unlistedFirmware === true ? 'allowed' : 'refused')
  const firmware = sevFacts(file)
  const signature = vcpuSignature(vcpuType)
  const launch = { firmware, hypervisor: vmm, signature, guestFeatures, ...(boot === undefined ? {} : { boot }) }
  return vcpus.map((count) => {
    const { beforeVcpus, measurement } = snpLaunchDigest({ ...launch, vcpus: count })
    const shape = `${count} x ${vmm === 'qemu' ? vcpuType : vmm}, features 0x${guestFeatures.toString(16)}`
    return {
      platform: 'snp',
      name: boot === undefined ? `firmware only, ${shape}` : shape,
      values: { digest: toHex(measurement) },
      also: { beforeVcpus: toHex(beforeVcpus), firmware: toHex(firmware.firmwareHash) },
    }
  })
}

function measureTdx(flags: TdxFlags, file: FirmwareFile, boot: BootFiles | undefined): readonly Measured[] {
  const { passes, initrdArgument, patchedMemory } = flags
  const mrTd = toHex(computeMrTd(file, passes))
  if (boot === undefined) return [{ platform: 'tdx', name: `firmware only, ${passes}`, values: { mrTd }, also: {} }]
  const { kernel, initrd, commandLine } = boot
  const uki = parseUki(kernel)
  if (uki !== undefined) {
    if (initrd !== undefined || commandLine !== '' || patchedMemory !== undefined) {
      throw new UsageError(
        'measure.uki',
        '--initrd, --append and --patched-memory do not go with a unified kernel image: it has its own, and no VMM writes into it',
      )
    }
    const registers = { rtmr1: toHex(ukiRtmr1(uki)), rtmr2: toHex(ukiRtmr2(uki)), rtmr3: '00'.repeat(48) }
    return [{ platform: 'tdx', name: `unified kernel image, ${passes}`, values: { mrTd, ...registers }, also: {} }]
  }
  const load = { memoryBytes: (patchedMemory ?? 0) * 1024 * 1024, initrdBytes: initrd?.length ?? 0 }
  const loaded = patchedMemory === undefined ? kernel : asLoadedByQemu(kernel, load)
  const values = {
    mrTd,
    rtmr1: toHex(rtmr1(loaded)),
    rtmr2: toHex(rtmr2(boot, initrdArgument)),
    // Zero after boot: what a workload extends later is its own to publish.
    rtmr3: '00'.repeat(48),
  }
  return [{ platform: 'tdx', name: `direct kernel boot, ${passes}`, values, also: {} }]
}

function render(all: readonly Measured[], { sha256Hex }: FirmwareFile, format: BootFlags['format']): string {
  if (format === 'json') {
    return `${JSON.stringify({ schema: MEASURE_SCHEMA, firmwareSha256: sha256Hex, launches: all }, null, 2)}\n`
  }
  if (format === 'policy') {
    if (all.some(({ name }) => name.startsWith('firmware only'))) {
      throw new UsageError(
        'measure.no-kernel',
        'a launch without --kernel names firmware and nothing that runs on it: it is no reference value for a policy',
      )
    }
    return stringify({ measurements: all.map(({ name, values }) => ({ ...values, name })) }, { lineWidth: 0 })
  }
  const blocks = all.map(({ name, values, also }) =>
    [
      name,
      ...[...Object.entries(values), ...Object.entries(also)].map(([key, value]) => `  ${key.padEnd(12)}${value}`),
    ].join('\n'),
  )
  return `firmware ${sha256Hex}\n\n${blocks.join('\n\n')}\n\n${footnote(all)}`
}

function footnote(all: readonly Measured[]): string {
  if (all.some(({ platform }) => platform === 'snp')) {
    return 'Covers firmware, kernel, initrd, command line and vCPUs; not disks, not the host’s ACPI tables.\n'
  }
  return 'RTMR0 depends on the host’s ACPI tables and is not computed: a policy that leaves it out accepts any.\n'
}

function parseCounts(text: string, before: unknown): number[] {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > MAX_VCPUS) {
    throw new InvalidArgumentError(`expected 1 to ${MAX_VCPUS}`)
  }
  // Commander hands over the default first.
  return Array.isArray(before) && before !== DEFAULT_COUNTS ? [...before, count] : [count]
}

function parseFeatures(text: string): bigint {
  if (!/^(0x)?[0-9a-fA-F]{1,16}$/.test(text)) throw new InvalidArgumentError('expected up to 16 hexadecimal digits')
  return BigInt(text.startsWith('0x') ? text : `0x${text}`)
}

function parseMebibytes(text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 64 || value > 16_777_216) {
    throw new InvalidArgumentError('expected a number of mebibytes from 64 on')
  }
  return value
}
