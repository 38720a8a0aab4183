/**
 * Saves the adapters of `two-adapters.ts` in turn: `saves-child.ts FOLDER COUNT [FIRST]`. Prints 'saved' after
 * each save, and the message of one that fails.
 */
import { savePretrained } from '@peftjs/core';
import { twoAdapters } from './two-adapters.js';

const [folder = '', count, first = '0'] = process.argv.slice(2);
const adapters = await twoAdapters();
try {
  for (let save = Number(first); save < Number(first) + Number(count); save++) {
    await savePretrained(adapters[save % 2] ?? adapters[0], folder);
    process.stdout.write('saved\n');
  }
} catch (error) {
  process.stdout.write(`${String(error)}\n`);
}
