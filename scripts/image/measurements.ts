/**
 * Launch digests of a built image, computed from its files: reference values for a policy, and what a release manifest needs.
 * Developer and test images give values to try things out with; a release manifest is refused for them.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { parseFirmware } from '../../verifier/measure/firmware.js'
import type { BootFiles } from '../../verifier/measure/kernel-hashes.js'
import { requireEnforcement } from '../../verifier/measure/known-firmware.js'
import { rtmr1, rtmr2 } from '../../verifier/measure/rtmr.js'
import { sevFacts, snpLaunchDigest } from '../../verifier/measure/snp-digest.js'
import { vcpuSignature } from '../../verifier/measure/vmsa.js'
import { toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { type ReleaseManifest, releaseText } from '../../verifier/release/manifest.js'
import type { ImageManifest } from './build.js'
import { ImageError } from './command.js'
import { hostConfigurationFor } from './host-configuration.js'
import type { Flavour } from './places.js'

export interface ImageMeasurements {
  readonly schema: 'subrosa-image-measurements/1'
  readonly flavour: Flavour
  readonly note: string
  /** SHA-256 of the image's manifest. */
  readonly imageDigest: string
  /** The SNP chain before the first vCPU: the same for every shape, 48 bytes. */
  readonly beforeVcpus: string
  readonly snp: readonly { readonly vcpus: number; readonly vcpuType: string; readonly digest: string }[]
  /** What a TD that boots these files directly has; MRTD and RTMR0 depend on its firmware and its VMM. */
  readonly tdx: { readonly rtmr1: string; readonly rtmr2: string }
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

/** @throws ImageError when there is no image in the folder; UsageError for a firmware that does not enforce hashes. */
export async function measureImage(folder: string, modelFolder: string): Promise<ImageMeasurements> {
  const manifestBytes = await read(folder, 'manifest.json')
  const manifest = JSON.parse(manifestBytes.toString('utf8')) as ImageManifest
  await expectArtifacts(folder, manifest)
  const boot = await bootFilesOf(folder)
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
  const { hostDataHex, mrConfigIdHex, model } = await hostConfigurationFor(modelFolder)
  return {
    schema: 'subrosa-image-measurements/1',
    flavour: manifest.flavour,
    note: manifest.note,
    imageDigest: createHash('sha256').update(manifestBytes).digest('hex'),
    beforeVcpus: toHex((launches[0] as (typeof launches)[number]).beforeVcpus),
    snp: launches.map(({ vcpus, vcpuType, measurement }) => ({ vcpus, vcpuType, digest: toHex(measurement) })),
    tdx: { rtmr1: toHex(rtmr1(boot.kernel)), rtmr2: toHex(rtmr2(boot, 'prefix')) },
    hostConfiguration: { hostData: hostDataHex, mrConfigId: mrConfigIdHex },
    models: [{ id: model.id, weights: toHex(model.weightsRoot) }],
  }
}

/** A policy's `measurements`, with what they are worth on every line. */
export function policyText({ snp, flavour }: ImageMeasurements): string {
  const entries = snp.map(({ vcpus, vcpuType, digest }) => ({
    digest,
    name: `${flavour} image, ${vcpus} x ${vcpuType}`,
  }))
  return stringify({ measurements: entries }, { lineWidth: 0 })
}

export interface ReleaseFacts {
  readonly version: string
  readonly date: string
  readonly revision: string
}

/** @throws ImageError for every flavour there is today: none has a kernel that a release may name. */
export function releaseManifestText(measured: ImageMeasurements, { version, date, revision }: ReleaseFacts): string {
  if (measured.flavour === 'developer' || measured.flavour === 'test') {
    throw new ImageError(
      `a release manifest was asked for the ${measured.flavour} image: ${measured.note}; only an image whose kernel denies AML access to private memory may be released, and there is none yet`,
    )
  }
  return releaseText({
    schema: 'subrosa-release/1',
    version,
    date,
    source: { revision },
    image: { digest: measured.imageDigest },
    launch: measured.snp.map((launch) => ({ platform: 'snp', ...launch })),
    models: measured.models,
  })
}

async function expectArtifacts(folder: string, { artifacts }: ImageManifest): Promise<void> {
  for (const { name, sha256 } of artifacts) {
    const actual = createHash('sha256')
      .update(await read(folder, name))
      .digest('hex')
    if (actual !== sha256) {
      throw new ImageError(`${join(folder, name)}: expected SHA-256 ${sha256}, got ${actual}; build the image again`)
    }
  }
}

async function read(folder: string, name: string): Promise<Buffer> {
  return readFile(join(folder, name)).catch((cause: unknown) => {
    throw new ImageError(`${join(folder, name)}: not there; npm run image builds it`, { cause })
  })
}
