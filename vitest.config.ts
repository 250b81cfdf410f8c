import { defineConfig, type ViteUserConfig } from 'vitest/config'

const config: ViteUserConfig = defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Against hanging, not slowness: other work on the machine may stretch any test.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    reporters: ['default'],
  },
})

export default config
