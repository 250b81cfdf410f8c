/**
 * Launch digests of a built image, computed from its files: reference values for a policy, and what a release manifest needs.
 * Developer and test images give values to try things out with; a release manifest is refused for them, and so is a kernel that
 * is not our own in what calls itself production.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { imageDigestOf } from '../../enclave/image.js'
import { parseFirmware } from '../../verifier/measure/firmware.js'
import type { BootFiles } from '../../verifier/measure/kernel-hashes.js'
import { requireEnforcement } from '../../verifier/measure/known-firmware.js'
import { computeMrTd } from '../../verifier/measure/mrtd.js'
import { rtmr1, rtmr2 } from '../../verifier/measure/rtmr.js'
import { sevFacts, snpLaunchDigest } from '../../verifier/measure/snp-digest.js'
import { parseUki, ukiRtmr1, ukiRtmr2 } from '../../verifier/measure/uki.js'
import { vcpuSignature } from '../../verifier/measure/vmsa.js'
import { toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { type ReleaseManifest, releaseText } from '../../verifier/release/manifest.js'
import { ImageError } from './command.js'
import { fileDigest } from './digest.js'
import { type HostConfigurationFile, readHostConfiguration } from './host-configuration.js'
import { KERNELS, requireOwnKernel } from './kernel.js'
import { type ImageManifest, readImageManifest } from './manifest.js'
import { type Flavour, howToBuild } from './places.js'

export interface TdxLaunch {
  /** What `-kernel` is given. */
  readonly boot: 'vmlinuz' | 'uki.efi'
  readonly vmm: string
  readonly mrTd: string
  readonly rtmr1: string
  readonly rtmr2: string
  readonly rtmr3: string
}

export interface ImageMeasurements {
  readonly schema: 'subrosa-image-measurements/1'
  readonly flavour: Flavour
  readonly note: string
  /** Root hash of the root file system: what the statements of its workers say. */
  readonly imageDigest: string
  /** The SNP chain before the first vCPU: the same for every shape, 48 bytes. */
  readonly beforeVcpus: string
  readonly snp: readonly { readonly vcpus: number; readonly vcpuType: string; readonly digest: string }[]
  /** A TD with these files; RTMR0, which depends on the VMM's ACPI tables, is not among them. */
  readonly tdx: readonly TdxLaunch[]
  readonly hostConfiguration: { readonly hostData: string; readonly mrConfigId: string }
  readonly models: ReleaseManifest['models']
}

const VCPU_COUNTS = [1, 2, 4, 8, 16, 32]
const VCPU_TYPES = ['EPYC-Milan', 'EPYC-Genoa', 'EPYC-Turin']
/** SEV_FEATURES with upstream QEMU and KVM. */
const GUEST_FEATURES = 1n

/** What QEMU is given with -kernel, -initrd and -append. */
export async function bootFilesOf(folder: string): Promise<BootFiles> {
  const [kernel, initrd, commandLine] = await Promise.all([
    read(folder, 'vmlinuz'),
    read(folder, 'initrd.cpio'),
    read(folder, 'cmdline'),
  ])
  return { kernel, initrd, commandLine: commandLine.toString('utf8') }
}

/**
 * With the host configuration given, or the one that lies beside the image. Writes nothing.
 * @throws ImageError when there is no image in the folder; UsageError for a firmware that does not enforce hashes.
 */
export async function measureImage(folder: string, configuration?: HostConfigurationFile): Promise<ImageMeasurements> {
  const manifest = await readImageManifest(folder)
  await expectArtifacts(folder, manifest)
  const boot = await bootFilesOf(folder)
  const kernel = KERNELS[manifest.flavour]
  if (kernel !== undefined) requireOwnKernel(boot.kernel, kernel)
  const file = parseFirmware(toBytes(new Uint8Array(await read(folder, 'OVMF.amdsev.fd'))))
  requireEnforcement(file, 'refused')
  const firmware = sevFacts(file)
  const launches = VCPU_TYPES.flatMap((vcpuType) =>
    VCPU_COUNTS.map((vcpus) => ({
      vcpus,
      vcpuType,
      ...snpLaunchDigest({
        firmware,
        boot,
        hypervisor: 'qemu',
        vcpus,
        signature: vcpuSignature(vcpuType),
        guestFeatures: GUEST_FEATURES,
      }),
    })),
  )
  const { hostDataHex, mrConfigIdHex } = configuration ?? (await readHostConfiguration(folder, manifest))
  const { id, weights, manifest: manifestDigest } = manifest.model
  return {
    schema: 'subrosa-image-measurements/1',
    flavour: manifest.flavour,
    note: manifest.note,
    imageDigest: toHex(imageDigestOf(boot.commandLine)),
    beforeVcpus: toHex((launches[0] as (typeof launches)[number]).beforeVcpus),
    snp: launches.map(({ vcpus, vcpuType, measurement }) => ({ vcpus, vcpuType, digest: toHex(measurement) })),
    tdx: await tdxLaunches(folder, boot),
    hostConfiguration: { hostData: hostDataHex, mrConfigId: mrConfigIdHex },
    models: [{ id, weights, manifest: manifestDigest }],
  }
}

/** QEMU from which on the pages of a TD are added and measured one by one, and the kernel's header is left alone. */
const TDX_VMM = 'QEMU 10.2 or later'

async function tdxLaunches(folder: string, boot: BootFiles): Promise<readonly TdxLaunch[]> {
  const firmware = parseFirmware(toBytes(new Uint8Array(await read(folder, 'OVMF.tdx.fd'))))
  const uki = parseUki(await read(folder, 'uki.efi'))
  if (uki === undefined) throw new ImageError(`${join(folder, 'uki.efi')}: expected a unified kernel image`)
  // What a workload extends later is its own to publish.
  const common = { vmm: TDX_VMM, mrTd: toHex(computeMrTd(firmware, 'single-pass')), rtmr3: '00'.repeat(48) }
  return [
    { boot: 'vmlinuz', ...common, rtmr1: toHex(rtmr1(boot.kernel)), rtmr2: toHex(rtmr2(boot, 'prefix')) },
    { boot: 'uki.efi', ...common, rtmr1: toHex(ukiRtmr1(uki)), rtmr2: toHex(ukiRtmr2(uki)) },
  ]
}

/** A policy's `measurements`, with what they are worth on every line. */
export function policyText({ snp, tdx, flavour }: ImageMeasurements): string {
  const entries = [
    ...snp.map(({ vcpus, vcpuType, digest }) => ({ digest, name: `${flavour} image, ${vcpus} x ${vcpuType}` })),
    ...tdx.map(({ boot, vmm, ...registers }) => ({ ...registers, name: `${flavour} image, TDX, ${boot}, ${vmm}` })),
  ]
  return stringify({ measurements: entries }, { lineWidth: 0 })
}

export interface ReleaseFacts {
  readonly version: string
  readonly date: string
  readonly revision: string
}

/** @throws ImageError for every flavour but production: only its kernel is one a release may name. */
export function releaseManifestText(measured: ImageMeasurements, { version, date, revision }: ReleaseFacts): string {
  if (measured.flavour !== 'production') {
    throw new ImageError(
      `a release manifest was asked for the ${measured.flavour} image: ${measured.note}; only the production image may be released: npm run image -- measure --flavour production --format release`,
    )
  }
  return releaseText({
    schema: 'subrosa-release/1',
    version,
    date,
    source: { revision },
    image: { digest: measured.imageDigest },
    launch: [
      ...measured.snp.map((launch) => ({ platform: 'snp' as const, ...launch })),
      ...measured.tdx.map(({ boot, vmm, ...registers }) => ({
        platform: 'tdx' as const,
        vmm: `${vmm}, ${boot}`,
        ...registers,
      })),
    ],
    models: measured.models,
  })
}

async function expectArtifacts(folder: string, { artifacts }: ImageManifest): Promise<void> {
  for (const { name, sha256 } of artifacts) {
    const actual = await fileDigest(join(folder, name)).catch((cause: unknown) => notThere(folder, name, cause))
    if (actual !== sha256) {
      throw new ImageError(`${join(folder, name)}: expected SHA-256 ${sha256}, got ${actual}; build the image again`)
    }
  }
}

async function read(folder: string, name: string): Promise<Buffer> {
  return readFile(join(folder, name)).catch((cause: unknown) => notThere(folder, name, cause))
}

function notThere(folder: string, name: string, cause: unknown): never {
  throw new ImageError(`${join(folder, name)}: not there; ${howToBuild(folder)}`, { cause })
}
