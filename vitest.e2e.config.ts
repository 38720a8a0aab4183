import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import shared from './vitest.shared.js';

/** Backends start once in a process, and these tests are of the start. */
const ofBackends = ['packages/engine/**/*.e2e.ts'];

/** What takes minutes: begun last, one of them would keep a single core busy in the end. */
const long = /\/(?:tutorials|site|faults|interrupt|interrupted-study|project|dry)\.e2e\.ts$/;

class LongFilesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const isLong = ({ moduleId }: TestSpecification): boolean => long.test(moduleId);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

const project = (test: TestProjectInlineConfiguration['test']): TestProjectInlineConfiguration => ({
  ...shared,
  test: { ...shared.test, ...test },
});

/** Whole trials, and tests that start processes, browsers or services: `npm run test:e2e`. They are named `*.e2e.ts`. */
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
    sequence: { sequencer: LongFilesFirst },
    maxWorkers: '100%',
  },
});
