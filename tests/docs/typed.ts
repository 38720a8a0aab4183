import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A command: a program and its arguments. */
export type Command = readonly string[];

/** The separator of arguments, which no page contains. */
const END = '\x1f';

/**
 * Makes a shell print the commands of programs instead of running them. Loops, functions and variables work as usual; a
 * stub replaces Python.
 */
const prelude = `
PATH=/nowhere
command_not_found_handle() { printf -v line '%s${END}' "$@"; printf '%s\\n' "$line" >&3; } # one write: commands of a pipe run in parallel
venv/bin/python() { echo answer; }
exec 3>&1
`;

/**
 * Returns the commands of a page's `sh` blocks in order, including blocks after `<!-- elsewhere -->`.
 */
export async function commandsOf(markdown: string): Promise<Command[]> {
  const blocks = [...markdown.matchAll(/^ *```(?:sh|bash|shell)\n([\s\S]*?)^ *```$/gm)];
  const commands = await Promise.all(blocks.map(([, typed = '']) => started(typed)));
  return commands.flat();
}

/** Returns the commands that a script would start. Writes no files. */
export async function started(script: string): Promise<Command[]> {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-typed-'));
  const quiet = script.replace(/\s>\s*[\w$][^\s;|&)]*/g, ' >/dev/null');
  const shell = promisify(execFile)('bash', ['-c', prelude + quiet], { cwd: folder });
  // No command has an effect, so `mkdir a && cd a` fails; the following commands are still recorded.
  const stdout = await shell.then(
    (result) => result.stdout,
    (error: unknown) => (error as { readonly stdout: string }).stdout,
  );
  await rm(folder, { recursive: true });
  return stdout.split('\n').flatMap((line) => (line.endsWith(END) ? [line.slice(0, -1).split(END)] : []));
}
