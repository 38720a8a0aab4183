import { defineConfig } from 'vitest/config';
import shared from './vitest.shared.js';

/** Tests that start processes, browsers or services: `npm run test:e2e`. They are named `*.e2e.ts`. */
export default defineConfig({
  ...shared,
  test: {
    ...shared.test,
    include: ['{packages,tests,tools,examples}/**/*.e2e.ts'],
    reporters: ['default', './tools/vitest/summary-reporter.ts'],
    maxWorkers: '100%',
  },
});
