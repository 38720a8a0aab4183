import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import { ask, startWorker } from './processes.js';

it('a request to a process that has ended fails at once', async () => {
  const child = spawn(process.execPath, ['--eval', ''], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  await once(child, 'exit');
  await expect(ask({ process: child, lastLine: () => '' }, 'list', null)).rejects.toMatchObject({
    code: 'PEFT_WORKER',
  });
});

it('a request to a process that cannot be started fails with the reason', async () => {
  const { execPath } = process;
  process.execPath = '/nowhere/node';
  const worker = startWorker();
  process.execPath = execPath;
  await expect(ask(worker, 'list', null)).rejects.toMatchObject({
    code: 'PEFT_WORKER',
    message: 'the worker process cannot be started: spawn /nowhere/node ENOENT',
  });
});
