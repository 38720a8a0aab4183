import { defineConfig } from 'vitest/config';

const conditions = ['@peftjs/source'];

/** Every package's tests run against the sources of its siblings: no build comes first. */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
