/** Computes mutated ONNX files: `onnx-child.ts COUNT`. A line on stdout says that it is ready, and then each outcome. */
import { outcomeOf } from './onnx.js';

const count = Number(process.argv[2]);

await outcomeOf(0);
globalThis.gc?.();
process.stdout.write('ready\n');
for (let seed = 1; seed <= count; seed++) process.stdout.write(`${await outcomeOf(seed)}\n`);
