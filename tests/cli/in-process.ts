import { main } from '../../packages/cli/src/commands/main.js';
import type { Ended } from './command.js';

/** The folder in which a command runs. */
interface Place {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

let last: Promise<unknown> = Promise.resolve();

/**
 * Runs a command line in this process, including the trials of `run`. No process is started, so a test of what a
 * command computes, writes or prints takes milliseconds. Calls wait for one another, since a process has one stdout,
 * one environment and one working directory.
 */
export function peftBench(args: readonly string[], place: Place = {}): Promise<Ended> {
  const ended = last.then(() => runHere(args[0] === 'run' ? inThisProcess(args) : args, place));
  last = ended.catch(() => undefined);
  return ended;
}

function inThisProcess(args: readonly string[]): readonly string[] {
  return args.some((arg) => ['--workers', '--queue', '--help'].includes(arg)) ? args : [...args, '--workers', '0'];
}

async function runHere(args: readonly string[], { cwd, env = {} }: Place): Promise<Ended> {
  const before = { exitCode: process.exitCode, cwd: process.cwd(), env: { ...process.env } };
  const stdout = captured(process.stdout);
  const stderr = captured(process.stderr);
  try {
    Object.assign(process.env, { NO_COLOR: '1', ...env });
    if (cwd !== undefined) process.chdir(cwd);
    process.exitCode = 0;
    await main(['node', 'peft-bench', ...args]);
    return { code: process.exitCode, stdout: stdout.text(), stderr: stderr.text() };
  } finally {
    stdout.release();
    stderr.release();
    process.exitCode = before.exitCode;
    process.chdir(before.cwd);
    for (const name of Object.keys(process.env)) if (!(name in before.env)) Reflect.deleteProperty(process.env, name);
    Object.assign(process.env, before.env);
  }
}

/** Captures what is written to a stream instead of showing it. */
function captured(stream: NodeJS.WriteStream): { text(): string; release(): void } {
  const write = stream.write.bind(stream);
  let text = '';
  stream.write = (chunk: Uint8Array | string) => {
    text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
    return true;
  };
  return { text: () => text, release: () => void (stream.write = write) };
}
