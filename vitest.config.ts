import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    projects: ['packages/*', 'tests', 'tools', 'examples'],
    reporters: ['default', './tools/vitest/summary-reporter.ts'],
    maxWorkers: '100%',
  },
});
