/** The name of the program in help and messages: the package `peftjs` starts it under its own name. */
export const commandName = process.env['PEFTJS_COMMAND'] === 'peftjs' ? 'peftjs' : 'peft-bench';
