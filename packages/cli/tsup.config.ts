import { packageBuild } from '../../tsup.shared.js';

const doors = ['src/index.ts', 'src/format.ts', 'src/progress.ts', 'src/results.ts', 'src/trials.ts'];

export default packageBuild([...doors, 'src/cli.ts', 'src/run/worker.ts']);
