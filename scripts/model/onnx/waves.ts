/** Rotary positions out of tables of cosines and sines: which frequencies they are of, and whether of nothing else. */

export interface WaveTables {
  /** [rows, columns]: a row for each position from 0, a column for each frequency. */
  readonly cos: Float32Array
  readonly sin: Float32Array
  readonly rows: number
  readonly columns: number
  /** Whether they were kept in single precision, rather than in half of it. */
  readonly exact: boolean
}

/**
 * Radians a position of each column. The first row gives a frequency to the precision of a table's numbers; each doubling of
 * the position halves what is left of the error.
 */
export function waveFrequencies({ cos, sin, rows, columns }: WaveTables): Float64Array {
  return Float64Array.from({ length: columns }, (_, column) => {
    let frequency = 0
    for (let position = 1; position < rows; position *= 2) {
      const at = position * columns + column
      const difference = Math.atan2(sin[at] ?? 0, cos[at] ?? 0) - frequency * position
      frequency += (difference - 2 * Math.PI * Math.round(difference / (2 * Math.PI))) / position
    }
    return Math.max(0, frequency)
  })
}

/** Whether every value of the tables is what `frequencies` give, as far as their precision goes. */
export function matchesWaves({ cos, sin, rows, columns, exact }: WaveTables, frequencies: Float64Array): boolean {
  if (rows < 2 || frequencies.length !== columns) return false
  for (let position = 0; position < rows; position++) {
    // Exporters multiply position and frequency in single precision.
    const error = (exact ? 2 ** -20 : 2 ** -7) + position * 2 ** -22
    for (let column = 0; column < columns; column++) {
      const [at, angle] = [position * columns + column, position * (frequencies[column] ?? 0)]
      const off = Math.max(Math.abs((cos[at] ?? 0) - Math.cos(angle)), Math.abs((sin[at] ?? 0) - Math.sin(angle)))
      if (!(off <= error)) return false
    }
  }
  return true
}
