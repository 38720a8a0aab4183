import { rm } from 'node:fs/promises';
import { diskStorage, type Storage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import * as v from 'valibot';
import { toJson, withNumbers } from './json.js';
import { sizingSchema, type TrialSizing } from './schema.js';

/** Beside an adapter: how it chose its size. */
const SIZING_FILE = 'sizing.json';

/** Writes beside an adapter how it chose its size; where it did not, what an earlier adapter left there goes. */
export async function writeSizing(folder: string, sizing: TrialSizing | undefined): Promise<void> {
  const path = `${folder}/${SIZING_FILE}`;
  if (sizing) await diskStorage().write(path, new TextEncoder().encode(`${toJson(sizing, 1)}\n`));
  else await rm(path, { force: true });
}

/** How the adapter in a folder chose its size; undefined where nothing is said of it. @throws CheckpointError for a file that is broken. */
export async function readSizing(folder: string, storage: Storage): Promise<TrialSizing | undefined> {
  const path = `${folder}/${SIZING_FILE}`;
  if (!(await storage.exists(path))) return undefined;
  const parsed = v.safeParse(sizingSchema, parsedJson(await storage.read(path)));
  if (parsed.success) return parsed.output;
  throw new CheckpointError(`${path} does not say how an adapter chose its size; remove it`, path);
}

/** Undefined for what is no JSON. */
function parsedJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes), withNumbers);
  } catch {
    return undefined;
  }
}
