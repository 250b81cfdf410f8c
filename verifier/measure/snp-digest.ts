/**
 * The SEV-SNP launch digest from what is launched (AMD SEV-SNP ABI 56860 §8.17, SNP_LAUNCH_UPDATE "PAGE_INFO"): a chain of
 * SHA-384 over the pages that the hypervisor adds. Firmware first, then the firmware's metadata sections in file order, then
 * one VMSA page for each vCPU.
 *
 * The digest does not cover disks, ACPI tables, or the CPUID and secrets pages' contents.
 */
import { type Bytes, toBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha384 } from '../protocol/hash.js'
import { checkSevFirmware, type FirmwareFile, PAGE_BYTES, type SevFirmware, type SevSection } from './firmware.js'
import { type BootFiles, kernelHashTable } from './kernel-hashes.js'
import { BOOT_EIP, type Hypervisor, vmsaPage } from './vmsa.js'

/** What of a firmware the digest depends on; enough to compute it without the file. */
export interface SevFirmwareFacts extends SevFirmware {
  /** The chain after the firmware's own pages, 48 bytes. */
  readonly firmwareHash: Bytes
}

export interface SnpLaunch {
  readonly firmware: SevFirmwareFacts
  /** Absent: launched without a kernel, and the digest covers firmware only. */
  readonly boot?: BootFiles
  readonly hypervisor: Hypervisor
  readonly vcpus: number
  /** CPUID leaf 1 EAX of the vCPU model. */
  readonly signature: number
  readonly guestFeatures: bigint
}

export interface SnpDigest {
  /** The chain before the first VMSA page, 48 bytes: the same for every vCPU shape. */
  readonly beforeVcpus: Bytes
  /** MEASUREMENT in the report, 48 bytes. */
  readonly measurement: Bytes
}

const PAGE_TYPE = { normal: 1, vmsa: 2, zero: 3, unmeasured: 4, secrets: 5, cpuid: 6 } as const
type PageType = (typeof PAGE_TYPE)[keyof typeof PAGE_TYPE]

const PAGE_INFO_BYTES = 0x70
const DIGEST_BYTES = 48
const VMSA_GPA = 0xffff_ffff_f000n
export const MAX_VCPUS = 512

/** @throws FormatError when the file has no SEV metadata. */
export function sevFacts(file: FirmwareFile): SevFirmwareFacts {
  if (file.sev === undefined) throw new FormatError('measure.no-sev', 'firmware: it has no SEV-SNP metadata')
  let chain = zeros()
  const start = 0x1_0000_0000n - BigInt(file.bytes.length)
  for (let at = 0; at < file.bytes.length; at += PAGE_BYTES) {
    chain = addPage(chain, PAGE_TYPE.normal, start + BigInt(at), file.bytes.subarray(at, at + PAGE_BYTES))
  }
  return { ...file.sev, firmwareHash: chain }
}

/** @throws FormatError when a kernel is given to a firmware without a place for its hash, or the description is unsound. */
export function snpLaunchDigest(launch: SnpLaunch): SnpDigest {
  const { firmware, hypervisor, vcpus, signature, guestFeatures } = launch
  checkSevFirmware(firmware)
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
    throw new FormatError('measure.vcpus', `${vcpus} vCPUs; expected 1 to ${MAX_VCPUS}`)
  }
  const hashes = launch.boot === undefined ? undefined : hashPage(firmware, launch.boot)
  let chain = firmware.firmwareHash
  for (const section of inOrder(firmware.sections, hypervisor)) chain = addSection(chain, section, hypervisor, hashes)
  const beforeVcpus = chain
  for (let i = 0; i < vcpus; i++) {
    const eip = i === 0 ? BOOT_EIP : firmware.resetEip
    chain = addPage(chain, PAGE_TYPE.vmsa, VMSA_GPA, vmsaPage({ hypervisor, eip, signature, guestFeatures }))
  }
  return { beforeVcpus, measurement: chain }
}

/** EC2 adds the CPUID page last. */
function inOrder(sections: readonly SevSection[], hypervisor: Hypervisor): readonly SevSection[] {
  if (hypervisor !== 'ec2') return sections
  const isCpuid = ({ type }: SevSection) => type === 'cpuid'
  return [...sections.filter((section) => !isCpuid(section)), ...sections.filter(isCpuid)]
}

function addSection(
  start: Bytes,
  { gpa, size, type }: SevSection,
  hypervisor: Hypervisor,
  hashes: Bytes | undefined,
): Bytes {
  let chain = start
  for (let at = 0; at < size; at += PAGE_BYTES) {
    const hashed = type === 'kernel-hashes' ? hashes : undefined
    const kind = hashed === undefined ? pageTypeOf(type, hypervisor) : PAGE_TYPE.normal
    chain = addPage(chain, kind, BigInt(gpa + at), hashed)
  }
  return chain
}

function pageTypeOf(type: SevSection['type'], hypervisor: Hypervisor): PageType {
  switch (type) {
    case 'prevalidated':
      return hypervisor === 'gce' ? PAGE_TYPE.unmeasured : PAGE_TYPE.zero
    case 'secrets':
      return PAGE_TYPE.secrets
    case 'cpuid':
      return PAGE_TYPE.cpuid
    case 'calling-area':
    // Without kernel hashing the page stays empty.
    case 'kernel-hashes':
      return PAGE_TYPE.zero
  }
}

/** The page that carries the table, at the table's own offset in it. */
function hashPage({ hashTableGpa, sections }: SevFirmware, boot: BootFiles): Bytes {
  const section = sections.find(({ type, size }) => type === 'kernel-hashes' && size > 0)
  if (hashTableGpa === undefined || section === undefined) {
    throw new FormatError(
      'measure.no-kernel-hashes',
      'firmware: it has no place for kernel hashes, so nothing would tie the kernel to the digest',
    )
  }
  const table = kernelHashTable(boot)
  const offset = hashTableGpa - section.gpa
  if (section.size !== PAGE_BYTES || offset < 0 || offset + table.length > PAGE_BYTES) {
    throw new FormatError('measure.no-kernel-hashes', 'firmware: the kernel-hash table is not inside its own page')
  }
  const page = new Uint8Array(PAGE_BYTES)
  page.set(table, offset)
  return page
}

/** `contents` are measured for normal and VMSA pages; every other kind enters by address and type alone. */
function addPage(chain: Bytes, type: PageType, gpa: bigint, contents?: Uint8Array): Bytes {
  const info = new Uint8Array(PAGE_INFO_BYTES)
  const view = new DataView(info.buffer)
  info.set(chain, 0x00)
  if (contents !== undefined) info.set(sha384(contents), 0x30)
  view.setUint16(0x60, PAGE_INFO_BYTES, true)
  view.setUint8(0x62, type)
  view.setBigUint64(0x68, gpa, true)
  return sha384(info)
}

function zeros(): Bytes {
  return toBytes(new Uint8Array(DIGEST_BYTES))
}
