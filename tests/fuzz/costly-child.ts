/** Reads the costly files of one reader: `costly-child.ts READER BYTES [FILE]`. Prints what that took, as JSON. */
import { existsSync, readFileSync } from 'node:fs';
import { costly, outcomeOf } from './costly.js';

const [, , reader = '', bytes = '', only] = process.argv;
const files = costly.flatMap(([of, file]) => (of === reader && (only ?? file) === file ? [file] : []));
for (const file of files) await outcomeOf(reader, file, 1000);
globalThis.gc?.();
const before = process.memoryUsage().rss;
const { user } = process.cpuUsage();
const outcomes: string[] = [];
for (const file of files) {
  outcomes.push(`${file}: ${await outcomeOf(reader, file, Number(bytes))}`);
  globalThis.gc?.();
}
const growth = highestMemory() - before;
process.stdout.write(JSON.stringify({ outcomes, growth, seconds: (process.cpuUsage().user - user) / 1e6 }));

/** The most memory that this process has had, in bytes. On Linux `maxRSS` begins with that of the process that started it. */
function highestMemory(): number {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'utf8') : '';
  return Number(/VmHWM:\s*(\d+)/.exec(status)?.[1] ?? process.resourceUsage().maxRSS) * 1024;
}
