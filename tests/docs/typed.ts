import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** A command as a shell starts it: a program and its arguments. */
export type Command = readonly string[];

/** Ends an argument. No page types it. */
const END = '\x1f';

/**
 * A shell that finds no program, and says of each what it would have been started with. Loops, functions and variables are its
 * own; a Python that a page asks for something answers.
 */
const prelude = `
PATH=/nowhere
command_not_found_handle() { printf -v line '%s${END}' "$@"; printf '%s\\n' "$line" >&3; } # at one go: in a pipe two speak at once
venv/bin/python() { echo answer; }
exec 3>&1
`;

/** The commands that the `sh` blocks of a page have its reader type, in their order, with `<!-- elsewhere -->` and without. */
export async function commandsOf(markdown: string): Promise<Command[]> {
  const blocks = [...markdown.matchAll(/^ *```(?:sh|bash|shell)\n([\s\S]*?)^ *```$/gm)];
  const commands = await Promise.all(blocks.map(([, typed = '']) => started(typed)));
  return commands.flat();
}

/** The commands that a script starts. What would be written to files is not. */
export async function started(script: string): Promise<Command[]> {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-typed-'));
  const quiet = script.replace(/\s>\s*[\w$][^\s;|&)]*/g, ' >/dev/null');
  const shell = promisify(execFile)('bash', ['-c', prelude + quiet], { cwd: folder });
  // Where nothing is done, `mkdir a && cd a` fails; what follows goes on.
  const stdout = await shell.then(
    (result) => result.stdout,
    (error: unknown) => (error as { readonly stdout: string }).stdout,
  );
  await rm(folder, { recursive: true });
  return stdout.split('\n').flatMap((line) => (line.endsWith(END) ? [line.slice(0, -1).split(END)] : []));
}
