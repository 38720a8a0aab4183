/** The name of the program in help and messages: that of the command which starts it. */
export const commandName = process.env['PEFTJS_COMMAND'] ?? 'peftjs';
