/** A short soak: what the long one checks, checked at all. */
import { expect, it } from 'vitest'
import { soak } from '../scripts/soak.js'

it('no answer is lost or crossed while keys rotate and clients leave', async () => {
  const { failures, answered, abandoned, receipts, keys } = await soak({
    seconds: 8,
    requests: 300,
    concurrent: 16,
    aborts: 0.2,
  })
  expect(failures).toEqual([])
  expect(answered + abandoned).toBeGreaterThan(20)
  expect(receipts).toBe(answered)
  expect(keys).toBeGreaterThan(0)
})
