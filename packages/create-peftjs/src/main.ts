import { parseArgs } from 'node:util';
import { CreateError, createProject, starters, type StarterName } from './create.js';

const names = Object.keys(starters) as StarterName[];
const HELP = `Usage: npm create peftjs FOLDER [-- --template ${names.join('|')}]

${names.map((name) => `  ${name.padEnd(8)} ${starters[name].what}`).join('\n')}

Example: npm create peftjs my-classifier -- --template vite`;

/** Runs the command. @returns the exit code */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const { folder, template } = parsed(args);
    if (!folder) {
      console.log(HELP);
      return 0;
    }
    const files = await createProject(folder, template);
    const path = /[^\w./\\:-]/.test(folder) ? `"${folder}"` : folder; // a shell splits others at blanks
    const steps = [`cd ${path}`, ...starters[template].next];
    console.log(`${folder} has ${files.length} files. Next:\n\n${steps.map((step) => `  ${step}`).join('\n')}\n`);
    return 0;
  } catch (error) {
    console.error(`create-peftjs: ${(error as Error).message}`);
    return 1;
  }
}

function parsed(args: readonly string[]): { folder: string | undefined; template: StarterName } {
  const options = { template: { type: 'string', short: 't' }, help: { type: 'boolean', short: 'h' } } as const;
  const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
  const { template = 'node', help } = values;
  const [folder, more] = positionals;
  if (more !== undefined) throw new CreateError(`expected one folder, got '${positionals.join("', '")}'`);
  const known = names.find((name) => name === template);
  if (!known) throw new CreateError(`--template is '${template}'; expected one of ${names.join(', ')}`);
  return { folder: help ? undefined : folder, template: known };
}
