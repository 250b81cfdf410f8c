/**
 * TCB_VERSION (AMD 56860 §2.2 "TCB Version"; AMD 57230 §3 for Turin's arrangement): decoding and component-wise comparison.
 *
 * Components are never compared as one integer: microcode would outrank the firmware below it.
 */
import type { Bytes } from '../protocol/bytes.js'
import type { TcbLayout } from './product.js'

/** Security patch levels, 0 to 255 each. `fmc` exists on Turin and later only. */
export interface Tcb {
  readonly fmc?: number
  readonly bootLoader: number
  readonly tee: number
  readonly snp: number
  readonly microcode: number
}

export type TcbComponent = 'fmc' | 'bootLoader' | 'tee' | 'snp' | 'microcode'

/** Byte of each component in the 8 bytes of TCB_VERSION. */
const LAYOUT: Readonly<Record<TcbLayout, Partial<Readonly<Record<TcbComponent, number>>>>> = {
  legacy: { bootLoader: 0, tee: 1, snp: 6, microcode: 7 },
  turin: { fmc: 0, bootLoader: 1, tee: 2, snp: 3, microcode: 7 },
}

export const TCB_COMPONENTS: readonly TcbComponent[] = ['fmc', 'bootLoader', 'tee', 'snp', 'microcode']

/** Decodes 8 bytes in report order. Reserved bytes carry no component. */
export function parseTcb(bytes: Bytes, layout: TcbLayout): Tcb {
  const at = (component: TcbComponent): number => bytes[LAYOUT[layout][component] ?? bytes.length] ?? 0
  const tcb = { bootLoader: at('bootLoader'), tee: at('tee'), snp: at('snp'), microcode: at('microcode') }
  return layout === 'turin' ? { fmc: at('fmc'), ...tcb } : tcb
}

/** Components of `tcb` that are below `floor`; an FMC the floor does not name has none. */
export function componentsBelow(tcb: Tcb, floor: Tcb): readonly TcbComponent[] {
  return TCB_COMPONENTS.filter((component) => (tcb[component] ?? 0) < (floor[component] ?? 0))
}

/** Components in which two TCBs differ. */
export function componentsDiffering(a: Tcb, b: Tcb): readonly TcbComponent[] {
  return TCB_COMPONENTS.filter((component) => a[component] !== b[component])
}

const SHORT: Readonly<Record<TcbComponent, string>> = {
  fmc: 'fmc',
  bootLoader: 'bl',
  tee: 'tee',
  snp: 'snp',
  microcode: 'ucode',
}

/** `fmc=1,bl=1,tee=1,snp=4,ucode=81`: the form `--tcb-floor` reads. */
export function describeTcb(tcb: Tcb): string {
  return TCB_COMPONENTS.flatMap((component) =>
    tcb[component] === undefined ? [] : [`${SHORT[component]}=${tcb[component]}`],
  ).join(',')
}

/**
 * The form `describeTcb` writes, decimal or 0x-hexadecimal: `bl`, `tee`, `snp` and `ucode` each once, `fmc` at most once.
 * @throws RangeError naming what is wrong: the text comes from the caller.
 */
export function parseTcbText(text: string): Tcb {
  const values = new Map<string, number>()
  for (const item of text.split(',')) {
    const [, name, value] = /^([a-z]+)=(\d{1,3}|0x[0-9a-f]{1,2})$/.exec(item.trim()) ?? []
    const level = Number(value)
    if (name === undefined || !(level <= 255) || !Object.values(SHORT).includes(name) || values.has(name)) {
      throw new RangeError(`expected bl=..,tee=..,snp=..,ucode=..[,fmc=..] with levels up to 255, found "${item}"`)
    }
    values.set(name, level)
  }
  const [bootLoader, tee, snp, microcode] = ['bl', 'tee', 'snp', 'ucode'].map((name) => values.get(name))
  if (bootLoader === undefined || tee === undefined || snp === undefined || microcode === undefined) {
    throw new RangeError('expected all of bl, tee, snp and ucode')
  }
  const fmc = values.get('fmc')
  return { ...(fmc === undefined ? {} : { fmc }), bootLoader, tee, snp, microcode }
}
