import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';
import shared from './vitest.shared.js';

/** Backends start once in a process, and these tests are of the start. */
const ofBackends = ['packages/engine/**/*.e2e.ts'];

/** What takes longest, in the order in which it begins: begun last, one of them would keep a single core busy in the end. */
const LONGEST = [
  ...[
    'docs/tutorials',
    'cli/interrupt',
    'release/starters',
    'parity/all',
    'release/dry',
    'faults/faults',
    'executors/page',
  ],
  ...[
    'cli/doctor-gpu',
    'docs/site',
    'docs/live-page',
    'fuzz/adapters',
    'fuzz/costly',
    'fuzz/model-folders',
    'cli/backends',
  ],
  ...['fuzz/saves', 'cli/checkpoints', 'release/project', 'cli/command', 'fairness/budgets'],
  ...['method/generator', 'cli/interrupted-study'],
];

class LongFilesFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    const place = ({ moduleId }: TestSpecification): number =>
      LONGEST.findIndex((name) => moduleId.endsWith(`/${name}.e2e.ts`));
    const first = sorted.filter((file) => place(file) >= 0).sort((a, b) => place(a) - place(b));
    return [...first, ...sorted.filter((file) => place(file) < 0)];
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
    maxWorkers: '100%', // with one more, the run was not faster, and moments to interrupt were missed
  },
});
