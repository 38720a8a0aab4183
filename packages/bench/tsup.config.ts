import { packageBuild } from '../../tsup.shared.js';

export default packageBuild(
  ['src/index.ts', 'src/progress.ts', 'src/cli.ts', 'src/run/worker.ts'],
  ['src/index.ts', 'src/progress.ts'],
);
