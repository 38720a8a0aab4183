import { defineConfig } from 'vitest/config';

const conditions = ['@peftjs/source'];

/**
 * Every package's tests run against the sources of its siblings: no build comes first. Files share the processes that run them, and with
 * them what takes long to import: a test leaves no trace behind, in the environment or in TensorFlow.js.
 */
export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['**/*.test.ts'],
    isolate: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
