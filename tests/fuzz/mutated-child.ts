/** Reads mutated files: `mutated-child.ts FORMAT COUNT`. A line on stdout says that it is ready, and then each outcome. */
import { formats } from './formats.js';

const [, , format, count] = process.argv;
const { outcomeOf } = await formats[format as keyof typeof formats]();

await outcomeOf(0);
globalThis.gc?.();
process.stdout.write('ready\n');
for (let seed = 1; seed <= Number(count); seed++) process.stdout.write(`${await outcomeOf(seed)}\n`);
