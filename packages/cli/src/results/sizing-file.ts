import { rm } from 'node:fs/promises';
import { diskStorage, type Storage } from '@peftjs/core';
import { CheckpointError } from '@peftjs/core/method';
import * as v from 'valibot';
import { toJson, reviveNumbers } from './json.js';
import { sizingSchema, type TrialSizing } from './schema.js';

/** The file next to an adapter that says how it chose its size. */
const SIZING_FILE = 'sizing.json';

/** Writes how an adapter chose its size next to it. If it did not choose, removes the file of an earlier adapter. */
export async function writeSizing(folder: string, sizing: TrialSizing | undefined): Promise<void> {
  const path = `${folder}/${SIZING_FILE}`;
  if (sizing) await diskStorage().write(path, new TextEncoder().encode(`${toJson(sizing, 1)}\n`));
  else await rm(path, { force: true });
}

/**
 * Reads how the adapter in a folder chose its size; undefined if there is no such file.
 * @throws CheckpointError for a broken file.
 */
export async function readSizing(folder: string, storage: Storage): Promise<TrialSizing | undefined> {
  const path = `${folder}/${SIZING_FILE}`;
  if (!(await storage.exists(path))) return undefined;
  const parsed = v.safeParse(sizingSchema, parsedJson(await storage.read(path)));
  if (parsed.success) return parsed.output;
  throw new CheckpointError(`${path} is not a valid record of how an adapter chose its size; remove it`, path);
}

/** Parses JSON; undefined if it is invalid. */
function parsedJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes), reviveNumbers);
  } catch {
    return undefined;
  }
}
