/** Amounts of money as decimal text, compared without rounding. */

/** Billionths of the unit; undefined unless it is a decimal number with at most nine digits on either side of the point. */
export function nanosOf(text: string): bigint | undefined {
  const [, whole = '', fraction = ''] = /^(\d{1,9})(?:\.(\d{1,9}))?$/.exec(text) ?? []
  return whole === '' ? undefined : BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'))
}
