import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createRng } from '../rng.js';
import { incompleteSave, type FolderFiles } from '../storage.js';
import { diskStorage } from './disk-storage.js';
import type { FileSystem } from './files.js';
import { currentPath, readFile, replaceFolders } from './folder-save.js';
import { ownTag } from './process-identity.js';

let folder = '';
beforeEach(async () => {
  folder = await fs.mkdtemp(join(tmpdir(), 'peftjs-save-'));
});
afterEach(() => fs.rm(folder, { recursive: true }));

const FILES = ['README.md', 'adapter_config.json', 'onnx'];
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A folder whose files all say which save they are of. */
const saved = (by: string, into = folder): FolderFiles => ({
  config: { path: `${into}/adapter_config.json`, bytes: bytesOf(JSON.stringify({ by })) },
  others: [
    { path: `${into}/onnx/weights`, bytes: bytesOf(by) },
    { path: `${into}/README.md`, bytes: bytesOf(by) },
  ],
});

type Reading = (path: string) => Promise<Uint8Array>;
/** A program that knows nothing of saves, such as PEFT in Python. */
const raw: Reading = (path) => fs.readFile(path);
const ours: Reading = (path) => diskStorage().read(path);

/** Returns the save that a reader sees, '' if there is none, or 'marked'. Fails for a mixture of two. */
async function seen(read: Reading, into = folder): Promise<string> {
  const text = (file: string): Promise<string> =>
    read(`${into}/${file}`).then(
      (bytes) => new TextDecoder().decode(bytes),
      () => '',
    );
  const config = await text('adapter_config.json');
  if (config === '') return '';
  const parsed = JSON.parse(config) as { by: string };
  if (incompleteSave(parsed) !== undefined) return 'marked';
  expect([await text('onnx/weights'), await text('README.md')]).toEqual([parsed.by, parsed.by]);
  return parsed.by;
}

const CHANGING = ['mkdir', 'open', 'rename', 'rm', 'rmdir'] as const;

/** Node's file system, with a hook before each call. It flushes nothing, which would take most of the time. */
function hooked(before: (name: keyof FileSystem) => void | Promise<void>): FileSystem {
  const names = [...CHANGING, 'lstat', 'readdir', 'readFile'] as const;
  const call =
    (name: keyof FileSystem) =>
    async (...args: unknown[]) => {
      await before(name);
      const result = await (fs[name] as (...given: unknown[]) => unknown)(...args);
      if (name === 'open') (result as fs.FileHandle).sync = () => Promise.resolve();
      return result;
    };
  return Object.fromEntries(names.map((name) => [name, call(name)])) as unknown as FileSystem;
}

const save = (...folders: FolderFiles[]): Promise<void> =>
  replaceFolders(
    hooked(() => undefined),
    folders,
  );

/** The file system of a process that is killed before change number `n`, counted from 0. */
function killedBefore(n: number): FileSystem {
  let changes = 0;
  return hooked((name) => {
    if (changes === n && (CHANGING as readonly string[]).includes(name)) changes = Infinity;
    if (changes === Infinity) throw new Error('killed');
    if ((CHANGING as readonly string[]).includes(name)) changes++;
  });
}

const readOnly = hooked((name) => {
  if ((CHANGING as readonly string[]).includes(name)) throw Object.assign(new Error('EROFS'), { code: 'EROFS' });
});

describe('a save that is killed', () => {
  it.each(['', 'old'])('before any of its changes leaves "%s" or the new files, for every reader', async (old) => {
    const outcomes = new Set<string>();
    let kills = 0;
    for (let isKilled = true; isKilled; kills++) {
      const into = `${folder}/${kills}`;
      if (old) await diskStorage().writeFolders?.([saved(old, into)]);
      isKilled = await replaceFolders(killedBefore(kills), [saved('new', into)]).then(
        () => false,
        () => true,
      );
      const others = await seen(raw, into);
      const mine = others === 'marked' ? 'new' : others;
      expect([old, 'marked', 'new']).toContain(others);
      expect(await seen(async (path) => raw(await currentPath(readOnly, path)), into)).toBe(mine);
      expect(await seen(ours, into)).toBe(mine);
      expect(await seen(raw, into)).toBe(mine); // reading has completed the save
      outcomes.add(others);

      await save(saved('next', into));
      expect([await seen(raw, into), await seen(ours, into)]).toEqual(['next', 'next']);
      const left = (await fs.readdir(into)).filter((name) => !name.endsWith('.tmp')); // this process still lives
      expect(left.sort()).toEqual(FILES);
    }
    expect(kills).toBeGreaterThan(20);
    expect([...outcomes]).toEqual([old, 'marked', 'new']);
  });

  it.each([
    ['is completed before the next save, which may be killed, too', 'new'],
    ['does not touch what another program has saved since, nor does the next save', 'theirs'],
  ])('and had begun to move files %s', async (_, kept) => {
    let begun = 0; // the changes before the first file is moved
    for (let kills = 0, isKilled = true; isKilled; kills++) {
      const into = `${folder}/${kills}`;
      await save(saved('old', into));
      while ((await seen(raw, into)) !== 'marked') {
        await replaceFolders(killedBefore(begun++), [saved('new', into)]).catch(() => undefined);
      }
      begun--;
      const { others, config } = saved('theirs', into);
      for (const { path, bytes } of kept === 'theirs' ? [...others, config] : []) await fs.writeFile(path, bytes);
      isKilled = await replaceFolders(killedBefore(kills), [saved('next', into)]).then(
        () => false,
        () => true,
      );
      expect([kept, 'marked', 'next']).toContain(await seen(raw, into));
      expect([kept, 'next']).toContain(await seen(ours, into));
    }
  });

  it('leaves files that the next save removes, but not those of a process that lives', async () => {
    const living = await ownTag();
    const dead = living.replace(/^\d+/, '4194305'); // above the largest process ID
    for (const tag of [living, dead]) await fs.mkdir(`${folder}/.peftjs-save-${tag}-abc.tmp/abc`, { recursive: true });
    await diskStorage().writeFolders?.([saved('new')]);
    expect((await fs.readdir(folder)).sort()).toEqual([`.peftjs-save-${living}-abc.tmp`, ...FILES]);
  });
});

describe('a folder from elsewhere', () => {
  const mark = JSON.stringify({ incomplete_save: 'yes' });
  let outside = '';
  let inside = '';
  beforeEach(async () => {
    [outside, inside] = [`${folder}/outside`, `${folder}/inside`];
    for (const path of [`${outside}/x`, inside]) await fs.mkdir(path, { recursive: true });
    await fs.writeFile(`${outside}/x/000001-adapter_config.json`, '{"by": "me"}');
    await fs.writeFile(`${inside}/adapter_config.json`, mark);
  });
  const contentOutside = async (): Promise<string[]> =>
    (await fs.readdir(folder, { recursive: true })).filter((path) => !path.startsWith('inside')).sort();

  it.each([
    ['the save', () => fs.symlink('../outside', `${inside}/.peftjs-save`)],
    [
      'its files',
      async () => {
        await fs.mkdir(`${inside}/.peftjs-save`);
        await fs.symlink('../../outside/x', `${inside}/.peftjs-save/x`);
      },
    ],
    [
      'a path',
      async () => {
        await fs.mkdir(`${inside}/.peftjs-save/x`, { recursive: true });
        await fs.writeFile(`${inside}/.peftjs-save/x/000001-..%2Ffile`, '');
        await fs.writeFile(`${inside}/.peftjs-save/x/000002-adapter_config.json`, '');
      },
    ],
    [
      'a folder',
      async () => {
        await fs.mkdir(`${inside}/.peftjs-save/x`, { recursive: true });
        await fs.symlink('../outside', `${inside}/onnx`);
        await fs.writeFile(`${inside}/.peftjs-save/x/000001-onnx%2Ffile`, '');
        await fs.writeFile(`${inside}/.peftjs-save/x/000002-adapter_config.json`, '{"by": "them"}');
      },
    ],
  ])('in which %s of a save leads out of it changes nothing there when it is read or replaced', async (_, prepare) => {
    await prepare();
    const before = await contentOutside();
    await seen(ours, inside).catch(() => undefined);
    expect(await contentOutside()).toEqual(before);
    await save(saved('new', inside)).catch(() => undefined);
    expect(await contentOutside()).toEqual(before);
  });
});

describe('a save that fails', () => {
  it.each(['mkdir', 'open', 'rename'])('in %s leaves the old files and nothing else', async (failing) => {
    await save(saved('old'));
    const full = hooked((name) => {
      if (name === failing) throw new Error('ENOSPC: no space left on device');
    });
    await expect(replaceFolders(full, [saved('new')])).rejects.toThrow('ENOSPC');
    expect(await seen(raw)).toBe('old');
    expect((await fs.readdir(folder)).sort()).toEqual(FILES);
  });

  it.each(['.hidden', 'onnx/.hidden', 'a/b/weights', 'a%2Fb', 'a\\b'])(
    'because of the name %s writes nothing',
    async (name) => {
      const { config, others } = saved('new');
      const files = { config, others: [...others, { path: `${folder}/${name}`, bytes: bytesOf('new') }] };
      await expect(replaceFolders(fs, [files])).rejects.toThrow(`cannot save a file '${name}'`);
      expect(await fs.readdir(folder)).toEqual([]);
    },
  );

  it('in the second of several folders leaves the first as it was', async () => {
    await save(saved('old'));
    await fs.writeFile(`${folder}/second`, '');
    const saving = diskStorage().writeFolders?.([saved('new'), saved('new', `${folder}/second`)]);
    await expect(saving).rejects.toThrow(
      /cannot save into .*: E[A-Z]+: [^,']*; make room on the disk, make the folder writable or choose another one, then save again$/,
    );
    expect(await seen(ours)).toBe('old');
    expect((await fs.readdir(folder)).sort()).toEqual([...FILES, 'second']);
  });
});

/** Runs saves that take turns in a random order, and are killed at random if `mayDie`. Returns those that ended. */
async function inRandomOrder(seed: number, names: readonly string[], mayDie: boolean): Promise<string[]> {
  const rng = createRng(seed);
  const waiting = new Map<string, { readonly call: string; go(): void }>();
  const running = new Set(names);
  const ended: string[] = [];
  let wake = (): void => undefined;
  let failure: unknown;
  const fail = (error: unknown): void => void (failure ??= error);
  for (const name of names) {
    const turns = hooked((call) => {
      if (call === 'open' || call === 'mkdir' || call === 'lstat') return;
      return new Promise<void>((go) => {
        waiting.set(name, { call, go });
        wake();
      });
    });
    void replaceFolders(turns, [saved(name)])
      .then(() => ended.push(name), fail)
      .finally(() => {
        running.delete(name);
        wake();
      });
  }
  for (let last = ''; running.size > 0;) {
    while (waiting.size < running.size) await new Promise<void>((woken) => (wake = woken));
    if (last === 'rename') expect(['old', 'marked', ...names]).toContain(await seen(raw));
    const name = [...waiting.keys()].sort()[rng.integer(Math.max(1, waiting.size))] ?? '';
    const { call = '', go } = waiting.get(name) ?? {};
    waiting.delete(name);
    last = call;
    if (mayDie && rng.uniform() < 0.05) running.delete(name);
    else go?.();
  }
  expect(failure).toBeUndefined();
  return ended;
}

const SEEDS = 12;

describe('several saves into one folder at once', () => {
  it.each([false, true])('end as one of them, complete, in whatever order they work (killed: %s)', async (mayDie) => {
    const winners = new Set<string>();
    for (let seed = 0; seed < SEEDS; seed++) {
      await save(saved('old'));
      const ended = await inRandomOrder(seed, ['a', 'b', 'c'], mayDie);
      const last = await seen(ours);
      winners.add(last);
      expect(['old', 'a', 'b', 'c']).toContain(last);
      expect(await seen(raw)).toBe(last);
      if (mayDie) continue;
      expect(ended).toContain(last);
      expect((await fs.readdir(folder)).sort()).toEqual(FILES);
    }
    expect(winners.size).toBeGreaterThan(2);
  });
});

describe('a file that is read while another process saves', () => {
  const config = (): string => `${folder}/adapter_config.json`;
  const textOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  /** A reader's file system: `meanwhile` happens once, right before the reader reads `at`. */
  const reader = (at: (path: string) => boolean, meanwhile: () => Promise<unknown>, mayMove: boolean): FileSystem => {
    let happened = false;
    return {
      ...fs,
      rename: mayMove ? fs.rename : () => Promise.reject(new Error('read-only')),
      readFile: (async (path: string) => {
        if (!happened && at(path)) {
          happened = true;
          await meanwhile();
        }
        return fs.readFile(path);
      }) as FileSystem['readFile'],
    };
  };
  /** A save that stops right after its mark is in place. */
  const begun = async (): Promise<void> => {
    let renames = 0;
    await new Promise<void>((stopped) => {
      const stops = hooked((name) => {
        if (name !== 'rename' || ++renames < 3) return undefined;
        stopped();
        return new Promise<void>(() => undefined);
      });
      void replaceFolders(stops, [saved('new')]);
    });
  };

  it('is found in its place when it is moved there', async () => {
    await save(saved('old'));
    await begun();
    const isMoving = (path: string): boolean => path.endsWith('-adapter_config.json');
    const bytes = await readFile(
      reader(isMoving, () => currentPath(fs, config()), false),
      config(),
    );
    expect(JSON.parse(textOf(bytes))).toEqual({ by: 'new' });
  });

  it('is never the mark', async () => {
    await save(saved('old'));
    let reads = 0;
    // the first read finds that no save is under way, the second one is the reader's own
    const bytes = await readFile(
      reader((path) => path === config() && ++reads > 0, begun, true),
      config(),
    );
    expect(JSON.parse(textOf(bytes))).toEqual({ by: 'new' });
  });
});
