/**
 * Reads and uses damaged model folders: `model-folders-child.ts FROM COUNT SEED`. A line on stdout says that it is
 * ready, and then `number outcome` of each folder.
 */
import { onWarning } from '@peftjs/core';
import { folderNumber, originals, using } from './model-folders.js';

const [from, count, seed] = process.argv.slice(2).map(Number) as [number, number, number];
const EVERY = 100;

for (const files of originals) await using(files);
globalThis.gc?.();
process.stdout.write('ready\n');
for (let number = from; number < from + count; number++) {
  process.stdout.write(`${number} ${await using(folderNumber(number, seed))}\n`);
  if (number % EVERY !== 0) continue;
  onWarning(() => undefined); // forgets the warnings given so far
  globalThis.gc?.();
}
