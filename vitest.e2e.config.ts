import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import shared from './vitest.shared.js';

/** Backends start once in a process, and these tests are of the start. */
const ofBackends = ['packages/engine/**/*.e2e.ts'];

const project = (test: TestProjectInlineConfiguration['test']): TestProjectInlineConfiguration => ({
  ...shared,
  test: { ...shared.test, ...test },
});

/** Tests that start processes, browsers or services: `npm run test:e2e`. They are named `*.e2e.ts`. */
export default defineConfig({
  test: {
    projects: [
      project({
        name: 'e2e',
        include: ['{packages,tests,tools,examples}/**/*.e2e.ts'],
        exclude: ['**/node_modules/**', ...ofBackends],
      }),
      project({ name: 'e2e of backends', include: ofBackends, isolate: true }),
    ],
    reporters: ['default', './tools/vitest/summary-reporter.ts'],
    maxWorkers: '100%',
  },
});
