/**
 * Saves the adapters of `two-adapters.ts` in turn: `saves-child.ts FOLDER COUNT [FIRST]`. Prints 'ready' before the
 * first save, and the message of one that fails.
 */
import { savePretrained } from '@peftjs/core';
import { twoAdapters } from './two-adapters.js';

const [folder = '', count, first = '0'] = process.argv.slice(2);
const adapters = await twoAdapters();
process.stdout.write('ready\n');
try {
  for (let save = Number(first); save < Number(first) + Number(count); save++) {
    await savePretrained(adapters[save % 2] ?? adapters[0], folder);
  }
} catch (error) {
  process.stdout.write(`${String(error)}\n`);
}
