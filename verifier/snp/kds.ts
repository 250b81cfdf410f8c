/**
 * What to ask AMD's key distribution service for (AMD 57230 §4 "VCEK/VLEK certificate interface"): addresses only, no network.
 *
 * The query is made of fields nobody has verified yet. That is harmless: whatever comes back is an untrusted candidate, and a
 * wrong question gets a certificate that fits no report. Hosts, never the path, are fixed here.
 */
import { type Bytes, isZero, toHex } from '../protocol/bytes.js'
import { PRODUCTS, type Product, productOfCpuid } from './product.js'
import type { SnpReport } from './report.js'
import { parseTcb } from './tcb.js'

export interface KdsAddresses {
  readonly product: string
  /** DER. Absent for a VLEK, which only the cloud delivers, and while CHIP_ID is masked. */
  readonly vek?: string
  /** PEM: ASK or ASVK, then ARK. */
  readonly chain: string
  /** DER. */
  readonly crl: string
}

export const AMD_KDS = 'https://kdsintf.amd.com'

/** One entry for each product the report may be of: a version 2 report does not say, and has the older layout. */
export function kdsAddresses(report: SnpReport): readonly KdsAddresses[] {
  const vlek = report.signingKey === 1
  return candidateProducts(report).map((product) => {
    const base = `${AMD_KDS}/${vlek ? 'vlek' : 'vcek'}/v1/${product.name}`
    const certificate = vlek || isZero(report.chipId) ? {} : { vek: `${base}/${vcekQuery(report, product)}` }
    return { product: product.name, ...certificate, chain: `${base}/cert_chain`, crl: `${base}/crl` }
  })
}

function candidateProducts({ cpuid }: SnpReport): readonly Product[] {
  const named = cpuid === undefined ? undefined : productOfCpuid(cpuid)
  if (named !== undefined) return [named]
  return cpuid === undefined ? PRODUCTS.filter((product) => product.tcbLayout === 'legacy') : []
}

/** The levels of REPORTED_TCB, which the host chose: the VCEK for any other does not match. */
function vcekQuery(report: SnpReport, { tcbLayout, hwidBytes }: Product): string {
  const { fmc, bootLoader, tee, snp, microcode } = parseTcb(report.reportedTcb, tcbLayout)
  const hwid: Bytes = report.chipId.subarray(0, hwidBytes)
  const levels = `blSPL=${two(bootLoader)}&teeSPL=${two(tee)}&snpSPL=${two(snp)}&ucodeSPL=${two(microcode)}`
  return `${toHex(hwid)}?${fmc === undefined ? '' : `fmcSPL=${two(fmc)}&`}${levels}`
}

function two(level: number): string {
  return String(level).padStart(2, '0')
}
