import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The milliseconds after which a silent process counts as hanging. */
const SILENCE_MS = 10_000;
/** The memory that a child may take beyond what it has at its first line of output, when it is ready. */
const MAX_GROWTH = 300e6;
const LOOK_MS = 50;

/** What a child did. */
export interface Watched {
  /** What is wrong with it, '' for nothing. */
  readonly problem: string;
  /** The most memory beyond that of the ready child, in bytes. */
  readonly growth: number;
}

/** Flags that run a script in TypeScript, with the packages' sources or, with PEFTJS_BUILT, with their faster builds. */
export const TYPESCRIPT = [
  '--import',
  'tsx',
  ...(process.env['PEFTJS_BUILT'] ? [] : ['--conditions', '@peftjs/source']),
];

/** Starts a script with `gc` and a small heap. */
export function startChild(script: URL, args: readonly string[]): ChildProcess {
  const flags = ['--expose-gc', '--max-old-space-size=512', ...TYPESCRIPT];
  return spawn(process.execPath, [...flags, fileURLToPath(script), ...args]);
}

/**
 * Runs a child until it ends, or kills it when it is silent or large. Its lines are reports of progress; the first one
 * says that it is ready.
 */
export async function watched(child: ChildProcess, onLine: (line: string) => void = () => undefined): Promise<Watched> {
  let [heard, idle, growth, problem, complaints, rest] = [Infinity, 0, 0, '', '', '']; // a busy machine starts it late
  child.stdout?.on('data', (data) => {
    heard = Date.now();
    idle ||= residentBytes(child);
    const lines = `${rest}${String(data)}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  child.stderr?.on('data', (text) => (complaints += String(text)));
  const watch = setInterval(() => {
    if (idle > 0) growth = Math.max(growth, residentBytes(child) - idle);
    if (growth > MAX_GROWTH) problem ||= `takes ${growth} bytes more than when it was ready`;
    if (Date.now() - heard > SILENCE_MS) problem ||= `is silent for ${SILENCE_MS} ms`;
    if (problem !== '') child.kill('SIGKILL');
  }, LOOK_MS);
  const [code] = (await once(child, 'close')) as [number | null];
  clearInterval(watch);
  return { problem: problem || (code === 0 ? '' : `ends with ${String(code)}: ${complaints}`), growth };
}

/** Resident memory of a process; 0 if the system does not report it. */
function residentBytes({ pid }: ChildProcess): number {
  try {
    return 1024 * Number(/VmRSS:\s*(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
