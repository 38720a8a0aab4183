import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { askWorker, startWorker } from './processes.js';

it('a request to a process that has ended fails at once', async () => {
  const child = spawn(process.execPath, ['--eval', ''], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  await once(child, 'exit');
  expect(await askWorker({ process: child, lastLine: () => '' }, { question: 'list' })).toMatchObject({
    type: 'failed',
    error: { code: 'PEFT_WORKER' },
  });
});

it('a request to a process that cannot be started fails with the reason', async () => {
  const { execPath } = process;
  process.execPath = '/nowhere/node';
  const worker = startWorker();
  process.execPath = execPath;
  expect(await askWorker(worker, { question: 'list' })).toEqual({
    type: 'failed',
    error: { code: 'PEFT_WORKER', message: 'the worker process cannot be started: spawn /nowhere/node ENOENT' },
  });
});
