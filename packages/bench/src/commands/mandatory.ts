import type { Command } from 'commander';

/**
 * Asks for a command's mandatory options after its unknown ones are refused, all at once: `--ouput x` is told for what it is, not as a
 * missing `--out`.
 */
export function askMandatoryLast(command: Command): void {
  const needed = command.options.filter(({ mandatory }) => mandatory);
  for (const option of needed) option.mandatory = false;
  command.hook('preAction', (_, called) => {
    const missing = needed.filter((option) => called.getOptionValue(option.attributeName()) === undefined);
    if (missing.length === 0) return;
    const flags = missing.map((option) => `'${option.flags}'`).join(', ');
    called.error(`error: required option${missing.length === 1 ? '' : 's'} ${flags} not specified`, {
      code: 'commander.missingMandatoryOptionValue',
    });
  });
}
