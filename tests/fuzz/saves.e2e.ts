import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { savePretrained } from '@peftjs/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { drawn } from './drawn.js';
import { contentOf, loaded, twoAdapters } from './two-adapters.js';
import { TYPESCRIPT } from './watched.js';

const root = mkdtempSync(join(tmpdir(), 'peftjs-saves-'));
afterAll(() => {
  rmSync(root, { recursive: true, force: true });
});

const FILES = ['README.md', 'adapter_config.json', 'adapter_model.safetensors'];
const CHILD = [...TYPESCRIPT, fileURLToPath(new URL('saves-child.ts', import.meta.url))];

let both: readonly unknown[] = [];
let adapters: Awaited<ReturnType<typeof twoAdapters>>;
beforeAll(async () => {
  adapters = await twoAdapters();
  both = adapters.map(contentOf);
});

/** Starts a process that saves both adapters in turn. */
function saver(folder: string, count: number, first: number): ChildProcessByStdio<null, Readable, null> {
  return spawn(process.execPath, [...CHILD, folder, String(count), String(first)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
}

/** What another program sees, which knows nothing of saves: 'marked', or a configuration and weights as text. */
function withoutUs(folder: string): string {
  const config = readFileSync(join(folder, 'adapter_config.json'), 'utf8');
  return config.includes('INCOMPLETE_SAVE')
    ? 'marked'
    : config + readFileSync(join(folder, 'adapter_model.safetensors'), 'latin1');
}

const KILLS = drawn(40);
/** A few saves, counted from the end of one. */
const LONGEST_MS = 30;

it(
  `${KILLS} kills in a loop of saves leave ${KILLS} readable folders, each with one of two adapters`,
  {
    timeout: 600_000,
  },
  async () => {
    const folder = join(root, 'killed');
    const consistent = ['marked'];
    for (const peft of adapters) {
      await savePretrained(peft, folder);
      consistent.push(withoutUs(folder));
    }
    const outcomes: number[] = [];
    let [marked, littered] = [0, 0];
    for (let kill = 0; kill < KILLS; kill++) {
      const child = saver(folder, Infinity, kill);
      await once(child.stdout, 'data');
      await setTimeout(((kill * 17) % KILLS) * (LONGEST_MS / KILLS));
      child.kill('SIGKILL');
      await once(child, 'close');
      const others = withoutUs(folder);
      expect(consistent).toContain(others);
      if (others === 'marked') marked++;
      if (readdirSync(folder).some((name) => name.endsWith('.tmp'))) littered++;
      const seen = await loaded(folder);
      expect(both).toContainEqual(seen);
      outcomes.push(both.findIndex((one) => JSON.stringify(one) === JSON.stringify(seen)));
      expect(consistent.indexOf(withoutUs(folder))).toBeGreaterThan(0); // reading has completed the save
    }
    expect(new Set(outcomes)).toEqual(new Set([0, 1]));
    expect(marked + littered).toBeGreaterThan(0); // some kills were in the middle of a save
    await savePretrained(adapters[0], folder);
    expect(readdirSync(folder).sort()).toEqual(FILES);
    expect(await loaded(folder)).toEqual(both[0]);
  },
);

/** Enough that the processes overlap, although one starts later. */
const SAVES = 300;

it(
  'two processes that save into one folder leave one of the two adapters, complete',
  { timeout: 300_000 },
  async () => {
    const folder = join(root, 'shared');
    const children = [saver(folder, SAVES, 0), saver(folder, SAVES, 1)];
    let printed = '';
    for (const { stdout } of children) stdout.on('data', (text) => (printed += String(text)));
    await Promise.all(children.map((child) => once(child, 'close')));
    expect(printed).toBe('saved\n'.repeat(2 * SAVES));
    expect(both).toContainEqual(await loaded(folder));
    expect(readdirSync(folder).sort()).toEqual(FILES);
  },
);

/**
 * Runs a script on a small disk of its own, whose path is `$disk`; `save 0` and `save 1` save the two adapters on it.
 * @returns what it printed, and a copy of the disk
 */
function onSmallDisk(script: string): { readonly printed: string; readonly copy: string } {
  const [disk, copy] = [mkdtempSync(join(root, 'disk-')), mkdtempSync(join(root, 'copy-'))];
  const prepared = 'set -e; mount -t tmpfs -o size=600k tmpfs "$disk"; save() { "${child[@]}" "$disk" 1 "$1"; }';
  const printed = execFileSync(
    'unshare',
    [
      '-m',
      'bash',
      '-c',
      `child=("$@"); ${prepared}; ${script}; cp -a "$disk/." "$copy"`,
      'bash',
      process.execPath,
      ...CHILD,
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, disk, copy } },
  );
  return { printed, copy };
}

const mayMount = ((): boolean => {
  try {
    execFileSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', root], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe.skipIf(!mayMount)('a save on a disk (mounted in a namespace of its own, as root)', () => {
  it.each([
    ['full', 'cat /dev/zero > "$disk/other" 2> /dev/null || true; truncate -s -4096 "$disk/other"', 'ENOSPC'],
    ['read-only', 'mount -o remount,ro "$disk"', 'EROFS'],
  ])('that is %s leaves the old adapter and says what to do', { timeout: 120_000 }, async (_, spoil, code) => {
    const { printed, copy } = onSmallDisk(`save 0; ${spoil}; save 1`);
    expect(await loaded(copy)).toEqual(both[0]);
    expect(printed).toMatch(
      new RegExp(`^saved\nCheckpointError: cannot save into .*: ${code}: [^,]*; make room .*, then save again\n$`),
    );
    expect(
      readdirSync(copy)
        .filter((name) => name !== 'other')
        .sort(),
    ).toEqual(FILES);
  });
});
