import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';

const source = new URL('../src/run/processes.ts', import.meta.url).href;

/** A process whose main thread is blocked for a minute, as in a native call. */
const busy = `
  const { endWithParent } = await import('${source}');
  endWithParent();
  process.stdout.write(process.pid + '\\n', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000));
`;

/** A process that has ended may keep its entry for a while, but without a command line. */
function isAlive(pid: string): boolean {
  const file = `/proc/${pid}/cmdline`;
  return existsSync(file) && readFileSync(file, 'utf8') !== '';
}

describe.skipIf(process.platform !== 'linux')('endWithParent (observed in /proc, on Linux)', () => {
  it('ends a process whose parent is killed, even if its main thread is blocked', async () => {
    const command = `"${process.execPath}" --conditions=@peftjs/source --import="${import.meta.resolve('tsx')}" --input-type=module -e "$BUSY" & wait`;
    const parent = spawn('sh', ['-c', command], {
      env: { ...process.env, BUSY: busy },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [pid] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string];
    expect(isAlive(pid)).toBe(true);
    parent.kill('SIGKILL');
    await expect.poll(() => isAlive(pid), { timeout: 50_000 }).toBe(false);
  });
});
