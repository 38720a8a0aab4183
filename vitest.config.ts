import { defineConfig } from 'vitest/config';
import shared from './vitest.shared.js';

/** Tests within one process: `npm test`. They are named `*.test.ts`. */
export default defineConfig({
  test: {
    projects: [
      {
        ...shared,
        test: {
          ...shared.test,
          name: 'unit',
          include: ['{packages,tests,tools,examples}/**/*.test.ts'],
          exclude: ['**/node_modules/**', 'packages/engine/**'],
        },
      },
      'packages/engine',
    ],
    reporters: ['default', './tools/vitest/summary-reporter.ts'],
    maxWorkers: '100%',
  },
});
