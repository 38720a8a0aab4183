import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { copyFile, cp, mkdir, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { root, textOf } from '../workspace/repository.js';

/** An action that a page asks its reader for: writing a file that it shows, or typing commands. */
export type Action = { readonly file: string } | { readonly commands: string };

/**
 * Returns the actions of a page in order: files shown in full (`<<< path`) and `sh` blocks. Skips blocks after
 * `<!-- elsewhere -->`, which are for other machines.
 */
export function actionsOf(markdown: string): Action[] {
  const pattern = /^<<< ([^\s{]+)(?:\{\w+\})?$|^(<!-- elsewhere -->\n\n)?```sh\n([\s\S]*?)^```$/gm;
  return [...markdown.matchAll(pattern)].flatMap(([, file, elsewhere, commands]): Action[] => {
    if (file !== undefined) return [{ file }];
    return elsewhere === undefined && commands !== undefined ? [{ commands }] : [];
  });
}

/** Shortens long runs: the smoke preset, two methods, one seed, few rows, a moment until a run is stopped. */
export function shortened(commands: string): string {
  return commands
    .replace(/(peft-bench run\b)(?![^\n]*--preset)/g, '$1 --preset smoke')
    .replace(/--preset \w+/g, '--preset smoke')
    .replace(/--(seeds|epochs) \d+/g, '--$1 1')
    .replace(/--rows \d+/g, '--rows 64')
    .replace(/(peft-bench run|peftjs train)\b(?![^\n]*--rows)/g, '$1 --rows 64')
    .replace(/--method ([\w-]+,[\w-]+),[\w,-]+/g, '--method $1')
    .replace(/\bROWS=\d+/g, 'ROWS=64')
    .replace(/\bMINUTES=0\.\d+/g, 'MINUTES=0.005');
}

/** Environment variables, by name. */
export type Variables = Readonly<Record<string, string>>;

/** Follows a page, in a folder that is empty except for what the page installs. Returns what was printed. */
export async function follow(page: string, folder: string, variables: Variables = {}): Promise<string> {
  const printed: string[] = [];
  for (const action of actionsOf(textOf(page))) {
    if ('file' in action) await copyFile(join(root, dirname(page), action.file), join(folder, basename(action.file)));
    else printed.push(await type(action.commands, folder, variables));
  }
  return printed.join('\n');
}

/**
 * The source of installed packages: the workspace (its sources or, with PEFTJS_BUILT=1, its builds), or the project of
 * PEFTJS_PACKED, which has the packed packages installed.
 */
const packed = process.env.PEFTJS_PACKED;
const compiled = packed !== undefined || process.env.PEFTJS_BUILT === '1';
const registries = [...(packed === undefined ? [] : [packed]), root].map((project) => join(project, 'node_modules'));

/** Types commands in a folder. Packages of `npm install` are linked, with their dependencies. */
async function type(commands: string, folder: string, variables: Variables): Promise<string> {
  const typed = shortened(commands).split('\n');
  for (const [, names = ''] of typed.map((line) => /^npm install (.+)$/.exec(line) ?? [])) await install(names, folder);
  const script = typed.filter((line) => !/^(?:npm (?:install|ci)|mkdir .* && cd) /.test(line)).join('\n');
  const [wordnet] = WORDNET.exec(script) ?? [];
  if (wordnet !== undefined) await writeWords(() => run(wordnet, folder, variables), folder);
  return run(script.replace(WORDNET, ''), folder, variables);
}

async function run(script: string, folder: string, variables: Variables): Promise<string> {
  const sources = compiled ? {} : { NODE_OPTIONS: '--conditions=@peftjs/source' };
  const options = { cwd: folder, env: { ...process.env, ...quick, ...variables, ...sources } };
  const typed = ['--norc', '-euo', 'pipefail', '-c', `${NPX}\n${script}`];
  const { stdout, stderr } = await promisify(execFile)('bash', typed, options);
  return stdout + stderr;
}

/** Starts an installed program at once: npx takes half a second for it. */
const NPX =
  'npx() { if [ -e "node_modules/.bin/$1" ]; then "node_modules/.bin/$1" "${@:2}"; else command npx "$@"; fi; }';

/** The command with which many pages begin; all of them write the same files. */
const WORDNET = /^(?:ROWS=\d+ )?npx tsx wordnet\.ts$/m;
/** A copy of those files. */
let words: string | undefined;

async function writeWords(write: () => Promise<string>, folder: string): Promise<void> {
  const own = join(folder, 'data');
  if (words !== undefined) return cp(words, own, { recursive: true });
  await write();
  words = join(dirname(folder), 'words');
  await cp(own, words, { recursive: true });
}

const quick = { ROWS: '64', EPOCHS: '1', IMAGES: '20' };

/** Links packages and their dependencies into a folder's node_modules. */
async function install(names: string, folder: string): Promise<void> {
  const wanted = names.split(/\s+/).filter((name) => name !== '' && !name.startsWith('-'));
  for (const name of withDependencies(wanted)) {
    const link = join(folder, 'node_modules', name);
    if (existsSync(link)) continue;
    await mkdir(dirname(link), { recursive: true });
    await symlink(installed(name), link);
  }
  await mkdir(join(folder, 'node_modules/.bin'), { recursive: true });
  for (const [bin, owner] of Object.entries(OWNERS)) {
    const link = join(folder, 'node_modules/.bin', bin);
    if (wanted.includes(owner) && !existsSync(link)) await symlink(installed(join('.bin', bin)), link);
  }
  if (compiled || !wanted.includes('vitest')) return;
  const shared = join(root, 'vitest.shared.ts'); // resolves sources: Vitest heeds no conditions of NODE_OPTIONS
  await writeFile(join(folder, 'vitest.config.ts'), `export { default } from ${JSON.stringify(shared)};\n`);
}

/** The package of each program that pages run. */
const OWNERS = { tsx: 'tsx', vitest: 'vitest', 'peft-bench': '@peftjs/bench', peftjs: 'peftjs' };

/** Returns packages with the dependencies that npm would install. */
function withDependencies(names: readonly string[]): Set<string> {
  const all = new Set(names);
  for (const name of all) {
    if (name !== 'peftjs' && !name.startsWith('@peftjs/')) continue;
    const manifest = JSON.parse(readFileSync(join(installed(name), 'package.json'), 'utf8')) as {
      readonly dependencies?: Readonly<Record<string, string>>;
    };
    for (const dependency of Object.keys(manifest.dependencies ?? {})) all.add(dependency);
  }
  return all;
}

function installed(name: string): string {
  const found = registries.map((folder) => join(folder, name)).find(existsSync);
  if (found === undefined) throw new Error(`${name}: a tutorial installs it, this repository does not`);
  return found;
}
