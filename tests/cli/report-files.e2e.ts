import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { writeResult } from '../../packages/cli/src/results/files.js';
import { syntheticTrial } from '../../packages/cli/test/synthetic-results.js';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { BIN } from './command.js';

let folder = '';
beforeEach(async () => {
  folder = folderOfTest();
  await writeResult(folder, syntheticTrial({ task: 'uci-sentiment', method: 'lora', rank: 4, seed: 1 }));
});

const fifo = (path: string): void => void execFileSync('mkfifo', [path]);
const endless = (path: string): void => {
  symlinkSync('/dev/zero', path);
};

describe.skipIf(process.platform === 'win32')('report on a folder with an entry that is not a file', () => {
  it.each([
    ['a pipe among the results', 'results/a.json', fifo],
    ['a link to /dev/zero among the results', 'results/a.json', endless],
    ['a pipe in place of run.json', 'run.json', fifo],
  ])('rejects %s', (_, path, make) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    make(join(folder, path));
    const limits = { timeout: 20_000, killSignal: 'SIGKILL', encoding: 'utf8' } as const;
    const { status, stderr } = spawnSync(process.execPath, [BIN, 'report', folder], limits);
    expect(stderr).toMatch(/not a regular file/);
    expect(status).toBe(2);
  });
});
