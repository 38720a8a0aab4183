import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { BIN, peftBench } from './command.js';
import { tinyTask } from './tiny-task.js';

const folder = temporaryFolder();
let task: readonly string[] = [];
let flags: readonly string[] = [];
beforeAll(async () => {
  task = await tinyTask(folder, 60);
  flags = ['run', ...task, '--method', 'head,lora', '--workers', '1', '--json', '--out'];
});

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? '';

const mount = (...args: string[]): Promise<unknown> => promisify(execFile)('mount', args);
const unmount = (path: string): Promise<unknown> => promisify(execFile)('umount', [path]);

/** Whether this process may mount file systems. */
const mayMount = await (async (): Promise<boolean> => {
  const path = await mkdtemp(join(tmpdir(), 'peft-bench-mount-'));
  try {
    await mount('-t', 'tmpfs', '-o', 'size=64k', 'peft-bench', path);
    await unmount(path);
    return true;
  } catch {
    return false;
  } finally {
    await rm(path, { recursive: true });
  }
})();

describe.skipIf(!mayMount)('a separate disk (mounted as root)', () => {
  let disk = '';
  beforeAll(async () => {
    disk = join(folder, 'disk');
    await mkdir(disk);
    await mount('-t', 'tmpfs', '-o', 'size=64k', 'peft-bench', disk);
  });
  afterAll(() => unmount(disk));

  it('that is full is reported in advance, and nothing is left on it', async () => {
    await writeFile(join(disk, 'other'), new Uint8Array(60 * 1024));
    const { code, stderr } = await peftBench([...flags, join(disk, 'out')]);
    expect(lastLine(stderr)).toMatch(
      /^peft-bench: --out .*disk\/out cannot be written: .*ENOSPC: no space left on device/,
    );
    expect(code).toBe(2);
    await rm(join(disk, 'other'));
    expect(await readdir(join(disk, 'out/results')).catch(() => [])).toEqual([]);
  });

  it('that fills up stops the run with one line and only complete files, and the same command resumes', async () => {
    const out = join(disk, 'out');
    const { code, stderr } = await peftBench([...flags, out]);
    expect(lastLine(stderr)).toMatch(
      /^peft-bench: cannot write .*disk\/out\/.*: ENOSPC: no space left on device\. Make room on the disk, then rerun the same command to resume$/,
    );
    expect(code).toBe(1);
    const left = [...(await readdir(out)), ...(await readdir(join(out, 'results')))];
    expect(left.filter((file) => file.endsWith('.tmp') || file === '.lock')).toEqual([]);
    await mount('-o', 'remount,size=64m', disk);
    expect((await peftBench([...flags, out])).code).toBe(0);
    expect(await readdir(join(out, 'results'))).toHaveLength(2);
  });

  it('that is read-only is reported in advance', async () => {
    await mount('-o', 'remount,ro', disk);
    const { code, stderr } = await peftBench([...flags, join(disk, 'another')]);
    expect(lastLine(stderr)).toMatch(/^peft-bench: --out .*another cannot be written: EROFS: read-only file system/);
    expect(code).toBe(2);
  });
});

/** Runs a shell script with file systems of its own: what it mounts, no other process sees. */
const unshared = (script: string): Promise<{ stdout: string }> =>
  promisify(execFile)('unshare', ['-m', 'sh', '-c', script], { env: { ...process.env, NO_COLOR: '1' } });

/** Whether this process may mount file systems for itself. */
const mayUnshare = await unshared('mount -t tmpfs peft-bench /mnt').then(
  () => true,
  () => false,
);
const notPermitted = mayUnshare ? '' : ' (skipped: unshare and mount are not permitted)';

describe.skipIf(!mayUnshare)(`the disk of a training${notPermitted}`, () => {
  /** What a training prints into `disk/out`, and its exit code, after a disk is mounted there and after each `then`. */
  const trained = async (mounted: string, ...then: readonly string[]): Promise<readonly string[]> => {
    const disk = join(folder, 'training');
    await mkdir(disk, { recursive: true });
    const train = [process.execPath, BIN, 'train', ...task, '--method', 'lora', '--out', `${disk}/out`, '2>&1'].join(
      ' ',
    );
    const steps = [mounted, ...then].map((step) => `cd ${disk}; ${step}; ${train}; echo "exit code $?"`);
    const { stdout } = await unshared(steps.join('\n').replaceAll('DISK', disk));
    return stdout.split(/^(?=exit code)/m);
  };

  it('is read-only: refused before the training', async () => {
    const [said, code] = await trained('mount -t tmpfs -o ro peft-bench DISK');
    expect(lastLine(said ?? '')).toMatch(/^peft-bench: --out .*out cannot be written: EROFS: read-only file system/);
    expect(code).toBe('exit code 2\n');
    expect(said).not.toContain('trainable params');
  });

  it.each([
    ['is full: refused before the training', '8k', 2, /^peft-bench: --out .*out cannot be written: .*ENOSPC: /],
    [
      'is too small: reported as soon as a file does not fit',
      '32k',
      1,
      // Which file comes first, a checkpoint or the adapter, depends on the time that the training takes.
      /^peft-bench: cannot (write .*\/out\/|save into .*\/out: ).*ENOSPC: no space left on device.*\. Make room on the disk, then rerun the same command to resume$/,
    ],
  ])('%s, and trained once there is room', async (_, size, code, line) => {
    const [said, ...then] = await trained(
      `mount -t tmpfs -o size=${size} peft-bench DISK`,
      'find DISK -name *.tmp; mount -o remount,size=64m DISK',
    );
    expect(lastLine(said ?? '')).toMatch(line);
    expect(then[0]).toMatch(new RegExp(`^exit code ${code}\npeft-bench: loading`)); // and no half-written file
    expect(then[1]).toBe('exit code 0\n');
  });
});

describe.skipIf(process.platform !== 'linux')('stdout (with /dev/full and sh, on Linux)', () => {
  it('may be a full disk, which is reported in one line', async () => {
    const child = spawn(process.execPath, [BIN, 'doctor'], { stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'] });
    let stderr = '';
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    expect(await once(child, 'close')).toEqual([1, null]);
    expect(stderr.trim()).toBe('peft-bench: cannot write to stdout: ENOSPC: no space left on device, write');
  });

  it('may be closed by its reader, which is not an error', async () => {
    const { stdout, stderr } = await promisify(execFile)('sh', [
      '-c',
      `{ "${process.execPath}" "${BIN}" doctor; echo "code $?" >&2; } | true`,
    ]);
    expect({ stdout, stderr }).toEqual({ stdout: '', stderr: 'code 141\n' });
  });
});

describe('a clock that is set back during a run', () => {
  it('makes no duration negative and no result older than the one before', async () => {
    const clock = join(folder, 'clock.mjs');
    // The time of day of every process runs backwards, one hour per second.
    await writeFile(
      clock,
      `const Real = Date;
       const began = Real.now();
       const now = () => Math.round(began - 3600 * performance.now());
       globalThis.Date = class extends Real {
         constructor(...given) { super(...(given.length ? given : [now()])); }
         static now() { return now(); }
       };`,
    );
    const out = join(folder, 'clock');
    const env = { NODE_OPTIONS: `--import=${pathToFileURL(clock).href}` };
    const { code, stdout } = await peftBench([...flags, out], { env });
    expect(code).toBe(0);
    const results = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { time: Record<string, number>; startedAt: string; finishedAt: string });
    expect(results).toHaveLength(2);
    for (const { time, startedAt, finishedAt } of results) {
      expect(Math.min(...Object.values(time))).toBeGreaterThanOrEqual(0);
      expect(time.totalSeconds).toBeGreaterThan(0);
      expect(Date.parse(finishedAt)).toBeGreaterThan(Date.parse(startedAt));
    }
    const ends = results.map(({ finishedAt }) => Date.parse(finishedAt));
    expect(ends).toEqual([...ends].sort((a, b) => a - b));
    expect(await readFile(join(out, 'report.md'), 'utf8')).not.toMatch(/-\d+(\.\d+)? ?s\b/);
  });
});

describe.skipIf(process.platform !== 'linux')('too few open files (with sh, on Linux)', () => {
  // Running the sources needs some more before the first line of ours.
  const few = process.env['PEFTJS_BUILT'] ? 30 : 60;

  it('end the command in one line that says what to do', async () => {
    const command = `ulimit -n ${few} && exec "${process.execPath}" "${BIN}" "$@"`;
    const child = spawn('sh', ['-c', command, 'sh', ...flags, join(folder, 'few')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    expect(await once(child, 'close')).toEqual([2, null]);
    expect(said).toMatch(/^peft-bench: EMFILE: too many open files, .*\. Allow more open files \(ulimit -n\)\n$/);
  });
});
