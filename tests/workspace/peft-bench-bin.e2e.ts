import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { root } from './repository.js';

let folder: string;

async function plant(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), text);
}

function start(...options: string[]): ChildProcess {
  return spawn(process.execPath, [join(folder, 'launch.js'), ...options], {
    cwd: tmpdir(),
    env: { ...process.env, PEFTJS_BUILT: undefined },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** What a run printed, its exit code and the signal that ended it; `onOutput` may send one. */
async function outcome(child: ChildProcess, onOutput: (child: ChildProcess) => void = () => undefined) {
  let printed = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    if (printed === '') onOutput(child);
    printed += chunk.toString();
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { printed, code, signal };
}

beforeEach(async () => {
  folder = folderOfTest();
  await plant('package.json', '{ "type": "module" }');
  await copyFile(join(root, 'packages/cli/launch.js'), join(folder, 'launch.js'));
});

describe('the published program', () => {
  it('runs its build in the same process', async () => {
    await plant('dist/cli.js', 'console.log(...process.argv.slice(2), process.execArgv.length); process.exitCode = 2;');
    await plant('src/cli.ts', 'throw 1;');
    expect(await outcome(start('run', '--seeds'))).toEqual({ printed: 'run --seeds 0\n', code: 2, signal: null });
  });
});

describe('the commands of packages', () => {
  /** The output of a command in any folder, as linked by npm after `npm ci`. */
  async function said(name: string, ...args: string[]): Promise<{ code: number | null; text: string }> {
    const child = spawn(join(root, 'node_modules/.bin', name), args, {
      cwd: tmpdir(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let text = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, text };
  }

  it.each(['peftjs', 'peft-bench'])('start the program under their own name: %s', async (name) => {
    const help = await said(name, 'train', '--help');
    expect(help).toMatchObject({
      code: 0,
      text: expect.stringContaining(`Usage: ${name} train [options]\n`) as string,
    });
    expect(help.text).not.toContain(name === 'peftjs' ? 'peft-bench' : 'peftjs');
    const unknown = `${name}: unknown command 'trian' (Did you mean train?)\n`;
    expect(await said(name, 'trian')).toEqual({ code: 2, text: unknown });
  });
});

describe('the program in the repository', () => {
  beforeEach(async () => {
    await plant('tsup.config.ts', '');
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  });

  it('runs its sources, from any folder, and passes on arguments and exit code', async () => {
    await plant('src/cli.ts', 'const args: string[] = process.argv.slice(2); console.log(...args); process.exit(7);');
    expect(await outcome(start('report', 'a b'))).toEqual({ printed: 'report a b\n', code: 7, signal: null });
  });

  it('resolves packages to their sources, also in worker processes', async () => {
    await plant('src/worker.ts', "console.log(import.meta.resolve('@peftjs/core'));");
    await plant(
      'src/cli.ts',
      "import { fork } from 'node:child_process'; fork(new URL('./worker.ts', import.meta.url));",
    );
    expect((await outcome(start())).printed).toMatch(/packages\/core\/src\/index\.ts\n$/);
  });

  it('leaves an interrupt to the child process and waits for it', async () => {
    await plant(
      'src/cli.ts',
      `let times = 0;
      process.on('SIGINT', () => { times++; setTimeout(() => { console.log('finished', times); process.exit(1); }, 100); });
      setInterval(() => undefined, 1000);
      console.log('ready');`,
    );
    const end = await outcome(start(), (child) => child.kill('SIGINT'));
    expect(end).toEqual({ printed: 'ready\nfinished 1\n', code: 1, signal: null });
  });

  it('ends by the signal that ended the child process', async () => {
    await plant('src/cli.ts', "setInterval(() => undefined, 1000); console.log('ready');");
    const end = await outcome(start(), (child) => child.kill('SIGTERM'));
    expect(end).toEqual({ printed: 'ready\n', code: null, signal: 'SIGTERM' });
  });
});
