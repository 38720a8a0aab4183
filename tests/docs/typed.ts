import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A command as a shell starts it: a program and its arguments. */
export type Command = readonly string[];

/** The separator of arguments. No page contains it. */
const END = '\x1f';

/**
 * A shell that finds no programs, and prints for each how it would have been started. Loops, functions and variables
 * work as usual; a stub answers for Python.
 */
const prelude = `
PATH=/nowhere
command_not_found_handle() { printf -v line '%s${END}' "$@"; printf '%s\\n' "$line" >&3; } # at one go: in a pipe two speak at once
venv/bin/python() { echo answer; }
exec 3>&1
`;

/**
 * The commands that the `sh` blocks of a page ask its reader to type, in order, both with and without `<!-- elsewhere
 * -->`.
 */
export async function commandsOf(markdown: string): Promise<Command[]> {
  const blocks = [...markdown.matchAll(/^ *```(?:sh|bash|shell)\n([\s\S]*?)^ *```$/gm)];
  const commands = await Promise.all(blocks.map(([, typed = '']) => started(typed)));
  return commands.flat();
}

/** The commands that a script starts. Nothing is written to files. */
export async function started(script: string): Promise<Command[]> {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-typed-'));
  const quiet = script.replace(/\s>\s*[\w$][^\s;|&)]*/g, ' >/dev/null');
  const shell = promisify(execFile)('bash', ['-c', prelude + quiet], { cwd: folder });
  // Since nothing is done, `mkdir a && cd a` fails; the following commands run anyway.
  const stdout = await shell.then(
    (result) => result.stdout,
    (error: unknown) => (error as { readonly stdout: string }).stdout,
  );
  await rm(folder, { recursive: true });
  return stdout.split('\n').flatMap((line) => (line.endsWith(END) ? [line.slice(0, -1).split(END)] : []));
}
