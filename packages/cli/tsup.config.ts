import { packageBuild } from '../../tsup.shared.js';

const imported = ['src/index.ts', 'src/format.ts', 'src/progress.ts', 'src/results.ts', 'src/trials.ts'];

export default packageBuild([...imported, 'src/cli.ts', 'src/run/worker.ts'], imported);
