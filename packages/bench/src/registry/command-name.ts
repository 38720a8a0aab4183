/** What the program is called in help and messages: the package `peftjs` starts it by a name of its own. */
export const commandName = process.env['PEFTJS_COMMAND'] === 'peftjs' ? 'peftjs' : 'peft-bench';
