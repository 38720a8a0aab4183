/**
 * Reads damaged adapters: `adapters-child.ts config|weights COUNT SEED FILE`. A line on stdout reports progress; FILE
 * holds the copy that is being read, in case this process has to be killed.
 */
import { ftruncateSync, openSync, writeSync } from 'node:fs';
import { onWarning } from '@peftjs/core';
import fc from 'fast-check';
import { damagedFiles, reading, type Damaged } from './adapters.js';

const [damaged, count, seed, file] = process.argv.slice(2) as [Damaged, string, string, string];
const EVERY = 100;
/** Opened once: closing a file that was emptied waits for the disk. */
const copy = openSync(file, 'w');

let read = 0;
process.stdout.write('started\n');
await fc.assert(
  fc.asyncProperty(damagedFiles(damaged), async (files) => {
    const bytes = files[damaged];
    ftruncateSync(copy);
    writeSync(copy, bytes, 0, bytes.length, 0);
    await reading(files);
    if (++read % EVERY !== 0) return;
    onWarning(() => undefined); // forgets the warnings given so far
    globalThis.gc?.();
    process.stdout.write(`${read}\n`);
  }),
  { numRuns: Number(count), seed: Number(seed), endOnFailure: true },
);
