/**
 * What the benchmarks verify: captured evidence where it is at hand (`SUBROSA_VECTORS`, or `shared/vectors` beside the
 * checkout), else evidence of a simulated platform.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EndorsementFile } from '../../verifier/endorsements.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { createSimulatedSnpPlatform } from '../simulated/snp-platform.js'
import { MissingInput } from './measure.js'

/** The checkout, whether this runs compiled or from source. */
export const projectRoot: string = rootAbove(dirname(fileURLToPath(import.meta.url)))

function rootAbove(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : rootAbove(dirname(folder))
}

const vectors = [process.env['SUBROSA_VECTORS'], join(projectRoot, '..', 'shared', 'vectors')].find(
  (path): path is string => path !== undefined && path !== '' && existsSync(path),
)

/** A path of captured evidence. @throws MissingInput where there is none. */
export function captured(path: string): string {
  if (vectors === undefined) throw new MissingInput('captured evidence is not here; set SUBROSA_VECTORS')
  const found = join(vectors, path)
  if (!existsSync(found)) throw new MissingInput(`captured evidence lacks ${path}`)
  return found
}

export function readCaptured(path: string): Bytes {
  return new Uint8Array(readFileSync(captured(path)))
}

/** A file, or every file of a folder. */
export function capturedFiles(path: string): readonly EndorsementFile[] {
  const found = captured(path)
  if (!statSync(found).isDirectory()) return [{ name: path, bytes: readCaptured(path) }]
  return readdirSync(found).flatMap((name) => capturedFiles(join(path, name)))
}

export interface SnpSample {
  /** For people. */
  readonly what: string
  readonly report: Bytes
  /** VEK, intermediate, root and the root's CRL. */
  readonly endorsements: readonly EndorsementFile[]
  readonly at: Date
  /** The root of a simulated platform. */
  readonly rootsPem?: string
}

let sample: Promise<SnpSample> | undefined

/** A report with everything it takes to verify it. The same one whoever asks: a simulated one takes a second to make. */
export function snpSample(): Promise<SnpSample> {
  sample ??= vectors === undefined ? simulatedSnp() : Promise.resolve(milan())
  return sample
}

function milan(): SnpSample {
  const endorsements = [
    'snp/milan-v2-azure-vcek.der',
    'roots/amd-ask-milan.der',
    'roots/amd-ark-milan.der',
    'snp/crl-milan-2025-05.der',
  ]
  return {
    what: 'a Milan report',
    report: readCaptured('snp/milan-v2-azure-report.bin'),
    endorsements: endorsements.flatMap(capturedFiles),
    at: new Date('2025-06-01T00:00:00Z'),
  }
}

async function simulatedSnp(): Promise<SnpSample> {
  const at = new Date()
  const platform = await createSimulatedSnpPlatform({ hostData: new Uint8Array(32), now: at })
  return {
    what: 'a simulated Genoa report',
    report: await platform.attest(new Uint8Array(64)),
    endorsements: platform.endorsements.map((bytes, index) => ({ name: `endorsement-${index}.der`, bytes })),
    at,
    rootsPem: platform.rootsPem,
  }
}
