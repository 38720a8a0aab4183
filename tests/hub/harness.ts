import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { bertFiles } from '../models/bert-tiny.js';
import { startHub, type Hub, type Repo } from './server.js';

/** The id of the small BERT on the test hub. */
export const BERT = 'peftjs-tests/bert-tiny';

/** Two of its commits. */
export const FIRST = 'a'.repeat(40);
export const SECOND = 'b'.repeat(40);

/** A repository with that BERT at `main`, and files that a model does not need. */
export function bertRepo(changes: Partial<Repo> = {}): Repo {
  const files = Object.fromEntries(Object.entries(bertFiles));
  const more = {
    'README.md': text('# BERT'),
    'pytorch_model.bin': new Uint8Array(60_000),
    'onnx/model.onnx': text('x'),
  };
  return { type: 'model', name: BERT, refs: { main: FIRST }, commits: { [FIRST]: { ...files, ...more } }, ...changes };
}

/** Text as bytes. */
export function text(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

/** Gives each test of a file a hub with that repository and an empty cache; the environment names both. */
export function useHub(): { readonly hub: Hub; readonly home: string } {
  const used = {} as { hub: Hub; home: string };
  beforeAll(async () => {
    used.hub = await startHub([]);
  });
  beforeEach(() => {
    used.home = folderOfTest();
    used.hub.repos.splice(0, Infinity, bertRepo());
    used.hub.calm();
    used.hub.seen.length = 0;
    Object.assign(used.hub, { pageSize: 1000, nextPageAt: undefined, listing: undefined });
    forgetSettings();
    Object.assign(process.env, { HF_ENDPOINT: used.hub.url, HF_HOME: used.home });
  });
  afterAll(() => {
    forgetSettings();
    return used.hub.close();
  });
  return used;
}

/** Removes the hub's environment variables. */
function forgetSettings(): void {
  for (const name of Object.keys(process.env))
    if (/^(HF|HUGGINGFACE)_/.test(name)) Reflect.deleteProperty(process.env, name);
}

/** The files that were requested, in order. */
export function filesAsked({ seen }: Hub): string[] {
  return seen.flatMap(({ at, path }) =>
    at === 'hub' && path.includes('/resolve/') ? [path.split('/').slice(5).join('/')] : [],
  );
}

/** All files of a cache by path, following links. */
export async function filesBelow(folder: string): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const path of (await readdir(folder, { recursive: true })).sort()) {
    const bytes = await readFile(join(folder, path)).catch(() => undefined);
    if (bytes) files.set(path, new Uint8Array(bytes));
  }
  return files;
}
