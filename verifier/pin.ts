/** Values that a vendor's part of a policy expects: `any`, or lower-case hex, one of which must be met exactly. */
export type Pin = 'any' | readonly string[]
